"""What a stage's updates really were: how many of each task, on how many samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from skillnet_cli.engine.plan import StagePlan


def realised_mix(plan: StagePlan, rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each task the updates made and left out, the samples seen and the epochs they make, from the run's rows."""
    updates, skipped = Counter[str](), Counter[str]()
    for row in rows:
        counter = {"train": updates, "skipped": skipped}.get(row["kind"])
        if counter is not None:
            counter[row["task"]] += 1
    mix = {}
    for name, task in plan.tasks.items():
        samples, items = updates[name] * task.settings.batch, sum(map(len, task.splits))
        mix[name] = {"updates": updates[name], "skipped": skipped[name], "samples": samples, "epochs": samples / items}
    return mix


def mix_lines(mix: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The same for whoever watches, a line a task."""
    total = sum(each["updates"] for each in mix.values())
    for name, each in mix.items():
        left_out = f", {each['skipped']:,} left out" if each["skipped"] else ""
        share = f"{each['updates']:,} of {total:,} updates{left_out}"
        yield f"  {name}: {share}, {each['samples']:,} samples ({each['epochs']:.1f} epochs)"

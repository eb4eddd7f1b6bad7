"""What an update costs beside the model: a batch compared in two passes, the loop around it, and a second process.

    python benchmarks/training.py [--data DIR] [two-passes] [overhead] [ranks] [gpu]

Trains ``recipes/demo.toml`` on its own sets, which ``make demo`` makes; all four parts unless some are named. Figures
are ratios of medians of updates or runs that took turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LARGE = 4_096
MAPPED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
"""Has glibc give every large tensor's memory back at once, so that what is counted are tensors and not holes."""
TARGETS = {"memory": 1.3, "time": 1.45, "overhead": 0.03, "throughput": 0.9, "utilisation": 0.5}


def measure_two_passes(data: Path) -> None:
    """Memory of a large batch against a small plain one, each in a process of its own; time against a plain one."""
    from demo_runs import BOTH, CHUNK, TASK

    print(f"{TASK} compared in two passes, in chunks of {CHUNK}, on the demo's sizes")
    for how, environment in (("as it is", {}), ("freed memory given back at once", MAPPED)):
        peaks = [[found(data, "peak", items, **environment) for items in (CHUNK, LARGE)] for _ in range(5)]
        small, large = (statistics.median(column) / 1e6 for column in zip(*peaks, strict=True))
        tell("memory", large / small, f"{LARGE:,} items: {large:.0f} MB; {CHUNK} plain: {small:.0f} MB; {how}")
    plain, cached = found(data, "seconds")
    tell("time", cached / plain, f"{BOTH:,} items: {cached:.2f} s; plain: {plain:.2f} s")


def measure_overhead(data: Path) -> None:
    """The share of a step that is neither forward, backward nor optimizer, by task."""
    from demo_runs import recipe_of

    for stage in recipe_of(data).stages():
        steps = found(data, "outside", stage)
        print(f"{stage}: the share of a step outside forward, backward and optimizer, {len(steps)} steps")
        whole, outside = (by_task((step[0], step[column]) for step in steps) for column in (1, 2))
        for task in whole:
            rest, all_ = statistics.median(outside[task]), statistics.median(whole[task])
            print(f"  {task:24} {rest / all_:6.3f}   {1e3 * rest:.1f} of {1e3 * all_:.0f} ms")
        tell("overhead", in_mix(outside, outside) / in_mix(whole, whole), "the tasks in their mix")


def measure_ranks(data: Path) -> None:
    """Throughput of two processes of one thread against one of two threads, runs taking turns."""
    from demo_runs import recipe_of, run_of

    demo = [0.0, 0.0]  # seconds of one process, of two
    for stage, settings in recipe_of(data).stages().items():
        runs = [(nproc, list(run_of(data, stage, nproc))) for nproc in (1, 2, 2, 1)]
        one, two = (by_task(step for nproc, steps in runs if nproc == n for step in steps) for n in (1, 2))
        print(f"{stage}: items a second of two processes over those of one with as many threads")
        for task in one:
            alone, both = statistics.median(one[task]), statistics.median(two[task])
            print(f"  {task:24} {alone / both:6.3f}   {1e3 * both:.0f} ms; alone {1e3 * alone:.0f} ms")
        mixed = [in_mix(one, one), in_mix(two, one)]
        tell("throughput", mixed[0] / mixed[1], "the tasks in their mix", at_least=True)
        longer = settings.steps / sum(map(len, one.values()))
        demo = [before + longer * seconds for before, seconds in zip(demo, mixed, strict=True)]
    print("both stages, as long as the demo trains each")
    tell("throughput", demo[0] / demo[1], f"{demo[1]:.0f} s; alone {demo[0]:.0f} s", at_least=True)


def measure_gpu(data: Path) -> None:
    """The share of the measured bf16 peak that text-to-image training of the paper's size reaches."""
    import torch
    from utilisation import peak_flops, training_flops

    if not torch.cuda.is_available():
        return print("no GPU here")
    device, used = torch.device("cuda"), 0.0
    peak = peak_flops(device)
    print(f"{torch.cuda.get_device_name()}: {peak / 1e12:.0f} TFLOP/s in bf16 products")
    for items in (64, 128, 256, 512, 1_024, 2_048, 3_072):
        try:
            used = training_flops(device, items)
        except torch.cuda.OutOfMemoryError:
            break
        print(f"  {items:6,} pairs             {used / peak:6.3f}   {used / 1e12:.0f} TFLOP/s")
    tell("utilisation", used / peak, "the largest batch that fits", at_least=True)


def by_task(steps: Iterable[tuple[str, float]]) -> dict[str, list[float]]:
    """The seconds of every task."""
    sorted_: dict[str, list[float]] = defaultdict(list)
    for task, seconds in steps:
        sorted_[task].append(seconds)
    return sorted_


def in_mix(seconds: dict[str, list[float]], mix: dict[str, list[float]]) -> float:
    """The medians of the tasks, summed as often as ``mix`` has each."""
    return sum(statistics.median(seconds[task]) * len(steps) for task, steps in mix.items())


def tell(name: str, ratio: float, text: str, at_least: bool = False) -> None:
    """Print a ratio beside its target."""
    bound = "least" if at_least else "most"
    print(f"  {name:24} {ratio:6.3f}   target at {bound} {TARGETS[name]:.2f}   {text}", flush=True)


def found(data: Path, *words: object, **environment: str) -> Any:
    """What ``demo_runs.py`` finds in a new process, with more in its environment."""
    command = [sys.executable, str(Path(__file__).with_name("demo_runs.py")), str(data), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


PARTS = {"two-passes": measure_two_passes, "overhead": measure_overhead, "ranks": measure_ranks, "gpu": measure_gpu}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all by default")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where the demo's sets are")
    given = parser.parse_args()
    parts = given.parts or list(PARTS)
    if strange := [part for part in parts if part not in PARTS]:
        parser.error(f"no part {strange[0]}: choose of {', '.join(PARTS)}")
    data = given.data.resolve()
    if parts != ["gpu"] and not (data / "demo-vocab").is_dir():
        print(f"the demo's sets are not in {data}: run `make demo`, or name the folder that has them by --data")
        parts = [part for part in parts if part == "gpu"]
    for part in parts:
        PARTS[part](data)


if __name__ == "__main__":
    main()

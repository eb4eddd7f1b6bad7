"""Loading one skill of five, and one update of a model with many skills: what is not activated costs nothing.

    python benchmarks/sparse_load.py [--json]

Writes a random checkpoint of the paper's sizes with the five plugins into a temporary folder. Then fresh processes in
turn open one skill or all of it; each imports the plugins' code first, so that only the loading is timed. Memory is the
peak over what the process held with torch alone imported, every parameter having been read. Then a small model with 5
skills and one with 50 are updated in turn in one process of one thread; what counts is the median of the pairs' ratios.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROUNDS = 5
UPDATES = 25
ONE = "sound"
VOCABULARY = 21_128
TARGETS = {"files": 1.02, "memory": 1.2, "time": 0.6, "update time": 1.03, "activations": 1.03, "gradients": 1.03}
SIZES = {
    "layers": 12, "hidden": 768, "heads": 12, "ffn": 3072, "norm": "pre", "activation": "quick_gelu", "dropout": 0.0,
}  # fmt: skip
LABELS = {"tc": 15, "asr": 4_000}


def write_checkpoint(folder: Path) -> None:
    """A model of the paper's sizes with all five skills and tasks, its parameters random."""
    from skillnet_cli.model.build import build_config, build_readers
    from skillnet_cli.model.skillnet import SkillNet
    from skillnet_cli.objectives import TaskConfig
    from skillnet_cli.plugins import load_registry

    registry = load_registry()
    vocabulary = folder / "vocabulary.txt"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces += [chr(0x3400 + number) for number in range(VOCABULARY - len(pieces))]
    vocabulary.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    keys = {skill: {"vocab": vocabulary} if skill in ("text", "code") else {} for skill in registry.modalities}
    readers = build_readers(keys, registry)
    tasks = [
        TaskConfig(**vars(registry.task(name)), labels=tuple(chr(0x4E00 + each) for each in range(LABELS.get(name, 0))))
        for name in ("tc", "asr", "t2i", "t2v", "t2c")
    ]
    SkillNet(build_config(SIZES, readers, tasks, registry), registry).save(folder / "model", readers)


def load_in_process(folder: Path, skills: list[str] | None) -> dict[str, float]:
    """Open a model in this process, which should be fresh; seconds and bytes."""
    import torch

    bare = memory("VmRSS")
    from skillnet_cli.model import SkillNet
    from skillnet_cli.model.config import read_config
    from skillnet_cli.plugins import load_registry, resolve

    for skill in skills or read_config(folder, load_registry()).skills:
        modality = load_registry().modality(skill)
        for reference in (modality.config, modality.reader, modality.embedder):
            resolve(reference)
    imported = memory("VmRSS")
    begin = time.perf_counter()
    model = SkillNet.from_pretrained(folder, skills=skills)
    seconds = time.perf_counter() - begin
    for parameter in model.parameters():
        parameter.detach().view(torch.uint8).max()
    return {
        "seconds": seconds,
        "peak": memory("VmHWM") - imported,
        "peak over torch": memory("VmHWM") - bare,
        "activated": sum(parameter.nbytes for parameter in model.parameters()),
        "files": sum(path.stat().st_size for path in mapped(folder)),
    }


def memory(field: str) -> int:
    """A line of this process's status, in bytes: ``VmRSS`` is resident now, ``VmHWM`` the most that ever was."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def mapped(folder: Path) -> set[Path]:
    """The files of the folder that this process has mapped."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {Path(line.split()[-1]) for line in maps if line.split()[-1].startswith(str(folder))}


def measure_loading() -> dict[str, Any]:
    """Ratios of one skill to what it activates and to all skills; processes take turns."""
    with tempfile.TemporaryDirectory() as scratch:
        write_in_process(Path(scratch))
        rounds = [(in_fresh_process(scratch, ONE), in_fresh_process(scratch)) for _ in range(ROUNDS)]
    one = {key: statistics.median(pair[0][key] for pair in rounds) for key in rounds[0][0]}
    all_ = {key: statistics.median(pair[1][key] for pair in rounds) for key in rounds[0][1]}
    ratios = {
        "files": one["files"] / one["activated"],
        "memory": one["peak over torch"] / one["activated"],
        "memory over all imports": one["peak"] / one["activated"],
        "time": statistics.median(pair[0]["seconds"] / pair[1]["seconds"] for pair in rounds),
    }
    return {"one": one, "all": all_, "ratios": ratios}


def write_in_process(folder: Path) -> None:
    """Write the checkpoint in a process of its own, whose memory is gone afterwards."""
    subprocess.run([sys.executable, __file__, "--write", str(folder)], check=True)


def in_fresh_process(folder: str, *skills: str) -> dict[str, float]:
    """What :func:`load_in_process` finds in a new process."""
    command = [sys.executable, __file__, "--load", f"{folder}/model", *skills]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure_updates(few: int = 5, many: int = 50) -> dict[str, Any]:
    """An update with many skills installed against one with few."""
    import torch
    from many_skills import costs, updater_of

    torch.set_num_threads(1)
    small, large = costs([updater_of(few), updater_of(many)], UPDATES)

    def ratio(key: str) -> float:
        return statistics.median(getattr(b, key) / getattr(a, key) for a, b in zip(small, large, strict=True))

    return {
        "milliseconds": {few: 1e3 * statistics.median(each.seconds for each in small),
                         many: 1e3 * statistics.median(each.seconds for each in large)},
        "ratios": {"update time": ratio("seconds"), "activations": ratio("activations"),
                   "gradients": ratio("gradients")},
    }  # fmt: skip


def print_ratios(ratios: dict[str, float]) -> None:
    """Print each ratio beside its target."""
    for name, ratio in ratios.items():
        target = f"   target at most {TARGETS[name]:.2f}" if name in TARGETS else ""
        print(f"  {name:24} {ratio:6.3f}{target}")


def main(words: Sequence[str]) -> None:
    """Measure and print, or do one of the parts that need a process of their own."""
    if words[:1] == ["--write"]:
        return write_checkpoint(Path(words[1]))
    if words[:1] == ["--load"]:
        return print(json.dumps(load_in_process(Path(words[1]), list(words[2:]) or None)))
    loading, updates = measure_loading(), measure_updates()
    if "--json" in words:
        return print(json.dumps({"loading": loading, "updates": updates}, indent=2))
    one, all_ = loading["one"], loading["all"]
    print(f"Loading skill {ONE}: {one['activated'] / 1e6:.0f} MB activated, {one['seconds']:.3f} s;"
          f" all five: {all_['activated'] / 1e6:.0f} MB, {all_['seconds']:.3f} s")  # fmt: skip
    print_ratios(loading["ratios"])
    print("An update with " + ", with ".join(f"{n} skills: {ms:.1f} ms" for n, ms in updates["milliseconds"].items()))
    print_ratios(updates["ratios"])


if __name__ == "__main__":
    main(sys.argv[1:])

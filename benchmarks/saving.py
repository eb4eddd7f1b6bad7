"""What saving costs a training: how long a step is held up, and how much slower the steps beside the writing are.

    python benchmarks/saving.py [--json] [--parameters 40000000] [--folder DIR]

Saves a model's and AdamW's state (three tensors a parameter, float32) in one process, in turn as the training does and
waiting for it as a plain save would. Then products of matrices, which stand for steps, are timed with nothing beside
them and with a save beside them. What counts is the median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

ROUNDS = 5
WIDTH = 512
ROWS = 1_000_000 // WIDTH
STEP_PRODUCTS = 8


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--parameters", type=int, default=40_000_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = measure(Path(folder), options.parameters)
    if options.json:
        print(json.dumps(found))
        return
    for name, figure in found.items():
        print(f"{name:<44} {figure:.3f}")


def measure(folder: Path, parameters: int) -> dict[str, float]:
    """All figures, by what they are."""
    import torch

    from skillnet_cli.engine.checkpoint.writer import CheckpointWriter
    from skillnet_cli.engine.distributed.mesh import Ranks
    from skillnet_cli.recipe.schema import CheckpointSection

    state = state_of(parameters)
    with CheckpointWriter(folder, Ranks(0, 1, torch.device("cpu")), CheckpointSection(keep=1), sharded=False) as saver:
        saver.save(0, state, {})  # makes the memory for the copies
        saver.wait()
        held, whole, alone, beside = [], [], [], []
        for step in range(1, 2 * ROUNDS + 1, 2):
            alone.append(products())
            began = time.perf_counter()
            saver.save(step, state, {})
            held.append(time.perf_counter() - began)
            beside += steps_until_written(saver)
            began = time.perf_counter()
            saver.save(step + 1, state, {})
            saver.wait()
            whole.append(time.perf_counter() - began)
    medians = {name: statistics.median(each) for name, each in
               {"held": held, "whole": whole, "alone": alone, "beside": beside}.items()}  # fmt: skip
    gigabytes = 12 * parameters / 1e9
    return {
        "state, GB": gigabytes,
        "seconds held up by a save": medians["held"],
        "seconds of a save that is waited for": medians["whole"],
        "held ÷ waited for": medians["held"] / medians["whole"],
        "a step beside a save ÷ alone": medians["beside"] / medians["alone"],
    }


def state_of(parameters: int) -> dict[str, dict[str, Any]]:
    """Parameters in matrices of a million, and two moments for each."""
    import torch

    names = [f"layer.{number}" for number in range(max(1, parameters // (ROWS * WIDTH)))]
    kinds = {"model": [""], "optimizer": ["/exp_avg", "/exp_avg_sq"]}
    return {
        kind: {f"{name}{key}": torch.randn(ROWS, WIDTH) for name in names for key in keys}
        for kind, keys in kinds.items()
    }


def steps_until_written(saver: Any) -> list[float]:
    """The seconds of each step that ended before the save under way was written."""
    taken: list[float] = []
    while True:
        seconds = products()
        if saver.check() is not None:
            return taken
        taken.append(seconds)


def products() -> float:
    """Seconds that some products of matrices take."""
    import torch

    matrix = torch.ones(WIDTH, WIDTH)
    began = time.perf_counter()
    for _ in range(STEP_PRODUCTS):
        matrix @ matrix
    return time.perf_counter() - began


if __name__ == "__main__":
    main()

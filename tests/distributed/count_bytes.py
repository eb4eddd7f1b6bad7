"""One rank of a toy training that writes down, for every update, how many bytes it sent in which collective."""

from __future__ import annotations

import json
import os
import runpy
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, distributed

# Which argument is what a rank puts in: of the sum it is the whole, of the others the larger side, all ranks' together.
LARGER_SIDE = {"all_reduce": 0, "reduce_scatter_tensor": 1, "all_gather_into_tensor": 0}


def counting(name: str, original: Callable[..., Any], sent: Counter[str]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        group = named.get("group")
        given = [*arguments, *(value for value in named.values() if isinstance(value, Tensor))]
        tensors = [each for each in given if isinstance(each, Tensor)]
        if distributed.get_world_size(group) > 1:
            sent[name] += max(each.numel() * each.element_size() for each in tensors)
        return original(*arguments, **named)

    return call


if __name__ == "__main__":
    from skillnet_cli.engine.step import Updater

    sent: Counter[str] = Counter()
    for name in LARGER_SIDE:
        setattr(distributed, name, counting(name, getattr(distributed, name), sent))
    update = Updater.update

    def counted(self: Updater, *arguments: Any) -> Any:
        sent.clear()
        outcome = update(self, *arguments)
        if os.environ["RANK"] == "0":
            with Path(os.environ["SENT"]).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"task": outcome.task, **sent}) + "\n")
        return outcome

    Updater.update = counted  # type: ignore[method-assign]
    sys.argv[0] = str(Path(__file__).parents[1] / "train_toy.py")
    runpy.run_path(sys.argv[0], run_name="__main__")

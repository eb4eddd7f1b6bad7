"""The learning rate as a function of how many updates have been applied."""

from __future__ import annotations


def learning_rate(update: int, *, peak: float, steps: int, warmup: int, schedule: str) -> float:
    """The rate of the update after ``update`` applied ones, of ``steps`` in all.

    It rises linearly to ``peak`` over ``warmup`` updates and then falls linearly towards zero (``"linear"``, paper
    appendix) or stays (``"constant"``). No update has rate zero.
    """
    if update < warmup:
        return peak * (update + 1) / warmup
    if schedule == "constant":
        return peak
    return peak * (steps - update) / (steps - warmup)

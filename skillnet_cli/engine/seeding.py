"""Random numbers as a pure function of the position in the run, so that no generator's state needs saving."""

from __future__ import annotations

import numpy as np
import torch


def seed_torch(*position: int) -> None:
    """Seed torch's generators from numbers such as (seed, step, rank); different positions are independent."""
    torch.manual_seed(int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0]) >> 1)

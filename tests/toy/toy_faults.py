"""Faults that a test plants by TOY_FAULT="KIND RANK PASS": in that forward pass of that rank, in its first attempt."""

from __future__ import annotations

import itertools
import os
import signal
import time

import torch
from torch import Tensor

_passes = itertools.count(1)


def strike(tokens: Tensor) -> Tensor:
    """The tokens, unless this is where the fault lies."""
    kind, rank, number = os.environ.get("TOY_FAULT", "none 0 0").split()
    here = os.environ.get("RANK", "0") == rank and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    if not torch.is_grad_enabled() or next(_passes) < int(number) or not here or kind == "none":
        return tokens
    if kind in ("slow", "noise"):  # from then on
        time.sleep(0.1)  # so that whoever kills it in the middle is in time, on a machine that is fast or busy
        return tokens + int.from_bytes(os.urandom(2), "little") * 1e-6 * (kind == "noise")  # other in every process
    os.environ["TOY_FAULT"] = "none 0 0"
    if kind == "bug":
        raise IndexError("the toy is broken")
    if kind == "hang":
        os.kill(os.getpid(), signal.SIGSTOP)
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return tokens * float("nan") if kind == "nan" else tokens

"""Training that computes the same bits again on a GPU, or a line that names the operation that cannot."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from skillnet_cli.api import UserError

_REFUSED = re.compile(r"^(.+?) does not have a deterministic implementation")


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Use only operations that give the same bits every time (``train.deterministic``); a CPU does so in any case.

    Raises:
        UserError: an operation has no such form on this device.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        refused = _REFUSED.match(str(error))
        if not refused:
            raise
        raise UserError(
            f"train.deterministic: {refused[1]} cannot be computed to the same bits on this device; leave out the "
            "task that needs it, or go on with --set train.deterministic=false"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]

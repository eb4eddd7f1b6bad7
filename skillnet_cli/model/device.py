"""What a model computes in and on: precision, and models as shapes alone on the meta device."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from skillnet_cli.api import UserError

WORTH = 1.25
"""How many times as fast as in float32 a CPU must multiply in bf16 for it to be the default."""


def choose_device(named: str | None = None) -> torch.device:
    """The device of this name, else a GPU where there is one, else the CPU.

    Args:
        named: as torch names it: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.

    Raises:
        UserError: there is no such device.
    """
    if named is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(named)
        torch.empty(1, device=device).tolist()  # "meta" is a device, but computes nothing
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        there += ["mps"] if torch.backends.mps.is_available() else []
        raise UserError(f"--device {named}: there is no such device here, but {', '.join(there)}") from error
    return device


def steady_precision(device: torch.device | str) -> str:
    """What a model computes in where it is used or measured: by a rule, so that the same device gives equal figures.

    ``"bf16"`` on a GPU that has it, ``"fp32"`` on CPUs, all of which can continue one another's collections.
    """
    return default_precision(device) if torch.device(device).type == "cuda" else "fp32"


def default_precision(device: torch.device | str) -> str:
    """What a run is trained in from its start on: ``"bf16"`` where the device is faster with it, else ``"fp32"``.

    A GPU is where it multiplies bf16 in hardware, a CPU where it also is measured to be.
    An instruction alone promises nothing: of CPUs with avx512_bf16 some have been seen to multiply four times as fast
    with it, others, whose AMX is hidden by a hypervisor, only 0.6 times.
    """
    if torch.device(device).type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native and _speed_of_bf16() > WORTH else "fp32"


@functools.cache
def _speed_of_bf16(rows: int = 512, width: int = 768, repetitions: int = 5) -> float:
    """How many times as fast as in float32 this CPU multiplies in bf16: of an encoder's product, once in a process."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        x, weight = torch.ones(rows, width, dtype=dtype), torch.ones(width, width, dtype=dtype)
        laps = [_seconds(x, weight) for _ in range(1 + repetitions)][1:]  # the first one also prepares the kernel
        seconds[dtype] = median(laps)
    return seconds[torch.float32] / seconds[torch.bfloat16]


def _seconds(x: torch.Tensor, weight: torch.Tensor) -> float:
    begin = time.perf_counter()
    F.linear(x, weight)
    return time.perf_counter() - begin


def autocast(precision: str, device: torch.device | str) -> torch.autocast:
    """The autocast context of ``"auto"``, ``"bf16"`` or ``"fp32"`` on a device."""
    if precision == "auto":
        precision = steady_precision(device)
    if precision not in ("bf16", "fp32"):
        raise UserError(f"unknown precision '{precision}': choose auto, bf16 or fp32")
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=precision == "bf16")


FILLS = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.erfinv_, Tensor.mul_, Tensor.add_, Tensor.clamp_})
"""What torch.nn.init does to tensors inside those of its functions that cannot be overridden themselves."""


@contextmanager
def on_meta() -> Iterator[None]:
    """While entered, modules are built without storage, and their parameters get no first values."""
    with torch.device("meta"), _Unfilled():
        yield


class _Unfilled(TorchFunctionMode):
    """Leaves out what gives parameters their first values.

    Without storage they could not keep them, and torch would import its compiler (100 MB, half a second) to find out.
    Tensors that do have storage, such as a table that a plugin computes, are computed as ever.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in FILLS or getattr(func, "__module__", None) == nn.init.__name__:
            tensor = kwargs["tensor"] if "tensor" in kwargs else args[0]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)

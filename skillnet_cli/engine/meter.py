"""How hard a run works: FLOPs of its updates against what the hardware has been seen to do, and its memory.

Counted are the products of the encoder alone, for real tokens: two FLOPs for every weight that a token meets, and
4 × hidden for every pair of tokens that attend to one another, in each layer; backward twice that. Embedders and heads
are left out, and what is recomputed to save memory does not count: it is work, and brings the training no further.
"""

from __future__ import annotations

import sys
import time
from statistics import median
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from skillnet_cli.engine.distributed.mesh import Ranks
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.encoder import Encoder
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.model.variants import TOP

_FORTH_AND_BACK = 3
"""A backward pass has two products for each one of the forward pass."""
_REPETITIONS = 5


class Meter:
    """While entered, watches what goes through the encoders of a model; costs an update some microseconds.

    ``peak`` is the FLOP/s that a rank reaches on average, all measured at once, as they will work. All ranks must make
    their meters together.
    """

    def __init__(self, model: SkillNet, ranks: Ranks, precision: str) -> None:
        config = model.config
        self._model = model
        self._ranks = ranks
        self._by_token = _FORTH_AND_BACK * 2 * config.layers * _weights_a_token(config)
        self._by_pair = _FORTH_AND_BACK * 4 * config.layers * config.hidden
        self._lengths: list[Tensor] = []
        ranks.wait()  # else one measures while another, on cores that they share, still does something else
        own = torch.tensor(_peak_flops(ranks.device, precision), dtype=torch.float64, device=ranks.device)
        self.peak = float(ranks.sum(own)) / ranks.world

    def __enter__(self) -> Meter:
        encoders = [module for module in self._model.modules() if isinstance(module, Encoder)]
        self._hooks = [encoder.register_forward_pre_hook(self._see) for encoder in encoders]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _see(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Remember the lengths of sequences that will have a backward pass: each goes through one once."""
        if torch.is_grad_enabled():
            self._lengths.append(inputs[1])

    def rates(self, seconds: float, items: int) -> dict[str, float]:
        """What the update just done came to, over all ranks: this rank's tokens stand for those of the others.

        Args:
            seconds: how long it took, the wait for its data included.
            items: of the global batch.
        """
        lengths, self._lengths = self._lengths, []
        if not self._ranks.is_main or not lengths:
            return {}
        each = torch.cat(lengths).double()
        flops = self._by_token * float(each.sum()) + self._by_pair * float(each.square().sum())
        rate = flops * self._ranks.world / seconds
        return {
            "samples_per_second": items / seconds,
            "tflops": rate / 1e12,
            "of_peak": rate / self._ranks.world / self.peak,
            "memory": float(_peak_memory(self._ranks.device)),
        }


def _weights_a_token(config: SkillNetConfig) -> int:
    """The weights of a layer that one token is multiplied with."""
    projections = 4 * config.hidden**2
    if config.experts:
        return projections + 2 * TOP * config.hidden * config.ffn + config.hidden * config.experts
    return projections + 2 * config.hidden * config.ffn


def _peak_flops(device: torch.device, precision: str) -> float:
    """FLOP/s of a large square product in bf16 or float32, as this process reaches it: the median of some."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    size = 8_192 if device.type == "cuda" else 1_024
    one = torch.ones(size, size, dtype=dtype, device=device)
    laps = [_seconds_of_product(one) for _ in range(1 + _REPETITIONS)][1:]  # the first one also prepares the kernel
    return 2 * size**3 / median(laps)


def _seconds_of_product(one: Tensor) -> float:
    if one.is_cuda:
        torch.cuda.synchronize(one.device)
    begin = time.perf_counter()
    one @ one
    if one.is_cuda:
        torch.cuda.synchronize(one.device)
    return time.perf_counter() - begin


def _peak_memory(device: torch.device) -> int:
    """The most bytes that this process has taken: tensors on a GPU, everything on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # Linux counts KiB, macOS bytes

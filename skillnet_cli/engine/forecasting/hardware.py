"""Hardware by name, for forecasts: what its maker says of it, and what is assumed of how it is used."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from skillnet_cli.api import UserError

UTILISATION = 0.4
"""The share of the peak that training is assumed to reach. An assumption: nothing here was measured on a GPU."""
USABLE = 0.92
"""The share of a GPU's memory that tensors may take; the rest is the driver's, the libraries' and gaps."""
GIB = 2**30


@dataclass(frozen=True)
class Hardware:
    """One accelerator: memory in GiB, peak of dense bf16 products in TFLOP/s, link in GB/s.

    ``link`` is what one accelerator is assumed to send to those of other machines in a second: 200 Gbit/s (25 GB/s)
    each for the kinds that are built into servers for training, 25 Gbit/s each for the others.
    """

    name: str
    memory: int
    peak: float
    link: float

    @property
    def usable_bytes(self) -> float:
        """The bytes that tensors may take."""
        return self.memory * GIB * USABLE


# Peaks without sparsity, bf16 with float32 sums, from NVIDIA's data sheets (A10, A100, A800, L4, L40S, H20, H100 SXM,
# H200) and architecture papers (GA102 for the RTX 3090, Ada for the RTX 4090).
KNOWN = {
    each.name: each
    for each in (
        Hardware("a10-24g", 24, 125.0, 3.125),
        Hardware("a100-40g", 40, 312.0, 25.0),
        Hardware("a100-80g", 80, 312.0, 25.0),
        Hardware("a800-80g", 80, 312.0, 25.0),
        Hardware("l4-24g", 24, 121.0, 3.125),
        Hardware("l40s-48g", 48, 362.0, 3.125),
        Hardware("h20-96g", 96, 148.0, 25.0),
        Hardware("h100-80g", 80, 989.4, 25.0),
        Hardware("h200-141g", 141, 989.4, 25.0),
        Hardware("rtx3090-24g", 24, 71.0, 3.125),
        Hardware("rtx4090-24g", 24, 165.2, 3.125),
    )
}


@dataclass(frozen=True)
class Fleet:
    """So many accelerators of one kind that train together."""

    hardware: Hardware
    count: int


def parse_fleet(text: str) -> Fleet:
    """Read ``NAME`` or ``NAME:COUNT``. Raises UserError naming what is known."""
    name, colon, number = text.partition(":")
    if name not in KNOWN:
        near = difflib.get_close_matches(name, KNOWN, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UserError(f"--on {text}: {hint}known are {', '.join(KNOWN)}")
    if colon and not (number.isascii() and number.isdigit() and int(number)):
        raise UserError(f"--on {text}: write it as NAME:COUNT, for example {name}:8")
    return Fleet(KNOWN[name], int(number) if colon else 1)

"""Which precision a device computes in: bf16 autocast where the hardware multiplies bf16 natively."""

from __future__ import annotations

import torch

from skillnet_cli.api import UserError


def default_precision(device: torch.device | str) -> str:
    """``"bf16"`` where the device multiplies bf16 in hardware (a CPU with avx512_bf16 or AMX too), else ``"fp32"``."""
    if torch.device(device).type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"


def autocast(precision: str, device: torch.device | str) -> torch.autocast:
    """The autocast context of ``"auto"``, ``"bf16"`` or ``"fp32"`` on a device."""
    if precision == "auto":
        precision = default_precision(device)
    if precision not in ("bf16", "fp32"):
        raise UserError(f"unknown precision '{precision}': choose auto, bf16 or fp32")
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=precision == "bf16")

"""bf16 is the default of a CPU where it is native and, measured, faster."""

from __future__ import annotations

import pytest
import torch

from skillnet_cli.api import UserError
from skillnet_cli.model import device as precision


@pytest.mark.parametrize(
    ("native", "speed", "default"), [(True, 4.0, "bf16"), (True, 0.6, "fp32"), (False, 4.0, "fp32")]
)
def test_an_instruction_alone_does_not_decide(
    monkeypatch: pytest.MonkeyPatch, native: bool, speed: float, default: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(precision, "_speed_of_bf16", lambda: speed)
    assert precision.default_precision("cpu") == default
    with precision.autocast("auto", "cpu"):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if default == "bf16" else torch.float32)


def test_the_speed_is_measured_once_in_a_process() -> None:
    first = precision._speed_of_bf16()
    assert first > 0 and precision._speed_of_bf16() == first


def test_another_precision_is_a_mistake() -> None:
    with pytest.raises(UserError, match="unknown precision 'fp8': choose auto, bf16 or fp32"):
        precision.autocast("fp8", "cpu")

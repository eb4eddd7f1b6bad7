"""What the meter counts, against torch's own count of a real forward and backward pass."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from skillnet_cli.engine import meter
from skillnet_cli.engine.distributed.mesh import Ranks
from skillnet_cli.engine.meter import Meter
from skillnet_cli.model.encoder import Routes
from tests.reference import CLIP_LIKE, skillnet
from tests.workbench import World

ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.mark.parametrize("routing", ["skill", "dense", "moe"])
def test_flops_are_those_of_the_encoders_products(routing: str) -> None:
    sizes = {"layers": 2, "hidden": 32, "heads": 4, "ffn": 48, "dropout": 0.0, "routing": routing}
    model = skillnet(sizes | CLIP_LIKE, text={"vocab_size": 20}, image={"resolution": 32, "patch": 8})
    lengths = torch.tensor([3, 7, 7])
    tokens = torch.randn(17, 32, requires_grad=True)
    watching, counter = Meter(model, ALONE, "fp32"), FlopCounterMode(display=False)
    with watching, sdpa_kernel(SDPBackend.MATH), counter:
        passed = model.encoder(tokens, lengths, Routes(("text",)))
        (passed[0] if isinstance(passed, tuple) else passed).sum().backward()
    facts = watching.rates(2.0, 3)
    assert facts["tflops"] * 1e12 * 2.0 == pytest.approx(counter.get_total_flops(), rel=0.02)
    assert facts["samples_per_second"] == 1.5
    assert facts["of_peak"] == pytest.approx(facts["tflops"] * 1e12 / watching.peak)


def test_what_has_no_backward_pass_does_not_count() -> None:
    model = skillnet(
        {"layers": 1, "hidden": 16, "heads": 2, "ffn": 16, "dropout": 0.0} | CLIP_LIKE, text={"vocab_size": 9}
    )
    watching = Meter(model, ALONE, "fp32")
    with watching, torch.no_grad():
        model.encoder(torch.randn(4, 16), torch.tensor([4]), Routes(("text",)))
    assert watching.rates(1.0, 1) == {}
    model.encoder(torch.randn(4, 16), torch.tensor([4]), Routes(("text",)))
    assert watching.rates(1.0, 1) == {}, "it does not watch any longer"


def test_the_peak_is_the_mean_of_those_that_ranks_measure_together(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    class Two(Ranks):
        def wait(self) -> None:
            called.append("wait")

        def sum(self, values: torch.Tensor) -> torch.Tensor:
            return values + 2e9

    def measure(device: torch.device, precision: str) -> float:
        called.append(precision)
        return 4e9

    monkeypatch.setattr(meter, "_peak_flops", measure)
    model = skillnet(
        {"layers": 1, "hidden": 16, "heads": 2, "ffn": 16, "dropout": 0.0} | CLIP_LIKE, text={"vocab_size": 9}
    )
    assert Meter(model, Two(1, 2, ALONE.device), "bf16").peak == 3e9 and called == ["wait", "bf16"]


def test_every_update_says_how_hard_it_worked(world: World) -> None:
    held = torch.ones(50_000_000)
    world.train()
    (begun,) = world.rows("start")
    assert begun["world"] == 1 and begun["precision"] == "fp32" and 1e9 < begun["peak"] < 1e14
    for row in world.rows():
        assert row["samples_per_second"] > 0 and row["skipped"] == 0 and row["memory"] > held.nbytes
        assert 0 < row["of_peak"] < 1 and row["data_wait"] >= 0 and row["lr"] >= 0 and row["grad_norm"] > 0
        assert row["tflops"] == pytest.approx(row["of_peak"] * begun["peak"] / 1e12)

"""Faults whose rooms have no case of their own: hooks that stayed, other languages, sets without a task's fields."""

from __future__ import annotations

from pathlib import Path

import torch

from skillnet_cli.engine.distributed.mesh import Ranks
from skillnet_cli.engine.meter import Meter
from skillnet_cli.model.encoder import Encoder
from skillnet_cli.model.variants import MixtureOfExperts
from tests.inference.world import World

DOCS = Path(__file__).parents[2] / "docs"


def test_b15_no_hook_stays_behind_a_meter(world: World) -> None:
    model, _ = world.model()
    encoders = [module for module in model.modules() if isinstance(module, Encoder)]
    before = [len(encoder._forward_pre_hooks) for encoder in encoders]
    with Meter(model, Ranks(0, 1, torch.device("cpu")), "fp32"):
        assert [len(encoder._forward_pre_hooks) for encoder in encoders] == [each + 1 for each in before]
    assert [len(encoder._forward_pre_hooks) for encoder in encoders] == before


def test_f05_files_of_other_languages_are_counted_by_their_suffix(world: World) -> None:
    world.save_run()
    folder = world.folder / "code"
    folder.mkdir()
    (folder / "one.shape").write_bytes(b"abc")
    for name in ("a.java", "b.java", "c.js", "d.ipynb"):
        (folder / name).write_text("class A {}\n")
    said = world.skillnet("embed", "code", "--to", "c")[1]
    assert "2 .java" in said and "1 .js" in said and "1 .ipynb" in said


def test_u05_a_set_without_the_fields_of_a_task_is_one_line(world: World) -> None:
    world.save_run()
    for name in ("pairs", "hums"):
        world.prepare(name)
    for task, other in (("hear", "pairs"), ("find", "hums"), ("kind", "hums")):
        out, said = world.skillnet("eval", "--task", task, "--split", other, code=2)
        assert not out and said.splitlines()[-1].startswith("skillnet: error: ") and other in said
        assert said.count("error") == 1


def test_a08_what_the_model_leaves_out_of_gshard_and_bert_is_said(world: World) -> None:
    said = (DOCS / "model.md").read_text(encoding="utf-8")
    assert "in every layer" in said and "second expert" in said and "bias" in said
    model, _ = world.model(routing="moe")
    assert sum(isinstance(module, MixtureOfExperts) for module in model.modules()) == model.config.layers

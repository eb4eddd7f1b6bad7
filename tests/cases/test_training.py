"""What a training decays, changes in its items, measures, keeps as its best, and refuses to go on with."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skillnet_cli.api import UserError
from skillnet_cli.engine.checkpoint.best import Best
from skillnet_cli.engine.consistency import check_same, trained_by
from skillnet_cli.engine.estimate.forecast import Cluster, forecast, sketch_model
from skillnet_cli.engine.loader import task_pipeline
from skillnet_cli.engine.plan import plan_stage
from skillnet_cli.engine.step import build_optimizer
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives.masked_tokens import corrupt
from skillnet_cli.plugins import load_registry
from skillnet_cli.recipe import load_recipe
from skillnet_cli.recipe.schema import OptimizerSection
from skillnet_cli.runs import Result, StageFolder, read_results
from tests.engine.checkpoint.test_best import REGISTRY, Numbered
from tests.workbench import World, make_set, tasks, toy_world

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = ("model.layers=2", "model.hidden=32", "model.heads=2", "model.ffn=64", "init={}")


@pytest.fixture
def toys(tmp_path: Path) -> Iterator[World]:
    with toy_world(tmp_path) as opened:
        yield opened


# --- what is decayed --------------------------------------------------------------------------------------------------

TABLES = {
    *(
        f"embedders.{skill}.{table}.weight"
        for skill in ("text", "code")
        for table in ("tokens", "positions", "segments")
    ),
    *(f"embedders.video.{table}" for table in ("times", "rows", "columns")),
    "embedders.image.positions",
    "embedders.sound.position",
}
VECTORS = {f"embedders.{skill}.cls" for skill in ("image", "sound", "video")} | {"embedders.sound.masked"}
"""Learnt inputs: CLIP and wav2vec 2.0 have them too, and multiply nothing with them."""


def test_a04_only_norms_biases_tables_and_learnt_vectors_are_not_decayed() -> None:
    """Every tensor of the paper's model (at another width): what multiplies its input has two dimensions or more."""
    recipe = load_recipe(RECIPES / "paper.toml", SMALL, load_registry())
    model = SkillNet(sketch_model(recipe, load_registry(), [])[0], load_registry())
    groups = build_optimizer(model, OptimizerSection(weight_decay=0.5)).param_groups
    still = {id(each) for group in groups if not group["weight_decay"] for each in group["params"]}
    names = {name: parameter for name, parameter in model.named_parameters() if id(parameter) in still}
    norms = {
        f"{name}.{kind}" for name, module in model.named_modules() if is_norm(module) for kind in ("weight", "bias")
    }
    biases = {name for name in names if name.endswith(".bias")}
    scales = {name for name in names if name.endswith(".logit_scale")}
    assert len(scales) == 5 and set(names) == TABLES | VECTORS | norms | biases | scales
    decayed = {name: each.ndim for name, each in model.named_parameters() if id(each) not in still}
    assert min(decayed.values()) == 2
    kernels = {name for name, dimensions in decayed.items() if dimensions > 2}
    assert kernels == {
        *(f"embedders.sound.convolution.layers.{number}.weight" for number in range(7)),
        "embedders.image.projection",
        "embedders.video.projection",
    }


def is_norm(module: torch.nn.Module) -> bool:
    return "norm" in type(module).__name__.lower() and hasattr(module, "weight")


# --- readings that can be switched off --------------------------------------------------------------------------------


def test_a05_augmentation_is_a_key(toys: World, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = []
    for wanted in (True, False):
        plan = plan_stage(toys.recipe(train__augment=wanted), "finetune", load_registry(), toys.roots)
        modality = load_registry().modalities["waves"].value
        object.__setattr__(modality, "augment", "torch:zeros_like")
        monkeypatch.setattr("skillnet_cli.engine.loader.resolve", lambda name: lambda features, rng: features * 0)
        pipeline = task_pipeline(plan, plan.tasks["match"], load_registry())
        sample = plan.tasks["match"].splits[0][0]
        changed.append(not pipeline.example(sample, 0).features[1][0].any())
        object.__setattr__(modality, "augment", None)
    assert changed == [True, False]


def test_a05_masked_duplicates_are_a_key(toys: World) -> None:
    make_set(toys.folder / "data", "twice", words=["abcd", "efgh"])
    few = tasks("match", datasets=["twice"])
    losses = {}
    for masked in (True, False):
        toys.train(f"m{masked}", finetune__tasks=few, train__mask_duplicates=masked, finetune__steps=1)
        (row,) = toys.rows(run=f"m{masked}")
        losses[masked] = row["loss"]
        assert row.get("duplicates") == (8 if masked else None)
    assert losses[True] < losses[False], "copies of either word are no negatives, or they are some more"


def test_a05_the_largest_gradient_is_a_key(toys: World) -> None:
    for clip in (1.0, 1e-6):
        toys.train(f"c{clip}", finetune__tasks=tasks("sort"), train__clip=clip, finetune__steps=1)
    first, second = (parameters(toys, f"c{clip}") for clip in (1.0, 1e-6))
    assert any(not torch.equal(first[name], second[name]) for name in first)


def parameters(toys: World, run: str) -> dict[str, torch.Tensor]:
    return dict(SkillNet.from_pretrained(toys.run(run) / "model", registry=load_registry()).state_dict())


def test_a05_what_an_older_version_trained_is_resumed(toys: World) -> None:
    """Its checkpoints do not have the keys, which are what it did."""
    recipe = toys.recipe()
    saved = trained_by(recipe, "finetune")
    for key in ("augment", "mask_duplicates"):
        del saved["finetune"][key]
    check_same(recipe, "finetune", saved, toys.run())
    with pytest.raises(UserError, match=r"finetune\.augment: was True, is now False"):
        check_same(toys.recipe(train__augment=False), "finetune", saved, toys.run())


def test_a05_recipes_and_documents_say_what_is_ours() -> None:
    paper = (RECIPES / "paper.toml").read_text(encoding="utf-8")
    readings = (RECIPES.parent / "docs" / "model.md").read_text(encoding="utf-8")
    for key in ("clip", "augment", "mask_duplicates"):
        line = next(line for line in paper.splitlines() if line.startswith(f"{key} ="))
        assert "# ours" in line and f"train.{key}" in readings


def test_b09_checkpoints_that_are_averaged_stay_as_far_apart(toys: World) -> None:
    average = {"kind": "last", "count": 2}
    saved = trained_by(toys.recipe(train__average=average), "finetune")
    farther = {"every": 6, "keep": 9}
    with pytest.raises(UserError, match=r"finetune\.checkpoints\.every: was 4, is now 6"):
        check_same(toys.recipe(train__average=average, train__checkpoints=farther), "finetune", saved, toys.run())
    more = {"every": 4, "keep": 3}
    check_same(toys.recipe(train__average=average, train__checkpoints=more), "finetune", saved, toys.run())
    check_same(toys.recipe(train__checkpoints=farther), "finetune", trained_by(toys.recipe(), "finetune"), toys.run())


# --- what is measured -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("items", "whole"), [(12, True), (11, False)])
def test_a13_figures_on_a_part_are_points_and_no_results(
    toys: World, capsys: pytest.CaptureFixture[str], items: int, whole: bool
) -> None:
    toys.train(finetune__tasks=tasks("sort", "match"), finetune__eval={"every": 4, "items": items}, finetune__steps=4)
    assert [row["task"] for row in toys.rows("eval")] == ["sort", "match"]
    assert [row["items"] for row in read_results(toys.run())] == ([12, 12] if whole else [])
    card = (toys.run() / "model" / "README.md").read_text(encoding="utf-8")
    assert ("| sort | toy:dev |" in card) == whole
    said = capsys.readouterr().err
    told = "sort was measured on 11 of the 12 items of toy:dev (eval.items), which is no result yet"
    assert (told in said) == (not whole)


@pytest.mark.parametrize("part", ["dev", "validation", "valid", "val", "Dev", "VALID"])
def test_b13_dev_parts_are_known_by_their_usual_names(toys: World, part: str) -> None:
    make_set(toys.folder / "data", "other")
    rename(toys.folder / "data" / "other", part)
    recipe = toys.recipe(finetune__tasks=tasks("sort", datasets=["other"]))
    plan = plan_stage(recipe, "finetune", load_registry(), toys.roots)
    assert [(split.set_name, split.name) for split in plan.tasks["sort"].dev_splits()] == [("other", part)]


def rename(folder: Path, part: str) -> None:
    path = folder / "manifest.json"
    facts = json.loads(path.read_text())
    facts["splits"][part] = facts["splits"].pop("dev")
    path.write_text(json.dumps(facts))


def test_a09_training_says_the_recipes_name_of_a_set(toys: World, capsys: pytest.CaptureFixture[str]) -> None:
    make_set(toys.folder / "data", "mine")
    path = toys.folder / "data" / "mine" / "manifest.json"
    path.write_text(path.read_text().replace('"name": "mine"', '"name": "theirs"'))
    toys.train(finetune__tasks=tasks("sort", datasets=["mine"]), finetune__eval={"every": 4}, finetune__steps=4)
    said = capsys.readouterr().err
    assert "sort on mine: accuracy" in said and "theirs" not in said
    assert [row["set"] for row in toys.rows("eval")] == ["mine"]
    assert [row["set"] for row in read_results(toys.run())] == ["mine"]


def test_d09_what_is_not_measured_is_said_before_the_first_step(
    toys: World, capsys: pytest.CaptureFixture[str]
) -> None:
    make_set(toys.folder / "data", "other")
    rename(toys.folder / "data" / "other", "held-out")
    make_set(toys.folder / "data", "bare")
    unlabel(toys.folder / "data" / "bare")
    sets = {"sort": {"datasets": ["other", "toy", "bare"], "batch": 8}}
    toys.train(finetune__tasks=sets, finetune__eval={"every": 4}, finetune__steps=4)
    said = capsys.readouterr().err
    before = said[: said.index("checkpoints of ")]
    assert "sort is not measured as it trains: other has no split 'dev' (it has train, held-out)" in before
    assert "sort is not measured as it trains: bare:dev has no label; it has " in before
    assert {row["set"] for row in toys.rows("eval")} == {"toy"}
    toys.train("quiet", finetune__tasks=sets, finetune__steps=4)
    assert "not measured" not in capsys.readouterr().err
    looked = forecast(
        toys.recipe(finetune__tasks=sets, finetune__eval={"every": 4}),
        "finetune",
        load_registry(),
        toys.roots,
        Cluster(1, 1),
    )
    assert "sort is not measured as it trains: other has no split 'dev' (it has train, held-out)" in looked.assumptions


def unlabel(folder: Path) -> None:
    """Make a set one whose dev part is known to have no labels."""
    path = folder / "manifest.json"
    facts = json.loads(path.read_text())
    facts["splits"]["dev"]["fields"].remove("label")
    path.write_text(json.dumps(facts))


def test_a01_a_training_part_without_targets_is_refused_before_the_first_step(toys: World) -> None:
    make_set(toys.folder / "data", "bare")
    path = toys.folder / "data" / "bare" / "manifest.json"
    facts = json.loads(path.read_text())
    facts["splits"]["train"]["fields"].remove("label")
    path.write_text(json.dumps(facts))
    with pytest.raises(UserError, match="the split 'train' of data set 'bare' has no label; it has "):
        toys.train(finetune__tasks=tasks("sort", datasets=["bare"]))


def test_a14_a_set_feeds_every_task_whose_fields_it_has() -> None:
    feeding = {"image-text": ("demo-emoji", "aic-icc"), "mlm": ("tnews", "demo-reviews"), "t2c": ("code-pretrain",)}
    for task, sets in feeding.items():
        stage = {"steps": 5, "lr": 1e-3, "tasks": {task: {"datasets": list(sets), "batch": 4}}}
        assert mistakes({"name": "x", "finetune": stage}) == ""
    stage = {"steps": 5, "lr": 1e-3, "tasks": {"t2i": {"datasets": ["tnews"], "batch": 4}}}
    assert "this data set feeds tc, and has no image" in mistakes({"name": "x", "finetune": stage})


def mistakes(document: dict[str, Any]) -> str:
    from skillnet_cli.recipe.checks import check_plugins

    return "\n".join(mistake.text for mistake in check_plugins(document, load_registry()))


# --- what is kept and written -----------------------------------------------------------------------------------------


def figures(read: float, hear: float) -> list[Result]:
    return [
        Result("read", "one", "dev", {"accuracy": read}, 5, 5),
        Result("hear", "one", "dev", {"error": hear}, 5, 5),
    ]


@pytest.mark.parametrize("strange", [math.nan, math.inf, -math.inf])
def test_b04_a_figure_that_is_not_finite_is_never_the_best(tmp_path: Path, strange: float) -> None:
    keeper = Best(StageFolder(tmp_path), ("tasks", "mean"), {}, REGISTRY)
    root = keeper.folder.best

    def best() -> dict[str, int]:
        return {path.parent.relative_to(root).as_posix(): int(path.read_text()) for path in root.rglob("model")}

    for step, (read, hear) in enumerate([(strange, strange), (0.2, strange), (strange, 0.9)], 1):
        keeper.consider(step, figures(read, hear), Numbered(step))
    assert best() == {"tasks/read": 2, "tasks/hear": 3}
    keeper.consider(4, figures(0.1, 0.95), Numbered(4))
    keeper.consider(5, figures(0.3, 0.5), Numbered(5))
    keeper.consider(6, figures(strange, strange), Numbered(6))
    assert best() == {"tasks/read": 5, "tasks/hear": 5, "mean": 5}
    json.loads((root / "best.json").read_text(), parse_constant=lambda word: 1 / 0)


def test_b11_random_tokens_are_drawn_as_before_and_without_a_sort() -> None:
    class Large:
        size, mask_id, special_ids = 21_128, 103, frozenset({0, 100, 101, 102, 103})

    ordinary = np.setdiff1d(np.arange(Large.size), list(Large.special_ids))
    ids = torch.arange(200, 400)
    for seed in range(100):
        shown, wanted = corrupt(ids, Large(), np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        chosen = rng.choice(np.arange(200), size=30, replace=False)
        fate, drawn = rng.random(30), rng.choice(ordinary, size=30)
        told = ids.numpy().copy()
        told[chosen] = np.where(fate < 0.8, 103, np.where(fate < 0.9, drawn, told[chosen]))
        assert np.array_equal(shown.numpy(), told) and set(np.flatnonzero(wanted.numpy() != -100)) == set(chosen)
    # In this process's own time, beside that of the sort itself: how fast or busy a machine is decides nothing.
    sorting = _quickest(lambda: np.setdiff1d(np.arange(Large.size), list(Large.special_ids)))
    assert _quickest(lambda: corrupt(ids, Large(), np.random.default_rng(0))) < sorting / 2


def _quickest(work: Callable[[], object]) -> float:
    """Seconds of processor time of the quickest of some calls."""

    def took() -> float:
        began = time.process_time()
        for _ in range(10):
            work()
        return time.process_time() - began

    return min(took() for _ in range(5))

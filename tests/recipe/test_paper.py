"""``recipes/paper.toml`` is the paper's appendix, and ``skillnet inspect`` finds the paper's figures in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skillnet_cli.cli.app import run
from skillnet_cli.plugins import load_registry
from skillnet_cli.recipe import Recipe, load_recipe

PAPER = Path(__file__).parents[2] / "recipes" / "paper.toml"


@pytest.fixture(scope="module")
def paper() -> Recipe:
    return load_recipe(PAPER, registry=load_registry())


def test_stages_are_the_appendixs(paper: Recipe) -> None:
    stages = paper.stages()
    said = {name: (stage.steps, stage.warmup, stage.schedule) for name, stage in stages.items()}
    assert said == {"pretrain": (1_000_000, 10_000, "linear"), "finetune": (200_000, 1_000, "linear")}
    assert stages["pretrain"].lr == 1e-5
    mix = {
        stage: {name: (list(task.datasets), task.batch, task.ratio) for name, task in each.tasks.items()}
        for stage, each in stages.items()
    }
    assert mix["pretrain"] == {
        "mlm": (["text-corpus"], 1024, 2),
        "units": (["speech-corpus"], 512, 4),
        "image-text": (["wukong"], 8192, 2),
        "video-text": (["webvid"], 2048, 1),
        "code-mlm": (["code-pretrain"], 512, 4),
    }
    assert mix["finetune"] == {
        "tc": (["tnews"], 512, 2),
        "asr": (["aishell"], 1024, 4),
        "t2i": (["aic-icc"], 3072, 2),
        "t2v": (["vatex"], 1024, 1),
        "t2c": (["pytorrent"], 512, 4),
    }


def test_it_is_the_defaults_written_out(paper: Recipe) -> None:
    """Who leaves a key out of the model gets the paper's."""
    bare = Recipe.model_validate({"name": "bare", "finetune": paper.finetune.model_dump(by_alias=True)})  # type: ignore[union-attr]
    assert bare.model.model_dump(exclude={"embedders"}) == paper.model.model_dump(exclude={"embedders"})


def test_text_to_image_search_activates_124_million(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without any set, vocabulary or network."""
    monkeypatch.chdir(tmp_path)
    assert run(["inspect", "--recipe", str(PAPER), "--task", "t2i", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["activated_parameters"] == 123_683_329
    assert list(facts["tasks"]) == ["t2i"] and facts["unknown_heads"] == {}
    parts = facts["tasks"]["t2i"]["parts"]
    assert sum(part["parameters"] for part in parts.values()) == facts["activated_parameters"]
    assert sum(part["flops"] for part in parts.values()) == facts["activated_flops"]
    # Per layer: 3 h² + h² + 8 h² products a token (projections, output, feed-forward), two of h a pair of tokens.
    tokens, pairs = 512 + 197, 512**2 + 197**2
    assert facts["activated_flops"] == 12 * (24 * tokens * 768**2 + 4 * pairs * 768) + 2 * 196 * 768 * 768

"""An objective that a plugin brings works wherever the core's own does, and its subclass inherits how."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from skillnet_cli.api import UserError
from skillnet_cli.cli.app import run
from skillnet_cli.engine.plan import plan_stage
from skillnet_cli.inference.capabilities import Capabilities
from skillnet_cli.model.config import read_config
from skillnet_cli.plugins import load_registry
from skillnet_cli.runs import read_results
from tests.distributions import Site
from tests.workbench import World, make_set, tasks

HOOK = """
@hookimpl
def skillnet_tasks():
    return [
        Task("dictate", (("waves",),), "spoken_parts:Dictation", target="transcript", metrics=("accuracy",)),
        Task("meet", (("letters",), ("waves",)), "spoken_parts:Meeting", metrics=("recall@1", "recall@5")),
        Task("mute", (("letters",),), "spoken_parts:Mute", target="label", metrics=("accuracy",)),
    ]
"""
PARTS = """
from skillnet_cli.objectives.classification import Classification
from skillnet_cli.objectives.contrastive import Contrastive
from skillnet_cli.objectives.ctc import Ctc

class Dictation(Ctc):
    pass

class Meeting(Contrastive):
    pass

class Mute(Classification):
    evaluation = None
"""
OWN = {"dictate": "spell", "meet": "match"}


@pytest.fixture
def own(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The toy world with a plugin beside the toy, which brings subclasses of the core's objectives."""
    site = tmp_path / "site"
    site.mkdir()
    Site(site).install("spoken", HOOK)
    (site / "spoken_parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("SKILLNET_PLUGINS", "toy,spoken")
    load_registry.cache_clear()
    yield world
    load_registry.cache_clear()


def test_it_trains_and_measures_as_its_base_does(own: World) -> None:
    for name, base in OWN.items():
        for task in (name, base):
            own.train(task, finetune__tasks=tasks(task), finetune__eval={"every": 12})
        losses = [[loss for _, loss in own.losses(run=task)] for task in (name, base)]
        figures = [[row["metrics"] for row in own.rows("eval", run=task)] for task in (name, base)]
        assert losses[0] == losses[1] and figures[0] == figures[1] and figures[0]


def test_it_works_in_the_verbs(own: World, capsys: pytest.CaptureFixture[str]) -> None:
    own.train("own", finetune__tasks=tasks(*OWN))
    model = own.run("own") / "model"
    capabilities = Capabilities(read_config(model, load_registry()), load_registry())
    assert capabilities.embeddable == ("letters", "waves") and capabilities.transcribing_task().name == "dictate"
    assert capabilities.route_of("waves") == "content" and capabilities.route_of("marks") is None
    for task in OWN:
        assert (
            run(["eval", "--task", task, "--split", "toy:dev", "--checkpoint", str(model), "--data", str(own.roots[0])])
            == 0
        )
        assert run(["inspect", "--task", task, "--checkpoint", str(model)]) == 0
    printed = capsys.readouterr().out
    assert "accuracy" in printed and "recall@1" in printed and "activates letters, waves" in printed
    assert {row["task"] for row in read_results(own.run("own"))} == set(OWN)


def test_its_labels_are_checked_before_the_first_step(own: World) -> None:
    make_set(own.folder / "data", "odd", transcript="abz")
    plan = plan_stage(
        own.recipe(finetune__tasks=tasks("dictate", datasets=["odd"])), "finetune", load_registry(), own.roots
    )
    with pytest.raises(UserError, match="transcript 'z' is not in the list of 8 labels"):
        plan.check(1, load_registry())


def test_one_that_nothing_measures_trains_unmeasured(own: World) -> None:
    own.train("mute", finetune__tasks=tasks("mute"))
    assert len(own.losses(run="mute")) == 12
    plan = plan_stage(
        own.recipe(finetune__tasks=tasks("mute"), finetune__eval={"every": 4}), "finetune", load_registry(), own.roots
    )
    with pytest.raises(UserError, match="'spoken_parts:Mute' has no evaluation"):
        plan.check(1, load_registry())

"""A damaged checkpoint is passed over for an earlier one, or refused in a line, never resumed from as if whole."""

from __future__ import annotations

import json
import random
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.engine.checkpoint.best import Best
from skillnet_cli.engine.checkpoint.format import MARKER, STATE, Checkpoint, Checkpoints
from skillnet_cli.engine.checkpoint.state import saved_state
from skillnet_cli.engine.distributed.mesh import Ranks
from skillnet_cli.engine.launch import Processes, launch
from skillnet_cli.engine.plan import plan_stage
from skillnet_cli.engine.setup import build_model, newest_sound, setup_training
from skillnet_cli.engine.step import Updater
from skillnet_cli.plugins import load_registry
from skillnet_cli.runs import Result, StageFolder
from tests.workbench import World, tasks, toy_world

SETTINGS: dict[str, Any] = {
    "finetune__steps": 8,
    "finetune__tasks": tasks("sort", "fill"),
    "train__checkpoints": {"every": 4, "keep": 2},
}
ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """With the run ``toy``, which has the checkpoints step-4 and step-8."""
    with toy_world(tmp_path_factory.mktemp("damage")) as world:
        world.train(**SETTINGS)
        yield world


@pytest.fixture(scope="module")
def updater(world: World) -> Updater:
    """What a checkpoint is put into."""
    plan = plan_stage(world.recipe(**SETTINGS), "finetune", load_registry(), world.roots)
    model, _ = build_model(plan, None, load_registry())
    model.readers = plan.readers
    return setup_training(plan, model, ALONE, "fp32", "replicate")


def checkpoints(world: World) -> Path:
    return world.run() / "finetune" / "checkpoints"


def resumed(root: Path, updater: Updater) -> int | str:
    """The step that is resumed from, or the one line that says why none is."""
    updater.optimizer.state.clear()
    try:
        found = newest_sound(Checkpoints(root), ALONE)
        assert found is not None
        saved_state(found)
        updater.restore(found)
    except (FailedJob, UserError) as error:
        assert "\n" not in str(error) and len(str(error)) < 500
        return str(error)
    return updater.progress.step


def same_as_saved(world: World, updater: Updater, step: int) -> bool:
    saved = Checkpoint(checkpoints(world) / f"step-{step}", step)
    for kind, tensors in updater.tensors().items():
        wanted = saved.tensors(kind)
        if wanted.keys() != tensors.keys() or not all(
            torch.equal(each, tensors[name]) for name, each in wanted.items()
        ):
            return False
    return True


DEEP = b"[" * 100_000 + b"]" * 100_000


def mutate(content: bytes, draw: random.Random) -> bytes | None:
    """The content as a failing disk or a careless tool might leave it; None for no file."""
    place = draw.randrange(len(content)) if content else 0
    size = draw.randrange(1, 64)
    kinds: list[Callable[[], bytes | None]] = [
        lambda: content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :],
        lambda: content[:place],
        lambda: content[:place] + bytes(size) + content[place + size :],
        lambda: content[:place] + draw.randbytes(size) + content[place + size :],
        lambda: content[:place] + content[place + size :],
        lambda: content[:place] + content[place : place + size] + content[place:],
        lambda: draw.choice([b"", b"{}", b"null", b"NaN", b"[]", b'{"files": {}}', b"\xff\xfe", DEEP]),
        lambda: None,
    ]
    return draw.choice(kinds)()


def forge(folder: Path, name: str) -> None:
    """Make the marker agree with a file, as whoever alters it on purpose would."""
    marker = json.loads((folder / MARKER).read_text())
    content = (folder / name).read_bytes()
    marker["files"][name] = {"bytes": len(content), "crc32": zlib.crc32(content)}
    (folder / MARKER).write_text(json.dumps(marker))


FORGED: dict[str, Callable[[dict[str, Any]], object]] = {
    "another key": lambda state: state["progress"].update(skkipped=0),
    "steps of another checkpoint": lambda state: state["progress"].update(step=4),
    "more skipped than done": lambda state: state["progress"].update(skipped=9),
    "a stage that is a word": lambda state: state["trained_by"].update(finetune="x"),
    "a stage that is a list": lambda state: state["trained_by"].update(finetune=[1]),
}


@pytest.mark.parametrize("what", FORGED)
def test_s07_a_forged_state_is_a_line(world: World, tmp_path: Path, what: str) -> None:
    """Whoever alters it on purpose also alters its checksum."""
    folder = tmp_path / "step-8"
    shutil.copytree(checkpoints(world) / folder.name, folder)
    state = json.loads((folder / STATE).read_text())
    FORGED[what](state)
    (folder / STATE).write_text(json.dumps(state))
    forge(folder, STATE)
    checkpoint = Checkpoints(tmp_path).latest()
    assert checkpoint is not None and not checkpoint.mismatch(0, 1)
    with pytest.raises(FailedJob, match=r"step-8.state\.json: .*: delete \S+step-8 to resume") as caught:
        saved_state(checkpoint)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("many", [60, pytest.param(5_000, marks=pytest.mark.soak)])
def test_s07_no_damage_to_a_checkpoint_passes_for_the_state(
    world: World, updater: Updater, tmp_path: Path, many: int
) -> None:
    """Seeded mutations of every file of the newest one: it is as saved, or the one before is resumed from."""
    shutil.copytree(checkpoints(world), tmp_path / "all")
    newest = tmp_path / "all" / "step-8"
    names = sorted(path.relative_to(newest).as_posix() for path in newest.rglob("*") if path.is_file())
    outcomes = []
    for seed in range(many):
        draw = random.Random(seed)
        path = newest / names[seed % len(names)]
        before = path.read_bytes()
        after = mutate(before, draw)
        path.unlink() if after is None else path.write_bytes(after)
        forged = path.name != MARKER and after is not None and seed % 3 == 2
        marker = (newest / MARKER).read_bytes() if path.name != MARKER else before
        if forged:
            forge(newest, names[seed % len(names)])
        step = resumed(tmp_path / "all", updater)
        outcomes.append(step if isinstance(step, int) else "line")
        if not forged:
            assert step in (4, 8), f"seed {seed}, {path.name}: {step}"
            assert same_as_saved(world, updater, int(step)), f"seed {seed}, {path.name}"
        path.write_bytes(before)
        (newest / MARKER).write_bytes(marker)
    assert {4, 8, "line"} <= set(outcomes)


def test_s15_a_flipped_byte_is_said_and_the_earlier_checkpoint_used(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the whole command's work, in the largest file and in the smallest; it ends as if nothing had been."""
    for name, place in (("model.safetensors", -5), ("state.json", -5), ("state.json", 0)):
        run = f"{name.partition('.')[0]}{place}"
        shutil.copytree(world.run(), world.run(run))
        shutil.rmtree(world.run(run) / "finetune" / "model")
        path = world.run(run) / "finetune" / "checkpoints" / "step-8" / name
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)
        world.train(run, **SETTINGS)
        said = capsys.readouterr().err
        assert f"skipping the damaged checkpoint {path.parent}: {name}: checksum mismatch" in said
        assert f"from {path.parent.with_name('step-4')}" in said
        for kind in ("model", "optimizer"):
            one, other = (
                Checkpoint(world.run(each) / "finetune" / "checkpoints" / "step-8", 8).tensors(kind)
                for each in ("toy", run)
            )
            assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_s15_a_damaged_state_does_not_keep_several_processes_from_starting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(world.run(), world.run("several"))
    path = world.run("several") / "finetune" / "checkpoints" / "step-8" / STATE
    path.write_bytes(b"?" + path.read_bytes()[1:])
    started = []
    monkeypatch.setattr("skillnet_cli.engine.launch._launch_elastic", lambda *arguments: started.append(arguments))
    recipe = world.recipe(**SETTINGS)
    launch(recipe, "finetune", load_registry(), world.run("several"), world.roots, Processes(nproc=2))
    assert len(started) == 1


def test_s15_where_no_checkpoint_is_sound_nothing_starts_over(world: World) -> None:
    shutil.copytree(world.run(), world.run("lost"))
    shutil.rmtree(world.run("lost") / "finetune" / "model")
    for path in (world.run("lost") / "finetune" / "checkpoints").glob("*/model.safetensors"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(
        FailedJob, match=r"^no checkpoint in \S+checkpoints is sound: delete that folder to start again$"
    ):
        world.train("lost", **SETTINGS)


BOOKS = {
    "binary": b"\x00\xff\x00",
    "deep": DEEP,
    "no object": b"[1]",
    "unknown key": b'{"more": 1}',
    "figures that are words": b'{"measured": {"4": {"sort": "high"}}}',
    "infinite": b'{"measured": {"4": {"sort": 1e999}}}',
    "a step that was not measured": b'{"best": {"tasks/sort": {"step": 4}}}',
    "a step without number": b'{"measured": {"four": {"sort": 1.0}}}',
    "nothing kept": b'{"best": {"mean": {}}}',
    "folders elsewhere": b'{"measured": {"4": {"sort": 1.0}}, "best": {"../../x": {"step": 4}}}',
}


@pytest.mark.parametrize("book", BOOKS)
def test_s07_a_damaged_list_of_the_best_is_named(updater: Updater, tmp_path: Path, book: str) -> None:
    folder = StageFolder(tmp_path)
    folder.best.mkdir()
    (folder.best / "best.json").write_bytes(BOOKS[book])
    best = Best(folder, ["tasks", "mean"], {}, load_registry())
    result = Result("sort", "toy", "dev", {"accuracy": 0.5}, 1, 1)
    with pytest.raises(UserError, match=r"best\.json .*delete it") as caught:
        best.consider(8, [result], updater.model)
    assert "\n" not in str(caught.value)


def test_b04_a_figure_that_is_no_number_is_never_the_best(updater: Updater, tmp_path: Path) -> None:
    """Neither of its task, nor does it make the others the best on average."""
    folder = StageFolder(tmp_path)
    best = Best(folder, ["tasks", "mean"], updater.model.readers, load_registry())

    def consider(step: int, sort: float, fill: float) -> set[str]:
        results = [
            Result(task, "toy", "dev", {"accuracy": figure}, 1, 1) for task, figure in (("sort", sort), ("fill", fill))
        ]
        lines = best.consider(step, results, updater.model)
        return {line.rpartition("best/")[2] for line in lines}

    assert consider(1, 0.5, 0.5) == {"tasks/sort", "tasks/fill", "mean"}
    assert consider(2, float("nan"), 0.6) == {"tasks/fill"}
    assert consider(3, 0.6, 0.6) == {"tasks/sort", "mean"}
    assert consider(4, float("nan"), float("nan")) == set()


def test_b09_an_average_of_the_last_checkpoints_keeps_their_interval(world: World) -> None:
    changed = {**SETTINGS, "train__average": {"kind": "last", "count": 2}, "finetune__tasks": tasks("sort")}
    world.train("averaged", **changed)
    with pytest.raises(UserError, match=r"finetune\.checkpoints\.every: was 4, is now 2"):
        world.train("averaged", **{**changed, "train__checkpoints": {"every": 2, "keep": 2}})
    world.train("averaged", **{**changed, "train__checkpoints": {"every": 4, "keep": 3}})

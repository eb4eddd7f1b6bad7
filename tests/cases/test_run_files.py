"""Whatever a run's files hold, verbs that read them end in figures or in one line, and a training goes on."""

from __future__ import annotations

import json
import math
import random
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from skillnet_cli import files
from skillnet_cli.api import UserError
from skillnet_cli.model.card import results_of, write_card
from skillnet_cli.runs import MetricsLog, Result, read_metrics, read_results, record_results
from tests.inference.world import World


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The content of a file after an accident or a joke: flips, cuts, doubled pieces, other values, depth."""
    kind = rng.randrange(7)
    place = rng.randrange(max(1, len(content)))
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :]
    if kind == 2:
        return content[:place] + content[place : place + 50] * 3 + content[place + 50 :]
    if kind == 3:
        return content[:place] + rng.choice([b"[" * 20_000, b'{"a":' * 3_000, b"\xff\xfe\x00", b"\x00" * 20]) + content
    if kind == 4:
        strange = [
            b"NaN",
            b"-1",
            b"1e999",
            b"9" * 400,
            b"null",
            b"true",
            b'"\\ud800"',
            b"[]",
            b"{}",
            b"0.5",
            b'""',
            b"&a [*a]",
        ]
        numbers = [at for at, byte in enumerate(content) if chr(byte).isdigit()] or [place]
        at = rng.choice(numbers)
        return content[:at] + rng.choice(strange) + content[at + 1 :]
    if kind == 5:
        words = [b"task", b"set", b"metrics", b"kind", b"step", b"cases", b"model-index", b"name", b"value", b"index"]
        return content.replace(rng.choice(words), rng.choice(words), rng.choice([1, -1]))
    return bytes(rng.randrange(256) for _ in range(rng.randrange(300)))


@pytest.fixture
def run(world: World) -> Path:
    """A run with results, a card, curves and a recipe."""
    world.save_run()
    world.prepare("pairs")
    hits = [{"index": 1, "score": 0.5}, {"index": 0, "score": 0.25}]
    searched = ({"index": 0, "caption": 1, "rank": 2, "best": hits},)
    told = ({"index": 3, "predicted": "a", "reference": "b"},)
    facts: dict[str, Any] = {"protocol": {"pool": "18 items", "metrics": {"x": {"computed by": "y"}}}, "checksum": ""}
    results = [
        Result("find", "pairs", "test", {"recall@1": 0.5}, 18, 36, cases=searched, **facts),
        Result("kind", "pairs", "test", {"accuracy": 0.25}, 18, 18, cases=told, **facts),
    ]
    write_card(world.run / "model", record_results(world.run, results, "m"))
    recipe = 'name = "small"\n[model]\nlayers = 2\n[finetune]\nsteps = 5\nlr = 1e-3\n'
    recipe += '[finetune.tasks.kind]\ndatasets = ["pairs"]\nbatch = 4\n'
    (world.run / "recipe.toml").write_text(recipe)
    log = MetricsLog(world.run / "finetune" / "metrics.jsonl", 0)
    for step in range(1, 5):
        log.write("train", step, task="kind", loss=1 / step)
    log.write("eval", 4, task="kind", set="pairs", metrics={"accuracy": 0.5}, items=18)
    log.close()
    return world.run


VERBS: dict[str, tuple[str, list[list[str]]]] = {
    "results": ("results.json", [["report", "runs/small"]]),
    "curves": ("finetune/metrics.jsonl", [["report", "runs/small"], ["report", "runs/small", "runs/other"]]),
    "card": ("model/README.md", []),
    "recipe": (
        "recipe.toml",
        [
            ["recipes", "show", "runs/small/recipe.toml"],
            ["recipes", "check", "runs/small/recipe.toml"],
            ["report", "runs/small"],
        ],
    ),
}


def assault(world: World, which: str, rounds: int, seed: int) -> None:
    name, verbs = VERBS[which]
    path = world.run / name
    whole, kept = path.read_bytes(), (world.run / "results.json").read_bytes()
    if which == "curves":
        (world.folder / "runs" / "other").mkdir()
        (world.folder / "runs" / "other" / "recipe.toml").write_text('name = "other"\n')
    rng = random.Random(seed)
    for _ in range(rounds):
        content = damaged(whole, rng)
        path.write_bytes(content)
        before = signal.alarm(60)
        try:
            write_card(world.run / "model", results_of(world.run / "model"))
            record_quietly(world.run)
            remarks = world.skillnet(*rng.choice(verbs), code=None)[1] if verbs else ""
        except BaseException as error:
            raise AssertionError(content[:3000]) from error
        finally:
            signal.alarm(before)
        assert "Traceback" not in remarks
        (world.run / "results.json").write_bytes(kept)


def record_quietly(run: Path) -> None:
    """What eval does with a run's results and its card."""
    with suppress(UserError):
        write_card(run / "model", record_results(run, [Result("kind", "pairs", "dev", {"accuracy": 0.5}, 1, 1)], "m"))


@pytest.mark.parametrize("which", VERBS)
def test_s07_damaged_files_of_a_run_end_in_no_traceback(world: World, run: Path, which: str) -> None:
    assault(world, which, 12, seed=7)


@pytest.mark.soak
@pytest.mark.parametrize("which", VERBS)
@pytest.mark.parametrize("seed", range(4))
def test_s07_no_damage_ends_in_a_traceback(world: World, run: Path, which: str, seed: int) -> None:
    assault(world, which, 250, seed)


@pytest.mark.parametrize("name", ["results.json", "finetune/metrics.jsonl", "recipe.toml", "model/README.md"])
def test_s07_a_named_pipe_in_place_of_a_file_is_not_waited_for(world: World, run: Path, name: str) -> None:
    import os

    (run / name).unlink()
    os.mkfifo(run / name)
    before = signal.alarm(60)
    try:
        for verb in (
            ["report", "runs/small"],
            ["eval", "--task", "kind"],
            ["recipes", "show", "runs/small/recipe.toml"],
        ):
            assert "Traceback" not in world.skillnet(*verb, code=None)[1]
    finally:
        signal.alarm(before)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x93NUMPY\x01\x00" + bytes(range(256)) * 20, "lines are no rows"),
        (b'{"kind": "train", "step": 1}\n' + b"[" * 30_000 + b"\n" + b'{"kind": "train", "step": 2}\n', "1 of 3 lines"),
        (b'{"kind": "train", "step": 1}\n{"a":' + b'{"a":' * 400 + b"1" + b"}" * 401 + b"\n", "1 of 2 lines"),
        (b'{"kind": "train", "step": 1}\nnull\n{"kind": 3, "step": 2}\n', "2 of 3 lines"),
        (b"x" * (17 << 20), "more than"),
    ],
)
def test_s07_curves_that_cannot_be_read_are_set_aside_and_go_on(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content)
    log = MetricsLog(path, 5)
    assert said in log.damaged and "metrics.damaged.jsonl" in log.damaged
    assert (tmp_path / "metrics.damaged.jsonl").read_bytes() == content
    log.write("train", 6)
    log.close()
    good = [1, 2] if b"[[[" in content else [1] if content.startswith(b'{"kind') else []
    assert [row["step"] for row in read_metrics(path)] == [*good, 6]
    again = MetricsLog(path, 6)
    again.close()
    assert again.damaged == ""


def test_s07_a_line_that_a_kill_cut_off_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"kind": "train", "step": 1}\n{"kind": "train", "st')
    log = MetricsLog(path, 1)
    log.close()
    assert log.damaged == "" and [row["step"] for row in read_metrics(path)] == [1]


def test_b06_json_has_no_word_for_nan_at_any_depth(tmp_path: Path) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    log = MetricsLog(tmp_path / "metrics.jsonl", 0)
    strange: dict[str, Any] = {"a": math.nan, "b": [math.inf, {"c": (-math.inf, 1.5)}]}
    log.write("mix", 1, tasks=strange)
    log.close()
    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=refuse)["tasks"] == {"a": None, "b": [None, {"c": [None, 1.5]}]}
    files.write_json(tmp_path / "facts.json", strange)
    assert json.loads((tmp_path / "facts.json").read_text(), parse_constant=refuse) == {
        "a": None,
        "b": [None, {"c": [None, 1.5]}],
    }
    record_results(tmp_path, [Result("t", "s", "dev", {"loss": math.nan}, 1, 1)], "m")
    (row,) = read_results(tmp_path)
    assert row["metrics"] == {"loss": None}


def test_b06_a_figure_that_is_not_finite_is_said_in_report_and_card(world: World, run: Path) -> None:
    rows = record_results(run, [Result("kind", "pairs", "test", {"accuracy": math.nan}, 1, 1)], "m")
    write_card(run / "model", rows)
    assert "not finite" in (run / "model" / "README.md").read_text()
    assert all(row["metrics"] for row in results_of(run / "model")) and len(results_of(run / "model")) >= 1
    world.skillnet("report", str(run))
    assert "not finite" in (run / "report.html").read_text()


def test_s07_a_card_of_anyones_is_no_source_of_surprises(run: Path) -> None:
    card = run / "model" / "README.md"
    head = "---\nlibrary_name: skillnet\nmodel-index:\n- name: x\n  results:\n  - task: {type: a, name: %s}\n"
    head += "    dataset: {type: b, name: %s, split: test}\n    metrics: [{type: c, value: %s}]\n---\n"
    for task, name, value in [
        ("[1]", "b", "1"),
        ("a", "{a: b}", "1"),
        ("a", "b", "x"),
        ("a", "b", ".nan"),
        ("a", "b", "[]"),
        ("a", '"b\\n\\n# c"', "1"),
    ]:
        card.write_text(head % (task, name, value))
        assert results_of(run / "model") == []
    card.write_text(head % ("find", '"<b>|x"', "0.5"))
    (row,) = results_of(run / "model")
    assert row["metrics"] == {"c": 0.5}
    write_card(run / "model", results_of(run / "model"))
    (line,) = [line for line in card.read_text().splitlines() if line.startswith("| find | &lt;b&gt;")]
    assert "\\|x:test" in line
    for broken in ("---\na: [\n---\n", "---\n- &a [*a]\n---\n", "---\n" + "[" * 5000 + "\n---\n", "\x00", ""):
        card.write_text(broken)
        assert results_of(run / "model") == []


def test_a09_a_card_tells_tasks_and_sets_of_one_kind_apart(run: Path) -> None:
    rows = [
        {"task": task, "set": "pairs", "split": "test", "metrics": {"x": figure}, "items": 3, "checksum": checksum}
        for task, checksum, figure in [("find", "a" * 16, 0.1), ("find", "b" * 16, 0.2), ("kind", "b" * 16, 0.3)]
    ]
    write_card(run / "model", rows)
    assert results_of(run / "model") == rows


def test_u09_half_of_a_page_leaves_nothing_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.prepare("pairs")

    def full(self: Any, content: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.AtomicFile, "write", full)
    with pytest.raises(KeyboardInterrupt):
        files.write_whole(world.folder / "page.html", b"x")
    assert not list(world.folder.glob("page*"))

"""Texts are translated once, whoever asked: batches, the cache and its processes, and what is good enough."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.prepare.translation import (
    BATCH_CHARACTERS,
    BATCH_TEXTS,
    Translation,
    TranslationCache,
    open_translation,
    why_poor,
)
from tests.prepare.upside import REGISTRY, Upside, open_upside

ROOT = Path(__file__).parents[2]


def engine_of(translation: Translation) -> Upside:
    engine: Any = translation._engine
    assert isinstance(engine, Upside)
    return engine


def test_texts_are_asked_for_once_and_answered_in_their_order(tmp_path: Path) -> None:
    translation = open_upside(tmp_path)
    texts = ["bcd", " ", "a", "bcd", "what!", "\ud800x"]
    answers = ["zh dcb", None, "zh a", "zh dcb", None, "zh x?"]
    assert translation.translate(texts) == answers
    assert engine_of(translation).asked == [["a", "?x", "bcd", "what!"]], "by length"
    assert translation.translate(texts) == answers
    assert engine_of(translation).asked[1:] == [["what!"]], "what failed is tried again, the rest is known"
    again = open_upside(tmp_path)
    assert again.translate(["a", "bcd"]) == ["zh a", "zh dcb"] and not engine_of(again).asked
    other = open_upside(tmp_path, "upside=other")
    assert other.translate(["a"]) == ["zh a"] and engine_of(other).asked == [["a"]], "another model shares nothing"


def test_none_translates_nothing_and_names_are_checked(tmp_path: Path) -> None:
    assert open_translation("none", tmp_path, REGISTRY) is None and open_translation(None, tmp_path, REGISTRY) is None
    with pytest.raises(UserError, match="unknown translator 'upsid': did you mean 'upside'"):
        open_translation("upsid", tmp_path, REGISTRY)
    with pytest.raises(UserError, match="unknown translator 'marian': pip install skillnet-text"):
        open_translation("marian", tmp_path, REGISTRY)
    with pytest.raises(UserError, match="'=x' is not NAME"):
        open_translation("=x", tmp_path, REGISTRY)


@given(st.lists(st.text(min_size=1, max_size=3 * BATCH_CHARACTERS), max_size=20), st.integers(1, 300))
def test_batches_hold_every_text_once_within_bounds(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], short: int
) -> None:
    many = [*texts, *(f"short {number}" for number in range(short))]
    translation = open_upside(tmp_path_factory.mktemp("cache"))
    translation.translate(many)
    made = engine_of(translation).asked
    assert sorted(text for batch in made for text in batch) == sorted({text for text in many if text.strip()})
    for batch in made:
        assert len(batch) <= BATCH_TEXTS
        assert len(batch) == 1 or len(batch) * max(map(len, batch)) <= BATCH_CHARACTERS


@given(st.lists(st.text(max_size=4), min_size=5, max_size=5), st.lists(st.text(max_size=4), min_size=5, max_size=5))
def test_keys_differ_where_anything_does(first: list[str], second: list[str]) -> None:
    assert (TranslationCache.key(*first) == TranslationCache.key(*second)) == (first == second)


def test_what_was_kept_first_stays(tmp_path: Path) -> None:
    one, two = (TranslationCache(tmp_path / "t.sqlite") for _ in range(2))
    key, more = (
        TranslationCache.key("e", "m", "en", "zh", "x"),
        [TranslationCache.key(str(number)) for number in range(2000)],
    )
    assert one.add({key: "一"}) == {key: "一"}
    assert two.add({key: "二"}) == {key: "一"}
    one.add(dict.fromkeys(more, "many"))
    assert len(two.find([*more, b"nobody's"])) == 2000
    one.close()


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(FailedJob, match=r"t\.sqlite: the cache .* delete it"):
        TranslationCache(tmp_path / "t.sqlite")


def start(folder: Path, model: str, first: int, last: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.prepare.upside", str(folder), model, str(first), str(last)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_processes_share_a_cache_and_a_kill_damages_nothing(tmp_path: Path) -> None:
    processes = [start(tmp_path, "m", 0, 100_000), start(tmp_path, "m", 50, 400)]
    for process in processes:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("\n")
        process.stdin.flush()
    told = [int(processes[0].stdout.readline()) for _ in range(60)]  # type: ignore[union-attr]
    os.kill(processes[0].pid, signal.SIGKILL)
    rest, _ = processes[0].communicate()
    told += [int(line) for line in rest.split("\n")[:-1]]
    other, _ = processes[1].communicate()
    assert processes[1].returncode == 0 and len(other.splitlines()) == 350
    with sqlite3.connect(tmp_path / "translations.sqlite") as base:
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    after = open_upside(tmp_path, "upside=m")
    texts = [f"text {number}" for number in sorted({*told, *range(50, 400)})]
    assert after.translate(texts) == [f"zh {text[::-1]}" for text in texts]
    assert not engine_of(after).asked, "all that a process was told is in the cache"


@pytest.mark.parametrize(
    ("translated", "reason"),
    [
        ("返回文件的所有行。", None),
        ("读取 JSON 文件，返回 dict", None),
        (None, "could not"),
        (" ", "could not"),
        ("返回⁇的行", "unknown characters"),
        ("Return the lines of a file", "is Chinese"),
        ("行", "far shorter"),
        ("返回文件的所有行" * 20, "far shorter or longer"),
        ("返回返回返回返回返回返回返回", "repeats itself"),
        ("的数据的数据的数据的数据的数据", "repeats itself"),
    ],
)
def test_rules_of_quality(translated: str | None, reason: str | None) -> None:
    found = why_poor("Return all the lines of a file.", translated)
    assert found is None if reason is None else reason in str(found)

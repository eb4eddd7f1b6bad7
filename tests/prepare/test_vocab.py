"""Vocabularies: from sets and files, there only when whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import pytest

from skillnet_cli.api import UserError
from skillnet_cli.plugins import Plugin, Registry, build_registry
from skillnet_cli.prepare.vocab import prepare_vocab
from tests.integers import toy_modality
from tests.sets import MakeSet


def test_texts_of_sets_and_files_are_read_in_order(make_set: MakeSet, tmp_path: Path, registry: Registry) -> None:
    make_set("numbers", items=3)
    (tmp_path / "more.txt").write_text("\ufeff猫 狗\n\n鸟\n", encoding="utf-8")
    out = tmp_path / "new" / "vocab.txt"
    prepare_vocab(registry, "words", [str(tmp_path / "more.txt"), "numbers"], 100, out, roots=[tmp_path])
    assert out.read_text().split() == ["猫", "狗", "鸟", "3", "4", "5"]
    assert [path.name for path in out.parent.iterdir()] == ["vocab.txt"]
    prepare_vocab(registry, "words", ["numbers"], 2, out, kind="plain", roots=[tmp_path])
    assert out.read_text().split() == ["3", "4"]


def broken_builder(texts: Iterable[str], size: int, out: Path) -> None:
    """Writes half of something."""
    out.write_text("half")
    raise UserError("no more")


def with_builders(**builders: str) -> Registry:
    """One skill, ``words``, with these builders."""
    modality = dataclasses.replace(toy_modality("words"), vocabularies=builders)
    return build_registry([Plugin("toys", "toys", "1", modalities=(modality,))])


def test_a_vocabulary_that_fails_leaves_the_older_one(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a")
    (tmp_path / "vocab.txt").write_text("older")
    registry = with_builders(broken="tests.prepare.test_vocab:broken_builder")
    with pytest.raises(UserError, match="no more"):
        prepare_vocab(registry, "words", [str(tmp_path / "texts.txt")], 5, tmp_path / "vocab.txt")
    assert (tmp_path / "vocab.txt").read_text() == "older"
    assert {path.name for path in tmp_path.iterdir()} == {"texts.txt", "vocab.txt"}


@pytest.mark.parametrize(
    ("skill", "kind", "message"),
    [
        ("wrods", None, "unknown skill 'wrods': did you mean 'words'?"),
        ("blob", None, "skill 'blob' uses no vocabulary"),
        ("words", "plane", "did you mean 'plain'?"),
    ],
)
def test_unknown_skills_and_kinds(
    tmp_path: Path, registry: Registry, skill: str, kind: str | None, message: str
) -> None:
    with pytest.raises(UserError) as error:
        prepare_vocab(registry, skill, [], 5, tmp_path / "vocab.txt", kind)
    assert message in str(error.value)


def test_the_first_of_several_kinds_is_made_unless_one_is_chosen(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a b\r\nc\u2028\x85d\n")
    registry = with_builders(plain="tests.sets:build_vocabulary", two="x:z")
    prepare_vocab(registry, "words", [str(tmp_path / "texts.txt")], 5, tmp_path / "vocab.txt")
    assert (tmp_path / "vocab.txt").read_text().split("\n") == ["a", "b", "c", "d"]
    with pytest.raises(UserError, match="it has plain, two"):
        prepare_vocab(registry, "words", [], 5, tmp_path / "vocab.txt", "nothing")


def test_origins_that_are_no_texts(make_set: MakeSet, tmp_path: Path, registry: Registry) -> None:
    make_set("numbers")
    (tmp_path / "wrong.txt").write_bytes(b"one\n\x81\xff\n")
    cases = [("words", "nowhere", "no prepared set"), ("lines", "numbers", "has no field 'lines'")]
    for skill, origin, message in [*cases, ("words", str(tmp_path / "wrong.txt"), "line 2 ")]:
        with pytest.raises(UserError, match=message):
            prepare_vocab(registry, skill, [origin], 5, tmp_path / "vocab.txt", roots=[tmp_path])
    with pytest.raises(UserError, match="is a folder"):
        prepare_vocab(registry, "words", ["numbers"], 5, tmp_path, roots=[tmp_path])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_files_of_texts_in_any_usual_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "texts.txt").write_bytes("甲 乙\r\n\r\n丙 甲\n".encode(encoding))
    plain = with_builders(plain="tests.sets:build_vocabulary")
    prepare_vocab(plain, "words", [str(tmp_path / "texts.txt")], 9, tmp_path / "vocab.txt")
    assert set((tmp_path / "vocab.txt").read_text(encoding="utf-8").split()) == set("甲乙丙")

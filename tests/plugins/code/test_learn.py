"""Vocabularies learnt from code: repeatable in every process, and of use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from skillnet_cli.api import UserError
from skillnet_code.learn import learn_vocabulary
from skillnet_code.pieces import base_pieces
from skillnet_code.reader import CodeReader
from skillnet_text.vocabulary import SPECIAL_TOKENS, Vocabulary

SCRIPT = """
import json, sys
from pathlib import Path
from skillnet_code.learn import learn_vocabulary
learn_vocabulary(json.loads(Path(sys.argv[1]).read_text()), 600, Path(sys.argv[2]))
"""


def test_the_same_code_gives_the_same_file_in_every_process(tmp_path: Path, codes: tuple[str, ...]) -> None:
    source = tmp_path / "codes.json"
    source.write_text(json.dumps(codes * 2))
    for number in range(3):
        command = [sys.executable, "-c", SCRIPT, str(source), str(tmp_path / f"{number}.txt")]
        subprocess.run(command, check=True)
    assert len({(tmp_path / f"{number}.txt").read_bytes() for number in range(3)}) == 1


def test_every_vocabulary_begins_with_what_spells_any_text(vocab_file: Path) -> None:
    pieces = Vocabulary.load(vocab_file).pieces
    fixed = (*SPECIAL_TOKENS, *base_pieces())
    assert pieces[: len(fixed)] == fixed
    assert len(set(base_pieces())) == len(base_pieces())


def test_learnt_pieces_make_code_shorter(reader: CodeReader, codes: tuple[str, ...]) -> None:
    assert len(reader.pieces(codes[0])) < len(codes[0]) / 2


@pytest.mark.parametrize(("codes", "size", "message"), [([], 900, "no text"), (["x = 1"], 300, "300 is too small")])
def test_what_cannot_be_learnt_is_said(tmp_path: Path, codes: list[str], size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        learn_vocabulary(codes, size, tmp_path / "v.txt")

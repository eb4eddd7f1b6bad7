"""Vocabularies learnt from texts: repeatable in every process, and of use."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from skillnet_cli.api import UserError
from skillnet_text.config import TextConfig
from skillnet_text.learn import frequent_characters, learn_vocabulary
from skillnet_text.reader import TextReader
from skillnet_text.vocabulary import SPECIAL_TOKENS, Vocabulary

TEXTS = [
    "Windows 7 系统很好用，windows XP 不好用。",
    "the windows of the house, other things, nothing, 2019 2018 2017",
    "系统更新后，电脑很慢。thing thing windows",
    "Œuvre 一次",
] * 3
SCRIPT = """
import sys
from pathlib import Path
from skillnet_text.learn import learn_vocabulary
learn_vocabulary(Path(sys.argv[1]).read_text(encoding="utf-8").split("\\n"), 150, Path(sys.argv[2]))
"""


def test_the_same_texts_give_the_same_file_in_every_process(tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS), encoding="utf-8")
    digests = set()
    for number in range(3):
        out = tmp_path / f"{number}.txt"
        subprocess.run([sys.executable, "-c", SCRIPT, str(texts), str(out)], check=True)
        digests.add(hashlib.sha256(out.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_pieces_are_special_tokens_characters_and_frequent_words(tmp_path: Path) -> None:
    learn_vocabulary(TEXTS, 150, tmp_path / "v.txt")
    pieces = Vocabulary.load(tmp_path / "v.txt").pieces
    assert pieces[:5] == SPECIAL_TOKENS
    assert len(pieces) <= 150
    assert {"系", "统", "windows", "the", "thing", "##s"} <= set(pieces)
    assert not any(piece != piece.lower() for piece in pieces[5:])


def test_learnt_vocabulary_reads_its_own_texts_without_unknown_pieces(tmp_path: Path) -> None:
    learn_vocabulary(TEXTS, 150, tmp_path / "v.txt")
    reader = TextReader(TextConfig(vocab=tmp_path / "v.txt"))
    for text in TEXTS:
        assert reader.vocabulary.ids["[UNK]"] not in reader.pieces(text), text
    assert len(reader.pieces("windows")) == 1


def test_frequent_characters_against_a_plain_count() -> None:
    texts = ["好好学习 天天向上", "好好 天天", "习"]
    counts = Counter("".join(texts))
    assert frequent_characters(texts, 10) == {c for c, n in counts.items() if n > 1 and c != " "}
    assert frequent_characters(texts, 2) == {"好", "天"}


@pytest.mark.parametrize(("texts", "size", "message"), [([], 100, "no text"), (TEXTS, 9, "9 is too small")])
def test_what_cannot_be_learnt_is_said(tmp_path: Path, texts: list[str], size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        learn_vocabulary(texts, size, tmp_path / "v.txt")
    assert not list(tmp_path.iterdir())

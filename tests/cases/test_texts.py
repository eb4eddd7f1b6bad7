"""Texts as people write them: in full width, in characters that a vocabulary lacks, longer than a model reads."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skillnet_cli.api import DamagedItem, collect_remarks
from skillnet_text.config import TextConfig
from skillnet_text.learn import learn_characters, learn_vocabulary
from skillnet_text.reader import TextReader
from skillnet_text.vocabulary import SPECIAL_TOKENS, Vocabulary

PIECES = [*SPECIAL_TOKENS, *"abc123,.红色的汽车", *(f"##{each}" for each in "abc123"), "ａ", "##１", "，"]


@pytest.fixture(scope="module")
def vocab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    Vocabulary(PIECES).save(path)
    return path


@pytest.mark.parametrize(
    ("odd", "usual"),
    [("ＡＢＣ１２３", "ABC123"), ("红色，汽车。ａ", "红色,汽车。a"), ("①②③", "123"), ("a\u3000b", "a b"), ("ﬁ", "fi")],
)
def test_w09_compatible_characters_are_the_usual_ones(vocab: Path, odd: str, usual: str) -> None:
    reader = TextReader(TextConfig(vocab=vocab))
    assert torch.equal(reader.read(odd), reader.read(usual))


@given(st.text(min_size=1))
def test_w09_a_text_is_what_unicode_makes_of_it(vocab: Path, text: str) -> None:
    folding, plain = (TextReader(TextConfig(vocab=vocab, nfkc=nfkc)) for nfkc in (True, False))
    assert folding.pieces(text) == plain.pieces(unicodedata.normalize("NFKC", text))


def test_w09_vocabularies_are_learnt_from_what_is_read(tmp_path: Path) -> None:
    for learn in (learn_vocabulary, learn_characters):
        learn(["ＡＢＣ１２３，ABC123", "ＡＢＣ１２３！ABC123"] * 9, 60, tmp_path / "vocab.txt")
        pieces = "".join(Vocabulary.load(tmp_path / "vocab.txt").pieces)
        assert pieces == unicodedata.normalize("NFKC", pieces) and "a" in pieces and "," in pieces


def test_f07_unknown_characters_are_counted(vocab: Path) -> None:
    reader = TextReader(TextConfig(vocab=vocab))
    for text, said in (
        ("红色的汽车", []),
        ("紅色的汽車", ["has 2 tokens of 5 that the model's vocabulary does not know"]),
    ):
        with collect_remarks() as remarks:
            reader.read(text)
        assert remarks == said


def test_l10_what_is_cut_off_is_told(vocab: Path) -> None:
    reader = TextReader(TextConfig(vocab=vocab, max_length=8))
    for text, said in (
        ("红色的汽车红色", []),
        ("红色的汽车红色的", ["is longer than 8 tokens: only its beginning counts"]),
    ):
        with collect_remarks() as remarks:
            reader.read(text)
        assert remarks == said


def test_t02_half_a_character_is_damage(vocab: Path) -> None:
    for text in ("红\udcba", "\ud83d"):
        with pytest.raises(DamagedItem, match="half a surrogate pair"):
            TextReader(TextConfig(vocab=vocab)).read(text)

"""Kinds of vocabularies: characters, sentence pieces against sentencepiece's own, and a vocabulary that is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skillnet_cli.api import UserError
from skillnet_cli.plugins import Plugin, build_registry
from skillnet_cli.prepare.vocab import prepare_vocab
from skillnet_text import skillnet_modalities
from skillnet_text.config import TextConfig
from skillnet_text.learn import learn_characters
from skillnet_text.reader import TextReader
from skillnet_text.unigram import learn_sentencepiece, normalizer
from skillnet_text.vocabulary import SPECIAL_TOKENS, Vocabulary

PACKS = os.environ.get("SKILLNET_TEST_PACKS")
REGISTRY = build_registry([Plugin("text", "skillnet-text", "1", modalities=skillnet_modalities())])
TEXTS = [
    "今天天气很好，我们去公园散步吧。",
    "今天的天气预报说：明天有雨，我们不去公园。",
    "The weather is fine today, the weather report says.",
    "我们明天去公园，天气好的时候去。",
] * 5


def pieces_of(path: Path, text: str, **config: bool) -> list[str]:
    reader = TextReader(TextConfig(vocab=path, **config))
    return [reader.vocabulary.pieces[number] for number in reader.pieces(text)]


def test_characters(tmp_path: Path) -> None:
    learn_characters(TEXTS, 1_000, tmp_path / "vocab.txt")
    assert pieces_of(tmp_path / "vocab.txt", "天气 The雨") == ["天", "气", "t", "##h", "##e", "雨"]
    learn_characters(TEXTS, 8, tmp_path / "small.txt")
    assert Vocabulary.load(tmp_path / "small.txt").pieces[:5] == SPECIAL_TOKENS
    assert Vocabulary.load(tmp_path / "small.txt").size == 8
    with pytest.raises(UserError, match="no text"):
        learn_characters([" "], 8, tmp_path / "none.txt")


def test_sentence_pieces_are_those_of_sentencepiece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    seen = []

    class Spied(sentencepiece.SentencePieceProcessor):  # type: ignore[misc,name-defined]
        def __init__(self, **settings: object) -> None:
            super().__init__(**settings)
            seen.append(self)

    monkeypatch.setattr(sentencepiece, "SentencePieceProcessor", Spied)
    learn_sentencepiece(TEXTS, 120, tmp_path / "vocab.txt")
    learn_sentencepiece(TEXTS, 120, tmp_path / "again.txt")
    assert (tmp_path / "vocab.txt").read_bytes() == (tmp_path / "again.txt").read_bytes()
    reader = TextReader(TextConfig(vocab=tmp_path / "vocab.txt"))
    assert reader.vocabulary.pieces[:5] == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    reference = seen[0]
    for text in [*TEXTS[:4], "ＴＨＥ  公园 ，好", "the weather in 北京", "公园公园公园 fine", "[MASK] 天气"]:
        clean = normalizer(lowercase=True).normalize_str(text)
        assert reader.pieces(text) == reference.encode(clean, out_type=int), text
    reader.save(tmp_path / "saved")
    assert TextReader(TextConfig(), tmp_path / "saved").pieces(TEXTS[0]) == reader.pieces(TEXTS[0])


def test_a_vocabulary_with_tabs_and_no_numbers(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\tx\n" for token in SPECIAL_TOKENS))
    with pytest.raises(UserError, match="not always a number after it"):
        Vocabulary.load(tmp_path / "vocab.txt")


def test_a_vocabulary_is_taken_as_it_is(tmp_path: Path) -> None:
    lines = [
        "[PAD]",
        *(f"[unused{number}]" for number in range(1, 100)),
        *SPECIAL_TOKENS[1:],
        "天",
        "\u2028",
        "##\x85",
        "a",
    ]
    (tmp_path / "bert.txt").write_bytes("".join(f"{line}\n" for line in lines).encode())
    prepare_vocab(REGISTRY, "text", [str(tmp_path / "bert.txt")], 10, tmp_path / "vocab.txt", "word-pieces")
    assert (tmp_path / "vocab.txt").read_bytes() == (tmp_path / "bert.txt").read_bytes()


@pytest.mark.skipif(not PACKS, reason="SKILLNET_TEST_PACKS names no folder of real data")
def test_the_chinese_bert_vocabulary(tmp_path: Path) -> None:
    original = Path(str(PACKS)) / "text" / "vocab.txt"
    prepare_vocab(REGISTRY, "text", [str(original)], 8_000, tmp_path / "vocab.txt")
    assert Vocabulary.load(tmp_path / "vocab.txt").size == 21_128
    assert (tmp_path / "vocab.txt").read_bytes().rstrip(b"\n") == original.read_bytes().rstrip(b"\n")

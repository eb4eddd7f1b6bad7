"""Texts as token ids: against transformers' own tokenizers, and what must happen to bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.bert.tokenization_bert import BertTokenizer
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.objectives.masked_tokens import corrupt
from skillnet_text.config import TextConfig
from skillnet_text.reader import TextReader
from skillnet_text.vocabulary import Vocabulary


@pytest.mark.parametrize("lowercase", [True, False])
def test_pieces_equal_those_of_transformers_python_tokenizer(
    vocab_file: Path, sentences: tuple[str, ...], lowercase: bool
) -> None:
    reader = TextReader(TextConfig(vocab=vocab_file, lowercase=lowercase, nfkc=False))
    other = BertTokenizerLegacy(str(vocab_file), do_lower_case=lowercase)
    for text in sentences:
        text = text.replace("[SEP]", "SEP")  # theirs would take it for the special token
        assert reader.pieces(text) == other.encode(text, add_special_tokens=False), text


def test_real_headlines_equal_transformers_with_chinese_bert_vocabulary(packs: Path, headlines: list[str]) -> None:
    vocab = packs / "text" / "vocab.txt"
    reader = TextReader(TextConfig(vocab=vocab, nfkc=False))
    assert reader.config.vocab_size == 21_128
    fast = BertTokenizer(vocab=str(vocab), do_lower_case=True)
    slow = BertTokenizerLegacy(str(vocab), do_lower_case=True)
    for text in headlines:
        pieces = reader.pieces(text)
        assert pieces == slow.encode(text, add_special_tokens=False), text
        assert pieces == fast.encode(text, add_special_tokens=False), text


def test_special_tokens_written_in_a_text_are_ordinary_text(reader: TextReader) -> None:
    assert not reader.vocabulary.special_ids & set(reader.pieces("[SEP][MASK] 你好")) - {1}
    assert reader.vocabulary.sep_id not in reader.pieces("a [SEP] b")


def test_item_starts_with_cls_and_is_cut_to_max_length(reader: TextReader) -> None:
    text = "这家酒店的服务态度很好，下次还会来！"
    ids = reader.read(text)
    assert ids.dtype == torch.int64
    assert ids.tolist() == [reader.vocabulary.cls_id, *reader.pieces(text)[:11]]
    assert reader.length(ids) == 12


@given(st.integers(1, 30), st.integers(1, 30))
def test_pair_keeps_both_sides_within_max_length(vocab_file: Path, first: int, second: int) -> None:
    reader = TextReader(TextConfig(vocab=vocab_file, max_length=12))
    ids = reader.read_pair("好" * first, "来" * second).tolist()
    vocabulary = reader.vocabulary
    good, come = vocabulary.ids["好"], vocabulary.ids["来"]
    head, tail = ids.count(good), ids.count(come)
    assert ids == [vocabulary.cls_id, *[good] * head, vocabulary.sep_id, *[come] * tail]
    assert len(ids) == min(12, first + second + 2)
    assert head == first or head >= 5
    assert tail == second or tail >= 5


def test_segments_tell_the_sides_of_a_pair_apart(reader: TextReader) -> None:
    single, pair = reader.read("很好"), reader.read_pair("很好", "会来")
    batch = reader.collate([single, pair])
    assert batch["lengths"].tolist() == [3, 6]
    assert batch["ids"].tolist() == [*single.tolist(), *pair.tolist()]
    assert batch["segments"].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 1]


def test_windows_cover_a_long_file_without_gap_or_overlap(reader: TextReader, tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("这家酒店的服务态度很好，" * 10, encoding="utf-8")
    windows = list(reader.split(path))
    pieces = [number for window in windows for number in window.features.tolist()[1:]]
    assert pieces == reader.pieces(path.read_text(encoding="utf-8"))
    assert all(len(window.features) <= 12 for window in windows)
    assert [window.start for window in windows[1:]] == [window.end for window in windows[:-1]]
    assert windows[-1].end == len(pieces)


def test_file_bytes_and_string_read_alike_with_or_without_bom(reader: TextReader, tmp_path: Path) -> None:
    path = tmp_path / "bom.txt"
    path.write_bytes("\ufeff很好！".encode())
    expected = reader.read("很好！").tolist()
    assert reader.read(path).tolist() == expected
    assert reader.read("很好！".encode()).tolist() == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xff\xff", "it is not text in UTF-8, UTF-16, GB 18030 or Big5"),
        (b"", "the text is empty"),
        (" \n\t\u3000".encode(), "the text is empty"),
        (b"\x00\x01", "it is not text"),
    ],
)
def test_unreadable_texts_are_damaged_items(reader: TextReader, content: bytes, reason: str) -> None:
    with pytest.raises(DamagedItem, match=reason):
        reader.read(content)


def test_missing_file_is_a_damaged_item_that_names_it(reader: TextReader, tmp_path: Path) -> None:
    with pytest.raises(DamagedItem, match="gone.txt: No such file"):
        reader.read(tmp_path / "gone.txt")


def test_saved_assets_make_the_same_reader_without_the_vocabulary_file(reader: TextReader, tmp_path: Path) -> None:
    reader.save(tmp_path)
    again = TextReader(TextConfig(max_length=12), assets=tmp_path)
    assert again.vocabulary.pieces == reader.vocabulary.pieces
    assert again.read("这家 unaffable 酒店").tolist() == reader.read("这家 unaffable 酒店").tolist()
    assert not list(tmp_path.glob("*.partial"))


def test_without_a_vocabulary_the_message_says_how_to_make_one() -> None:
    with pytest.raises(UserError, match="model.embedders.text names no vocabulary: make one with 'skillnet prepare"):
        TextReader(TextConfig())


def test_vocabulary_of_another_size_is_refused(vocab_file: Path) -> None:
    with pytest.raises(UserError, match=r"but model\.embedders\.text\.vocab_size is 7"):
        TextReader(TextConfig(vocab=vocab_file, vocab_size=7))


def test_vocabulary_is_split_on_line_feeds_only(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u2028", "\u0085", "好", "\x1c"]
    path.write_bytes("\n".join(pieces).encode() + b"\n")
    assert list(Vocabulary.load(path).pieces) == pieces


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n", r"it lacks \[MASK\]"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\na\n", "has the piece 'a' twice"),
        (b"[PAD]\n\xb7\n", r"is not UTF-8 \(byte 6\)"),
    ],
)
def test_broken_vocabularies_are_told_with_their_path(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"vocab.txt.*{message}"):
        Vocabulary.load(path)


def test_missing_vocabulary_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the vocabulary .*none.txt: No such file"):
        TextReader(TextConfig(vocab=tmp_path / "none.txt"))


def test_word_dropout_hides_its_share_in_training_alone(vocab_file: Path) -> None:
    reader = TextReader(TextConfig(vocab=vocab_file, max_length=400, word_dropout=0.2))
    text = "这家酒店的服务态度很好" * 30
    plain = reader.read(text)
    assert torch.equal(plain, TextReader(TextConfig(vocab=vocab_file, max_length=400)).read(text))
    seen = [reader.read(text, np.random.default_rng(seed)) for seed in range(20)]
    hidden = torch.stack([ids == reader.vocabulary.mask_id for ids in seen])
    assert all(torch.equal(ids[~mask], plain[~mask]) for ids, mask in zip(seen, hidden, strict=True))
    assert not hidden[:, 0].any() and abs(hidden[:, 1:].float().mean() - 0.2) < 0.02
    assert torch.equal(seen[3], reader.read(text, np.random.default_rng(3)))


def test_what_word_dropout_has_hidden_is_no_target_of_masked_tokens(vocab_file: Path) -> None:
    reader = TextReader(TextConfig(vocab=vocab_file, max_length=400, word_dropout=0.5))
    rng = np.random.default_rng(1)
    _, wanted = corrupt(reader.read("这家酒店的服务态度很好" * 30, rng), reader.vocabulary, rng)
    assert reader.vocabulary.mask_id not in wanted.tolist()

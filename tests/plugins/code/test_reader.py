"""Code as token ids: nothing of it is lost, whatever it holds."""

from __future__ import annotations

import ast
import sysconfig
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skillnet_cli.api import DamagedItem, UserError
from skillnet_code.config import CodeConfig
from skillnet_code.reader import CodeReader
from skillnet_text.vocabulary import CONTINUES, SPECIAL_TOKENS

CODE_LIKE = st.text(alphabet=st.sampled_from("aB_9#'\"(): \t\r\n行情⠠⠊é"), max_size=200)


@given(CODE_LIKE)
@example("## a\n### b\n####")
@example("    " * 40 + "deep = 1")
@example("x" * 500 + "_" * 50 + "9" * 50 + "=" * 50)
def test_code_survives_the_round_trip(reader: CodeReader, code: str) -> None:
    assert reader.text(reader.pieces(code)) == code


@given(st.text(max_size=60))
def test_any_text_survives_it_and_nothing_is_unknown(reader: CodeReader, text: str) -> None:
    ids = reader.pieces(text)
    assert reader.text(ids) == text
    assert not reader.vocabulary.special_ids & set(ids)


def test_the_standard_librarys_own_code_survives_it(reader: CodeReader) -> None:
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:40]:
        code = path.read_bytes().decode("utf-8")
        assert reader.text(reader.pieces(code)) == code, path


def test_indentation_and_case_are_pieces_of_their_own(reader: CodeReader, codes: tuple[str, ...]) -> None:
    pieces = reader.vocabulary.pieces
    seen = [pieces[number] for number in reader.pieces(codes[0])]
    assert "⠊⠠⠠⠠⠠⠠⠠⠠⠠" in seen  # a line feed and eight blanks
    assert {"行", "情", "temp", "_df", "DataFrame"} <= set(seen)
    assert reader.pieces("dataframe") != reader.pieces("DataFrame")


def test_an_item_is_cls_pieces_sep_and_cut_to_max_length(vocab_file: Path, codes: tuple[str, ...]) -> None:
    reader = CodeReader(CodeConfig(vocab=vocab_file, max_length=10))
    ids = reader.read(codes[0]).tolist()
    assert ids == [reader.vocabulary.cls_id, *reader.pieces(codes[0])[:8], reader.vocabulary.sep_id]
    assert reader.collate([reader.read(codes[0])])["segments"].tolist() == [0] * 10


def test_a_sequence_cut_within_a_character_still_reads(reader: CodeReader) -> None:
    ids = reader.pieces("😀")
    assert len(ids) == 4
    assert reader.text(ids[:2]) == "\ufffd"


def test_text_and_code_together_have_at_most_512_tokens() -> None:
    assert CodeConfig().max_length + 64 == 512


def test_windows_give_the_file_back(vocab_file: Path, codes: tuple[str, ...], tmp_path: Path) -> None:
    reader = CodeReader(CodeConfig(vocab=vocab_file, max_length=16))
    path = tmp_path / "long.py"
    path.write_bytes("".join(codes).encode())
    windows = [window.features.tolist() for window in reader.split(path)]
    assert all(len(ids) <= 16 for ids in windows)
    assert "".join(reader.text(ids) for ids in windows) == "".join(codes)


@pytest.mark.parametrize(
    ("source", "reason"),
    [(b"x = '\xb7\xfe'", "not UTF-8"), (b"", "empty"), ("\n\n", "empty"), ("x = '\ud800'", "half a surrogate pair")],
)
def test_unreadable_code_is_a_damaged_item(reader: CodeReader, source: bytes | str, reason: str) -> None:
    with pytest.raises(DamagedItem, match=reason):
        reader.read(source)


def test_saved_assets_make_the_same_reader(reader: CodeReader, codes: tuple[str, ...], tmp_path: Path) -> None:
    reader.save(tmp_path)
    again = CodeReader(CodeConfig(), assets=tmp_path)
    assert again.pieces(codes[1]) == reader.pieces(codes[1])
    assert again.config.vocab_size == reader.vocabulary.size


def test_without_a_vocabulary_the_message_names_the_skill() -> None:
    with pytest.raises(UserError, match="model.embedders.code names no vocabulary: .* --modality code"):
        CodeReader(CodeConfig())


def test_no_piece_that_begins_a_word_looks_like_one_that_continues_it(reader: CodeReader) -> None:
    """Else a round trip would lose its '##'."""
    plain = [piece for piece in reader.vocabulary.pieces if not piece.startswith(CONTINUES)]
    assert "#" in plain
    assert set(SPECIAL_TOKENS) <= set(plain)
    assert all(ast.literal_eval(repr(piece)) == piece and "\n" not in piece for piece in plain)

"""Texts come back whatever their encoding and compression; what is broken is one line, and counted."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.sources.members import Member
from skillnet_cli.sources.texts import byte_ranges, decode, detect, lines_between, read_lines

LINES = ["床前明月光，疑是地上霜。", "", 'He said: "no".', "举头望明月，低头思故乡。"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "gb18030"]
PACKINGS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
            ".zst": zstandard.ZstdCompressor().compress}  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("suffix", PACKINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_come_back(tmp_path: Path, encoding: str, suffix: str, end: str) -> None:
    path = tmp_path / f"x.txt{suffix}"
    path.write_bytes(PACKINGS[suffix]("".join(line + end for line in LINES).encode(encoding)))
    assert [(line.number, line.text, line.damage) for line in read_lines(path)] == [
        (number, text, None) for number, text in enumerate(LINES, 1)
    ]
    assert [line.text for line in read_lines(path, encoding)] == LINES


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")))
def test_any_text_comes_back(text: str) -> None:
    assert decode(text.encode("utf-8-sig")) == text == decode(text.encode("utf-16")) == decode(text.encode(), "utf-8")
    if not text.startswith("\ufeff"):
        assert decode(text.encode()) == text


@given(st.binary(max_size=400))
@example(b"\xa1\x40" * 4)  # Big5's spaces
def test_any_bytes_are_text_or_a_damaged_item(content: bytes) -> None:
    with contextlib.suppress(DamagedItem):
        assert "\0" not in decode(content)
    assert detect(content) in (*ENCODINGS, "utf-16-le", "utf-16-be", "utf-32", "cp950")


def test_a_broken_line_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes("第一\n".encode() * 50 + b"\xff\xfe\x80 broken\n" + "第三\n".encode() + b"nul\0\n")
    found = list(read_lines(tmp_path / "x"))
    assert [line.number for line in found if line.damage] == [51, 53]
    assert found[51].text == "第三"


def test_the_broken_end_of_a_compressed_file_is_a_line_with_damage(tmp_path: Path) -> None:
    for suffix in (".gz", ".xz", ".bz2"):
        packed = PACKINGS[suffix](b"".join(b"%d\n" % (number * 7919 % 10007) for number in range(30_000)))
        (tmp_path / "x").write_bytes(packed[: len(packed) // 2])
        *whole, last = read_lines(tmp_path / "x")
        assert last.damage and "breaks off after line" in last.damage
        assert all(line.damage is None for line in whole)


@pytest.mark.parametrize("row", ["", "{", "[1]", "1", "nul", '{"a": 1', "[" * 100_000])
def test_what_is_no_object_is_damaged(tmp_path: Path, row: str) -> None:
    (tmp_path / "x").write_text(f'{{"a": 1}}\n{row}\n{{"b": 2}}\n')
    first, second, third = read_lines(tmp_path / "x")
    assert first.json() == {"a": 1} and third.json() == {"b": 2}
    with pytest.raises(DamagedItem, match="line 2 is not"):
        second.json()


def test_an_unknown_encoding_is_a_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    with pytest.raises(UserError, match="unknown encoding 'utf-9'"):
        list(read_lines(tmp_path / "x", "utf-9"))


@given(st.lists(st.text("ab词\r", max_size=9), max_size=30), st.integers(1, 40), st.booleans())
def test_ranges_have_every_line_once(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], step: int, ended: bool
) -> None:
    path = tmp_path_factory.mktemp("ranges") / "x"
    path.write_bytes(("\n".join(lines) + ("\n" if ended else "")).encode())
    parts = [list(lines_between(path, *each)) for each in byte_ranges(path, step)]
    assert [line.text for part in parts for _, line in part] == [line.text for line in read_lines(path)]
    content = path.read_bytes()
    ends = (b"", b"\n") if b"\n" in content else (b"", b"\r")
    assert all(content[at - 1 : at] in ends for part in parts for at, _ in part)


def test_s11_a_line_of_many_ranges_is_not_read_for_each_of_them(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_bytes(b"a\n" + b"x" * (15 << 20) + b"\nb\n")
    read = 0

    class Counting(io.FileIO):
        def readinto(self, buffer: Any) -> int | None:
            nonlocal read
            count = super().readinto(buffer)
            read += count or 0
            return count

    path = tmp_path / "long.txt"
    member = Member("long.txt", path.stat().st_size, lambda: io.BufferedReader(Counting(path), 512))
    found = [line for each in byte_ranges(member, 1 << 20) for _, line in lines_between(member, *each)]
    assert [line.text[:1] for line in found] == ["a", "x", "b"] and len(found[1].text) == 15 << 20
    assert read < 60 << 20  # half of its square of ranges would be 120; looking at the encoding takes 1 a range

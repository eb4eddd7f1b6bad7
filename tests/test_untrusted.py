"""What comes from outside is read within bounds, and shown without what a terminal would obey."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from skillnet_cli.untrusted import Untrusted, open_regular, parse_json, printable, read_bytes, read_json, validate

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(DOCUMENTS)
def test_what_json_can_hold_is_read_as_the_standard_library_reads_it(document: object) -> None:
    text = json.dumps(document)
    assert parse_json(text) == json.loads(text) == parse_json(text.encode())


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[" * 20_000, "nested more than 50 deep"),
        (b"[" * 51 + b"]" * 51, "nested more than 50 deep"),
        (b'{"a":' * 60 + b"1" + b"}" * 60, "nested more than 50 deep"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"[1e999]", "1e999"),
        (b"9" * 5000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_what_is_out_of_bounds_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(Untrusted, match=why.replace("(", r"\(")):
        parse_json(content)


def test_fifty_levels_are_read() -> None:
    assert parse_json(b"[" * 50 + b"]" * 50) == json.loads("[" * 50 + "]" * 50)


def test_a_byte_order_mark_is_no_fault() -> None:
    assert parse_json(b"\xef\xbb\xbf[1]") == [1]


def test_only_regular_files_of_bounded_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a named pipe"), (tmp_path, "a folder"), (Path("/dev/zero"), "a device")):
        with pytest.raises(Untrusted, match=f"is {kind}, not a file"):
            open_regular(path)
    (tmp_path / "eight").write_bytes(b"[1, 2,3]")
    assert read_bytes(tmp_path / "eight", 8) == b"[1, 2,3]" and read_json(tmp_path / "eight", 8) == [1, 2, 3]
    with pytest.raises(Untrusted, match="more than 7 bytes"):
        read_json(tmp_path / "eight", 7)


def test_a_schema_says_which_key_is_wrong() -> None:
    class Inner(BaseModel):
        size: int

    class Outer(BaseModel):
        inner: Inner

    assert validate(Outer, {"inner": {"size": 1}}).inner.size == 1
    with pytest.raises(Untrusted, match=r"^inner\.size: "):
        validate(Outer, {"inner": {"size": "x"}})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("红色的汽车\u3000ｅ", "红色的汽车\u3000ｅ"),
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[31mred\x07", "�[31mred�"),
        ("\x9b31m", "�31m"),
        ("abc\u202egpj.exe", "abc�gpj.exe"),
        ("\u2066a\u2069\u200b\ufeff", "�a���"),
        ("\udcba\udcec", "��"),
        ("one\u2028two\rthree", "one�two�three"),
        ("👨\u200d👩\u200d👧 می\u200cخواهم", "👨\u200d👩\u200d👧 می\u200cخواهم"),
    ],
)
def test_a_terminal_shows_text_and_does_not_obey_it(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="no such files of the kernel here")
def test_files_of_the_kernel_whose_size_is_not_said_are_read_whole() -> None:
    with open_regular(Path("/proc/version")) as file:
        assert file.read() == Path("/proc/version").read_bytes() != b""

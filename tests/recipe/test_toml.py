from __future__ import annotations

from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from skillnet_cli.recipe.toml import KeyPath, key_lines, parse_toml

TRICKY: dict[str, tuple[str, dict[KeyPath, int]]] = {
    "comments and blank lines": ("# a = 1\n\nb = 2 # c = 3\n  d=4\n", {("b",): 3, ("d",): 4}),
    "headers": ("[a]\nx = 1\n[a.b]\ny = 2\n", {("a",): 1, ("a", "x"): 2, ("a", "b"): 3, ("a", "b", "y"): 4}),
    "spaced header": ("\n [ a . b ] # [c]\n", {("a",): 2, ("a", "b"): 2}),
    "dotted keys": ("a.b.c = 1\na . d = 2\n", {("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 1, ("a", "d"): 2}),
    "quoted keys": ('"a.b" = 1\n\'c\' = 2\n"d\\"e".f = 3\n', {("a.b",): 1, ("c",): 2, ('d"e',): 3, ('d"e', "f"): 3}),
    "quoted header": ('["x]y".z]\nk = 1\n', {("x]y",): 1, ("x]y", "z"): 1, ("x]y", "z", "k"): 2}),
    "inline table": ("a = { b = 1, c.d = 2 }\ne = 3\n", {("a", "b"): 1, ("a", "c", "d"): 1, ("e",): 2}),
    "array over lines": ("a = [ # x\n  1,\n  # 9,\n  2,\n]\nb = 1\n", {("a", 0): 2, ("a", 1): 4, ("b",): 6}),
    "array of inline tables": ("a = [\n {b = 1},\n {b = 2}]\n", {("a", 0, "b"): 2, ("a", 1, "b"): 3}),
    "nested arrays": ("a = [[1,\n2],\n[3]]\n", {("a", 0, 1): 2, ("a", 1): 3, ("a", 1, 0): 3}),
    "arrays of tables": (
        "[[a]]\nx = 1\n[[a.b]]\ny = 1\n[[a]]\nx = 2\n[a.c]\nz = 3\n",
        {("a", 0, "x"): 2, ("a", 0, "b", 0, "y"): 4, ("a", 1): 5, ("a", 1, "x"): 6, ("a", 1, "c", "z"): 8},
    ),
    "text over lines": ('a = """\n[b]\nc = 1\n"""\nd = 2\n', {("a",): 1, ("d",): 5}),
    "raw text over lines": ("a = '''\n[b]''c = \\\n'''\nd = 2\n", {("d",): 4}),
    "quotes at the end of a text": ('a = """x"""""\nb = 1\n', {("b",): 2}),
    "escaped quotes": ('a = "\\"b = 1"\nc = """\\"""\nd = 1"""\ne = 2\n', {("c",): 2, ("e",): 4}),
    "brackets and hashes in texts": ("a = ['#]', \"}#\"]\nb = 1\n", {("a", 1): 1, ("b",): 2}),
    "dates and numbers": ("a = 1979-05-27 07:32:00 # x\nb = 0xff\nc = -inf\n", {("b",): 2, ("c",): 3}),
    "windows line ends": ("a = 1\r\n[b]\r\nc = [\r\n1]\r\n", {("b", "c"): 3, ("b", "c", 0): 4}),
    "no line end": ("a = 1", {("a",): 1}),
    "nothing": ("# only this", {}),
}


@pytest.mark.parametrize("name", TRICKY)
def test_tricky_places(name: str) -> None:
    text, expected = TRICKY[name]
    parse_toml(text)
    found = key_lines(text)
    assert {path: found.get(path) for path in expected} == expected


@pytest.mark.parametrize("name", TRICKY)
def test_every_key_of_the_document_is_found_and_nothing_else(name: str) -> None:
    text, _ = TRICKY[name]
    assert set(key_lines(text)) == set(paths(parse_toml(text)))


keys = st.text(st.sampled_from("ab.\"'] #="), min_size=1, max_size=4)
scalars = st.one_of(
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=False),
    st.booleans(),
    st.text(st.sampled_from("ab\"'\\\n#[]{}=,"), max_size=8),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)
documents = st.dictionaries(keys, values, max_size=4)


@given(documents)
def test_what_is_written_is_what_is_read(document: dict[str, Any]) -> None:
    assert parse_toml(tomli_w.dumps(document)) == document


@given(documents)
def test_keys_of_any_document_are_found(document: dict[str, Any]) -> None:
    assert set(key_lines(tomli_w.dumps(document))) == set(paths(document))


@given(documents, st.integers(0, 5))
def test_lines_move_with_what_stands_above(document: dict[str, Any], above: int) -> None:
    text = tomli_w.dumps(document)
    moved = key_lines("# above\n" * above + text)
    assert moved == {path: line + above for path, line in key_lines(text).items()}


def paths(value: Any, here: KeyPath = ()) -> list[KeyPath]:
    """The path of everything inside a parsed document."""
    if isinstance(value, dict):
        inner = [((*here, key), item) for key, item in value.items()]
    elif isinstance(value, list):
        inner = [((*here, index), item) for index, item in enumerate(value)]
    else:
        return []
    return [path for place, item in inner for path in (place, *paths(item, place))]

"""Looking at a prepared set: its page on any screen, one item by its address."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.data.survey import BINS, Spread
from skillnet_cli.evaluation.report.html import LEFT, RIGHT, WIDTH, bar_chart
from skillnet_cli.evaluation.report.report import Previews
from skillnet_cli.plugins import load_registry
from skillnet_cli.prepare.writer import SetWriter
from tests.inference.world import World


class Tree(HTMLParser):
    """The elements of a page: (tag, attributes, path of tags and classes above it, text)."""

    VOID = frozenset({"meta", "br", "circle", "path", "polyline"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.above: list[str] = []
        self.found: list[tuple[str, dict[str, str], str, list[str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = {name: value or "" for name, value in attrs}
        entry = (tag, facts, "/".join(self.above), list[str]())
        self.found.append(entry)
        if tag not in self.VOID:
            self.above.append(f"{tag}.{facts.get('class', '')}")
            self._open = [*getattr(self, "_open", []), entry]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        self.above.pop()
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for entry in getattr(self, "_open", []):
            entry[3].append(data)

    def texts(self, tag: str) -> list[str]:
        return ["".join(words) for name, _, _, words in self.found if name == tag]


def test_u16_every_part_of_an_item_stands_under_its_own_name(world: World) -> None:
    world.prepare("pairs")
    world.skillnet("data", "show", "pairs", "--sample", "4", "--html", "page.html")
    page = Tree(Path("page.html").read_text(encoding="utf-8"))
    figures = [each for each in page.found if each[0] == "figure" and "query parts" in each[2]]
    assert len(figures) == 2 * 4 * 2
    for _, _, _, words in figures:
        assert words[0] in ("shape", "word") and len(words) >= 2
    assert {"".join(words[1:2]) for _, _, _, words in figures if words[0] == "shape"} & {
        sample["shape"].hex() for sample in PreparedSet.open(world.data / "pairs").split("train")
    }


@pytest.mark.parametrize(
    "bars",
    [
        [("1,234,567", 5), ("2,345,678", 1_234_567)],
        [("0", 0)],
        [(f"{number}", 987_654_321) for number in range(20)],
        [],
    ],
)
def test_u16_what_stands_on_an_axis_is_not_cut(bars: list[tuple[str, int]]) -> None:
    """A digit of the page's font takes at most 0.65 of its size, which is 10."""
    for tag, facts, _, words in Tree(bar_chart(bars, "lengths")).found:
        if tag != "text":
            continue
        width, x, style = 6.5 * len("".join(words)), float(facts["x"]), facts["class"].split()
        start = x if "start" in style else x - width if {"end", "y"} & set(style) else x - width / 2
        assert start >= 0 and start + width <= WIDTH, "".join(words)
    drawn = [float(facts["x"]) for tag, facts, _, _ in Tree(bar_chart(bars, "lengths")).found if tag == "rect"]
    assert all(LEFT <= x <= WIDTH - RIGHT for x in drawn) and len(drawn) == len(bars)


@pytest.mark.parametrize("largest", [0, 1, 5, 19, 20, 21, 33, 47, 1000])
def test_u16_whole_numbers_make_no_comb(largest: int) -> None:
    """As many of each: every bar but the last, which may be of fewer values, is as high as the first."""
    spread = Spread.of([value for value in range(largest + 1) for _ in range(3)])
    assert len(spread.bins) <= BINS and sum(spread.bins) == 3 * (largest + 1)
    assert len(set(spread.bins[:-1])) <= 1 and 0 < spread.bins[-1] <= spread.bins[0]
    assert spread.width == int(spread.width) and spread.bins[0] == 3 * min(spread.width, largest + 1)


def test_u16_a_small_screen_cuts_nothing(world: World) -> None:
    """Nothing has a fixed width; what may be wide breaks or scrolls."""
    world.prepare("pairs")
    world.skillnet("data", "show", "pairs", "--html", "page.html")
    style = Tree(Path("page.html").read_text(encoding="utf-8")).texts("style")[0]
    for rule in (
        ".case > * { min-width: 0; }",
        "figure td { overflow-wrap: anywhere; }",
        "grid-template-columns: fit-content(40%) minmax(0, 1fr)",
        "@media (max-width: 40rem) { .case { grid-template-columns: 1fr; } }",
    ):
        assert rule in style


def test_u16_numbers_that_have_no_spread_are_left_out(world: World) -> None:
    with SetWriter(world.data / "odd", name="odd", licence="none") as writer:
        for number in (1, 10**400, 3):
            writer.keep("train", f"{number % 7}", {"size": number, "word": ["a"]}, {})
        writer.finish({})
    printed = world.skillnet("data", "show", "odd")[0]
    assert "size" in printed and "2 " in printed


ID = "a#b:c/..#日本"


@pytest.fixture
def odd(world: World) -> World:
    """A set in a folder whose name has what addresses are made of, and items of such ids."""
    with SetWriter(world.data / "s#1", name="theirs", licence="none", shard_items=2) as writer:
        for part in ("train", "test"):
            for number in range(5):
                text = f"{part} {number} " + "x" * (20_000 if number == 3 else 1)
                writer.keep(part, f"{ID}{number}", {"word": [text], "label": "a"}, {"shape": (b"abc", ".shape")})
        writer.finish({"label": ["a"]})
    return world


def test_u07_an_item_is_shown_by_the_address_that_search_gives_it(odd: World) -> None:
    for number in range(5):
        printed = odd.skillnet("data", "show", f"s#1:test#{ID}{number}")[0]
        assert f"- {ID}{number}" in printed and f"word: test {number} x" in printed and "shape: 3 bytes" in printed
        assert printed.count("- ") == 1
    (found,) = odd.answer("data", "show", f"data/s#1:train#{ID}4")["shown"]["train"]["sample"]
    assert found["id"] == f"{ID}4" and found["word"] == ["train 4 x"]
    odd.skillnet("data", "show", f"s#1:test#{ID}2", "--html", "page.html")
    text = Path("page.html").read_text(encoding="utf-8")
    assert "test 2 x" in text and "test 1 x" not in text


def test_u07_what_an_address_names_not_is_one_line(odd: World) -> None:
    for address, said in [
        (f"s#1:test#{ID}9", f"s#1:test has no item '{ID}9'"),
        (f"s#1:dev#{ID}1", "set 's#1' has no split 'dev': it has test, train"),
        ("s#2:test#x", "no prepared set 's#2'"),
        ("s#1:dev", "set 's#1' has no split 'dev'"),
    ]:
        assert said in odd.skillnet("data", "show", address, code=2)[1].splitlines()[-1]
    assert "names a split already" in odd.skillnet("data", "show", "s#1:test", "--split", "train", code=2)[1]
    printed = odd.skillnet("data", "show", "s#1:test")[0]
    assert "test (5 items)" in printed and "train (5" not in printed


def test_u07_hits_of_a_search_have_addresses_that_can_be_shown(world: World) -> None:
    world.save_run()
    make = world.prepare("pairs").path
    make.rename(world.data / "mine")
    world.skillnet("embed", "mine", "--to", "c")
    hits: list[dict[str, Any]] = world.answer("search", "word", "--in", "c")["hits"]
    for hit in hits[:3]:
        assert hit["path"].startswith("mine:test#")
        assert hit["path"].partition("#")[2] in world.skillnet("data", "show", hit["path"])[0]
    assert json.dumps(hits)


def test_s02_a_text_that_names_a_file_opens_none(world: World) -> None:
    """The preview of shapes takes bytes; a set of anyone's may hold a path in their place."""
    (world.folder / "secret").write_bytes(b"secret")
    with SetWriter(world.data / "sly", name="sly", licence="none") as writer:
        for number, place in enumerate([str(world.folder / "secret"), "secret"]):
            writer.keep("train", f"{number}", {"word": ["a"], "shape": [place]}, {})
        writer.finish({})
    registry = load_registry()
    shape = registry.modalities["shape"].value
    object.__setattr__(shape, "preview", "builtins:print")
    try:
        previews = Previews(PreparedSet.open(world.data / "sly").split("train"), registry)
        with redirect_stdout(io.StringIO()) as handed:
            shown = [previews.show(place, "shape") for place in range(2)]
    finally:
        object.__setattr__(shape, "preview", "bytes_parts:preview")
    assert handed.getvalue() == ""
    assert shown == [f"<p>{world.folder / 'secret'}</p>", "<p>secret</p>"]

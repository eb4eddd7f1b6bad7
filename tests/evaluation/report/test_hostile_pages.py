"""Whatever stands in a run's files and in a prepared set, pages show it as text, or the file is refused in one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from skillnet_cli.evaluation.report.html import POLICY, Markup, element
from tests.inference.world import World

IMAGE = "\"'><img src=x onerror=alert(1)>"
NASTY = f"{IMAGE}</title></style></pre><script>alert(2)</script><a href='javascript:alert(3)'>&lt;svg&gt;"
OURS = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "h4", "section", "div", "p", "table", "tr",
    "th", "td", "b", "small", "br", "details", "summary", "dl", "dt", "dd", "pre", "figure", "figcaption", "span",
    "code", "svg", "path", "text", "polyline", "circle", "rect",
}  # fmt: skip
"""Elements of a page of the plugin ``bytes``: none that runs or loads anything."""

ROW = {
    "task": "find", "set": "pairs", "split": "test", "metrics": {"recall@1": 0.5, "recall@3": 1}, "items": 18,
    "queries": 36, "damaged": 1, "model": "m",
    "protocol": {"pool": 18, "metrics": {"recall@1": {"computed by": "x"}}},
    "cases": [{"index": 0, "caption": 1, "rank": 2, "best": [{"index": 1, "score": 0.25}]}],
}  # fmt: skip
ANSWERS = {**ROW, "task": "kind", "cases": [{"index": 0, "predicted": "a", "reference": "b"}]}
LINES = [
    {"kind": "start", "step": 0, "world": 1},
    {"kind": "train", "step": 1, "task": "find", "loss": 0.5, "lr": 0.1},
    {"kind": "train", "step": 2, "task": "find", "loss": None},
    {"kind": "eval", "step": 2, "task": "find", "set": "pairs", "metrics": {"recall@1": 0.5, "recall@3": None}},
]


class Page(HTMLParser):
    """The elements, attributes and texts of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def check(self) -> str:
        """Assert that nothing of it runs or loads anything; returns its text."""
        assert self.tags <= OURS, self.tags - OURS
        for name, value in self.attributes:
            assert not name.startswith("on") and name not in ("src", "href", "style", "srcdoc", "action"), name
            assert "javascript:" not in value or name == "aria-label"
        assert ("content", POLICY) in self.attributes and ("http-equiv", "Content-Security-Policy") in self.attributes
        return "\n".join(self.words)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every leaf of a JSON value with its place."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        yield path, value
        return
    for key, each in inner:
        yield from places(each, (*path, key))


def put(value: Any, path: tuple[Any, ...], what: Any) -> Any:
    """A copy of a JSON value with something else in one place."""
    changed = copy.deepcopy(value)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = what
    return changed


def soiled(value: Any, keep: tuple[str, ...] = ()) -> Any:
    """``NASTY`` in place of every text in it, and in front of every name of a figure or a fact."""
    if isinstance(value, dict):
        return {key: each if key in keep else soiled(each, keep) for key, each in value.items()} | {
            f"{NASTY}{key}": soiled(each, keep) for key, each in value.items() if key in ("recall@1", "pool", "metrics")
        }
    if isinstance(value, list):
        return [soiled(each, keep) for each in value]
    return NASTY if isinstance(value, str) else value


@pytest.fixture
def run(world: World) -> Path:
    world.prepare("pairs")
    (world.run / "finetune").mkdir(parents=True)
    (world.run / "recipe.toml").write_text(f"# {NASTY}\n")
    write(world.run, [ROW, ANSWERS], LINES)
    return world.run


def write(run: Path, rows: Any, lines: list[Any]) -> None:
    (run / "results.json").write_text(json.dumps({"results": rows}))
    (run / "finetune" / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_texts_in_a_runs_files_stay_texts(world: World, run: Path) -> None:
    kept = ("task", "set", "split")
    rows = [soiled(each, keep) for each in (ROW, ANSWERS) for keep in ((), kept)]
    write(run, [*rows, {**ROW, "checksum": NASTY}], soiled(LINES, ("kind",)))
    other = run.with_name(IMAGE)
    (other / "finetune").mkdir(parents=True)
    for file in ("recipe.toml", "results.json", "finetune/metrics.jsonl"):
        (other / file).write_bytes((run / file).read_bytes())
    world.skillnet("report", str(other))
    text = Page(other / "report.html").check()
    assert text.count(NASTY) > 30 and f"# {NASTY}" in text and f"skillnet: {IMAGE}" in text
    assert "score 0.250" in text and "rank 2" in text and "✓" in text
    world.skillnet("report", str(run), str(other), "--to", "both.html")
    text = Page(Path("both.html")).check()
    assert text.count(NASTY) > 5 and IMAGE in text


@pytest.mark.parametrize("what", [NASTY, [1], {"a": 1}, True, float("nan"), float("inf"), 10**400])
def test_what_is_no_figure_is_refused_in_one_line(world: World, run: Path, what: Any) -> None:
    refused = 0
    for path, number in places([ROW, ANSWERS]):
        if isinstance(number, str) or "protocol" in path:
            continue
        write(run, put([ROW, ANSWERS], path, what), LINES)
        (line,) = world.skillnet("report", str(run), code=2)[1].splitlines()
        assert "results.json is not readable as results" in line
        assert str(path[-1]) in line or "is no finite number" in line  # which JSON itself does not have
        refused += 1
    assert refused == 2 * 2 + 2 * 3 + 5 + 1
    for path, number in places(LINES):
        if number is None or isinstance(number, str) or path[0] == 0 or path[-1] == "lr":
            continue
        if isinstance(what, float) and path[-1] != "step":
            continue  # a training wrote it, and it is no point of a curve
        write(run, [ROW], put(LINES, path, what))
        (line,) = world.skillnet("report", str(run), code=2)[1].splitlines()
        assert f"metrics.jsonl:{path[0] + 1}: damaged (" in line and str(path[-1]) in line


def test_facts_of_a_protocol_may_be_anything_and_are_shown_as_text(world: World, run: Path) -> None:
    for path, _ in places(ROW):
        if path[0] == "protocol":
            write(run, [put(ROW, path, [NASTY, {NASTY: NASTY}])], [])
            world.skillnet("report", str(run))
            assert NASTY in Page(run / "report.html").check().replace("\\'", "'")


@pytest.mark.parametrize("line", ["3", "[]", "{}", '{"kind": 3}', '{"kind": "train", "step": 1}', '{"kind": "eval"}'])
def test_a_row_that_is_none_is_named(world: World, run: Path, line: str) -> None:
    (run / "finetune" / "metrics.jsonl").write_text(f"{json.dumps(LINES[0])}\n{line}\n")
    (said,) = world.skillnet("report", str(run), code=2)[1].splitlines()
    assert "metrics.jsonl:2: damaged (" in said


def test_a_row_that_cannot_be_read_is_passed_over(world: World, run: Path) -> None:
    with (run / "finetune" / "metrics.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\n" + b"[" * 100_000 + b'\n{"kind": "train", "step": 3, "task": "a", "loss": NaN}\n{"ki')
    world.skillnet("report", str(run))
    assert "Learning curves" in Page(run / "report.html").check()


def test_a_prepared_set_is_shown_as_text(world: World) -> None:
    world.prepare("pairs")
    manifest = world.data / "pairs" / "manifest.json"
    facts = json.loads(manifest.read_text())
    facts |= dict.fromkeys(("name", "version", "licence"), NASTY)
    facts |= {"source": [NASTY], "choices": {NASTY: NASTY, "a": {NASTY: [NASTY]}}, "ledger": {NASTY: 3}}
    facts |= {
        "fields": {**facts["fields"], NASTY: NASTY},
        "targets": {NASTY: [NASTY]},
        "splits": {NASTY: facts["splits"]["test"]},
    }
    manifest.write_text(json.dumps(facts))
    world.skillnet("data", "show", "pairs", "--html", "page.html")
    text = Page(Path("page.html")).check()
    assert text.count(NASTY) >= 8 and "rect" in Page(Path("page.html")).tags
    for path, number in places(facts):
        if isinstance(number, int) and path[0] not in ("choices", "format", "asked"):
            manifest.write_text(json.dumps(put(facts, path, NASTY)))
            (line,) = world.skillnet("data", "show", "pairs", "--html", "other.html", code=2)[1].splitlines()
            assert "manifest.json: damaged" in line and not Path("other.html").exists()


def test_items_of_a_set_are_shown_as_text(world: World) -> None:
    from skillnet_cli.prepare.writer import SetWriter

    with SetWriter(world.data / "nasty", name="nasty", licence=NASTY, choices={}) as writer:
        for number in range(3):
            fields = {"word": [NASTY, NASTY], "label": NASTY, IMAGE: number, "more": {NASTY: NASTY}}
            writer.keep("train", f"{number} {NASTY}", fields, {"shape": (b"!" * number + b"x", ".shape")})
        writer.reject("train", NASTY, "unavailable", NASTY)
        writer.finish({"label": [NASTY]})
    world.skillnet("data", "show", "nasty", "--html", "page.html")
    text = Page(Path("page.html")).check()
    assert text.count(NASTY) >= 3 * 6 and text.count("cannot be shown: an") == 2


def test_text_is_escaped_wherever_it_meets_markup() -> None:
    assert element("p", "<b>", element("b", "&")) == "<p>&lt;b&gt;<b>&amp;</b></p>"
    assert element("p", aria_label='"<', class_="a") == '<p aria-label="&quot;&lt;" class="a"></p>'
    assert Markup("<hr>").join(["<", Markup("<br>")]) == "&lt;<hr><br>"
    assert not isinstance(Markup("<b>") + "<i>", Markup) and not isinstance("".join([Markup("<b>")]), Markup)

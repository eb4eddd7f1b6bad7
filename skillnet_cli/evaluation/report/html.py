"""HTML and charts of reports: each page is one file that runs no script and loads nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

_EMPTY = frozenset({"br", "circle", "meta", "path", "polyline"})
"""Elements of ours that hold nothing."""


class Markup(str):
    """HTML that our own code or a plugin's preview has made. Everything else is text, and is escaped on its way in."""

    __slots__ = ()

    def join(self, parts: Iterable[Any], /) -> Markup:
        """Several pieces of HTML or text, one after another with this between them."""
        # What str's own join returns is no Markup: it would be escaped again where it is put into an element.
        return Markup(str.join(self, map(_escaped, parts)))


def _escaped(content: Any) -> Markup:
    return content if isinstance(content, Markup) else Markup(escape(str(content)))


def element(tag: str, *content: Any, **attributes: Any) -> Markup:
    """An HTML element.

    Args:
        tag: its name.
        content: the pieces of HTML or text that it holds.
        attributes: ``class_`` is its class, ``aria_label`` its ``aria-label``.
    """
    stated = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for name, value in attributes.items()
    )
    return Markup(f"<{tag}{stated}/>" if tag in _EMPTY else f"<{tag}{stated}>{Markup().join(content)}</{tag}>")


def facts(pairs: Iterable[tuple[Any, Any]]) -> Markup:
    """A list of names, each with its description."""
    return element("dl", *(Markup().join((element("dt", name), element("dd", text))) for name, text in pairs))


WIDTH, HEIGHT = 340.0, 190.0
"""Of a chart, in units of its view box: three charts fit beside one another on the page's 72 rem."""

LEFT, RIGHT, TOP, BOTTOM = 44.0, 10.0, 10.0, 34.0
"""Margins for the numbers on the axes and the name of the horizontal one."""

TICKS = 4
MOST_POINTS = 150
"""Points of a line: more would lie closer than two units apart, and the noise of a loss would hide its course."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class _Scale:
    """Maps values from ``low`` to ``high`` to pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of a value in pixels."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def line_chart(lines: Iterable[tuple[str, Points]], label: str, x_label: str = "step") -> Markup:
    """An SVG of lines over common axes, as wide as its place allows.

    Args:
        lines: the class in the page's style sheet of each line, and its points from left to right.
        label: what the vertical axis shows.
        x_label: what the horizontal axis shows.
    """
    drawn = [(style, _thinned(points)) for style, points in lines if points]
    points = [point for _, line in drawn for point in line]
    if not points:
        return element("p", f"no {label} recorded", class_="note")
    x = _Scale(*_range([x for x, _ in points]), LEFT, WIDTH - RIGHT)
    y = _Scale(*_range([y for _, y in points]), HEIGHT - BOTTOM, TOP)
    parts = [*_grid(x, y), *(_line(style, [(x(a), y(b)) for a, b in line]) for style, line in drawn)]
    parts.append(_text(x_label, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "axis"))
    return _drawing(f"{label} by {x_label}", parts)


def bar_chart(bars: Sequence[tuple[str, int]], label: str) -> Markup:
    """An SVG of counts side by side, the first and the last one named below.

    Args:
        bars: the name and the count of each bar, from left to right.
        label: what is counted.
    """
    most = max((count for _, count in bars), default=0) or 1
    wide = (WIDTH - LEFT - RIGHT) / max(len(bars), 1)
    y = _Scale(0.0, float(most), HEIGHT - BOTTOM, TOP)
    drawn = [
        element(
            "rect",
            element("title", f"{name}: {count}"),
            class_="first",
            x=f"{LEFT + place * wide:.1f}",
            y=f"{y(float(count)):.1f}",
            width=f"{wide * 0.9:.1f}",
            height=f"{HEIGHT - BOTTOM - y(float(count)):.1f}",
        )
        for place, (name, count) in enumerate(bars)
    ]
    below = HEIGHT - BOTTOM + 15
    names = [_text(bars[0][0], LEFT, below, "tick start")] if bars else []
    if len(bars) > 1:
        names.append(_text(bars[-1][0], WIDTH - RIGHT, below, "tick end"))
    return _drawing(label, [*drawn, *names, _text(_compact(most), LEFT - 5, TOP + 4, "tick y")])


def _compact(count: int) -> str:
    """A count in few characters, which fit beside an axis: 1,234,567 is 1.23M."""
    for least, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if count >= least:
            return f"{count / (1e3 if unit == 'k' else least):.3g}{unit}"
    return f"{count:,}"


def _ticks(low: float, high: float) -> list[float]:
    """About TICKS round numbers (1, 2 or 5 times a power of ten apart) from ``low`` to ``high``."""
    step = _round_step((high - low) / TICKS)
    # A little off: an end that is a tick must not be lost to the rounding of the division.
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _thinned(points: Points) -> Points:
    """At most MOST_POINTS points: the means of neighbours where there are more."""
    size = math.ceil(len(points) / MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    # A single point, or a line of equal values, lies in the middle of a range of its own.
    margin = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    return (low, high) if high > low else (low - margin, high + margin)


def _drawing(label: str, parts: Sequence[Markup]) -> Markup:
    frame = f"0 0 {WIDTH:.0f} {HEIGHT:.0f}"
    return element("svg", element("title", label), *parts, viewBox=frame, role="img", aria_label=label)


def _text(text: object, x: float, y: float, style: str = "tick") -> Markup:
    return element("text", text, class_=style, x=f"{x:.1f}", y=f"{y:.1f}")


def _grid(x: _Scale, y: _Scale) -> list[Markup]:
    lines = [element("path", class_="grid", d=f"M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}") for value, _ in _labelled(y)]
    across = [_text(written, LEFT - 5, y(value) + 4, "tick y") for value, written in _labelled(y)]
    along = [_text(written, x(value), HEIGHT - BOTTOM + 15) for value, written in _labelled(x)]
    return lines + across + along


def _labelled(scale: _Scale) -> list[tuple[float, str]]:
    """Each tick with its number, written with just the decimals that tell it from the next."""
    step = _round_step((scale.high - scale.low) / TICKS)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    values = _ticks(scale.low, scale.high)
    return [(value, f"{value:.{decimals}f}" if decimals < 7 else f"{value:.2e}") for value in values]


def _line(style: str, places: Points) -> Markup:
    if len(places) == 1:
        return element("circle", class_=style, cx=f"{places[0][0]:.1f}", cy=f"{places[0][1]:.1f}", r=3)
    return element("polyline", class_=style, points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places))


POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
"""What a browser lets a page do, should anything in it ever escape its quotes."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --dim: #5d6777; --paper: #fbfbfd; --card: #ffffff; --line: #dde1e8;
  --first: #2563c9; --second: #b4540a; --good: #14743c; --bad: #b3261e;
  --fourth: #7a3fb8; --fifth: #5f6b00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --dim: #9aa4b5; --paper: #12151b; --card: #1a1f28;
  --line: #303846; --first: #7fb0ff; --second: #f0a35e; --good: #6fd39a; --bad: #ff8f85;
  --fourth: #c79bff; --fifth: #c9d15a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); } h4 { margin: 0; }
small, .note, figcaption, dt { color: var(--dim); font-size: .85rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } th, td { padding: .35rem .7rem .35rem 0; text-align: left; }
th { color: var(--dim); font-weight: 500; } tr { border-bottom: 1px solid var(--line); }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.cards { display: grid; gap: .8rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
figure { margin: 0; min-width: 0; } .cards > figure, .case { background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; padding: .8rem; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--dim); font-size: 10px; text-anchor: middle; }
svg text.y, svg text.end { text-anchor: end; } svg text.start { text-anchor: start; } .grid { stroke: var(--line); }
polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
polyline.first { stroke: var(--first); } polyline.second { stroke: var(--second); }
polyline.third { stroke: var(--good); } polyline.fourth { stroke: var(--fourth); }
polyline.fifth { stroke: var(--fifth); } polyline.sixth { stroke: var(--bad); }
rect.first { fill: var(--first); }
circle.first { fill: var(--first); } circle.second { fill: var(--second); } circle.third { fill: var(--good); }
circle.fourth { fill: var(--fourth); } circle.fifth { fill: var(--fifth); } circle.sixth { fill: var(--bad); }
span.first { color: var(--first); } span.second { color: var(--second); } span.third { color: var(--good); }
span.fourth { color: var(--fourth); } span.fifth { color: var(--fifth); } span.sixth { color: var(--bad); }
.case { margin: .8rem 0; display: grid; gap: .8rem; grid-template-columns: minmax(10rem, 1fr) 4fr; }
.case > * { min-width: 0; }
.query { overflow-wrap: anywhere; } .query p { margin: 0; }
.parts { display: grid; gap: .8rem; } .parts figure { overflow: auto; max-height: 24rem; }
figure td { overflow-wrap: anywhere; }
.hits { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
.hits figure { border: 2px solid var(--line); border-radius: .4rem; padding: .4rem; overflow: auto; max-height: 24rem; }
.hits .right { border-color: var(--good); } .hits .truth { border-style: dashed; }
.case img, .case video { max-width: 100%; height: auto; } .case audio { width: 100%; }
.case pre { margin: 0; overflow: auto; font-size: .78rem; max-height: 20rem; }
pre { overflow-x: auto; }
dl { margin: 0; display: grid; grid-template-columns: fit-content(40%) minmax(0, 1fr); gap: .2rem .8rem;
  overflow-wrap: anywhere; }
dd { margin: 0; } dd.right { color: var(--good); } dd.wrong { color: var(--bad); }
@media (max-width: 40rem) { .case { grid-template-columns: 1fr; } }
"""


def page(title: str, sections: Mapping[str, Markup]) -> bytes:
    """A whole page in UTF-8: its title, then each section that has something in it under its heading."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(_STYLE)),
    )
    shown = [element("section", element("h2", name), content) for name, content in sections.items() if content]
    body = element("body", element("h1", title), *shown)
    text = Markup().join((Markup("<!doctype html>"), element("html", head, body, lang="en"), "\n"))
    # A text may hold half of a surrogate pair, which UTF-8 has no bytes for.
    return text.encode("utf-8", errors="replace")

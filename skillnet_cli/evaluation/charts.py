"""Line charts as inline SVG, in the page's own colours; nothing is loaded from anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from skillnet_cli.evaluation.markup import Markup, element, note

WIDTH, HEIGHT = 340.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 10.0, 10.0, 34.0
TICKS = 4

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One line of a chart: its points from left to right; ``style`` is a class of the page's style sheet."""

    points: Points
    style: str = "first"


@dataclass(frozen=True)
class Scale:
    """Maps values from ``low`` to ``high`` to pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of a value in pixels."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def line_chart(lines: Sequence[Line], label: str, x_label: str = "step") -> Markup:
    """An SVG of lines over common axes, as wide as its place allows. ``label`` says what the vertical axis shows."""
    points = [point for line in lines for point in line.points]
    if not points:
        return note(f"no {label} was written down")
    x = Scale(*_range([x for x, _ in points]), LEFT, WIDTH - RIGHT)
    y = Scale(*_range([y for _, y in points]), HEIGHT - BOTTOM, TOP)
    parts = [*_grid(x, y), *(_polyline(line, x, y) for line in lines if line.points)]
    parts.append(_text(x_label, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "axis"))
    return _drawing(f"{label} by {x_label}", parts)


def bar_chart(bars: Sequence[tuple[str, int]], label: str) -> Markup:
    """An SVG of counts side by side, the first and the last one named below; ``label`` says what is counted."""
    most = max((count for _, count in bars), default=0) or 1
    wide = (WIDTH - LEFT - RIGHT) / max(len(bars), 1)
    y = Scale(0.0, float(most), HEIGHT - BOTTOM, TOP)
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
    ends = {LEFT + wide / 2: bars[0][0], WIDTH - RIGHT - wide / 2: bars[-1][0]} if bars else {}
    names = [_text(name, x, HEIGHT - BOTTOM + 15) for x, name in ends.items()]
    return _drawing(label, [*drawn, *names, _text(most, LEFT - 5, TOP + 4, "tick y")])


def ticks(low: float, high: float, count: int = TICKS) -> list[float]:
    """About ``count`` round numbers (1, 2 or 5 times a power of ten apart) from ``low`` to ``high``."""
    step = _round_step((high - low) / count)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def thinned(points: Points, most: int = 150) -> list[tuple[float, float]]:
    """At most ``most`` points: neighbours are averaged, so that a noisy curve shows its course."""
    size = math.ceil(len(points) / most) if points else 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    return (low, high) if high > low else (low - margin, high + margin)


def _drawing(label: str, parts: Sequence[Markup]) -> Markup:
    frame = f"0 0 {WIDTH:.0f} {HEIGHT:.0f}"
    return element("svg", element("title", label), *parts, viewBox=frame, role="img", aria_label=label)


def _text(text: object, x: float, y: float, style: str = "tick") -> Markup:
    return element("text", text, class_=style, x=f"{x:.1f}", y=f"{y:.1f}")


def _grid(x: Scale, y: Scale) -> list[Markup]:
    lines = [element("path", class_="grid", d=f"M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}") for value, _ in _labelled(y)]
    across = [_text(written, LEFT - 5, y(value) + 4, "tick y") for value, written in _labelled(y)]
    along = [_text(written, x(value), HEIGHT - BOTTOM + 15) for value, written in _labelled(x)]
    return lines + across + along


def _labelled(scale: Scale) -> list[tuple[float, str]]:
    """Each tick with its number, written with just the decimals that tell it from the next."""
    step = _round_step((scale.high - scale.low) / TICKS)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    values = ticks(scale.low, scale.high)
    return [(value, f"{value:.{decimals}f}" if decimals < 7 else f"{value:.2e}") for value in values]


def _polyline(line: Line, x: Scale, y: Scale) -> Markup:
    places = [(x(a), y(b)) for a, b in line.points]
    if len(places) == 1:
        return element("circle", class_=line.style, cx=f"{places[0][0]:.1f}", cy=f"{places[0][1]:.1f}", r=3)
    drawn = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    return element("polyline", class_=line.style, points=drawn)

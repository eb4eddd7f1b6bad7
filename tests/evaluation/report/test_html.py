"""Charts are well-formed SVG that shows its numbers inside its frame."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillnet_cli.evaluation.report.html import BOTTOM, HEIGHT, MOST_POINTS, TOP, WIDTH, bar_chart, line_chart

numbers = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(st.lists(st.tuples(st.integers(0, 10**6).map(float), numbers), min_size=1, max_size=30))
def test_every_point_lies_in_the_frame(points: list[tuple[float, float]]) -> None:
    drawing = ElementTree.fromstring(line_chart([("first", points)], "loss <of> it"))
    places = [pair.split(",") for line in drawing.iter("polyline") for pair in line.attrib["points"].split()]
    places += [[circle.attrib["cx"], circle.attrib["cy"]] for circle in drawing.iter("circle")]
    assert len(places) == len(points)
    assert all(0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT for x, y in places)
    assert drawing.attrib["aria-label"] == "loss <of> it by step"


def test_nothing_to_draw_is_said() -> None:
    assert line_chart([("first", [])], "cer") == '<p class="note">no cer recorded</p>'


@given(numbers, st.floats(1e-6, 1e6))
def test_ticks_are_few_and_inside(low: float, width: float) -> None:
    drawing = ElementTree.fromstring(line_chart([("first", [(0.0, low), (1.0, low + width)])], "loss"))
    found = [float(path.attrib["d"].split()[1].partition("H")[0]) for path in drawing.iter("path")]
    assert 1 <= len(found) <= 6 and all(TOP - 0.1 <= y <= HEIGHT - BOTTOM + 0.1 for y in found)


@given(st.lists(numbers, min_size=1, max_size=4 * MOST_POINTS))
def test_a_line_of_many_points_is_drawn_by_their_means(values: list[float]) -> None:
    size = -(-len(values) // MOST_POINTS)
    groups = [range(start, min(start + size, len(values))) for start in range(0, len(values), size)]
    means = [(sum(group) / len(group), sum(values[place] for place in group) / len(group)) for group in groups]
    drawn = line_chart([("first", [(float(place), value) for place, value in enumerate(values)])], "loss")
    assert len(means) <= MOST_POINTS and drawn == line_chart([("first", means)], "loss")


@pytest.mark.parametrize(
    ("low", "high", "written"),
    [
        (0.0, 1.0, ["0.0", "0.5", "1.0"]),
        (0.0, 700.0, ["0", "200", "400", "600"]),
        (8.15, 8.27, ["8.15", "8.20", "8.25"]),
        (4.1, 4.1 + 2e-9, None),
    ],
)
def test_ticks_are_written_with_the_decimals_that_tell_them_apart(
    low: float, high: float, written: list[str] | None
) -> None:
    drawing = ElementTree.fromstring(line_chart([("first", [(0.0, low), (1.0, high)])], "loss"))
    found = [text.text for text in drawing.iter("text") if text.attrib["class"] == "tick y"]
    assert found == written if written else found


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=30))
def test_bars_are_as_high_as_their_counts(counts: list[int]) -> None:
    drawing = ElementTree.fromstring(bar_chart([(f"<{count}>", count) for count in counts], "a & b"))
    bars = [{name: float(bar.attrib[name]) for name in ("x", "y", "width", "height")} for bar in drawing.iter("rect")]
    assert all(bar["x"] >= 0 and bar["x"] + bar["width"] <= WIDTH and 0 <= bar["y"] <= HEIGHT for bar in bars)
    most = max(bar["height"] for bar in bars)
    assert [bar["height"] / (most or 1) for bar in bars] == pytest.approx(
        [count / (max(counts) or 1) for count in counts], abs=0.01
    )

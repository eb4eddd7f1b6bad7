"""Charts are well-formed SVG that shows its numbers inside its frame."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillnet_cli.evaluation.report.html import HEIGHT, WIDTH, Line, bar_chart, line_chart, thinned, ticks

numbers = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(st.lists(st.tuples(st.integers(0, 10**6).map(float), numbers), min_size=1, max_size=30))
def test_every_point_lies_in_the_frame(points: list[tuple[float, float]]) -> None:
    drawing = ElementTree.fromstring(line_chart([Line(points)], "loss <of> it"))
    places = [pair.split(",") for line in drawing.iter("polyline") for pair in line.attrib["points"].split()]
    places += [[circle.attrib["cx"], circle.attrib["cy"]] for circle in drawing.iter("circle")]
    assert len(places) == len(points)
    assert all(0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT for x, y in places)
    assert drawing.attrib["aria-label"] == "loss <of> it by step"


def test_nothing_to_draw_is_said() -> None:
    assert line_chart([Line([])], "cer") == '<p class="note">no cer was written down</p>'


@given(numbers, st.floats(1e-6, 1e6))
def test_ticks_are_round_few_and_inside(low: float, width: float) -> None:
    high = low + width
    found = ticks(low, high)
    assert 1 <= len(found) <= 6
    assert all(low - width * 1e-6 <= tick <= high + width * 1e-6 for tick in found)


def test_ticks_of_a_share() -> None:
    assert ticks(0.0, 1.0) == pytest.approx([0, 0.5, 1.0])
    assert ticks(0.0, 700.0) == [0, 200, 400, 600]


@given(st.lists(st.tuples(numbers, numbers), max_size=700))
def test_thinning_keeps_the_mean(points: list[tuple[float, float]]) -> None:
    few = thinned(points, most=50)
    assert len(few) <= 50 and (len(points) > 50 or few == points)
    if points and len(points) % -(-len(points) // 50) == 0:
        assert sum(y for _, y in few) / len(few) == pytest.approx(sum(y for _, y in points) / len(points), abs=1e-3)


@pytest.mark.parametrize(
    ("low", "high", "written"),
    [(0.0, 700.0, ["0", "200", "400", "600"]), (8.15, 8.27, ["8.15", "8.20", "8.25"]), (4.1, 4.1 + 2e-9, None)],
)
def test_ticks_are_written_with_the_decimals_that_tell_them_apart(
    low: float, high: float, written: list[str] | None
) -> None:
    drawing = ElementTree.fromstring(line_chart([Line([(0.0, low), (1.0, high)])], "loss"))
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

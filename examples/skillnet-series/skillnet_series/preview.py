"""A run of readings as a line in a gallery."""

from __future__ import annotations

from skillnet_cli.api import Source
from skillnet_series.reader import parse

WIDTH, HEIGHT = 120, 32


def sparkline(source: Source) -> str:
    """An SVG of the readings from left to right, the greatest on top."""
    readings = parse(source)
    low, span = readings.min(), readings.max() - readings.min() or 1.0
    step = WIDTH / max(len(readings) - 1, 1)
    points = " ".join(f"{i * step:.1f},{HEIGHT * (1 - (value - low) / span):.1f}" for i, value in enumerate(readings))
    line = f'<polyline points="{points}" fill="none" stroke="currentColor"/>'
    return f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">{line}</svg>'

"""``metrics.jsonl``: one JSON object a line for every update and every evaluation of a stage."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class MetricsLog:
    """Appends rows; every row is on disk before the next step begins."""

    def __init__(self, path: Path, step: int) -> None:
        """Go on behind ``step``: what a stopped run wrote about later steps, which are now done again, is dropped."""
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_metrics(path) if row["step"] <= step]
        partial = path.with_suffix(".partial")
        partial.write_text("".join(map(_line, kept)), encoding="utf-8")
        os.replace(partial, path)
        self._file = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115

    def write(self, kind: str, step: int, **facts: Any) -> None:
        """Add a row; numbers that are not finite become null, which JSON has a word for."""
        self._file.write(_line({"kind": kind, "step": step, **facts}))

    def close(self) -> None:
        """End the file."""
        self._file.close()


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a metrics.jsonl; a last line that was cut off is passed over."""
    if not path.exists():
        return
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                yield row


def _line(row: dict[str, Any]) -> str:
    return json.dumps({key: _finite(value) for key, value in row.items()}, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

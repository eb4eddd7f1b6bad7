"""What an evaluation found, and the results.json of a run that keeps it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from skillnet_cli.api import UserError

RESULTS = "results.json"


@dataclass(frozen=True)
class Result:
    """The figures of one task on one split of a prepared set, and how they were measured.

    Attributes:
        items: how many items were measured; ``damaged`` could not be read and are not among them.
        queries: how many predictions were scored: items, texts, or masked places.
        protocol: what a reader must know to compare the figures: pool, split, positives, normaliser, …
        cases: a few items by chance (the lowest checksums of their ids), for galleries. Of a retrieval
            ``{"index", "caption", "rank", "best": [{"index", "score"}]}``: places in the split, and which of the item's
            texts asked; of anything else ``{"index", "predicted", "reference"}``.
    """

    task: str
    set: str
    split: str
    metrics: dict[str, float]
    items: int
    queries: int
    protocol: dict[str, Any] = field(default_factory=dict)
    damaged: int = 0
    cases: tuple[dict[str, Any], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The result as JSON can hold it."""
        return asdict(self)


def read_results(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's results.json; none where the file is not there yet.

    Raises:
        UserError: the file is no results.json.
    """
    path = run / RESULTS
    if not path.exists():
        return []
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["results"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not readable as results ({error}): delete it and evaluate again") from error
    return rows


def record_results(run: Path, results: Iterable[Result], model: str) -> list[dict[str, Any]]:
    """Put results of the model with that fingerprint into the run's results.json, atomically.

    They replace older results of the same task and split, and all results of other models. Returns the rows that are
    there now.
    """
    fresh = [{**result.as_json(), "model": model} for result in results]
    replaced = {_key(row) for row in fresh}
    kept = [row for row in read_results(run) if row.get("model") == model and _key(row) not in replaced]
    partial = run / f"{RESULTS}.partial"
    rows = sorted([*kept, *fresh], key=_key)
    partial.write_text(json.dumps({"results": rows}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, run / RESULTS)
    return rows


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["task"], row["set"], row["split"]

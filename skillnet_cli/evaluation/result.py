"""What an evaluation found, and the results.json of a run that keeps it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from skillnet_cli.api import UserError

RESULTS = "results.json"

Figure = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e300, le=1e300)]
"""A number that can be drawn: finite, as are differences and sums of such."""

Count = Annotated[int, Field(strict=True, ge=0, le=2**53)]
"""A number of things, or the place of one; a float holds it."""


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


class _Checked(BaseModel):
    model_config = ConfigDict(strict=True)


class _Hit(_Checked):
    index: Count
    score: Figure


class _Search(_Checked):
    index: Count
    caption: Count
    rank: Count
    best: list[_Hit]


class _Answer(_Checked):
    index: Count
    predicted: Any
    reference: Any


def _kind(case: Any) -> str:
    return "search" if isinstance(case, Mapping) and "best" in case else "answer"


class _Row(_Checked):
    """What a row of a results.json must have, whoever wrote it."""

    task: str
    set: str
    split: str
    metrics: dict[str, Figure]
    items: Count
    queries: Count
    damaged: Count
    protocol: dict[str, Any]
    cases: list[Annotated[Annotated[_Search, Tag("search")] | Annotated[_Answer, Tag("answer")], Discriminator(_kind)]]


class _Results(_Checked):
    results: list[_Row]


def read_results(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's results.json; none where the file is not there yet.

    Raises:
        UserError: the file is no results.json, or a figure in it is no finite number.
    """
    path = run / RESULTS
    if not path.exists():
        return []
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        _Results.model_validate(document)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not readable as results ({_why(error)}): delete it and evaluate again") from error
    rows: list[dict[str, Any]] = document["results"]
    return rows


def _why(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")


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

"""A run on disk: its folders, ``metrics.jsonl`` and ``results.json``."""

from __future__ import annotations

import json
import math
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from skillnet_cli.api import UserError
from skillnet_cli.files import PARTIAL, read_json_lines, replace_path, write_json, write_whole


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run. ``model`` is always the result of the stage that finished last."""

    path: Path

    @property
    def model(self) -> Path:
        """The model that commands find by default."""
        return self.path / "model"

    def stage(self, name: str) -> StageFolder:
        """The folder of one stage."""
        return StageFolder(self.path / name)

    def keep_recipe(self, toml: str) -> None:
        """Write the recipe, overrides included, so that it can be trained again from here."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.path / "recipe.toml", toml.encode())

    def publish(self, model: Path) -> None:
        """Make ``model`` the run's model. Its files are linked, not copied, where the file system can."""
        replace_linked(model, self.model)


@dataclass(frozen=True)
class StageFolder:
    """The folder of one stage of a run."""

    path: Path

    @property
    def metrics(self) -> Path:
        """One JSON object a line: every update, every evaluation."""
        return self.path / "metrics.jsonl"

    @property
    def init(self) -> Path:
        """Which tensors came from which pretrained model; exists where the recipe's ``[init]`` was used."""
        return self.path / "init.json"

    @property
    def checkpoints(self) -> Path:
        """The training's states to resume from."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The stage's result; it exists once the stage has finished."""
        return self.path / "model"

    @property
    def best(self) -> Path:
        """The models of the best evaluations, where the recipe asks for them."""
        return self.path / "best"


def replace_linked(model: Path, target: Path) -> None:
    """Put a model's folder where ``target`` is. Its files are linked, not copied, where the file system can."""
    fresh = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
    shutil.copytree(model, fresh, copy_function=_link)
    replace_path(target, fresh)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


class MetricsLog:
    """Appends rows; every row is on disk before the next step begins."""

    def __init__(self, path: Path, step: int) -> None:
        """Continue behind ``step``: rows of later steps, which this run will repeat, are dropped."""
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_metrics(path) if row["step"] <= step]
        write_whole(path, "".join(map(_line, kept)).encode())
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, kind: str, step: int, **facts: Any) -> None:
        """Add a row; numbers that are not finite become null, which JSON has a word for."""
        self._file.write(_line({"kind": kind, "step": step, **facts}))

    def close(self) -> None:
        """End the file."""
        self._file.close()


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a metrics.jsonl; a last line that was cut off is passed over."""
    for _, row in read_json_lines(path):
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            yield row


def _line(row: dict[str, Any]) -> str:
    return json.dumps({key: _finite(value) for key, value in row.items()}, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
    rows = sorted([*kept, *fresh], key=_key)
    write_json(run / RESULTS, {"results": rows})
    return rows


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["task"], row["set"], row["split"]

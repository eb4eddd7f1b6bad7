"""A run on disk: its folders, ``metrics.jsonl`` and ``results.json``."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from skillnet_cli.api import UserError
from skillnet_cli.files import PARTIAL, disk_errors, finite, replace_path, write_json, write_whole
from skillnet_cli.untrusted import Untrusted, open_regular, parse_json, read_json, validate


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


MAX_LINE = 16 << 20
"""Bytes of a row of a metrics.jsonl: ours have some hundreds."""


class MetricsLog:
    """Appends rows; every row is on disk before the next step begins.

    ``damaged`` says what became of a file that was there and cannot be read whole; it is empty where all was well.
    """

    def __init__(self, path: Path, step: int, repeated: Collection[str] = ()) -> None:
        """Continue behind ``step``: rows of later steps, which this run will repeat, are dropped.

        So are those of ``step`` itself whose kind is one of ``repeated``.

        A file with rows that cannot be read, other than a last one that was cut off, is set aside, and those of its
        rows that can be read are kept in the new one.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.damaged = ""
        kept: list[dict[str, Any]] = []
        what = ""
        try:
            lines = [line for _, line in _read_lines(path)]
            kept = [line for line in lines if _is_row(line) and line["step"] <= step]
            kept = [row for row in kept if row["step"] < step or row.get("kind") not in repeated]
            lost = len(lines) - sum(map(_is_row, lines))
            if lost > (not _ends_a_line(path)):  # the last one was cut off where its writer was killed
                what = f"{lost} of {len(lines)} lines are no rows"
        except (Untrusted, OSError) as error:
            what = str(error.strerror if isinstance(error, OSError) else error)
        with disk_errors(path):
            if what:
                aside = next(place for number in itertools.count(1) if not (place := _aside(path, number)).exists())
                path.rename(aside)
                self.damaged = f"{path} is damaged ({what}): it is kept as {aside.name}, and a new one goes on"
            write_whole(path, "".join(map(_line, kept)).encode("utf-8", errors="replace"))
            self._file = path.open("a", encoding="utf-8", errors="replace", buffering=1)
        self._path = path

    def write(self, kind: str, step: int, **facts: Any) -> None:
        """Add a row; numbers that are not finite become null, which JSON has a word for."""
        with disk_errors(self._path):
            self._file.write(_line({"kind": kind, "step": step, **facts}))

    def close(self) -> None:
        """End the file."""
        with suppress(OSError):  # a full disk has been reported already
            self._file.close()


def _aside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}.damaged{number if number > 1 else ''}{path.suffix}")


def _ends_a_line(path: Path) -> bool:
    """Whether a file, if there is one, ends with a whole line."""
    if not path.exists() or path.stat().st_size == 0:
        return True
    with open_regular(path) as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a metrics.jsonl; none where there is no file. Lines that are no rows are passed over.

    Raises:
        UserError: it is not a file, or has a line of many megabytes.
    """
    return (line for _, line in read_metrics_lines(path) if _is_row(line))


def read_metrics_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The lines of a metrics.jsonl, each with its number, counted from 1: what is in it, None where it is not JSON.

    Raises:
        UserError: it is not a file, or has a line of many megabytes.
    """
    try:
        yield from _read_lines(path)
    except (Untrusted, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path} cannot be read ({why}): move it away") from error


def _read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    if not os.path.lexists(path):
        return
    with open_regular(path) as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise Untrusted(f"line {number} has more than {MAX_LINE:,} bytes")
            yield number, _parse_line(line)


def _parse_line(line: bytes) -> Any:
    """What is in a line; NaN and the infinities, which earlier versions wrote, are read as None."""
    try:
        return parse_json(_NOT_FINITE.sub(b"null", line))
    except Untrusted:
        return None


def _is_row(line: Any) -> bool:
    known = isinstance(line, dict) and isinstance(line.get("kind"), str) and type(line.get("step")) is int
    return known and 0 <= line["step"] <= MOST


_NOT_FINITE = re.compile(rb"(?<=: )-?(?:NaN|Infinity)(?=[,}\]])")


def _line(row: dict[str, Any]) -> str:
    return json.dumps(finite(row), ensure_ascii=False, allow_nan=False) + "\n"


RESULTS = "results.json"

Figure = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e300, le=1e300)]
"""A number that can be drawn: finite, as are differences and sums of such."""

MOST = 2**53

Count = Annotated[int, Field(strict=True, ge=0, le=MOST)]
"""A number of things, or the place of one; a float holds it."""


@dataclass(frozen=True)
class Result:
    """The figures of one task on one split of a prepared set, and how they were measured.

    Attributes:
        set: the set's name, as recipes and ``--split`` have it.
        checksum: of the split's items, which tells sets of one name apart.
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
    checksum: str = ""

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
    metrics: dict[str, Figure | None]
    items: Count
    queries: Count
    damaged: Count
    checksum: str = ""
    model: str | None = None
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
    if not os.path.lexists(path):
        return []
    try:
        document = read_json(path)
        validate(_Results, document)
    except (Untrusted, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path} is not readable as results ({why}): delete it and evaluate again") from error
    rows: list[dict[str, Any]] = document["results"]
    return rows


def record_results(run: Path, results: Iterable[Result], model: str) -> list[dict[str, Any]]:
    """Put results of the model with that fingerprint into the run's results.json, atomically.

    They replace older results of the same task on the same split of a set of that name and content, and all results of
    other models. Returns the rows that are there now.
    """
    fresh = [finite({**result.as_json(), "model": model}) for result in results]
    replaced = {_key(row) for row in fresh}
    kept = [row for row in read_results(run) if row.get("model") == model and _key(row) not in replaced]
    rows = sorted([*kept, *fresh], key=_key)
    write_json(run / RESULTS, {"results": rows})
    return rows


def _key(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return row["task"], row["set"], row["split"], row.get("checksum", "")

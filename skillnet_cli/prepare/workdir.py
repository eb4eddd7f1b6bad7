"""The work folder of a set in the making: what is being made, what is done, and which process works on it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.data.format import MANIFEST, WORK
from skillnet_cli.files import file_lock, make_folder, only_one, write_whole
from skillnet_cli.prepare.part import PART, PartFacts
from skillnet_cli.prepare.preparer import Preparation, Preparer, Range

JOB = "job.json"
PLAN = "plan.json"

_ENDS = 1 << 16
"""Bytes at both ends of a file that it is recognised by, together with its size: hashing all of it would take as long
as reading it."""

Refused: TypeAlias = Sequence[tuple[str, str]]
"""Path and reason of files in the sources that are not read."""


@dataclass(frozen=True)
class Plan:
    """The splits of the ranges, as far as they are known, and what the sources hold that is not read."""

    splits: tuple[tuple[str, ...], ...]
    refused: Refused

    def __len__(self) -> int:
        return len(self.splits)


@dataclass(frozen=True)
class WorkFolder:
    """The folder ``.work`` of the set in ``out``."""

    out: Path

    @property
    def folder(self) -> Path:
        return self.out / WORK

    def make(self) -> None:
        """Make the folder. Raises UserError where it cannot be made."""
        make_folder(self.folder, "name another folder with --out")

    def alone(self) -> AbstractContextManager[None]:
        """Wait until no other process plans or completes this set, and keep others waiting."""
        return file_lock(self.folder / "lock")

    @contextmanager
    def lock_share(self, job: Preparation) -> Iterator[None]:
        """Take a share of the ranges. Raises UserError where another process has it."""
        name = f"lock-{job.share.number}-of-{job.share.count}" if job.share else "lock-all"
        with only_one(self.folder / name, f"{self.out}: another process prepares it right now: wait for it, or end it"):
            yield

    def record_job(self, job: Preparation, version: str) -> None:
        """Record what the parts are made with, or compare it with what is recorded.

        Args:
            job: with its sources as paths.
            version: of the preparer.

        Raises:
            UserError: parts were made with something else; the message says what differs.
        """
        path = self.folder / JOB
        facts = _facts_of(job, version)
        found = _read(path)
        if found is None:
            write_whole(path, _json(facts))
            return
        wanted = json.loads(_json(facts))
        differing = [name for name in wanted if found.get(name) != wanted[name]]
        if differing:
            first = differing[0]
            raise UserError(
                f"{self.out} holds the beginning of a set made with another {first} "
                f"({_short(found.get(first))}, now {_short(wanted[first])}): "
                f"ask for the same again, delete {self.folder}, or name another folder with --out"
            )

    def forget_job(self) -> None:
        """Drop the record where nothing was planned, so that a mistake in the options can be put right."""
        if not self.planned:
            (self.folder / JOB).unlink(missing_ok=True)

    @property
    def planned(self) -> bool:
        """Whether what all ranges need is there, and the ranges are recorded."""
        return (self.folder / PLAN).exists()

    def record_plan(self, ranges: Sequence[Range], refused: Refused) -> Plan:
        """Record the ranges, or compare them with those that are recorded.

        Raises:
            UserError: other ranges are recorded.
        """
        rows = [[each.name, each.payload, list(each.splits)] for each in ranges]
        facts = {"ranges": hashlib.sha256(_json(rows)).hexdigest(), "splits": [row[2] for row in rows]}
        found = _read(self.folder / PLAN)
        if found is None:
            found = {**facts, "refused": list(map(list, refused))}
            write_whole(self.folder / PLAN, _json(found))
        elif found["ranges"] != facts["ranges"]:
            raise UserError(
                f"{self.out} holds the beginning of a set made from other files: "
                f"delete {self.folder}, or name another folder with --out"
            )
        return _plan_of(found)

    def read_plan(self) -> tuple[dict[str, Any], Plan]:
        """The recorded job and its ranges. Raises UserError where there are none."""
        job, plan = _read(self.folder / JOB), _read(self.folder / PLAN)
        if job is None or plan is None:
            there = "is complete already" if (self.out / MANIFEST).exists() else "holds no parts to put together"
            raise UserError(f"{self.out} {there}: run 'skillnet prepare NAME --shard I/N' first, for every I")
        return job, _plan_of(plan)

    def dataset_name(self) -> str:
        """The name of the data set whose parts lie here. Raises UserError where none do."""
        name: str = self.read_plan()[0]["data set"]
        return name

    def recorded_job(self, job: Preparation) -> Preparation:
        """The job that the parts were made with, for a merge; what makes no difference comes from ``job``."""
        facts, _ = self.read_plan()
        declared = job.dataset.options
        absent = {option.name: option.absent for option in declared}
        stored = {each.name: _typed(each.type, facts["options"][each.name]) for each in declared if each.recorded}
        return replace(
            job,
            sources=tuple(facts["source"]),
            seed=facts["seed"],
            limit=facts["limit"],
            protocol=facts["split"],
            options={**absent, **stored},
        )

    def remove(self) -> None:
        """Delete everything, once the set is whole.

        The markers go first, so that a deletion that is cut off leaves nothing that looks like work to resume.
        """
        for marker in (self.folder / PLAN, *sorted(self.folder.rglob(PART))):
            marker.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class LimitCounter:
    """How full the splits are under ``--limit``, counted in order of the ranges."""

    preparer: Preparer
    kept: Counter[str] = field(default_factory=Counter)

    def bound(self, split: str) -> int | None:
        """How many items of a split can be of use; a pool must fill all splits that its items go into."""
        limit = self.preparer.job.limit
        return None if limit is None else limit * len(self.preparer.pools.get(split, (split,)))

    def needs(self, splits: tuple[str, ...]) -> bool:
        """Whether a range with items of these splits can add anything; unknown splits always can."""
        return not splits or any((bound := self.bound(split)) is None or self.kept[split] < bound for split in splits)

    def add(self, part: PartFacts) -> None:
        """Count a part; those of earlier ranges must have been counted."""
        self.kept.update({split: facts.items for split, facts in part.splits.items()})


def _facts_of(job: Preparation, version: str) -> dict[str, Any]:
    """All that the result follows from, as JSON can hold it."""
    return {
        "data set": job.dataset.name,
        "version": version,
        "seed": job.seed,
        "limit": job.limit,
        "split": job.protocol,
        "options": job.recorded_options,
        "source": list(job.sources),
        "files": [_identity(path) for path in job.paths],
    }


def _identity(path: Path) -> list[Any]:
    """What a file is recognised by. A folder is recognised by its ranges."""
    if path.is_dir():
        return [path.name]
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            ends = file.read(_ENDS)
            file.seek(max(0, size - _ENDS))
            ends += file.read(_ENDS)
    except OSError as error:
        raise UserError(f"source '{path}': {error.strerror}") from error
    return [path.name, size, hashlib.sha256(ends).hexdigest()]


def _typed(kind: type, value: Any) -> Any:
    """An option's value as the command line gives it."""
    if isinstance(value, list):
        return tuple(kind(each) for each in value)
    return None if value is None else kind(value)


def _plan_of(facts: Mapping[str, Any]) -> Plan:
    return Plan(tuple(map(tuple, facts["splits"])), tuple(map(tuple, facts["refused"])))


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True).encode("utf-8", errors="surrogateescape")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise FailedJob(f"{path}: damaged: delete {path.parent} and run prepare again") from error


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"

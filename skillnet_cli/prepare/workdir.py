"""The work folder of a set in the making: what is being made, what is done, and which process works on it."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.data.format import MANIFEST, WORK
from skillnet_cli.files import file_lock, make_folder, write_whole
from skillnet_cli.prepare.asked import AGAIN, fingerprint
from skillnet_cli.prepare.claims import ALL, claimed
from skillnet_cli.prepare.part import PART, Part, PartFacts
from skillnet_cli.prepare.preparer import Preparation, Preparer, Range
from skillnet_cli.sources.inputs import Stamp, changed, stamp_of
from skillnet_cli.untrusted import Schema, Untrusted, read_json, validate

JOB = "job.json"
PLAN = "plan.json"
FILES = "files.json"

Refused: TypeAlias = Sequence[tuple[str, str]]
"""Path and reason of files in the sources that are not read."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Job(_Record):
    """All that the result follows from but the content of the sources; ``asked`` is that of the manifest."""

    dataset: str
    version: str
    asked: dict[str, Any]


class Plan(_Record):
    """The ranges, as far as all processes must agree on them.

    Attributes:
        machine: that made it.
        begun: the files that were read for what all ranges need, each as it was then.
        ranges: the checksum of each range.
        splits: the splits of the ranges, as far as they are known.
        refused: what the sources hold that is not read.
    """

    machine: str
    begun: dict[str, tuple[int, int, int] | None]
    ranges: tuple[str, ...]
    splits: tuple[tuple[str, ...], ...]
    refused: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return len(self.splits)

    def made_of(self, place: int) -> str:
        """What the part of the range at a place must have been made of, besides the files that were read for it."""
        # The first part has the rows of what is refused.
        begun = sorted(self.begun.items())
        return _digest([begun, self.ranges[place], self.refused if place == 0 else ()])


class _File(_Record):
    """A file or folder that was named: where it lies, its stamp if it is a file, and what the manifest says of it."""

    path: str
    stamp: tuple[int, int, int] | None
    found: dict[str, Any]


class _Files(_Record):
    machine: str
    files: tuple[_File, ...]


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
        """Take a share of the ranges. Raises UserError where another process has some of it."""
        with claimed(self.out, f"{job.share.number}-of-{job.share.count}" if job.share else ALL):
            yield

    def record_job(self, job: Preparation, version: str) -> None:
        """Record what the parts are made with, or compare it with what is recorded.

        Args:
            job: what is asked for.
            version: of the preparer.

        Raises:
            UserError: parts were made with something else; the message says what differs.
        """
        wanted = Job(dataset=job.dataset.name, version=version, asked=job.asked)
        found = _read(self.folder / JOB, Job)
        if found and found != wanted and self.parts_there():
            raise UserError(
                f"{self.out} holds the beginning of a set made with another {_first_difference(found, wanted)}: "
                f"ask for the same again, {AGAIN}"
            )
        if found != wanted:
            self.forget()
            write_whole(self.folder / JOB, _json(wanted.model_dump()))

    @property
    def is_begun(self) -> bool:
        """Whether the beginning of a set lies here, and not only a lock."""
        return (self.folder / JOB).exists()

    def is_begun_with(self, asked: Mapping[str, Any]) -> bool:
        """Whether a set is begun here with what is asked for."""
        found = _read(self.folder / JOB, Job)
        return found is not None and found.asked == asked

    def parts_there(self) -> bool:
        """Whether any part is finished."""
        return any(self.folder.rglob(PART))

    def forget(self) -> None:
        """Drop what is recorded, so that a mistake in what was asked for can be put right; what was unpacked stays."""
        for name in (PLAN, JOB, FILES):
            (self.folder / name).unlink(missing_ok=True)

    def plan(self) -> Plan | None:
        """The recorded plan, None where there is none, or where a file that it began with has changed."""
        found = _read(self.folder / PLAN, Plan)
        return None if found is None or changed(dict(found.begun), found.machine == platform.node()) else found

    def clear_beginning(self, folder: Path) -> None:
        """Delete what was made for all ranges, in ``folder``, but for what was unpacked: that is known by its stamp."""
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix != ".tar":
                path.unlink()

    def record_plan(self, ranges: Sequence[Range], refused: Refused, begun: Mapping[str, Stamp]) -> Plan:
        """Record the ranges; returns them as they are recorded.

        Args:
            ranges: in order.
            refused: what the sources hold that is not read.
            begun: the files that were read for what all ranges need.
        """
        digests = tuple(_digest([each.name, each.payload, list(each.splits)]) for each in ranges)
        found = _read(self.folder / PLAN, Plan)
        machine = found.machine if found and found.begun == begun else platform.node()
        plan = Plan(
            machine=machine, begun=dict(begun), ranges=digests, splits=tuple(each.splits for each in ranges),
            refused=tuple((name, reason) for name, reason in refused),
        )  # fmt: skip
        if plan != found:
            write_whole(self.folder / PLAN, _json(plan.model_dump()))
        return plan

    def record_files(self, paths: Sequence[Path], suffixes: set[str]) -> None:
        """Record what the manifest will say of the files and folders that were named.

        Args:
            paths: of them, in order.
            suffixes: of the files that were read in folders.
        """
        before = _read(self.folder / FILES, _Files)
        known = {each.path: each for each in before.files} if before and before.machine == platform.node() else {}
        for each in before.files if before else ():
            suffixes = suffixes | set(each.found.get("suffixes", ()))
        found = []
        for path in paths:
            stamp, old = None if path.is_dir() else stamp_of(path), known.get(str(path))
            same = old is not None and stamp is not None and old.stamp == stamp
            facts = old.found if old and same else fingerprint(path, sorted(suffixes))
            found.append(_File(path=str(path), stamp=stamp, found=facts))
        facts_of_all = _Files(machine=platform.node(), files=tuple(found))
        write_whole(self.folder / FILES, _json(facts_of_all.model_dump()))

    def read_plan(self) -> tuple[Job, Plan]:
        """The recorded job and its ranges. Raises UserError where there are none."""
        job, plan = _read(self.folder / JOB, Job), _read(self.folder / PLAN, Plan)
        if job is None or plan is None:
            there = "is complete already" if (self.out / MANIFEST).exists() else "holds no parts to put together"
            raise UserError(f"{self.out} {there}: run 'skillnet prepare NAME --shard I/N' first, for every I")
        return job, plan

    def asked(self) -> dict[str, Any]:
        """What the manifest says was asked for, the files included."""
        job, _ = self.read_plan()
        files = _read(self.folder / FILES, _Files)
        return {**job.asked, "files": [each.found for each in files.files] if files else []}

    def stale(self, place: int, part: Part, plan: Plan) -> bool:
        """Whether a part was made of something else than the sources now hold."""
        return part.facts.made_of != plan.made_of(place) or bool(part.changed_inputs())

    def dataset_name(self) -> str:
        """The name of the data set whose parts lie here. Raises UserError where none do."""
        return self.read_plan()[0].dataset

    def recorded_job(self, job: Preparation) -> Preparation:
        """The job that the parts were made with, for a merge; what makes no difference comes from ``job``."""
        asked, declared = self.read_plan()[0].asked, job.dataset.options
        absent = {option.name: option.absent for option in declared}
        stored = {each.name: _typed(each.type, asked["options"][each.name]) for each in declared if each.recorded}
        return replace(
            job,
            sources=tuple(asked["source"]),
            seed=asked["seed"],
            limit=asked["limit"],
            protocol=asked["split"],
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


def _typed(kind: type, value: Any) -> Any:
    """An option's value as the command line gives it."""
    if isinstance(value, list):
        return tuple(kind(each) for each in value)
    return None if value is None else kind(value)


def _first_difference(found: Job, wanted: Job) -> str:
    """What differs first between two jobs, with both values."""
    before, now = ({"data set": each.dataset, "version": each.version, **each.asked} for each in (found, wanted))
    name = next(name for name in (*now, *before) if before.get(name) != now.get(name))
    return f"{name} ({_short(before.get(name))}, now {_short(now.get(name))})"


def _digest(value: Any) -> str:
    return hashlib.sha256(_json(value)).hexdigest()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()  # ASCII: names of files need not be Unicode


def _read(path: Path, schema: type[Schema]) -> Schema | None:
    try:
        return validate(schema, read_json(path))
    except FileNotFoundError:
        return None
    except (OSError, Untrusted) as error:
        raise FailedJob(f"{path}: damaged: delete {path.parent} and run prepare again") from error


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"

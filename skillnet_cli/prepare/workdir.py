"""The work folder of a set in the making: what is being made, what is done, and who is at it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.data.format import MANIFEST, WORK
from skillnet_cli.files import alone, make_folder, write_whole
from skillnet_cli.prepare.part import PART
from skillnet_cli.prepare.preparer import Preparation, Range

JOB = "job.json"
PLAN = "plan.json"
ENDS = 1 << 16
"""Bytes at both ends of a file that it is known again by, together with its size."""


Refused: TypeAlias = Sequence[tuple[str, str]]
"""Path and reason of files that are not touched."""


@dataclass(frozen=True)
class Plan:
    """The splits of the ranges, as far as they are known, and what the sources hold that is not read."""

    splits: tuple[tuple[str, ...], ...]
    refused: Refused

    def __len__(self) -> int:
        return len(self.splits)


@dataclass(frozen=True)
class Work:
    """The folder ``.work`` of the set in ``out``."""

    out: Path

    @property
    def folder(self) -> Path:
        return self.out / WORK

    def make(self) -> None:
        """Make the folder. Raises UserError where it cannot be made."""
        make_folder(self.folder, "name another folder with --out")

    def alone(self) -> AbstractContextManager[None]:
        """Wait until no other process plans or ends this set, and keep others waiting."""
        return alone(self.folder / "lock")

    @contextmanager
    def share(self, job: Preparation) -> Iterator[None]:
        """Take a share of the ranges. Raises UserError where another process is at it."""
        name = f"lock-{job.share.number}-of-{job.share.count}" if job.share else "lock-all"
        with open(self.folder / name, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UserError(f"{self.out}: another process prepares it right now: wait for it, or end it") from error
            yield

    def agree(self, facts: Mapping[str, Any]) -> None:
        """Go on only with what the parts were begun with. Raises UserError saying what differs."""
        path = self.folder / JOB
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

    def withdraw(self) -> None:
        """Hold on to nothing of what could not even be planned, so that the mistake can be put right."""
        if not self.begun:
            (self.folder / JOB).unlink(missing_ok=True)

    def plan(self, ranges: Sequence[Range], refused: Refused) -> Plan:
        """Write down the ranges. Raises UserError where they are not those of the beginning."""
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
        return _plan(found)

    def read_plan(self) -> tuple[dict[str, Any], Plan]:
        """What was begun here, and its ranges. Raises UserError where nothing was."""
        job, plan = _read(self.folder / JOB), _read(self.folder / PLAN)
        if job is None or plan is None:
            there = "is whole already" if (self.out / MANIFEST).exists() else "holds no parts to put together"
            raise UserError(f"{self.out} {there}: run 'skillnet prepare NAME --shard I/N' first, for every I")
        return job, _plan(plan)

    @property
    def begun(self) -> bool:
        """Whether what all ranges need is there, and the ranges are planned."""
        return (self.folder / PLAN).exists()

    def remove(self) -> None:
        """Delete everything, once the set is whole.

        The markers go first, so that a deletion cut off leaves nothing that looks like work to go on with.
        """
        for marker in (self.folder / PLAN, *sorted(self.folder.rglob(PART))):
            marker.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def facts_of(job: Preparation, version: str) -> dict[str, Any]:
    """All that the result follows from, in a form that JSON can say; what a merge makes the job from again."""
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


def _plan(facts: Mapping[str, Any]) -> Plan:
    return Plan(tuple(map(tuple, facts["splits"])), tuple(map(tuple, facts["refused"])))


def _identity(path: Path) -> list[Any]:
    """What a file is known again by. A folder is known by its ranges."""
    if path.is_dir():
        return [path.name]
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            ends = file.read(ENDS)
            file.seek(max(0, size - ENDS))
            ends += file.read(ENDS)
    except OSError as error:
        raise UserError(f"source '{path}': {error.strerror}") from error
    return [path.name, size, hashlib.sha256(ends).hexdigest()]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True).encode("utf-8", errors="surrogateescape")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise FailedJob(f"{path}: damaged: delete {path.parent} and begin anew") from error


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"

"""The ledger of a prepared set: what became of every item that came in, and why."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from skillnet_cli.api import UserError
from skillnet_cli.data.files import AtomicFile

Rejection: TypeAlias = Literal["filtered", "duplicate", "unavailable", "damaged"]
"""Why an item is left out: by a stated rule, as a copy, because it could not be had, because it cannot be read."""

CLASSES = ("kept", *get_args(Rejection))
LEDGER = "ledger.jsonl"

MOST_REASONS = 1000
"""Different reasons that are counted apart, so that memory stays bounded."""

_SPECIFIC = re.compile(r"'[^']*'|\d+")

# Libraries put the addresses of objects into messages; the same input must give the same bytes.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True)
class Entry:
    """What became of one item; ``why`` is one of :data:`CLASSES`."""

    split: str
    id: str
    why: str
    reason: str = ""


class LedgerCounts:
    """Counts classes and reasons; memory stays bounded."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[tuple[str, str]] = Counter()

    def add(self, entry: Entry) -> None:
        """Count one row. Raises ValueError where its class is none."""
        if entry.why not in CLASSES:
            raise ValueError(f"class {entry.why!r} is none of {', '.join(CLASSES)}")
        self._counts[entry.why] += 1
        key = (entry.why, _SPECIFIC.sub("…", clean(entry.reason)))
        if entry.reason and (key in self._reasons or len(self._reasons) < MOST_REASONS):
            self._reasons[key] += 1

    @property
    def counts(self) -> dict[str, int]:
        """Class -> items, every class in it; they sum to what came in."""
        return {why: self._counts[why] for why in CLASSES}

    @property
    def reasons(self) -> dict[str, list[tuple[str, int]]]:
        """Class -> its reasons and their items, the most frequent first; names and numbers are left out of them."""
        found: dict[str, list[tuple[str, int]]] = {}
        for (why, reason), count in self._reasons.most_common():
            found.setdefault(why, []).append((reason, count))
        return found


class Ledger:
    """Writes ``ledger.jsonl`` row by row and counts its classes; the file takes its name when it is finished."""

    def __init__(self, folder: Path) -> None:
        self._file = AtomicFile(folder / LEDGER)
        self._counts = LedgerCounts()

    @property
    def counts(self) -> dict[str, int]:
        """Class -> items, every class in it; they sum to what came in."""
        return self._counts.counts

    @property
    def reasons(self) -> dict[str, list[tuple[str, int]]]:
        """Class -> its reasons and their items, the most frequent first."""
        return self._counts.reasons

    def add(self, entry: Entry) -> None:
        """Write one row."""
        self._counts.add(entry)
        row = {"split": entry.split, "id": entry.id, "class": entry.why, "reason": clean(entry.reason)}
        self._file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", errors="replace") + b"\n")

    def finish(self) -> str:
        """Make the ledger whole and return its sha256."""
        return self._file.finish()

    def close(self) -> None:
        """Leave it unfinished."""
        self._file.close()


def clean(reason: str) -> str:
    """A reason without the addresses of objects."""
    return _ADDRESS.sub("", reason)


def encode_row(entry: Entry, facts: Any = None) -> bytes:
    """A row as parts keep it, short, with the facts of its item where there are any."""
    row = [entry.split, entry.id, entry.why, clean(entry.reason), *([] if facts is None else [facts])]
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", errors="replace") + b"\n"


def read_ledger(folder: Path) -> Iterator[Entry]:
    """The rows of a prepared set's ledger. Raises UserError where it is missing or damaged."""
    path = folder / LEDGER
    try:
        with open(path, encoding="utf-8") as rows:
            for number, row in enumerate(rows, 1):
                yield _entry(path, number, row)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def _entry(path: Path, number: int, row: str) -> Entry:
    try:
        values = json.loads(row)
        return Entry(values["split"], values["id"], values["class"], values["reason"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}, line {number}: not a row of a ledger: prepare the set again") from error

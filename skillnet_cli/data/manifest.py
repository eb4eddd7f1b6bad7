"""``manifest.json``: what a prepared set holds. It is written last, so a set that has one is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from skillnet_cli.api import UserError
from skillnet_cli.data.ledger import LEDGER

MANIFEST = "manifest.json"
ASSETS = "assets"
"""The folder of a prepared set for files that are no samples."""

WORK = ".work"
"""The folder of a set in the making where finished parts lie."""


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ShardFacts(_Facts):
    """One shard: the name of its tar, its items and bytes, the sha256 of the tar and of the tables beside it."""

    file: str
    items: int
    bytes: int
    sha256: str
    index_sha256: str
    crc32_sha256: str


class SplitFacts(_Facts):
    """One split: its items, the fields that every one of them has, and its shards in order."""

    items: int
    fields: tuple[str, ...]
    shards: tuple[ShardFacts, ...]


class Manifest(_Facts):
    """Everything about a prepared set but its samples.

    ``fields`` says of each field what it holds (``bytes .png``, ``texts``, ``text``, ``numbers`` or ``json``);
    ``targets`` lists what each target can be; ``ledger`` counts the ledger's classes; ``choices`` and ``seed`` are
    all that the preparation chose; ``assets`` are files in its folder ``assets``, each with its sha256 (a vocabulary,
    say), which older sets do not state.
    """

    format: Literal[1] = 1
    name: str
    version: str
    licence: str
    source: tuple[str, ...]
    seed: int
    choices: dict[str, Any]
    fields: dict[str, str] = {}
    targets: dict[str, list[str]] = {}
    splits: dict[str, SplitFacts] = {}
    ledger: dict[str, int] = {}
    ledger_sha256: str = ""
    assets: dict[str, str] = {}

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a prepared set. Raises UserError where the folder is none, unfinished or damaged."""
        path = folder / MANIFEST
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise UserError(_why_none(folder)) from error
        except ValidationError as error:
            first = error.errors()[0]
            what = f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()
            raise UserError(f"{path}: damaged, or of another version ({what}): prepare it again") from error

    def encode(self) -> bytes:
        """The bytes of ``manifest.json``."""
        return (self.model_dump_json(indent=1, exclude=None if self.assets else {"assets"}) + "\n").encode()


def _why_none(folder: Path) -> str:
    if not folder.exists():
        return f"{folder}: no such prepared set: make it with 'skillnet prepare'"
    if folder.is_dir() and any(path.name == WORK or path.name.startswith(LEDGER) for path in folder.iterdir()):
        return f"{folder}: an unfinished set: run prepare again"
    return f"{folder}: not a prepared set (it has no {MANIFEST}): name another folder, or run 'skillnet prepare'"

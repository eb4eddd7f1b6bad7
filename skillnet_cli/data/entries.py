"""A published list in JSON, written down once in pieces: a range then reads its own piece and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skillnet_cli.api import DamagedItem, FailedJob, UserError
from skillnet_cli.data.files import write_whole
from skillnet_cli.data.texts import decode
from skillnet_cli.data.trees import Leaf

PIECE = 1000
"""Entries a piece."""


def read_list(leaf: Leaf) -> list[Any]:
    """The list that a file in JSON holds. Raises UserError where it is damaged or holds something else."""
    try:
        found = json.loads(decode(leaf.read()))
    except DamagedItem as error:
        raise UserError(f"{leaf.name}: {error}: fetch it again") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{leaf.name}: damaged, it is not JSON ({error}): fetch it again") from error
    if not isinstance(found, list):
        raise UserError(f"{leaf.name}: a list is expected: check --source")
    return found


def write_pieces(folder: Path, name: str, entries: Sequence[Any], size: int = PIECE) -> None:
    """Write a list in pieces of ``size``, ``NAME-000000.json`` and so on."""
    for number, start in enumerate(range(0, len(entries), size)):
        piece = json.dumps(entries[start : start + size], ensure_ascii=False)
        write_whole(folder / f"{name}-{number:06d}.json", piece.encode("utf-8", errors="surrogatepass"))


def pieces(folder: Path, name: str) -> list[str]:
    """The names of a list's pieces, in order."""
    return sorted(path.stem for path in folder.glob(f"{name}-*.json"))


def read_piece(folder: Path, piece: str) -> list[Any]:
    """The entries of a piece. Raises FailedJob where it is damaged."""
    path = folder / f"{piece}.json"
    try:
        entries: list[Any] = json.loads(path.read_bytes().decode("utf-8", errors="surrogatepass"))
    except (OSError, ValueError) as error:
        raise FailedJob(f"{path}: damaged: delete {folder.parent} and begin anew") from error
    return entries

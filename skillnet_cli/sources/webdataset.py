"""Tars in the layout of WebDataset: files that share a name up to its first dot are one sample."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.sources.archives import FileTree
from skillnet_cli.sources.compression import decompressed
from skillnet_cli.sources.members import Member, open_file
from skillnet_cli.sources.rows import Enclosed, Row
from skillnet_cli.sources.texts import decode
from skillnet_cli.untrusted import Untrusted, parse_json

KEY = "__key__"
"""The column of the name that a sample's files share, as WebDataset calls it."""

TEXTS = ("txt", "text", "cls", "caption", "transcript")
"""Endings of the files that are texts, as the library decodes them, and two that publishers use."""

_LARGEST_TEXT = 1 << 20  # bytes of a text or of a JSON object


def tar_rows(path: Path, name: str = "") -> Iterator[Row]:
    """Yield the samples of a tar as rows, in their order.

    A column is what follows the first dot of a file's name, in small letters (``jpg``, ``seg.png``, ``txt``). The
    fields of a ``.json`` are columns too, but for those that a file is called after. Files in a row that share the rest
    of their path are one sample; what the archive holds that is not read is a row of its own, with the reason. Every
    row has all columns; what it lacks is None.

    Args:
        path: of the tar.
        name: what its files are called after, where that is not its own name: its path in a folder of them.

    Raises:
        UserError: it is no tar, damaged as a whole, too large or compressed.
    """
    with open_file(path) as file:
        if decompressed(file) is not file:
            raise UserError(f"table '{path}': a compressed tar cannot be read at any place: decompress it first")
    tree = FileTree([path], path.parent)
    number, lacking = 0, _columns(tree.members)
    for key, members in itertools.groupby(tree.members, lambda member: _divided(member.name)[0]):
        number += 1
        try:
            yield Row(number, {**lacking, **_sample(key, list(members), name or path.name)})
        except DamagedItem as error:
            yield Row(number, damage=str(error))
    for _, reason in tree.refused:
        number += 1
        yield Row(number, damage=reason)


def _divided(name: str) -> tuple[str, str]:
    """A path up to the first dot of the file's name, and what follows the dot."""
    folder, slash, file = name.rpartition("/")
    stem, _, ending = file.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()


def _columns(members: Sequence[Member]) -> dict[str, None]:
    """The columns of a tar: those of all names, and the fields of the first JSON object that can be read."""
    endings = [_divided(member.name)[1] for member in members]
    fields: dict[str, Any] = {}
    for member, ending in zip(members, endings, strict=True):
        if ending == "json" and not fields:
            with suppress(DamagedItem):
                fields = _fields(member)
    return dict.fromkeys([KEY, *fields, *(ending for ending in endings if ending != "json")])


def _sample(key: str, members: list[Member], tar: str) -> dict[str, Any]:
    """The cells of a sample. Raises DamagedItem where a text cannot be read or a file is there twice."""
    cells: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for member in members:
        column = _divided(member.name)[1]
        if column in cells or (column == "json" and fields):
            raise DamagedItem(f"'{member.name}' is there twice")
        if column == "json":
            fields = _fields(member)
        elif column in TEXTS:
            cells[column] = decode(_small(member))
        else:
            suffix = PurePosixPath(member.name).suffix.lower()
            cells[column] = Enclosed(f"{tar}/{member.name}", suffix, member.read)  # most columns nobody asks for
    return {KEY: key, **fields, **cells}


def _fields(member: Member) -> dict[str, Any]:
    try:
        found = parse_json(_small(member))
    except Untrusted as error:
        raise DamagedItem(f"'{member.name}' {error}") from error
    if not isinstance(found, dict):
        raise DamagedItem(f"'{member.name}' is not a JSON object")
    return found


def _small(member: Member) -> bytes:
    if member.size > _LARGEST_TEXT:
        raise DamagedItem(f"'{member.name}' has more than {_LARGEST_TEXT} bytes, which no text of a sample has")
    return member.read()

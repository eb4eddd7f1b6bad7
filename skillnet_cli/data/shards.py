"""The bytes of a shard: samples as runs of plain tar members, and two small tables beside the tar.

A sample is ``KEY.json`` (its id and every field that is not media) followed by ``KEY.FIELD.SUFFIX`` for each medium.
``X.index.npy`` has where each sample begins and where the last one ends (int64, items + 1), ``X.crc32.npy`` the
checksum of each sample's bytes (uint32, items), so that a sample is one read and an altered one is noticed.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BLOCK = 512
SHARD_SUFFIXES = (".tar", ".index.npy", ".crc32.npy")

_NAME = re.compile(r"[^./\\\0]+\Z")
_SUFFIX = re.compile(r"(\.[A-Za-z0-9]+)+\Z")


def shard_stem(split: str, number: int) -> str:
    """The name that a shard and its two tables share: ``train-000012``."""
    return f"{split}-{number:06d}"


def tables_of(shard: Path) -> tuple[Path, Path]:
    """The paths of a shard's offset index and of its checksums."""
    return shard.with_suffix(".index.npy"), shard.with_suffix(".crc32.npy")


def encode_sample(key: str, record: Mapping[str, Any], media: Mapping[str, tuple[bytes, str]]) -> bytes:
    """The tar members of one sample, one after another, each padded to whole blocks.

    Args:
        key: what the names of its members begin with.
        record: id and fields, as JSON can say them.
        media: field -> (bytes, suffix with its dot).
    """
    members = [(f"{key}.json", encode_record(record))]
    members += [(f"{key}.{field}{suffix}", content) for field, (content, suffix) in sorted(media.items())]
    return b"".join(_member(name, content) for name, content in members)


def encode_record(record: Mapping[str, Any]) -> bytes:
    """JSON in the one form that the same record always has. Raises ValueError for what JSON cannot say."""
    text = json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")


def decode_sample(region: bytes) -> dict[str, Any]:
    """The sample that :func:`encode_sample` made bytes of. Raises ValueError where they are not those of a sample."""
    sample: dict[str, Any] = {}
    start = 0
    while start < len(region):
        field, size = _header(region[start : start + BLOCK])
        content = region[start + BLOCK : start + BLOCK + size]
        if len(content) != size:
            raise ValueError("a member goes beyond the end of its sample")
        if field == "json":
            sample.update(json.loads(str(content, "utf-8")))
        else:
            sample[field] = content
        start += BLOCK + padded(size)
    return sample


def padded(size: int) -> int:
    """``size`` bytes rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def end_of_archive(size: int) -> bytes:
    """What closes a tar of ``size`` bytes: two empty blocks, then zeros up to a whole record, as tar writes it."""
    total = -(-(size + 2 * BLOCK) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
    return bytes(total - size)


def check_name(kind: str, name: str) -> None:
    """Raises ValueError where a split or field cannot be part of a member's name."""
    if not _NAME.match(name) or name == "json":
        raise ValueError(f"{kind} {name!r}: a name without dots and slashes, and not 'json', is needed")


def check_suffix(suffix: str) -> None:
    """Raises ValueError where ``suffix`` is not a file's, dot included."""
    if not _SUFFIX.match(suffix):
        raise ValueError(f"suffix {suffix!r}: a dot and letters or digits are needed, such as '.bin'")


def _member(name: str, content: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(padded(len(content)) - len(content))


def _header(block: bytes) -> tuple[str, int]:
    """The field and the size that a member's header states."""
    name = block[:100].rstrip(b"\0").decode("utf-8")
    _, _, rest = name.partition(".")
    if block[257:262] != b"ustar" or not rest:
        raise ValueError("a member's header is expected and not there")
    return rest.partition(".")[0], int(block[124:136].rstrip(b"\0 "), 8)

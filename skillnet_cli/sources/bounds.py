"""How much an archive or a compressed file may hold: bombs are refused before memory or disk space is spent on them."""

from __future__ import annotations

from skillnet_cli.api import UserError

MAX_MEMBERS = 20_000_000  # of an archive; the largest published ones have a few million
MAX_MEMBER_BYTES = 8 << 30
MAX_TOTAL_BYTES = 4 << 40
MAX_RATIO = 200
"""How many times its own size an archive may unpack to. Real ones seldom reach 20, zip bombs begin at 1,000."""
SMALL = 256 << 20
"""An archive that unpacks to no more than this many bytes is no bomb, however well it is compressed."""

MAX_CONTENT = 1 << 30
"""Bytes of a member that is read whole: a clip, a recording, an archive within an archive."""


def check_archive(label: str, packed: int, unpacked: int, members: int = 1, last: int = 0) -> None:
    """Raise UserError where an archive holds too much, as far as it is known.

    Args:
        label: what the message calls the archive.
        packed: its size in bytes.
        unpacked: the bytes of its members so far.
        members: how many they are.
        last: the bytes of the last one.
    """
    if members > MAX_MEMBERS:
        raise UserError(f"{label}: not read, because it holds more than {MAX_MEMBERS} files")
    if last > MAX_MEMBER_BYTES or unpacked > MAX_TOTAL_BYTES:
        raise UserError(f"{label}: not read, because it unpacks to {unpacked} bytes or more")
    if unpacked > max(SMALL, MAX_RATIO * packed):
        raise UserError(f"{label}: not read, because it unpacks to more than {MAX_RATIO} times its size")


def check_unpacked(packed: int, unpacked: int, ratio: int = MAX_RATIO, small: int = SMALL) -> None:
    """Raise EOFError where a compressed file of ``packed`` bytes has given too many.

    Args:
        packed: its size.
        unpacked: the bytes that have come of it.
        ratio: how many times its size is too much.
        small: bytes that never are.
    """
    if unpacked > max(small, ratio * packed):
        raise EOFError(f"it unpacks to more than {ratio} times its size")

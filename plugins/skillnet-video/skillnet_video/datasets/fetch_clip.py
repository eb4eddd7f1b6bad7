"""Fetches one video with yt-dlp, as ``python -m skillnet_video.datasets.fetch_clip``: a process that may be ended.

Nothing else bounds what yt-dlp and the ffmpeg that it starts do with a server that stalls, drips or never ends. The
order comes as JSON on standard input, see :class:`Order`, the outcome goes as JSON to standard output.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from skillnet_cli.sources.http import Unavailable, check_address, is_private, is_private_address
from skillnet_video.datasets.gate import gate

_REASONS = (
    (r"no space left|disk quota", "the disk is full"),
    (r"file too large", "it is too large"),
    (r"private network", "the address leads into a private network"),
    (r"not http or https|file://|unsupported url scheme", "the address is not http or https"),
    (r"private", "it is private"),
    (r"country|geo.?restrict|copyright|blocked", "it is blocked here"),
    (r"members|purchase|premium|paid", "it is for members only"),
    (r"sign in|log ?in|cookies|confirm your age|age.restricted|not a bot", "it wants a sign-in: --cookies"),
    (r"\b429\b|too many requests", "the server wants fewer requests"),
    (r"http error 5\d\d", "the server fails"),
    (r"removed|deleted|terminated|unavailable|not available|no longer|does ?n.t exist|\b404\b|\b410\b", "it is gone"),
    (r"\b403\b|forbidden", "the server refuses it"),
    (r"timed? ?out", "the server does not answer in time"),
    (r"unsupported url|no video formats|unable to extract|requested format", "there is no video at its address"),
    (r"refused|resolve|unreachable|reset|broken|closed|incomplete|\d+ bytes|empty", "the transfer breaks off"),
)
"""Patterns of error messages and their meaning, so that clips can be counted by reason; the first match counts."""
DISK_FULL = _REASONS[0][1]


@dataclass(frozen=True)
class Order:
    """What is to be fetched.

    Attributes:
        url: the video's address.
        options: yt-dlp's.
        seconds: beginning and end, to be cut out by ffmpeg on the way; None for the whole video.
        ffmpeg: the program; None where none may be used.
        private_hosts: hosts that may be asked although their addresses are those of a private network.
        most_bytes: of a file that is written.
    """

    url: str
    options: dict[str, Any]
    seconds: tuple[float, float] | None
    ffmpeg: str | None
    private_hosts: tuple[str, ...]
    most_bytes: int


class _Silent:
    """Drops yt-dlp's messages: those that matter are also raised as exceptions."""

    def debug(self, message: str) -> None: ...

    def info(self, message: str) -> None: ...

    def warning(self, message: str) -> None: ...

    def error(self, message: str) -> None: ...


def reason_of(error: BaseException) -> str:
    """Why yt-dlp could not fetch a video, in countable words; the exception within is more precise than its own."""
    within = (getattr(error, "exc_info", None) or (None, None))[1]
    said = f"{within or error} {getattr(within, 'cause', None) or ''}".lower()
    said = re.sub(r"\bhttps?:\S*", "", said)  # the words and numbers of an address mean nothing
    return next((reason for words, reason in _REASONS if re.search(words, said)), "it cannot be fetched")


def fetch(order: Order) -> str:
    """Fetch a video into the folder that the options name. Returns why it could not be, or nothing; raises whatever."""
    from yt_dlp import YoutubeDL
    from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor
    from yt_dlp.utils import DownloadError, download_range_func

    class Checked(YoutubeDL):
        """Hands to no downloader, ffmpeg among them, an address that may not be asked."""

        def dl(self, name: str, info: dict[str, Any], *more: Any, **named: Any) -> Any:
            for each in (info, *(info.get("requested_formats") or ())):
                if each.get("url"):
                    _check(each["url"], order.private_hosts)
            return super().dl(name, info, *more, **named)

    _bound_files(order.most_bytes)
    proxies = getproxies()
    _guard_addresses(order.private_hosts, proxies)
    options = {**order.options, "logger": _Silent()}
    if order.seconds:
        options |= {"download_ranges": download_range_func(None, [order.seconds]), "force_keyframes_at_cuts": True}
    if order.ffmpeg:  # as yt-dlp's own command does: its test whether there is an ffmpeg knows no other way
        FFmpegPostProcessor._ffmpeg_location.set(order.ffmpeg)
    try:
        _check(order.url, order.private_hosts)
        with Checked(options) as downloader, gate(partial(_check, private_hosts=order.private_hosts), proxies) as way:
            _ = downloader.proxies  # yt-dlp keeps to those of the user; ffmpeg finds its own in the environment
            os.environ["http_proxy"] = way
            os.environ.pop("no_proxy", None)
            downloader.download([order.url])
    except DownloadError as error:
        return "ffmpeg exited" if order.seconds and "ffmpeg exited" in str(error) else reason_of(error)
    except Unavailable as error:
        return str(error)
    return ""


def _check(url: str, private_hosts: tuple[str, ...]) -> None:
    """Raises Unavailable where an address may not be asked."""
    host = check_address(url)
    try:
        socket.getaddrinfo(host, None)
    except _Private as error:
        raise Unavailable(str(error)) from error
    except OSError:  # a name that only a proxy finds, unless its ending says whose it is
        if host not in private_hosts and is_private(host):
            raise Unavailable(str(_Private())) from None


class _Private(OSError):
    """An address that may not be asked."""

    def __str__(self) -> str:
        return "the address leads into a private network"


def _guard_addresses(private_hosts: tuple[str, ...], proxies: Mapping[str, str]) -> None:
    """From now on this process finds no private address, whatever leads to it, but for the user's own proxies."""
    found = socket.getaddrinfo
    doors = set()
    for kind in ("http", "https", "all"):
        with suppress(ValueError):
            proxy = urlsplit(proxies.get(kind, ""))
            doors.add((proxy.hostname, proxy.port))

    def public(host: Any, port: Any = None, *more: Any, **named: Any) -> Any:
        places = found(host, port, *more, **named)
        mine = str(host) in private_hosts or (host, port) in doors
        if not mine and any(is_private_address(str(place[4][0])) for place in places):
            raise _Private
        return places

    socket.getaddrinfo = public


def _bound_files(most_bytes: int) -> None:
    """Let neither this process nor the programs that it starts write a longer file."""
    with suppress(ImportError, ValueError, OSError):  # there is no such thing on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))


def main() -> None:
    """Read an order, and write ``{"reason": …}``."""
    order = json.load(sys.stdin)
    answer, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    try:
        reason = fetch(Order(**{**order, "private_hosts": tuple(order["private_hosts"])}))
    except Exception as error:  # extractors raise whatever a page makes them raise
        traceback.print_exc()
        reason = reason_of(error)
    answer.write(json.dumps({"reason": reason}))


if __name__ == "__main__":
    main()

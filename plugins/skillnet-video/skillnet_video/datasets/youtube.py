"""Fetches ten seconds of a video by its id: cut out by ffmpeg on the way, or fetched whole and cut here."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.prepare.preparer import Preparation
from skillnet_cli.sources.http import Unavailable
from skillnet_video.datasets.options import TEMPLATE
from skillnet_video.recoding import Recoding

TIMEOUT = 30
INSTALL = "pip install 'skillnet-video[download]'"

_REASONS = (
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
    (r"refused|resolve|unreachable|reset|broken|closed|incomplete|\d+ bytes", "the transfer breaks off"),
)
"""Patterns of error messages and their meaning, so that clips can be counted by reason; the first match counts."""


@dataclass(frozen=True)
class Youtube:
    """Fetches clips with yt-dlp.

    Attributes:
        recoding: what is kept of a clip.
        folder: for temporary files.
        template: of addresses, with ``{id}``.
        ffmpeg: the program that cuts while it fetches; None to fetch whole videos and cut them here.
        cookies: a file of cookies, in Netscape's format.
        rate: KiB per second; None for no limit.
        retries: further tries after temporary failures.
    """

    recoding: Recoding
    folder: Path
    template: str = TEMPLATE
    ffmpeg: str | None = None
    cookies: Path | None = None
    rate: int | None = None
    retries: int = 3

    def clip(self, id: str, start: float, end: float) -> tuple[bytes, str]:
        """The seconds from ``start`` to ``end`` of a video, as :meth:`Recoding.clip` makes them.

        Args:
            id: the video's.
            start: in seconds.
            end: in seconds.

        Raises:
            Unavailable: it cannot be fetched: removed, private, blocked, …
            DamagedItem: what came cannot be decoded, or ends before ``start``.
        """
        if self.ffmpeg:
            try:
                return self._cut_on_the_way(id, start, end)
            except (_NotCut, DamagedItem):
                pass  # the server does not allow reading from the middle
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            return self.recoding.clip(self._fetched(id, Path(folder), {}), start)

    def _cut_on_the_way(self, id: str, start: float, end: float) -> tuple[bytes, str]:
        from yt_dlp.utils import download_range_func

        cutting = {"download_ranges": download_range_func(None, [(start, end)]), "force_keyframes_at_cuts": True}
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            return self.recoding.clip(self._fetched(id, Path(folder), cutting))

    def _fetched(self, id: str, folder: Path, more: dict[str, Any]) -> Path:
        from yt_dlp import YoutubeDL
        from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor
        from yt_dlp.utils import DownloadError

        if self.ffmpeg:  # as yt-dlp's own command does: its test whether there is an ffmpeg knows no other way
            FFmpegPostProcessor._ffmpeg_location.set(self.ffmpeg)
        try:
            with YoutubeDL({**self._options(folder), **more}) as downloader:
                downloader.download([self.template.format(id=id)])
        except DownloadError as error:
            if more and "ffmpeg exited" in str(error):
                raise _NotCut from error
            raise Unavailable(reason_of(error)) from error
        found = sorted(path for path in folder.iterdir() if path.is_file())
        if not found:
            raise Unavailable("there is no video at its address")
        return found[0]

    def _options(self, folder: Path) -> dict[str, Any]:
        return {
            "outtmpl": {"default": str(folder / "clip.%(ext)s")},
            "format": "bv*/b",
            "format_sort": ["res:360", "ext:mp4"],
            "quiet": True,
            "noprogress": True,
            "logger": _Silent(),
            "noplaylist": True,
            "cachedir": False,
            "socket_timeout": TIMEOUT,
            "retries": self.retries,
            "extractor_retries": self.retries,
            "fragment_retries": self.retries,
            "ratelimit": self.rate * 1024 if self.rate else None,
            "cookiefile": str(self.cookies) if self.cookies else None,
            "ffmpeg_location": self.ffmpeg,
            "external_downloader_args": {"ffmpeg_i": ["-rw_timeout", str(TIMEOUT * 1_000_000)]},
        }


class _NotCut(Exception):
    """ffmpeg could not read the middle of a file."""


class _Silent:
    """Drops yt-dlp's messages: those that matter are also raised as exceptions."""

    def debug(self, message: str) -> None: ...

    def info(self, message: str) -> None: ...

    def warning(self, message: str) -> None: ...

    def error(self, message: str) -> None: ...


def reason_of(error: Exception) -> str:
    """Why yt-dlp could not fetch a video, in countable words; the exception within is more precise than its own."""
    within = (getattr(error, "exc_info", None) or (None, None))[1]
    said = f"{within or error} {getattr(within, 'cause', None) or ''}".lower()
    said = re.sub(r"\bhttps?:\S*", "", said)  # the words and numbers of an address mean nothing
    return next((reason for words, reason in _REASONS if re.search(words, said)), "it cannot be fetched")


def youtube_of(job: Preparation, recoding: Recoding) -> Youtube | None:
    """What fetches a job's clips, None without ``--download``.

    Raises:
        UserError: yt-dlp or ffmpeg is missing, or an option makes no sense.
    """
    options = job.options
    if not options.get("download"):
        return None
    try:
        import yt_dlp  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"--download needs yt-dlp: {INSTALL}") from error
    template = options.get("url-template") or TEMPLATE
    if "{id}" not in template or not template.startswith(("http://", "https://")):
        raise UserError(f"--url-template: '{template}' is not an http(s) address with {{id}} in it")
    cookies = options.get("cookies")
    if cookies and not cookies.is_file():
        raise UserError(f"--cookies: '{cookies}': no such file")
    ffmpeg = None if options.get("whole-videos") else find_ffmpeg(options.get("ffmpeg"))
    retries = options.get("retries")
    return Youtube(
        recoding, job.folder, template, ffmpeg, cookies, options.get("rate-limit"), 3 if retries is None else retries
    )


def find_ffmpeg(named: Path | None) -> str:
    """The program: the one that is named, the machine's, or the one of imageio-ffmpeg. Raises UserError without one."""
    if named:
        if not (found := shutil.which(str(named))):
            raise UserError(f"--ffmpeg: '{named}' is not a program that can be run")
        return found
    if found := shutil.which("ffmpeg"):
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except (ModuleNotFoundError, RuntimeError):
        advice = f"install it, run {INSTALL} (which includes one), or fetch whole videos with --whole-videos"
        raise UserError(f"--download needs ffmpeg to cut out clips, and it is not installed: {advice}") from None

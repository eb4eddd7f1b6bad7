"""Fetches ten seconds of a video by its id: cut out by ffmpeg on the way, or fetched whole and cut here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skillnet_cli.api import DamagedItem, FailedJob, UserError
from skillnet_cli.prepare.preparer import Preparation
from skillnet_cli.sources.http import Unavailable, check_address
from skillnet_video.datasets.fetch_clip import DISK_FULL, reason_of
from skillnet_video.datasets.options import TEMPLATE
from skillnet_video.recoding import Recoding

TIMEOUT = 30
COOKIES = "cookies.txt"
_PROTOCOLS = "http,https,tcp,tls,crypto,httpproxy"
"""What ffmpeg may open: no files, which a playlist could name. Which addresses it may, ``gate.py`` sees to."""
INSTALL = "pip install 'skillnet-video[download]'"

MOST_BYTES = 2 << 30
"""Of a video, or of a clip that is cut out of one."""
SECONDS = 600.0
"""For a clip, all tries together, unless an option says otherwise."""


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
        seconds: for a clip, all tries together.
        private_hosts: hosts that may be asked although their addresses are those of a private network.
    """

    recoding: Recoding
    folder: Path
    template: str = TEMPLATE
    ffmpeg: str | None = None
    cookies: Path | None = None
    rate: int | None = None
    retries: int = 3
    seconds: float = SECONDS
    private_hosts: frozenset[str] = frozenset()

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
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            return self.recoding.clip(self._fetched(id, Path(folder), {"seconds": [start, end]}))

    def _fetched(self, id: str, folder: Path, more: dict[str, Any]) -> Path:
        """The file of a video, fetched in a process that is ended with all that it started when its time is up."""
        order = {
            "url": self.template.format(id=id),
            "options": self._options(folder),
            "seconds": None,
            "ffmpeg": self.ffmpeg,
            "private_hosts": sorted({*self.private_hosts, check_address(self.template.format(id="0"))}),
            "most_bytes": MOST_BYTES,
            **more,
        }
        reason = _outcome(json.dumps(order), self.seconds)
        if reason == DISK_FULL:
            raise FailedJob(f"{self.folder}: no space left on the disk")
        if reason == "ffmpeg exited":
            raise _NotCut
        if reason:
            raise Unavailable(reason)
        found = sorted(path for path in folder.iterdir() if path.is_file() and path.name != COOKIES)
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
            "noplaylist": True,
            "cachedir": False,
            "fixup": "never",  # by ffmpeg, which would open what a fetched file names
            "socket_timeout": TIMEOUT,
            "retries": self.retries,
            "extractor_retries": self.retries,
            "fragment_retries": self.retries,
            "ratelimit": self.rate * 1024 if self.rate else None,
            "cookiefile": self._copied_cookies(folder),
            "ffmpeg_location": self.ffmpeg,
            "external_downloader_args": {
                "ffmpeg_i": ["-rw_timeout", str(TIMEOUT * 1_000_000), "-protocol_whitelist", _PROTOCOLS]
            },
        }

    def _copied_cookies(self, folder: Path) -> str | None:
        """A copy of the user's cookies, since yt-dlp writes the file anew."""
        return str(shutil.copyfile(self.cookies, folder / COOKIES)) if self.cookies else None


__all__ = ["Youtube", "find_ffmpeg", "reason_of", "youtube_of"]


class _NotCut(Exception):
    """ffmpeg could not read the middle of a file."""


def _outcome(order: str, seconds: float) -> str:
    """Why a video could not be fetched, nothing where it was."""
    command = [sys.executable, "-m", "skillnet_video.datasets.fetch_clip"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **pipes, text=True, start_new_session=True) as process:
        try:
            answer, _ = process.communicate(order, seconds)
            return str(json.loads(answer)["reason"])
        except subprocess.TimeoutExpired:
            return "the server does not answer in time"
        except (ValueError, KeyError):
            return "it cannot be fetched"
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and those that it started, an ffmpeg that still waits for its server among them."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()


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
    seconds = options.get("timeout") or SECONDS
    if seconds < 1:
        raise UserError(f"--timeout: {seconds} is less than 1")
    return Youtube(
        recoding,
        job.folder,
        template,
        ffmpeg,
        cookies,
        options.get("rate-limit"),
        3 if retries is None else retries,
        seconds,
        frozenset(options.get("private-host") or ()),
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

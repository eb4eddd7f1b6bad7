"""Downloads over HTTP: resumed where they broke off, retried within bounds, and checked before they count.

The only module that needs httpx2, so whoever may not need it imports it late.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import httpx2

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.data.progress import Progress, Silent
from skillnet_cli.files import PARTIAL, digest_of, disk_errors, file_lock, replace_path
from skillnet_cli.sources.http import (
    FIRST_WAIT,
    HEADERS,
    MAX_REDIRECTS,
    REDIRECTS,
    TryAgain,
    Unavailable,
    check_address,
    check_status,
    is_private,
    redirected,
)

TRIES = 5
TIMEOUT = 30.0
"""Seconds without a byte after which a try has failed."""
MOST_TRIES = 100
"""Tries of a file, all together: each may bring a little, and the file still have no end."""
SLOWEST, WINDOW = 1024, 60.0
"""Bytes a second that must arrive, on average of so many seconds."""
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')
_DATE = re.compile(r"\w{3}, \d{2} \w{3} \d{4} \d{2}:\d{2}:\d{2} GMT")
_LOCKS = ".locks"
_MEBIBYTE = 1 << 20


def download(
    url: str, cache: Path, sha256: str | None = None, progress: Progress | None = None, md5: str | None = None
) -> Path:
    """Return the file at an address, from the cache if it lies there whole.

    A download that breaks off is resumed by a range request, now or in the next call; a server that has changed the
    file or knows no ranges starts over. Five tries in a row that bring nothing are the end.

    Args:
        url: an http(s) address.
        cache: the folder where it is kept, under a name of its own.
        sha256: the checksum that it must have.
        progress: is shown the mebibytes that arrive.
        md5: the same as ``sha256`` for publishers that state no other checksum.

    Raises:
        UserError: the address is not valid, or the server has no such file.
        FailedJob: the network failed for good, the checksum is another, or the disk does not take the file.
    """
    try:
        check_address(url)
        httpx2.URL(url)
    except (Unavailable, httpx2.InvalidURL) as error:
        raise UserError(f"'{url}' cannot be fetched: {_printable(error)}") from error
    kind, checksum = ("md5", md5) if sha256 is None else ("sha256", sha256)

    def is_wanted(file: Path) -> bool:
        return file.is_file() and (checksum is None or digest_of(file, kind) == checksum)

    path = cache / _cached_name(url)
    if is_wanted(path):
        return path
    locks = cache / _LOCKS
    locks.mkdir(parents=True, exist_ok=True)
    with file_lock(locks / path.name):
        if is_wanted(path):
            return path  # another process has fetched it meanwhile
        transfer = _Transfer(url, path)
        for _ in (progress or Silent()).track(transfer.mebibytes(), None, f"fetching {url} (MiB)"):
            pass
        if not is_wanted(transfer.partial):
            found = digest_of(transfer.partial, kind)
            transfer.discard()
            reason = f"{kind} mismatch: expected {checksum}, got {found}"
            raise FailedJob(f"{url}: {reason}: the file was altered or replaced")
        replace_path(path, transfer.partial)
        transfer.discard()
        return path


def _cached_name(url: str) -> str:
    """A file's name in the cache: two addresses never share one, and the suffix stays."""
    base = re.sub(r"[^\w.-]", "_", unquote(PurePosixPath(urlsplit(url).path).name))[-80:]
    return f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{base or 'file'}"


def _printable(error: Exception) -> str:
    """What went wrong, in a line that a terminal can show whatever the server sent."""
    text = str(error).strip() or type(error).__name__
    return "".join(each if each.isprintable() else "?" for each in text)[:200]


class _Transfer:
    """A file on its way: what has come of it lies in ``partial``, and beside it which version of the file that is."""

    def __init__(self, url: str, path: Path) -> None:
        self._url = url
        self.partial = path.with_name(path.name + PARTIAL)
        self._validator = self.partial.with_name(self.partial.name + ".version")

    def discard(self) -> None:
        """Forget what has come."""
        self.partial.unlink(missing_ok=True)
        self._validator.unlink(missing_ok=True)

    def mebibytes(self) -> Iterator[None]:
        """Fetch until the file is whole; yields once for every mebibyte."""
        failures, reached, tries = 0, self._size(), 0
        with _client() as client:
            while True:
                wait = 0.0
                try:
                    yield from self._receive(client)
                    return
                except TryAgain as error:
                    reason, wait = str(error), error.wait
                except httpx2.HTTPError as error:
                    reason = _printable(error)
                except Unavailable as error:
                    raise UserError(f"{self._url}: {error}: check the address, or fetch the file yourself") from error
                # What was there before and is sent again is no progress: a file that never gets whole must end.
                failures = 0 if self._size() > reached else failures + 1
                reached = max(reached, self._size())
                tries += 1
                if failures >= TRIES or tries >= MOST_TRIES:
                    advice = "run the command again to resume the download"
                    raise FailedJob(f"{self._url}: given up after {max(failures, tries)} tries ({reason}): {advice}")
                time.sleep(max(wait, FIRST_WAIT * 2**failures))

    def _receive(self, client: httpx2.Client) -> Iterator[None]:
        """Ask for what is missing, provided that the server's file is still the one that was begun."""
        have = self._size()
        headers: dict[str, str] = {}
        if have and self._validator.is_file():
            headers = {"Range": f"bytes={have}-", "If-Range": self._validator.read_text(encoding="latin-1")}
        with self._answer(client, headers) as answer:
            if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self.discard()  # more is there than the file has
                raise TryAgain("the server answers 416")
            if answer.status_code == HTTPStatus.PARTIAL_CONTENT:
                part = re.match(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
                if not part or not headers or int(part[1]) > have:
                    raise TryAgain("the server sends another part of the file than it was asked for")
                start, total = int(part[1]), part[2]
            else:
                check_status(answer.status_code, answer.headers.get("Retry-After", ""))
                start, total = 0, "*"  # httpx itself checks the length that a server states
                self._begin(answer)
            yield from self._write(answer, start)
        if total not in ("*", str(self._size())):
            raise TryAgain(f"{self._size()} of {total} bytes arrived")

    @contextmanager
    def _answer(self, client: httpx2.Client, headers: Mapping[str, str]) -> Iterator[httpx2.Response]:
        """The answer to a request, from where redirects lead.

        A redirect is followed neither from https to http nor into a private network, unless the host that was asked is
        in one itself: a public server must not reach what only this machine can.
        """
        url = self._url
        for _ in range(MAX_REDIRECTS + 1):
            with client.stream("GET", url, headers=headers) as answer:
                location = answer.headers.get("Location")
                if answer.status_code not in REDIRECTS or location is None:
                    yield answer
                    return
            try:
                target = redirected(url, location)
                if url.startswith("https:") and not target.startswith("https:"):
                    raise Unavailable("the address is not https")
                if is_private(check_address(target)) and not is_private(check_address(url)):
                    raise Unavailable("the address belongs to a private network")
                httpx2.URL(target)
            except (Unavailable, httpx2.InvalidURL) as error:
                reason = f"it redirects to {_printable(ValueError(location))}, which is not followed ({error})"
                raise Unavailable(reason) from error
            url = target
        raise Unavailable(f"it redirects more than {MAX_REDIRECTS} times")

    def _begin(self, answer: httpx2.Response) -> None:
        """Start over, and remember which version of the file this is."""
        with disk_errors(self.partial):
            self.partial.write_bytes(b"")
            etag, modified = answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", "")
            # A weak ETag, or what is none at all, names files that may differ in bytes: it cannot continue one.
            strong = (
                etag if _STRONG_ETAG.fullmatch(etag) else modified if _DATE.fullmatch(modified) and not etag else ""
            )
            if strong:
                self._validator.write_text(strong, encoding="latin-1")
            else:
                self._validator.unlink(missing_ok=True)

    def _write(self, answer: httpx2.Response, start: int) -> Iterator[None]:
        counted, window, began = 0, 0, time.monotonic()
        with disk_errors(self.partial), self.partial.open("r+b") as file:
            file.seek(start)
            # Without a chunk size: httpx would gather chunks, and lose what it has of one when the connection breaks.
            for piece in answer.iter_raw():
                file.write(piece)
                counted += len(piece)
                window += len(piece)
                if (seconds := time.monotonic() - began) >= WINDOW:
                    if window < SLOWEST * seconds:
                        raise TryAgain(f"fewer than {SLOWEST} bytes a second arrive")
                    window, began = 0, time.monotonic()
                for _ in range(counted // _MEBIBYTE):
                    yield
                counted %= _MEBIBYTE
            file.truncate()

    def _size(self) -> int:
        return self.partial.stat().st_size if self.partial.is_file() else 0


def _client() -> httpx2.Client:
    try:
        return httpx2.Client(headers=HEADERS, timeout=TIMEOUT)
    except (ImportError, ValueError) as error:  # a SOCKS proxy without its package, or an address that is not valid
        raise UserError(f"the proxy that the environment names cannot be used: {error}") from error

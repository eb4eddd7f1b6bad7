"""Downloads over HTTP: resumed where they broke off, retried within bounds, and checked before they count.

The only module that needs httpx2, so whoever may not need it imports it late.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any
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
from skillnet_cli.sources.kinds import HEAD, not_as_named

TRIES = 5
TIMEOUT = 30.0
"""Seconds without a byte after which a try has failed."""
SETBACKS = 3
"""Tries, all together, over which hardly anything came or the file had changed: a server could go on so for ever."""
MOST_TRIES = 100
"""Tries of a file, all together: each may bring a little, and the file still have no end."""
SLOWEST, WINDOW = 1024, 30.0
"""Bytes a second that must arrive, on average of so many seconds."""
DEADLINE = 24 * 3600.0
"""Seconds for one call, all tries together; the next call resumes."""
LARGEST_UNSTATED = 16 << 30
"""Bytes of a file whose length the server does not state: it may have no end."""
SHARE_OF_DISK = 0.9
"""Of the space that is free, a download may take so much."""
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')
_DATE = re.compile(r"\w{3}, \d{2} \w{3} \d{4} \d{2}:\d{2}:\d{2} GMT")
_LOCKS = ".locks"
_MEBIBYTE = 1 << 20


def download(
    url: str,
    cache: Path,
    sha256: str | None = None,
    progress: Progress | None = None,
    md5: str | None = None,
    *,
    may_be_private: bool = True,
) -> Path:
    """Return the file at an address, from the cache if it lies there whole.

    A download that breaks off is resumed by a range request, now or in the next call; a server that has changed the
    file or knows no ranges starts over. Five tries in a row that bring nothing are the end, and so are three in all
    over which hardly anything came or the file had changed.

    Args:
        url: an http(s) address.
        cache: the folder where it is kept, under a name of its own.
        sha256: the checksum that it must have.
        progress: is shown the mebibytes that arrive.
        md5: the same as ``sha256`` for publishers that state no other checksum.
        may_be_private: whether the address may be of a private network: only if the user has named it.

    Raises:
        UserError: the address is not valid, or the server has no such file, or something that is not what it is called.
        FailedJob: the network failed for good, the checksum is another, or the disk does not take the file.
    """
    try:
        host = check_address(url)
        httpx2.URL(url)
        if not may_be_private and is_private(host):
            raise Unavailable("the address belongs to a private network")
    except (Unavailable, httpx2.InvalidURL) as error:
        raise UserError(f"'{url}' cannot be fetched: {_printable(error)}") from error
    kind, checksum = ("md5", md5) if sha256 is None else ("sha256", sha256)

    def is_wanted(file: Path) -> bool:
        return file.is_file() and (checksum is None or digest_of(file, kind) == checksum)

    path = cache / _cached_name(url)
    if is_wanted(path):
        return path
    locks = cache / _LOCKS
    with disk_errors(locks):
        locks.mkdir(parents=True, exist_ok=True)
    with disk_errors(path), file_lock(locks / path.name):
        if is_wanted(path):
            return path  # another process has fetched it meanwhile
        transfer = _Transfer(url, path)
        for _ in (progress or Silent()).track(transfer.mebibytes(), None, f"fetching {url} (MiB)"):
            pass
        if not is_wanted(transfer.partial):
            found, instead = digest_of(transfer.partial, kind), transfer.instead()
            transfer.discard()
            reason = f"{kind} mismatch: expected {checksum}, got {found}"
            came = f" (it is {instead})" if instead else ""
            raise FailedJob(f"{url}: {reason}: the file was altered or replaced{came}")
        if checksum is None and (instead := transfer.instead()):
            transfer.discard()
            raise UserError(f"{url}: what the server sends is {instead}: check the address, or fetch the file yourself")
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


class _Setback(TryAgain):
    """A failure that counts for good, even if some bytes came."""


class _Changed(_Setback):
    """The server's file is no longer the one that was begun."""


class _TooLarge(Exception):
    """A file that is more than the disk may take. The message is the reason."""


class _Watch:
    """Ends a connection over which too little comes, whatever the client waits for: headers, a chunk, a body.

    The client's own timeout is one of silence, which a byte now and then or an interim answer (100) begins anew.
    """

    def __init__(self, until: float) -> None:
        self.received = 0
        self.ended = ""
        self._until = until
        self._stream: Any = None
        self._left = threading.Event()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Called by the client; takes note of the connection."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._stream = info["return_value"]

    def check(self) -> None:
        """Raise the reason why the connection was ended, if it was."""
        if self.ended:
            raise _Setback(self.ended)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch meanwhile."""
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._left.set()
            thread.join()

    def _watch(self) -> None:
        seen = 0
        while not self._left.wait(max(0.0, min(WINDOW, self._until - time.monotonic()))):
            received = self.received
            late = time.monotonic() >= self._until
            if late or received - seen < SLOWEST * WINDOW:
                if self._stream is not None:  # else it is still connecting, which has a limit of its own
                    self.ended = "time is up" if late else f"fewer than {SLOWEST} bytes a second arrive"
                    with suppress(OSError):  # not that of an SSLSocket, which is not made for two threads
                        socket.socket.shutdown(self._stream.get_extra_info("socket"), socket.SHUT_RDWR)
                    return
                if late:
                    return
            seen = received


class _Transfer:
    """A file on its way: what has come of it lies in ``partial``, and beside it which version of the file that is.

    The version is what the server calls it (an ETag or a date), and in a second line its length where that is known.
    """

    def __init__(self, url: str, path: Path) -> None:
        self._url = url
        self.partial = path.with_name(path.name + PARTIAL)
        self._version = self.partial.with_name(self.partial.name + ".version")

    def discard(self) -> None:
        """Forget what has come."""
        self.partial.unlink(missing_ok=True)
        self._version.unlink(missing_ok=True)

    def instead(self) -> str | None:
        """What has come, where it cannot be what the address calls it."""
        with self.partial.open("rb") as file:
            return not_as_named(urlsplit(self._url).path, file.read(HEAD))

    def mebibytes(self) -> Iterator[None]:
        """Fetch until the file is whole; yields once for every mebibyte."""
        failures, setbacks, reached, tries = 0, 0, self._size(), 0
        until = time.monotonic() + DEADLINE
        with _client() as client:
            while True:
                wait, watch, setback = 0.0, _Watch(until), False
                try:
                    with watch.watching():
                        yield from self._receive(client, watch)
                    return
                except TryAgain as error:
                    reason, wait, setback = str(error), error.wait, isinstance(error, _Setback)
                    if isinstance(error, _Changed):
                        self.discard()
                except httpx2.HTTPError as error:
                    reason, setback = watch.ended or _printable(error), bool(watch.ended)
                except _TooLarge as error:
                    self.discard()
                    raise FailedJob(f"{self._url}: {error}") from error
                except Unavailable as error:
                    raise UserError(f"{self._url}: {error}: check the address, or fetch the file yourself") from error
                # What was there before and is sent again is no progress: a file that never gets whole must end.
                failures = 0 if self._size() > reached and not setback else failures + 1
                setbacks += setback
                reached = max(reached, self._size())
                tries += 1
                late = time.monotonic() >= until
                if late or failures >= TRIES or setbacks >= SETBACKS or tries >= MOST_TRIES:
                    advice = "run the command again to resume the download"
                    spent = f"{DEADLINE / 3600:g} hours" if late else f"{tries} tries"
                    raise FailedJob(f"{self._url}: given up after {spent} ({reason}): {advice}")
                time.sleep(max(wait, FIRST_WAIT * 2**failures))

    def _receive(self, client: httpx2.Client, watch: _Watch) -> Iterator[None]:
        """Ask for what is missing, provided that the server's file is still the one that was begun."""
        have = self._size()
        name, length = self._begun() if have else ("", None)
        if name and have == length:
            return  # it had come whole when the call before ended
        headers = {"Range": f"bytes={have}-", "If-Range": name} if name else {}
        with self._answer(client, headers, watch) as answer:
            watch.received += int(SLOWEST * WINDOW)  # a server that thought long is given a window for the body
            # Without a chunk size: httpx would gather chunks, and lose what it has of one when the connection breaks.
            pieces = answer.iter_raw()
            if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                whole = answer.headers.get("Content-Range") == f"bytes */{have}" and _is_named(answer, name)
                if name and length is None and whole:
                    return  # likewise, and nobody had said how long it is
                self.discard()  # more is there than the file has, or the server has stated another length before
                raise TryAgain("the server answers 416")
            if answer.status_code == HTTPStatus.PARTIAL_CONTENT:
                part = re.match(r"bytes (\d+)-\d+/(\d{1,18}|\*)", answer.headers.get("Content-Range", ""), re.ASCII)
                if not part or not headers or int(part[1]) > have:
                    raise TryAgain("the server sends another part of the file than it was asked for")
                start, total = int(part[1]), None if part[2] == "*" else int(part[2])
                # A server that takes no notice of If-Range would have two versions joined.
                if not _is_named(answer, name) or (total is not None and length not in (None, total)):
                    raise _Changed("the file changes while it is fetched")
                if total is not None and length is None:
                    self._note(name, total)
                total = length if total is None else total
                self._check_room(total, have)
            else:
                check_status(answer.status_code, answer.headers.get("Retry-After", ""))
                stated = answer.headers.get("Content-Length", "")
                start, total = 0, int(stated) if re.fullmatch(r"\d{1,18}", stated, re.ASCII) else None
                self._check_room(total, have)
                # A server that knows no ranges sends the same version from its beginning: what came stays meanwhile.
                if not name or name != _name_of(answer) or total is None or length != total:
                    pieces = self._unlike_what_came(pieces)
                    self._begin(answer, total)
            yield from self._write(pieces, start, total, watch)
        watch.check()  # where no length is stated, the end of the connection is that of the file
        if total not in (None, self._size()):
            raise TryAgain(f"{self._size()} of {total} bytes arrived")

    @contextmanager
    def _answer(self, client: httpx2.Client, headers: dict[str, str], watch: _Watch) -> Iterator[httpx2.Response]:
        """The answer to a request, from where redirects lead.

        A redirect is followed neither from https to http nor into a private network, unless the host that was asked is
        in one itself: a public server must not reach what only this machine can.
        """
        url = self._url
        for _ in range(MAX_REDIRECTS + 1):
            with client.stream("GET", url, headers=headers, extensions={"trace": watch.trace}) as answer:
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

    def _check_room(self, length: int | None, have: int) -> None:
        """Raise _TooLarge where the file is longer than the disk may take."""
        free = shutil.disk_usage(self.partial.parent).free + have
        if length is not None and length > have + SHARE_OF_DISK * (free - have):
            sizes = f"it has {length >> 20:,} MiB, and {free >> 20:,} MiB are free"
            raise _TooLarge(f"{sizes} in {self.partial.parent}: make room, or name another folder with SKILLNET_CACHE")

    def _unlike_what_came(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces of a whole file that shall take the place of a part. Raises TryAgain where it cannot be that file.

        A server that is busy, or a network that wants a sign-in, may send a page of its own instead.
        """
        if not self._size() or self.instead():
            return pieces
        head = b""
        for piece in pieces:
            head += piece
            if len(head) >= HEAD:
                break
        if instead := not_as_named(urlsplit(self._url).path, head[:HEAD]):
            raise TryAgain(f"instead of the rest the server sends {instead}")
        return itertools.chain([head], pieces)

    def _begun(self) -> tuple[str, int | None]:
        """What the server called the version that was begun, '' where it cannot be continued, and its length."""
        if not self._version.is_file():
            return "", None
        name, _, length = self._version.read_text(encoding="latin-1").partition("\n")
        known = bool(_STRONG_ETAG.fullmatch(name) or _DATE.fullmatch(name))
        return (name if known else ""), int(length) if re.fullmatch(r"\d{1,18}", length, re.ASCII) else None

    def _begin(self, answer: httpx2.Response, length: int | None) -> None:
        """Start over, and remember which version of the file this is."""
        with disk_errors(self.partial):
            self.partial.write_bytes(b"")
            self._note(_name_of(answer), length)

    def _note(self, name: str, length: int | None) -> None:
        if name:
            with disk_errors(self._version):
                self._version.write_text(f"{name}\n{'' if length is None else length}", encoding="latin-1")
        else:
            self._version.unlink(missing_ok=True)

    def _write(self, pieces: Iterator[bytes], start: int, length: int | None, watch: _Watch) -> Iterator[None]:
        counted, place = 0, start
        room = start + int(SHARE_OF_DISK * shutil.disk_usage(self.partial.parent).free)
        with disk_errors(self.partial), self.partial.open("r+b") as file:
            file.seek(start)
            for piece in pieces:
                place += len(piece)
                if length is not None and place > length:
                    raise _Changed("more arrives than the server has stated")
                if length is None and place > min(LARGEST_UNSTATED, room):
                    most = min(LARGEST_UNSTATED, room)
                    raise _TooLarge(f"the server states no length, and it is more than {most >> 20:,} MiB: given up")
                file.write(piece)
                counted += len(piece)
                watch.received += len(piece)
                for _ in range(counted // _MEBIBYTE):
                    yield
                counted %= _MEBIBYTE
            file.truncate()

    def _size(self) -> int:
        return self.partial.stat().st_size if self.partial.is_file() else 0


def _name_of(answer: httpx2.Response) -> str:
    """What a server calls the version of a file by which it can be continued, '' where there is none.

    A weak ETag, or what is none at all, names files that may differ in bytes.
    """
    etag, modified = answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", "")
    return etag if _STRONG_ETAG.fullmatch(etag) else modified if _DATE.fullmatch(modified) and not etag else ""


def _is_named(answer: httpx2.Response, name: str) -> bool:
    """Whether a part may be of the version of that name, as far as the server says."""
    is_etag = name.startswith('"')
    said: str = answer.headers.get("ETag" if is_etag else "Last-Modified", "")
    return not said or said.removeprefix("W/" if is_etag else "") == name


def _client() -> httpx2.Client:
    # Each request has a connection of its own, so that the one that is watched is the one that is used.
    limits = httpx2.Limits(max_keepalive_connections=0)
    try:
        return httpx2.Client(headers=HEADERS, timeout=TIMEOUT, limits=limits)
    except (ImportError, ValueError) as error:  # a SOCKS proxy without its package, or an address that is not valid
        raise UserError(f"the proxy that the environment names cannot be used: {error}") from error
    except OSError as error:
        raise UserError(f"the certificates that the environment names cannot be read: {error}") from error

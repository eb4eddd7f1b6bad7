"""Downloads over http(s): resumed where they broke off, retried within bounds, checked before they count."""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.data.progress import Progress, Silent
from skillnet_cli.files import CHUNK, PARTIAL, alone, digest_of, replace_path

_LOCAL = ("localhost", "local", "internal")
_STAND_IN = ipaddress.ip_network("198.18.0.0/15")
"""What some local proxies answer for every name; the name is theirs to look up."""


def _check_redirect(asked: str, target: str) -> None:
    """Raises UserError where an answer for the address ``asked`` leads to a ``target`` that is not followed.

    Those are addresses of other kinds than http(s), plain http for what was asked by https, and hosts of this machine
    or of a private network, unless the host that was asked is one itself.
    """
    try:
        here, there = urlsplit(asked), urlsplit(target)
        host = there.hostname or ""
    except ValueError as error:
        raise UserError(f"{asked} leads to '{target}', which is no address: fetch the file yourself") from error
    if there.scheme not in ("http", "https") or not host or (here.scheme == "https" and there.scheme == "http"):
        raise UserError(f"{asked} leads to {target}, which is not followed: fetch the file yourself")
    if is_private(host) and not is_private(here.hostname or ""):
        raise UserError(f"{asked} leads to {target}, a private address, which is not followed: fetch the file yourself")


def is_private(host: str) -> bool:
    """Whether one of a host's addresses is of this machine, of a private network or reserved.

    A name that is not found is private where its end says so: it may be a proxy's to look up.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return host.rstrip(".").lower().rpartition(".")[2] in _LOCAL
    return any(_inside(str(place[4][0])) for place in found)


def _inside(address: str) -> bool:
    plain = _plain(address)
    return is_private_address(address) and not (plain.version == 4 and plain in _STAND_IN)


def is_private_address(address: str) -> bool:
    """Whether an IP address belongs to no public server: a private network, this machine, a link, a multicast."""
    plain = _plain(address)
    inner = [plain, getattr(plain, "sixtofour", None)]
    return any(not each.is_global or each.is_multicast for each in inner if each)


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address without its zone, and without IPv6 around an IPv4 one."""
    found = ipaddress.ip_address(address.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found


LOCKS = ".locks"
TRIES = 5
FIRST_WAIT = 0.5
TIMEOUT = 30.0
LONGEST_WAIT = 60.0
"""Seconds that a server's ``Retry-After`` is heeded at most."""

_RESERVED = ":/?#[]@!$&'()*+,;=%~"
_PASSING = {408, 425, 429, 500, 502, 503, 504}


def download(
    url: str, cache: Path, sha256: str | None = None, progress: Progress | None = None, md5: str | None = None
) -> Path:
    """The file at an address, from the cache where it lies there whole.

    A broken download is resumed with a range request, now or at the next call; a server that has changed the file or
    knows no ranges starts it anew. Five tries in a row that bring nothing are the end.

    Raises:
        UserError: the address is wrong, or the server says that there is no such file.
        FailedJob: the network failed for good, or the file does not have the ``sha256`` or the ``md5``.
    """
    _check_address(url)
    path = cache / cached_name(url)
    wanted = ("md5", md5) if sha256 is None else ("sha256", sha256)
    if path.is_file() and _is_wanted(path, *wanted):
        return path
    locks = path.parent / LOCKS
    locks.mkdir(parents=True, exist_ok=True)
    with alone(locks / path.name):
        if path.is_file() and _is_wanted(path, *wanted):
            return path  # another process has fetched it meanwhile
        return _fetched(url, path, *wanted, progress or Silent())


def _is_wanted(path: Path, kind: str, checksum: str | None) -> bool:
    return checksum is None or digest_of(path, kind) == checksum


def _fetched(url: str, path: Path, kind: str, checksum: str | None, progress: Progress) -> Path:
    partial = path.with_name(path.name + PARTIAL)
    for _ in progress.track(_pieces(url, partial), None, f"fetching {url} (MiB)"):
        pass
    if not _is_wanted(partial, kind, checksum):
        found = digest_of(partial, kind)
        partial.unlink()
        _validator_path(partial).unlink(missing_ok=True)
        raise FailedJob(f"{url}: the file has the {kind} {found}, expected is {checksum}: it was altered or replaced")
    _validator_path(partial).unlink(missing_ok=True)
    replace_path(path, partial)
    return path


def cached_name(url: str) -> str:
    """A file's name in the cache: different addresses never share one, and its suffix stays."""
    base = re.sub(r"[^\w.-]", "_", unquote(PurePosixPath(urlsplit(url).path).name))[-80:]
    return f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{base or 'file'}"


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        complete = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket or a port that is none
        complete = False
    if not complete or not re.fullmatch(r"[!-~\x80-\U0010ffff]+", url):
        raise UserError(f"'{url}' is not an address that can be fetched")


def _pieces(url: str, partial: Path) -> Iterator[int]:
    """Fill ``partial``, yielding the size of each piece that arrives, until the file is whole."""
    failures, reached = 0, _size(partial)
    while True:
        wait = 0.0
        try:
            with _request(url, partial) as answer:
                yield from _receive(answer, partial)
                return
        except HTTPError as error:
            reason, wait = _refusal(url, error, partial)
        except (URLError, http.client.HTTPException, OSError) as error:
            reason = _in_words(error)
        # What was had before and is sent again is no progress: a file that never gets whole must end.
        failures = 0 if _size(partial) > reached else failures + 1
        reached = max(reached, _size(partial))
        if failures >= TRIES:
            raise FailedJob(f"{url}: given up after {TRIES} tries ({reason}): run it again to go on where it stopped")
        time.sleep(max(wait, FIRST_WAIT * 2**failures))


def _in_words(error: Exception) -> str:
    """What went wrong, in a line that a terminal can show whatever the server sent."""
    text = str(getattr(error, "reason", error)).strip() or type(error).__name__
    return "".join(each if each.isprintable() else "?" for each in text)[:200]


@dataclass
class _Answer:
    """What a server sends: the body, where in the file it starts, and how long the file is, if it says so."""

    body: http.client.HTTPResponse
    start: int
    total: int | None

    def __enter__(self) -> _Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.body.close()


class _HttpOnly(HTTPRedirectHandler):
    """Follows redirects as :func:`check_redirect` lets it."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request | None:
        _check_redirect(req.full_url, newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _request(url: str, partial: Path) -> _Answer:
    """Ask for what ``partial`` lacks, provided that the server's file is still the one it was begun with."""
    have, validator = _size(partial), _validator_path(partial)
    headers = {"User-Agent": "skillnet", "Accept-Encoding": "identity"}
    if have and validator.is_file():
        headers |= {"Range": f"bytes={have}-", "If-Range": validator.read_text(encoding="latin-1")}
    try:
        body = build_opener(_HttpOnly).open(Request(quote(url, safe=_RESERVED), headers=headers), timeout=TIMEOUT)
    except ValueError as error:
        raise UserError(f"{url} leads to what is no address ({error}): fetch the file yourself") from error
    if body.status == 206:
        start, total = _range_of(body)
        if "Range" not in headers or start > have:
            raise http.client.HTTPException(f"an answer from byte {start} on, {have} are there")
        return _Answer(body, start, total)
    _begin(partial, body)
    return _Answer(body, 0, body.length)


def _begin(partial: Path, body: http.client.HTTPResponse) -> None:
    """Start anew, and remember which version of the file this is."""
    partial.write_bytes(b"")
    etag = body.headers.get("ETag", "")
    strong = etag if etag and not etag.startswith("W/") else body.headers.get("Last-Modified")
    if strong:
        _validator_path(partial).write_text(strong, encoding="latin-1")
    else:
        _validator_path(partial).unlink(missing_ok=True)


def _range_of(body: http.client.HTTPResponse) -> tuple[int, int | None]:
    match = re.match(r"bytes (\d+)-\d+/(\d+|\*)", body.headers.get("Content-Range", ""))
    if not match:
        raise http.client.HTTPException("an answer without a range")
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _receive(answer: _Answer, partial: Path) -> Iterator[int]:
    with open(partial, "r+b") as file:
        file.seek(answer.start)
        while piece := answer.body.read(CHUNK):
            file.write(piece)
            yield len(piece)
        file.truncate()
        size = file.tell()
    if answer.total is not None and size != answer.total:
        raise http.client.HTTPException(f"{size} of {answer.total} bytes arrived")


def _refusal(url: str, error: HTTPError, partial: Path) -> tuple[str, float]:
    """Why a server refused, where another try may help, and the seconds to wait. Raises UserError where none will."""
    error.close()
    answer = f"the server answers {error.code}"
    if error.code == 416:  # what we have is longer than the file: begin again
        partial.unlink(missing_ok=True)
    elif error.code not in _PASSING:
        raise UserError(f"{url}: {answer} {_in_words(error).rstrip('.')}: check the address, or fetch it yourself")
    wait = error.headers.get("Retry-After", "")
    return answer, min(float(wait), LONGEST_WAIT) if wait.isdecimal() and wait.isascii() else 0.0


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _validator_path(partial: Path) -> Path:
    return partial.with_name(partial.name + ".version")

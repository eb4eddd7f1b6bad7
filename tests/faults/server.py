"""A server on this machine that drops, stalls, redirects, lies about lengths and ranges, and refuses.

A page is what an address holds. Its faults are spent one a request, in order; what comes after them is a sound answer::

    with serve({"/a.png": Page(content, faults=[Refuse(503), Drop(after=100)])}) as server:
        fetch(server.url("/a.png"))     # the third request brings it
        assert [each.path for each in server.requests] == ["/a.png"] * 3

``serve`` takes a function of the path as well, for sets of thousands of rows; ``Page(…, faults=always(Drop()))`` never
gets better. Nothing here calls ``time.sleep``, so tests may replace it; a server that is left wakes its stalls.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LONGEST = 60.0
"""Seconds that a stall lasts at most."""


@dataclass(frozen=True)
class Refuse:
    """A status instead of the content (404, 429, 500, …), perhaps with ``Retry-After``."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Drop:
    """The connection is closed after so many bytes of the body, or before any header with ``after=None``."""

    after: int | None = 0


@dataclass(frozen=True)
class Stall:
    """Nothing more comes after so many bytes of the body, or not even headers with ``after=None``."""

    after: int | None = 0
    seconds: float = LONGEST


@dataclass(frozen=True)
class Redirect:
    """The content is said to be elsewhere."""

    to: str
    status: int = 302


@dataclass(frozen=True)
class Length:
    """``Content-Length`` says another number; ``None`` leaves it out, and any text is sent as it is."""

    said: int | str | None


@dataclass(frozen=True)
class Chunked:
    """The body comes in chunks without a length; with ``unended`` the connection ends before the last one."""

    unended: bool = False


@dataclass(frozen=True)
class WrongRange:
    """A request for a range gets 206 with another ``Content-Range`` than it asked for.

    ``start`` is where the answer says, truly, that it starts; ``header`` is sent instead of the true header, and
    ``None`` leaves it out. A request without a range is answered with 206 as well.
    """

    start: int = 0
    header: str | None = "true"


@dataclass(frozen=True)
class NoRange:
    """A request for a range is answered with all of it, 200."""


@dataclass(frozen=True)
class Noise:
    """Bytes that are no HTTP."""

    content: bytes = b"\x00\xff no protocol that anybody knows\r\n\r\n"


Fault = Refuse | Drop | Stall | Redirect | Length | Chunked | WrongRange | NoRange | Noise


@dataclass
class Page:
    """What an address holds: content, headers, and the faults of the first requests for it."""

    content: bytes = b""
    faults: Iterable[Fault] = ()
    type: str = "application/octet-stream"
    etag: str | None = '"1"'

    def __post_init__(self) -> None:
        self._faults = iter(self.faults)
        self._lock = threading.Lock()

    def next_fault(self) -> Fault | None:
        """The fault of this request."""
        with self._lock:
            return next(self._faults, None)


def always(*faults: Fault) -> Iterator[Fault]:
    """These faults, again and again."""
    return itertools.cycle(faults)


@dataclass(frozen=True)
class Asked:
    """A request that came in: its path with the query, its ``Range``, all its headers."""

    path: str
    range: str | None
    headers: Mapping[str, str]


Pages = Mapping[str, Page] | Callable[[str], Page | None]


class Server:
    """The server as a test sees it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests: list[Asked] = []

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """The address of a path."""
        return f"http://{host}:{self.port}{path}"

    def asked(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(each.path == path for each in self.requests)


class _Listening(ThreadingHTTPServer):
    """Answers each connection in a thread of its own and keeps quiet about those that break."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, pages: Pages) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages = pages
        self.view = Server(self.server_port)
        self.leaving = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        pass

    def page(self, path: str) -> Page | None:
        return self.pages(path) if callable(self.pages) else self.pages.get(path.partition("?")[0])


@contextmanager
def serve(pages: Pages) -> Iterator[Server]:
    """Answer on a free port of this machine until the block is left. What no page is found for is 404."""
    with _Listening(pages) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield listening.view
        finally:
            listening.leaving.set()
            listening.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: _Listening

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.close_connection = True
        wanted = self.headers.get("Range")
        self.server.view.requests.append(Asked(self.path, wanted, dict(self.headers)))
        page = self.server.page(self.path)
        with suppress(ConnectionError):
            if page is None:
                self._head(404, {"Content-Length": "0"})
            else:
                self._faulty(page, wanted, page.next_fault())

    def do_HEAD(self) -> None:
        self.do_GET()

    def _faulty(self, page: Page, wanted: str | None, fault: Fault | None) -> None:
        match fault:
            case Refuse(status, headers):
                self._head(status, {"Content-Length": "0", **headers})
            case Redirect(to, status):
                self._head(status, {"Location": to, "Content-Length": "0"})
            case Noise(content):
                self.wfile.write(content)
            case Drop(None):
                pass
            case Stall(None, seconds):
                self.server.leaving.wait(seconds)
            case WrongRange(start, header):
                self._wrong_range(page, start, header)
            case Chunked(unended):
                self._chunked(page, unended)
            case _:
                self._content(page, None if isinstance(fault, NoRange) else wanted, fault)

    def _content(self, page: Page, wanted: str | None, fault: Fault | None) -> None:
        start = _start_of(wanted) if self.headers.get("If-Range", page.etag) == page.etag else 0
        if start and start >= len(page.content):
            return self._head(416, {"Content-Range": f"bytes */{len(page.content)}", "Content-Length": "0"})
        body = page.content[start:]
        said = fault.said if isinstance(fault, Length) else len(body)
        headers = self._usual(page) | ({} if said is None else {"Content-Length": str(said)})
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(page.content) - 1}/{len(page.content)}"
        self._head(206 if start else 200, headers)
        self._body(body, fault)

    def _body(self, body: bytes, fault: Fault | None) -> None:
        if self.command == "HEAD":
            return
        self.wfile.write(body[: fault.after] if isinstance(fault, (Drop, Stall)) else body)
        self.wfile.flush()
        if isinstance(fault, Stall):
            self.server.leaving.wait(fault.seconds)

    def _wrong_range(self, page: Page, start: int, header: str | None) -> None:
        body = page.content[start:]
        true = f"bytes {start}-{len(page.content) - 1}/{len(page.content)}"
        said = true if header == "true" else header
        named = {} if said is None else {"Content-Range": said}
        self._head(206, {**self._usual(page), **named, "Content-Length": str(len(body))})
        self._body(body, None)

    def _chunked(self, page: Page, unended: bool) -> None:
        self.protocol_version = "HTTP/1.1"
        self._head(200, {**self._usual(page), "Transfer-Encoding": "chunked", "Connection": "close"})
        for start in range(0, len(page.content), 10_000):
            piece = page.content[start : start + 10_000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if not unended:
            self.wfile.write(b"0\r\n\r\n")

    def _usual(self, page: Page) -> dict[str, str]:
        return {"Content-Type": page.type, "Accept-Ranges": "bytes", **({"ETag": page.etag} if page.etag else {})}

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _start_of(wanted: str | None) -> int:
    match = re.match(r"bytes=(\d+)-", wanted or "")
    return int(match[1]) if match else 0

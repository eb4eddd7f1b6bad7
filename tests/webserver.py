"""A server on this machine that answers as bad servers of the web do; what it does is written in the address."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

Content = Callable[[str], bytes]
"""The last part of a path -> the file of that name."""


class Server:
    """``/ok/NAME`` and the like; counts who was asked for, and how many at a time."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self.asked: Counter[str] = Counter()
        self.at_once = 0
        self.most_at_once = 0
        self.url = ""
        self.stop = threading.Event()
        self.lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    server_state: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        state = self.server_state
        path = urlsplit(self.path).path
        with state.lock:
            state.asked[path] += 1
            state.at_once += 1
            state.most_at_once = max(state.most_at_once, state.at_once)
        try:
            with suppress(OSError):
                self._act(*path.strip("/").split("/", 1))
        finally:
            with state.lock:
                state.at_once -= 1

    def _act(self, deed: str, name: str = "") -> None:
        if deed == "by":  # /by/DEED-NAME, for clients that know one path for all
            deed, _, name = name.partition("-")
        if deed == "status":
            self._answer(int(re.split(r"\D", name)[0]), b"no")
        elif deed == "leads":
            self._answer(302, b"", Location=unquote(name).replace("SELF", self.server_state.url))
        elif deed == "once":  # fails the first time
            first = self.server_state.asked[f"/once/{name}"] == 1
            self._answer(503 if first else 200, b"busy" if first else self.server_state.content(name))
        else:
            self.close_connection |= deed not in ("ok", "ranges", "slow", "round")
            getattr(self, f"_{deed}")(self.server_state.content(name))

    def _ok(self, content: bytes) -> None:
        self._answer(200, content)

    def _slow(self, content: bytes) -> None:
        time.sleep(0.02)
        self._answer(200, content)

    def _drop(self, content: bytes) -> None:
        """Hangs up in the middle."""
        self._answer(200, content[: len(content) // 2], length=len(content))

    def _dropped(self, content: bytes) -> None:
        """Hangs up before it says anything."""

    def _long(self, content: bytes) -> None:
        """Says that it is shorter than it is."""
        self._answer(200, content, length=len(content) // 2)

    def _stall(self, content: bytes) -> None:
        self._drop(content)
        self.server_state.stop.wait(60)

    def _drip(self, content: bytes) -> None:
        self._answer(200, b"", length=10_000)
        while not self.server_state.stop.wait(0.05):
            self.wfile.write(b"x")
            self.wfile.flush()

    def _endless(self, content: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.server_state.stop.is_set():
            self.wfile.write(bytes(1 << 16))

    def _claims(self, content: bytes) -> None:
        self._answer(200, b"", length=1 << 40)

    def _nonsense(self, content: bytes) -> None:
        self.wfile.write(b"\0\1 this is not http\r\n\r\n")

    def _round(self, content: bytes) -> None:
        self._answer(302, b"", Location=self.path)

    def _ranges(self, content: bytes) -> None:
        """What a range asks for, as good servers of media do."""
        wanted = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return self._answer(200, content, **{"Accept-Ranges": "bytes"})
        start, end = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
        span = f"bytes {start}-{end}/{len(content)}"
        self._answer(206, content[start : end + 1], **{"Content-Range": span, "Accept-Ranges": "bytes"})

    def _answer(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


class _Threads(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, address: object) -> None:
        pass


@contextmanager
def serving(content: Content, handler: type[Handler] = Handler) -> Iterator[Server]:
    """Runs the server; ``server.url`` is its address, without a slash at the end."""
    state = Server(content)
    with _Threads(("127.0.0.1", 0), type("Bound", (handler,), {"server_state": state})) as running:
        state.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield state
        finally:
            state.stop.set()
            running.shutdown()
            thread.join()

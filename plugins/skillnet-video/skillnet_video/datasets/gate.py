"""A proxy on this machine that ffmpeg has to ask through: it opens no address that may not be asked.

ffmpeg looks names up and follows redirects and playlists by itself. What a server may lead it to is judged here, at the
moment of connecting, by the same rule as all else that the process fetches: whatever finds no address there finds none
here.
"""

from __future__ import annotations

import base64
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

TIMEOUT = 30.0
"""Seconds until a connection must stand."""
_MOST_LINES, _LONGEST_LINE = 200, 1 << 16


@contextmanager
def gate(check: Callable[[str], None], proxies: Mapping[str, str]) -> Iterator[str]:
    """Serve while entered; gives the address for ``http_proxy``.

    Args:
        check: raises, where an address may not be asked.
        proxies: of the user, as :func:`urllib.request.getproxies` gives them: what they are for goes on to them.
    """
    with _Listening(("127.0.0.1", 0), _Passage) as listening:
        listening.check, listening.proxies = check, proxies
        threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.server_address[1]}"
        finally:
            listening.shutdown()


class _Listening(socketserver.ThreadingTCPServer):
    daemon_threads = True
    check: Callable[[str], None]
    proxies: Mapping[str, str]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """ffmpeg sees that the connection ends; nobody else is told."""


class _Passage(socketserver.StreamRequestHandler):
    """One connection of ffmpeg's, for one request (``GET http://…``) or one tunnel (``CONNECT host:port``)."""

    server: _Listening
    rbufsize = 0  # what follows the head is passed on from the socket itself

    def handle(self) -> None:
        try:
            lines = self._head()
            method, target, version = lines[0].split()
            url = f"https://{target}/" if method == "CONNECT" else target
            self.server.check(url)
            other, head = self._opened(url, method, version, lines)
        except Exception:  # a head that is none, an address that may not be asked, a server that is not there
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        with other:
            other.settimeout(None)
            (other if head else self.connection).sendall(head or b"HTTP/1.1 200 Connection established\r\n\r\n")
            there = threading.Thread(target=_pass_on, args=(self.connection, other), daemon=True)
            there.start()
            _pass_on(other, self.connection)
            there.join()

    def _head(self) -> list[str]:
        """The lines of a request's head. Raises ValueError where it is none."""
        lines: list[str] = []
        while (line := self.rfile.readline(_LONGEST_LINE)) not in (b"\r\n", b"\n"):
            lines.append(line.decode("latin-1").rstrip("\r\n"))
            if not line.endswith(b"\n") or len(lines) > _MOST_LINES:
                raise ValueError("no head of a request")
        return lines

    def _opened(self, url: str, method: str, version: str, lines: list[str]) -> tuple[socket.socket, bytes]:
        """The connection to an address or to the user's proxy, and the head to send there; none opens a tunnel."""
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        proxy = urlsplit(self.server.proxies.get(parts.scheme) or "")
        fields = [each for each in lines[1:] if not each.lower().startswith("proxy-")]
        by_itself = proxy_bypass_environment(f"{parts.hostname}:{port}", dict(self.server.proxies))
        if proxy.scheme == "http" and not by_itself:
            if proxy.username is not None:
                secret = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
                fields.append(f"Proxy-Authorization: Basic {base64.b64encode(secret).decode()}")
            first, host, port = lines[0], proxy.hostname, proxy.port or 80
        else:
            path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
            first, host = "" if method == "CONNECT" else f"{method} {path} {version}", parts.hostname
        other = socket.create_connection((str(host), port), TIMEOUT)
        return other, "\r\n".join([first, *fields, "", ""]).encode("latin-1") if first else b""


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    """Until one of both ends, which ends the other."""
    with suppress(OSError):
        while piece := source.recv(1 << 16):
            target.sendall(piece)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)

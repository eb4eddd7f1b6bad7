"""The faulty server does what it says, seen by the standard library's client."""

from __future__ import annotations

import http.client
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.faults.server import Chunked, Drop, Length, Noise, Page, Refuse, Server, Stall, WrongRange, always, serve

CONTENT = bytes(range(256)) * 40


def get(server: Server, wanted: str | None = None) -> tuple[int, bytes]:
    headers = {"Range": wanted} if wanted else {}
    with urlopen(Request(server.url("/x"), headers=headers), timeout=0.5) as answer:
        return answer.status, answer.read()


def test_faults_are_spent_one_a_request_and_then_all_is_well() -> None:
    with serve(
        {"/x": Page(CONTENT, [Refuse(503), Drop(after=9), Drop(None), Noise(), Chunked(unended=True)])}
    ) as server:
        with pytest.raises(HTTPError, match="503"):
            get(server)
        with pytest.raises(http.client.IncompleteRead) as broken:
            get(server)
        assert broken.value.partial == CONTENT[:9]
        for fault in (http.client.RemoteDisconnected, http.client.HTTPException, http.client.IncompleteRead):
            with pytest.raises(fault):
                get(server)
        assert get(server) == (200, CONTENT)
        assert get(server, "bytes=100-") == (206, CONTENT[100:])
        assert server.asked("/x") == len(server.requests) == 7 and server.requests[-1].range == "bytes=100-"


def test_stalls_lie_and_misplace() -> None:
    faults = [Stall(3), Stall(None), Length(len(CONTENT) + 5), Length(5), Length(None), Chunked(), WrongRange(7)]
    with serve({"/x": Page(CONTENT, faults)}) as server:
        for fault in (TimeoutError, OSError, http.client.IncompleteRead):
            with pytest.raises(fault):
                get(server)
        assert get(server) == (200, CONTENT[:5])
        assert get(server) == get(server) == (200, CONTENT)
        assert get(server, "bytes=100-") == (206, CONTENT[7:])
        with pytest.raises(HTTPError, match="416"):
            get(server, f"bytes={len(CONTENT)}-")


def test_pages_may_be_made_for_each_path() -> None:
    with serve(lambda path: Page(path.encode()) if path < "/y" else None) as server:
        assert get(server) == (200, b"/x")
        with pytest.raises(HTTPError, match="404"):
            urlopen(server.url("/z"))


def test_what_never_gets_better_stays_bad() -> None:
    with serve({"/x": Page(CONTENT, always(Refuse(500)))}) as server:
        for _ in range(3):
            with pytest.raises(HTTPError, match="500"):
                get(server)

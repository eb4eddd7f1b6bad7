"""The fetcher against everything that a server can do wrong: the whole file, or one clear line."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.sources.download import TRIES
from skillnet_cli.sources.fetch import fetch
from skillnet_cli.sources.http import LONGEST_WAIT, is_private
from tests.faults.server import (
    Chunked,
    Drop,
    Fault,
    Length,
    Noise,
    NoRange,
    Page,
    Redirect,
    Refuse,
    Stall,
    WrongRange,
    always,
    serve,
)

CONTENT = bytes(range(256)) * 3000
SHA256 = hashlib.sha256(CONTENT).hexdigest()

pytestmark = pytest.mark.usefixtures("no_waiting")

SURVIVED = {
    "dropped at once": [Drop(None)],
    "dropped before the body": [Drop(0), Drop(0)],
    "dropped again and again": [Drop(100_000)] * 5,
    "stalled before the headers": [Stall(None)],
    "stalled in the body": [Stall(300_000)],
    "refused for a while": [Refuse(429), Refuse(500), Refuse(503)],
    "refused in the middle": [Drop(400_000), Refuse(502), Refuse(504)],
    "length too large, once": [Length(len(CONTENT) + 7)],
    "no length": [Length(None)],
    "length that is no number": [Length("many")],
    "negative length": [Length(-5)],
    "chunked": [Chunked()],
    "chunked and broken off": [Chunked(unended=True)],
    "no ranges": [Drop(300_000), NoRange()],
    "a range from the beginning": [Drop(300_000), WrongRange(0)],
    "a range that overlaps": [Drop(300_000), WrongRange(250_000)],
    "a range that leaves a hole": [Drop(300_000), WrongRange(350_000)],
    "a range without its place": [Drop(300_000), WrongRange(300_000, None)],
    "a range whose place is no number": [Drop(300_000), WrongRange(300_000, "bytes a-b/c")],
    "a range that nobody asked for": [WrongRange(1000)],
    "not HTTP": [Noise(), Noise(b"")],
    "redirected": [Redirect("/other")],
    "redirected by a relative path": [Redirect("other", 307)],
    "redirected for good": [Redirect("/other", 308)],
}


@pytest.mark.parametrize("faults", SURVIVED.values(), ids=SURVIVED)
def test_the_file_arrives_whole_in_the_end(faults: list[Fault], tmp_path: Path) -> None:
    with serve({"/pack.tar": Page(CONTENT, faults), "/other": Page(CONTENT)}) as server:
        assert fetch(server.url("/pack.tar"), tmp_path, SHA256).read_bytes() == CONTENT
        assert len(server.requests) <= 2 * len(faults) + 1


HOPELESS = {
    "always dropped": (Drop(0), "given up after"),
    "always stalled": (Stall(0), "given up after"),
    "always busy": (Refuse(503), "the server answers 503"),
    "too many requests": (Refuse(429), "the server answers 429"),
    "never whole": (Length(len(CONTENT) + 7), "given up after"),
    "never a number": (Chunked(unended=True), "given up after"),
    "never HTTP": (Noise(b"\x1b[31mred\x07\r\n\r\n"), "given up after"),
    "never what was asked": (WrongRange(10), "given up after"),
}


@pytest.mark.parametrize(("fault", "said"), HOPELESS.values(), ids=HOPELESS)
def test_what_never_gets_better_ends_in_one_line(fault: Fault, said: str, tmp_path: Path) -> None:
    with serve({"/pack.tar": Page(CONTENT, always(fault))}) as server:
        with pytest.raises(FailedJob, match=said) as failure:
            fetch(server.url("/pack.tar"), tmp_path)
        assert str(failure.value).isprintable() and len(server.requests) <= 2 * TRIES
    assert not list((tmp_path / "http").glob("*pack.tar")), "nothing takes the place of the file"


DEAD = {
    "not found": Refuse(404),
    "gone": Refuse(410),
    "not allowed": Refuse(401),
    "asked for nonsense": Refuse(400),
    "going round": Redirect("/pack.tar"),
    "to a file": Redirect("file:///etc/passwd"),
    "to another kind of address": Redirect("ftp://127.0.0.1/x"),
    "to data": Redirect("data:text/plain,x"),
    "to no address": Redirect("http://[::1/x"),
    "to nowhere": Redirect("http:///x"),
    "to the name of no host": Redirect("http://a..b/x"),
}


@pytest.mark.parametrize("fault", DEAD.values(), ids=DEAD)
def test_dead_ends_are_said_in_one_line(fault: Fault, tmp_path: Path) -> None:
    with serve({"/pack.tar": Page(CONTENT, always(fault))}) as server:
        with pytest.raises((UserError, FailedJob)) as failure:
            fetch(server.url("/pack.tar"), tmp_path)
        assert str(failure.value).isprintable() and server.url("/pack.tar") in str(failure.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]


def test_a_server_is_given_the_time_that_it_asks_for(tmp_path: Path, no_waiting: list[float]) -> None:
    asked = [Refuse(429, {"Retry-After": "7"}), Refuse(503, {"Retry-After": "9999"}), Refuse(503, {"Retry-After": "x"})]
    with serve({"/pack.tar": Page(CONTENT, asked)}) as server:
        fetch(server.url("/pack.tar"), tmp_path, SHA256)
    assert no_waiting[:2] == [7.0, LONGEST_WAIT] and 0 < no_waiting[2] < 10


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a host with a public address, whose connections end up on this machine all the same."""
    known, connect = socket.getaddrinfo, socket.create_connection
    elsewhere = {"pictures.test": "93.184.216.34", "inside.test": "10.0.0.7", "both.test": "fd00::7"}

    def lookup(host: str, *rest: Any, **named: Any) -> Any:
        return known(elsewhere.get(host, host), *rest, **named)

    def connected(address: tuple[str, int], *rest: Any, **named: Any) -> socket.socket:
        return connect(("127.0.0.1", address[1]), *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr(socket, "create_connection", connected)
    return "pictures.test"


PRIVATE = ["127.0.0.1", "localhost", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "[::1]"]
PRIVATE += ["[fd00::1]", "[fe80::1]", "[::ffff:10.0.0.1]", "2130706433", "0x7f.1", "inside.test", "both.test"]


@pytest.mark.parametrize("host", PRIVATE)
def test_a_public_address_leads_into_no_private_network(host: str, public: str, tmp_path: Path) -> None:
    with serve({"/pack.tar": Page(CONTENT)}) as server:
        to = f"http://{host}:{server.port}/pack.tar"
        refused = pytest.raises(UserError, match=r"which is not followed \(the address belongs to a private network")
        with serve({"/start": Page(faults=[Redirect(to)])}) as first, refused:
            fetch(first.url("/start", public), tmp_path)
        assert not server.requests


def test_a_detour_over_a_public_address_leads_there_neither(public: str, tmp_path: Path) -> None:
    pages = {"/pack.tar": Page(CONTENT), "/start": Page(), "/second": Page()}
    with serve(pages) as server:
        pages["/start"] = Page(faults=[Redirect(server.url("/second", public))])
        pages["/second"] = Page(faults=[Redirect(server.url("/pack.tar"))])
        with pytest.raises(UserError, match="not followed"):
            fetch(server.url("/start", public), tmp_path)
        assert [each.path for each in server.requests] == ["/start", "/second"]


def test_who_asks_for_a_private_address_gets_it(public: str, tmp_path: Path) -> None:
    pages: dict[str, Page] = {"/pack.tar": Page(CONTENT)}
    with serve(pages) as server:
        for path, to in {"/inside": server.url("/pack.tar"), "/out": server.url("/pack.tar", public)}.items():
            pages[path] = Page(faults=[Redirect(to)])
            assert fetch(server.url(path), tmp_path / path[1:], SHA256).read_bytes() == CONTENT


def test_names_that_nobody_knows_are_private_only_where_they_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Sequence[Any]:
        raise socket.gaierror("not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert is_private("router.local") and is_private("metadata.google.internal.") and is_private("LOCALHOST")
    assert not is_private("pictures.example")

"""Servers that never end, change their mind, or send something else: one line, in time, and never a mixture."""

from __future__ import annotations

import hashlib
import re
import shutil
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from skillnet_cli.api import Dataset, FailedJob, UserError
from skillnet_cli.files import PARTIAL
from skillnet_cli.prepare.preparer import Preparation
from skillnet_cli.sources import download as downloads
from skillnet_cli.sources import http
from skillnet_cli.sources.download import download
from skillnet_cli.sources.http import RateLimits, Unavailable
from skillnet_cli.sources.kinds import not_as_named
from skillnet_cli.sources.web import fetch_in_order
from tests.faults.server import Page, Redirect, Refuse, serve

OLD, NEW = b"old " * 50_000, b"newer" * 60_000


class Talk:
    """One request: what was asked for, how many were before, and the way to answer."""

    def __init__(self, handler: socketserver.StreamRequestHandler, before: int, over: threading.Event) -> None:
        lines = iter(handler.rfile.readline, b"\r\n")
        self.start = next((int(m[1]) for each in lines if (m := re.match(rb"(?i)range: bytes=(\d+)", each))), None)
        self.before, self.over = before, over
        self._out = handler.wfile

    def say(self, status: str, body: bytes = b"", **headers: object) -> None:
        """Send a status line, headers and what is there of the body."""
        said = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        self._out.write(f"HTTP/1.1 {status}\r\n{said}\r\n".encode() + body)

    def send(self, piece: bytes) -> None:
        self._out.write(piece)

    def drip(self, piece: bytes, every: float = 0.05) -> None:
        """Send this again and again."""
        while not self.over.wait(every):
            self._out.write(piece)


@contextmanager
def talking(answer: Callable[[Talk], None], name: str = "pack.bin") -> Iterator[tuple[str, list[int | None]]]:
    """A server that answers by a function, a connection for each request: its address, and where requests began."""
    over, asked = threading.Event(), []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            talk = Talk(self, len(asked), over)
            asked.append(talk.start)
            with suppress(OSError):
                answer(talk)

    class Listening(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Listening(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_address[1]}/{name}", asked
        finally:
            over.set()
            running.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "WINDOW", 0.25)
    monkeypatch.setattr(downloads, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)


DRIPS: dict[str, Callable[[Talk], None]] = {
    "100-continue for ever": lambda talk: talk.drip(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a status line": lambda talk: talk.drip(b"H"),
    "headers": lambda talk: (talk.send(b"HTTP/1.1 200 OK\r\nA: "), talk.drip(b"a"))[0],
    "a body of known length": lambda talk: (talk.say("200 OK", Content_Length=10**6), talk.drip(b"x"))[0],
    "a body of unknown length": lambda talk: (talk.say("200 OK"), talk.drip(b"x"))[0],
    "chunks": lambda talk: (talk.say("200 OK", Transfer_Encoding="chunked"), talk.drip(b"1\r\nx\r\n"))[0],
    "the length of a chunk": lambda talk: (talk.say("200 OK", Transfer_Encoding="chunked"), talk.drip(b"0", 0.2))[0],
    "a redirect": lambda talk: (talk.send(b"HTTP/1.1 302 Found\r\nLocation: "), talk.drip(b"/"))[0],
}


@pytest.mark.parametrize("answer", DRIPS.values(), ids=DRIPS)
def test_s13_a_server_that_drips_is_given_up(answer: Callable[[Talk], None], tmp_path: Path) -> None:
    started = time.monotonic()
    with talking(answer) as (url, asked), pytest.raises(FailedJob, match="given up after 3 tries") as failure:
        download(url, tmp_path)
    assert len(asked) == downloads.SETBACKS and time.monotonic() - started < 60  # it drips for ever
    assert "fewer than 1024 bytes a second" in str(failure.value) or "HTTP" in str(failure.value)


def test_s13_what_came_before_a_slow_end_does_not_count_as_the_file(tmp_path: Path) -> None:
    def answer(talk: Talk) -> None:
        talk.say("200 OK", OLD)  # its end would be that of the connection
        talk.over.wait(20)

    with talking(answer) as (url, _), pytest.raises(FailedJob, match="given up after 3 tries"):
        download(url, tmp_path)
    assert not list(tmp_path.glob("*pack.bin"))


def test_s13_all_tries_have_one_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "DEADLINE", 1.0)
    started = time.monotonic()

    def answer(talk: Talk) -> None:
        talk.say("200 OK", Content_Length=1 << 30)
        talk.drip(bytes(1 << 10), 0.01)  # fast enough

    with (
        talking(answer) as (url, _),
        pytest.raises(FailedJob, match=r"given up after .* hours .*run the command again"),
    ):
        download(url, tmp_path)
    assert time.monotonic() - started < 60  # at that rate the file takes three hours


def test_s13_a_picture_that_never_begins_is_given_up() -> None:
    limits = RateLimits(seconds=1.0, retries=0, private_hosts=frozenset({"127.0.0.1"}))
    for every in (0.05, 0.0):
        with talking(lambda talk, every=every: talk.drip(b"HTTP/1.1 100 Continue\r\n\r\n", every)) as (url, _):
            started = time.monotonic()
            ((_, found),) = fetch_in_order([(0, url)], limits, bytes)
            assert str(found) == "the server does not answer in time" and time.monotonic() - started < 60


def test_s13_no_picture_is_larger_than_its_bound() -> None:
    def answer(talk: Talk) -> None:
        talk.say("200 OK")
        talk.drip(bytes(1 << 16), 0.0)

    limits = RateLimits(retries=0, most_bytes=1 << 20, private_hosts=frozenset({"127.0.0.1"}))
    with talking(answer) as (url, _):
        ((_, found),) = fetch_in_order([(0, url)], limits, bytes)
    assert isinstance(found, Unavailable) and str(found) == "it is larger than 1 MiB"


def part(talk: Talk, content: bytes, **headers: object) -> None:
    """The rest of a file, whatever version the request asks for."""
    assert talk.start is not None
    span = f"bytes {talk.start}-{len(content) - 1}/{len(content)}"
    body = content[talk.start :]
    talk.say("206 Partial Content", body, Content_Range=span, Content_Length=len(body), **headers)


SAME_LENGTH = b"NEW " * (len(OLD) // 4)
CHANGES = {
    "another length, the old name": (NEW, '"1"'),
    "another length, no name": (NEW, None),
    "a shorter file": (b"tiny" * 40_000, '"1"'),
    "the same length, another name": (SAME_LENGTH, '"2"'),
}


@pytest.mark.parametrize(("content", "etag"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("stated", [True, False])
def test_s13_a_file_that_changes_is_begun_anew(content: bytes, etag: str | None, stated: bool, tmp_path: Path) -> None:
    named = {"ETag": etag} if etag else {}

    def answer(talk: Talk) -> None:
        if talk.before == 0:
            talk.say("200 OK", OLD[:100_000], ETag='"1"', Content_Length=len(OLD))
        elif talk.start is not None:
            part(talk, content, **named)
        elif stated:
            talk.say("200 OK", content, Content_Length=len(content), **named)
        else:
            talk.say("200 OK", content, **named)

    with talking(answer) as (url, asked):
        assert download(url, tmp_path).read_bytes() == content
    assert asked == [None, 100_000, None]


def test_s13_a_file_that_changes_between_two_calls_is_begun_anew(tmp_path: Path) -> None:
    content = OLD

    def answer(talk: Talk) -> None:
        if talk.before == 0:
            talk.say("200 OK", OLD[:100_000], ETag='"1"', Content_Length=len(OLD))
        elif talk.before <= downloads.TRIES:
            talk.say("503 Busy", Content_Length=0)
        elif talk.start is not None:
            part(talk, content)
        else:
            talk.say("200 OK", content, Content_Length=len(content))

    with talking(answer) as (url, asked):
        with pytest.raises(FailedJob, match="resume"):
            download(url, tmp_path)
        content = NEW
        assert download(url, tmp_path).read_bytes() == NEW
    assert asked[-2:] == [100_000, None]


def broken(talk: Talk, content: bytes, etag: str, sent: int) -> None:
    """The whole file from its beginning, whatever part was asked for, which breaks off."""
    talk.say("200 OK", content[:sent], ETag=etag, Content_Length=len(content))


PAGE = b"<!DOCTYPE html>\n<html><body>Please sign in</body></html>"
WHOLES: dict[str, tuple[Callable[[Talk], None], bytes, int]] = {
    "no ranges, and it breaks off earlier": (lambda talk: broken(talk, OLD, '"1"', 50_000), OLD, 100_000),
    "no ranges, and it breaks off later": (lambda talk: broken(talk, OLD, '"1"', 150_000), OLD, 150_000),
    "another version that breaks off": (lambda talk: broken(talk, NEW, '"2"', 50_000), NEW, 50_000),
    "a page": (lambda talk: talk.say("200 OK", PAGE, Content_Length=len(PAGE)), OLD, 100_000),
    "nothing": (lambda talk: talk.say("200 OK", Content_Length=0), OLD, 100_000),
}


@pytest.mark.parametrize(("whole", "content", "kept"), WHOLES.values(), ids=WHOLES)
def test_s13_what_came_is_kept_where_a_whole_file_is_sent(
    whole: Callable[[Talk], None], content: bytes, kept: int, tmp_path: Path
) -> None:
    """As long as that is the same version, or no version at all; two are never joined."""

    def answer(talk: Talk) -> None:
        if talk.before == 0:
            broken(talk, OLD, '"1"', 100_000)
        elif talk.before == 1:
            whole(talk)
        else:
            part(talk, content, ETag='"2"' if content is NEW else '"1"')

    with talking(answer) as (url, asked):
        assert download(url, tmp_path).read_bytes() == content
    assert asked == [None, 100_000, kept]


@pytest.mark.parametrize("stated", [True, False])
def test_s13_a_file_that_had_come_whole_is_not_fetched_again(stated: bool, tmp_path: Path) -> None:
    """Its process ended while it took the checksum, say."""

    def answer(talk: Talk) -> None:
        talk.say("416 Range Not Satisfiable", Content_Range=f"bytes */{len(OLD)}", Content_Length=0)

    with talking(answer) as (url, asked):
        partial = tmp_path / f"{downloads._cached_name(url)}{PARTIAL}"
        partial.write_bytes(OLD)
        partial.with_name(f"{partial.name}.version").write_text(f'"1"\n{len(OLD) if stated else ""}')
        assert download(url, tmp_path).read_bytes() == OLD
    assert asked == ([] if stated else [len(OLD)])
    assert not list(tmp_path.glob(f"*{PARTIAL}*"))


def test_s13_a_file_that_grows_at_every_resumption_has_an_end(tmp_path: Path) -> None:
    def answer(talk: Talk) -> None:
        length = 1000 * (talk.before + 2)
        if talk.start is None:
            talk.say("200 OK", bytes(length // 2), ETag='"1"', Content_Length=length)
        else:
            span = f"bytes {talk.start}-{length - 1}/{length}"
            talk.say("206 Partial Content", b"x", Content_Range=span, Content_Length=length - talk.start)

    with talking(answer) as (url, asked), pytest.raises(FailedJob, match="the file changes while it is fetched"):
        download(url, tmp_path)
    assert len(asked) == 2 * downloads.SETBACKS and not list(tmp_path.glob("*pack.bin*"))


def test_s13_more_than_was_stated_is_not_taken(tmp_path: Path) -> None:
    def answer(talk: Talk) -> None:
        if talk.start is None:
            talk.say("200 OK", OLD[:1000], ETag='"1"', Content_Length=len(OLD))
        else:  # a part without an end
            span = f"bytes {talk.start}-{len(OLD) - 1}/{len(OLD)}"
            talk.say("206 Partial Content", Content_Range=span)
            talk.drip(bytes(1 << 16), 0.0)

    with talking(answer) as (url, _), pytest.raises(FailedJob, match="more arrives than the server has stated"):
        download(url, tmp_path)
    assert not [each for each in tmp_path.iterdir() if each.is_file()]


OTHERS = [
    ("pack.tar.gz", PAGE, r"a web page \(HTML\)"), ("set.csv", PAGE, r"a web page \(HTML\)"),
    ("set.jsonl", PAGE.lower(), "a web page"), ("pack.zip", b'{"error": "denied"}', "JSON text"),
    ("clip.mp4", b"no such clip", "text"), ("pack.tar", b"", "empty"), ("anything", b"", "empty"),
    ("a.zip", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "kind"), OTHERS, ids=[f"{name} {kind}" for name, _, kind in OTHERS])
def test_s13_something_else_is_not_taken_as_the_file(name: str, content: bytes, kind: str, tmp_path: Path) -> None:
    with serve({f"/{name}": Page(content)}) as server:
        with pytest.raises(UserError, match=f"what the server sends is {kind}.*: check the address") as error:
            download(server.url(f"/{name}?key=1"), tmp_path)
        assert server.url(f"/{name}") in str(error.value) and "\n" not in str(error.value)
        with pytest.raises(FailedJob, match=f"mismatch.*it is {kind}"):
            download(server.url(f"/{name}?key=1"), tmp_path, "0" * 64)
        assert len(server.requests) == 2
    assert not [each for each in tmp_path.iterdir() if each.is_file()]


def test_s13_what_may_be_a_page_is_taken(tmp_path: Path) -> None:
    sound = {"/page.html": PAGE, "/list": PAGE, "/a.csv": b"a,b\n1,2\n", "/a.json": b"{}", "/a.zip": b"PK\3\4rest"}
    with serve({name: Page(content) for name, content in sound.items()}) as server:
        for name, content in sound.items():
            assert download(server.url(name), tmp_path).read_bytes() == content
        digest = hashlib.sha256(PAGE).hexdigest()  # whoever knows the file knows better
        with serve({"/a.zip": Page(PAGE)}) as other:
            assert download(other.url("/a.zip"), tmp_path, digest).read_bytes() == PAGE
    assert not_as_named("a.png", b"\xff\xd8\xff\xe0") is None, "pictures of another format are their readers' matter"


def test_s13_no_content_is_no_file(tmp_path: Path) -> None:
    with serve({"/pack.zip": Page(faults=[Refuse(204)])}) as server:
        with pytest.raises(UserError, match="the server answers 204 No Content: check the address"):
            download(server.url("/pack.zip"), tmp_path)
        assert len(server.requests) == 1
    assert not list(tmp_path.glob("*pack.zip"))


def test_s13_a_full_disk_is_no_fault_of_the_network(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with serve({"/pack.bin": Page(OLD)}) as server:
        place = tmp_path / downloads._cached_name(server.url("/pack.bin"))
        (tmp_path / (place.name + ".partial")).symlink_to("/dev/full")
        with pytest.raises(FailedJob, match=r"cannot be written: No space left on device") as failure:
            download(server.url("/pack.bin"), tmp_path)
        assert len(server.requests) == 1 and "given up" not in str(failure.value)


def free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=count))


def test_s13_a_download_leaves_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve({"/pack.bin": Page(OLD)}) as server:
        free(monkeypatch, len(OLD) + 10)  # it would fit, and leave nothing
        with pytest.raises(FailedJob, match=r"it has 0 MiB, and 0 MiB are free in .*: make room"):
            download(server.url("/pack.bin"), tmp_path)
        assert len(server.requests) == 1 and not list(tmp_path.glob("*pack.bin*"))
        free(monkeypatch, 2 * len(OLD))
        assert download(server.url("/pack.bin"), tmp_path).read_bytes() == OLD


@pytest.mark.parametrize("by_disk", [True, False])
def test_s13_a_file_without_an_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_disk: bool) -> None:
    if by_disk:
        free(monkeypatch, 4 << 20)
    else:
        monkeypatch.setattr(downloads, "LARGEST_UNSTATED", 3 << 20)

    def answer(talk: Talk) -> None:
        talk.say("200 OK")
        talk.drip(bytes(1 << 16), 0.0)

    with talking(answer) as (url, asked), pytest.raises(FailedJob, match="states no length, and it is more than 3 MiB"):
        download(url, tmp_path)
    assert asked == [None] and not [each for each in tmp_path.iterdir() if each.is_file()]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "127。0。0。1"])
def test_s13_only_who_names_a_private_address_gets_it(host: str, tmp_path: Path) -> None:
    with serve({"/pack.bin": Page(OLD), "/a.bin": Page(faults=[Redirect("/pack.bin")] * 2)}) as server:
        dataset = Dataset("set", prepare="x:y", feeds=("find",), licence="CC0", size="small")
        job = Preparation(dataset, (server.url("/a.bin"),), tmp_path / "set", cache=tmp_path)
        with pytest.raises(UserError, match="the address belongs to a private network"):
            job.fetch(server.url("/pack.bin", host))  # as a page or a table would name it
        assert not server.requests
        assert job.fetch(job.sources[0]).read_bytes() == OLD

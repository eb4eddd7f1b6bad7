"""Downloads from a server on this machine that breaks off, changes its mind, or lies."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.sources.download import TRIES, download

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Script:
    """What the server does: how many bytes before it hangs up, and what it knows."""

    content: bytes = CONTENT
    hang_up_after: int | None = None
    hang_ups: int = 10**9
    ranges: bool = True
    etag: str | None = '"v1"'
    refuse: list[int] = field(default_factory=list)
    redirect: str | None = None
    requests: list[str | None] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    script: Script

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        script, wanted = self.script, self.headers.get("Range")
        script.requests.append(wanted)
        if self.path == "/redirected" and script.redirect:
            return self._answer(302, {"Location": script.redirect}, b"")
        if script.refuse:
            return self._answer(script.refuse.pop(0), {}, b"")
        start = int(re.match(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        if wanted and start >= len(script.content):
            return self._answer(416, {}, b"")
        named = {"ETag": script.etag} if script.etag else {}
        if wanted and script.ranges and self.headers.get("If-Range") == script.etag:
            span = f"bytes {start}-{len(script.content) - 1}/{len(script.content)}"
            return self._answer(206, {**named, "Content-Range": span}, script.content[start:])
        return self._answer(200, named, script.content)

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        cut = self.script.hang_up_after
        if cut is not None and len(body) > cut and self.script.hang_ups > 0:
            self.script.hang_ups -= 1
            body = body[:cut]
        self.wfile.write(body)
        self.close_connection = True


@pytest.fixture
def server() -> Iterator[Script]:
    script = Script()
    handler = type("Scripted", (Handler,), {"script": script})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        script.url = f"http://127.0.0.1:{running.server_port}/files/pack.tar.gz"
        yield script
        running.shutdown()
        thread.join()


def break_off(server: Script, cache: Path, content: bytes, version: str = '"v1"') -> None:
    """Give a download up, and put these bytes in the place of what it leaves behind."""
    server.hang_up_after, server.etag = 0, version
    with pytest.raises(FailedJob):
        download(server.url, cache)
    (partial,) = cache.glob("*.partial")
    partial.write_bytes(content)
    server.hang_up_after, server.etag = None, '"v1"'
    server.requests.clear()


pytestmark = pytest.mark.usefixtures("no_waiting")


def test_a_file_arrives_whole_and_once(server: Script, tmp_path: Path) -> None:
    path = download(server.url, tmp_path, SHA256)
    assert path.read_bytes() == CONTENT and path.name.endswith("-pack.tar.gz")
    assert download(server.url, tmp_path, SHA256) == path
    assert download(server.url, tmp_path) == path
    assert len(server.requests) == 1
    assert {each.name for each in tmp_path.iterdir()} == {path.name, ".locks"}, "nothing partial is left behind"


def test_a_broken_download_goes_on_where_it_stopped(server: Script, tmp_path: Path) -> None:
    server.hang_up_after = 300_000
    assert download(server.url, tmp_path, SHA256).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_the_next_call_goes_on_too(server: Script, tmp_path: Path) -> None:
    break_off(server, tmp_path, CONTENT[:1000])
    server.hang_up_after, server.hang_ups = 300_000, 1
    assert download(server.url, tmp_path, SHA256).read_bytes() == CONTENT
    assert server.requests == ["bytes=1000-", "bytes=301000-"]


def test_a_file_that_changed_meanwhile_is_begun_anew(server: Script, tmp_path: Path) -> None:
    break_off(server, tmp_path, b"older" * 1000, '"v0"')
    assert download(server.url, tmp_path).read_bytes() == CONTENT
    assert server.requests == ["bytes=5000-"]


@pytest.mark.parametrize("change", [{"ranges": False}, {"etag": None}, {"etag": 'W/"weak"'}])
def test_servers_that_cannot_resume_start_from_the_beginning(server: Script, tmp_path: Path, change: dict) -> None:
    vars(server).update(change, hang_up_after=300_000, hang_ups=2)
    assert download(server.url, tmp_path, SHA256).read_bytes() == CONTENT


def test_more_than_the_file_has_is_begun_anew(server: Script, tmp_path: Path) -> None:
    break_off(server, tmp_path, CONTENT + b"more")
    assert download(server.url, tmp_path, SHA256).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_after_longer_and_longer_waits(
    server: Script, tmp_path: Path, no_waiting: list[float]
) -> None:
    server.refuse = [503, 500, 429]
    assert download(server.url, tmp_path, SHA256).read_bytes() == CONTENT
    assert no_waiting == sorted(set(no_waiting)) and len(no_waiting) == 3


def test_a_server_that_never_gives_a_byte_is_given_up(server: Script, tmp_path: Path) -> None:
    server.hang_up_after = 0
    with pytest.raises(FailedJob, match=f"given up after {TRIES} tries"):
        download(server.url, tmp_path)
    assert len(server.requests) == TRIES


def test_a_server_that_is_not_there_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(FailedJob, match="given up"):
        download("http://127.0.0.1:9/pack.zip", tmp_path)


@pytest.mark.parametrize("status", [404, 410, 403])
def test_a_dead_link_is_said_at_once(server: Script, tmp_path: Path, status: int) -> None:
    server.refuse = [status]
    with pytest.raises(UserError, match=f"the server answers {status}"):
        download(server.url, tmp_path)
    assert len(server.requests) == 1 and not list(tmp_path.glob("*pack.tar.gz"))


def test_another_file_than_the_one_pinned_does_not_count(server: Script, tmp_path: Path) -> None:
    server.content = b"something else"
    with pytest.raises(FailedJob, match="altered or replaced"):
        download(server.url, tmp_path, SHA256)
    assert not list(tmp_path.glob("*pack.tar.gz*")), "neither the file nor a partial one is kept"
    server.content = CONTENT
    assert download(server.url, tmp_path, SHA256).read_bytes() == CONTENT


def test_an_md5_counts_where_nothing_better_is_published(server: Script, tmp_path: Path) -> None:
    md5 = hashlib.md5(CONTENT).hexdigest()
    download(server.url, tmp_path, md5=md5).write_bytes(b"spoilt")
    assert download(server.url, tmp_path, md5=md5).read_bytes() == CONTENT
    with pytest.raises(FailedJob, match=f"md5 mismatch: expected {md5[::-1]}, got {md5}"):
        download(server.url, tmp_path, md5=md5[::-1])


def test_a_spoilt_cache_is_fetched_again(server: Script, tmp_path: Path) -> None:
    download(server.url, tmp_path, SHA256).write_bytes(b"spoilt")
    assert download(server.url, tmp_path, SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirects_out_of_http_are_refused(server: Script, tmp_path: Path, target: str) -> None:
    server.redirect = target
    with pytest.raises(UserError, match=r"redirects to .*, which is not followed"):
        download(server.url.replace("/files/pack.tar.gz", "/redirected"), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]


def test_redirects_within_http_are_followed(server: Script, tmp_path: Path) -> None:
    server.redirect = server.url
    path = download(server.url.replace("/files/pack.tar.gz", "/redirected"), tmp_path, SHA256)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["http://", "http://a b/c", "http://[::1/x", "http://host:port/x"])
def test_addresses_that_are_none_are_users_mistakes(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError):
        download(url, tmp_path)


def test_different_addresses_never_share_a_place_in_the_cache(server: Script, tmp_path: Path) -> None:
    urls = [f"{server.url}?v=1", f"{server.url}?v=2", server.url.replace("pack.tar.gz", "%2e%2e%2fetc%2fpasswd")]
    paths = {download(url, tmp_path) for url in urls}
    assert len(paths) == 3 and {path.parent for path in paths} == {tmp_path}

"""``vatex --download`` with yt-dlp itself, from servers that do not behave: rows of the ledger, soon, and no more."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.sources.http import Unavailable
from skillnet_video.datasets import youtube
from skillnet_video.datasets.fetch_clip import _check, _guard_addresses, reason_of
from skillnet_video.datasets.gate import gate
from skillnet_video.datasets.youtube import Youtube, find_ffmpeg
from skillnet_video.recoding import Recoding
from tests.plugins.video.films import film, numbered, streamable
from tests.plugins.video.test_vatex import downloads, rows
from tests.webserver import Handler, Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    whole = streamable(film(numbered(80), rate=5), tmp_path_factory.mktemp("film") / "film.mp4")
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-VERSION:3\n"
    contents = {
        "playlist": f"{head}#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n".encode(),
        "astray": f"{head}#EXTINF:10,\nhttp://localhost:1/a.ts\n#EXT-X-ENDLIST\n".encode(),
        "page": b"<html><video src='file:///etc/passwd'></video></html>",
    }
    with serving(lambda name: contents.get(name.removesuffix(".mp4"), whole)) as running:
        yield running


PRIVATE = "the address leads into a private network"
LATE = "the server does not answer in time"
FATES = {
    "ok-playlist": None,
    "ok-astray": None,
    "ok-page": None,
    "leads-file%3A%2F%2F%2Fetc%2Fpasswd": None,
    "leads-http%3A%2F%2Flocalhost%3A1%2Fx": PRIVATE,
    "drip-film": LATE,
    "stall-film": LATE,
    "status-404": "it is gone",
    "ok-film": "",
}


@pytest.mark.parametrize("whole", [pytest.param(True, marks=pytest.mark.soak), False])
def test_s13_no_server_ends_the_job(
    whole: bool, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(youtube, "TIMEOUT", 3)
    began = time.monotonic()
    made = downloads(server, tmp_path, FATES, **{"whole-videos": whole, "timeout": 15.0, "retries": 0})
    found = {id.removesuffix("_000004_000014"): row for id, row in rows(made).items()}
    assert {id: row[0] for id, row in found.items()} == {
        id: "kept" if id == "ok-film" else "unavailable" for id in FATES
    }
    for id, reason in FATES.items():
        assert reason is None or found[id][1] == reason, (id, found[id])
    assert "root:" not in "".join(row[1] for row in found.values())
    assert time.monotonic() - began < 240


def fetcher(server: Server, folder: Path, **more: object) -> Youtube:
    return Youtube(Recoding(), folder, f"{server.url}/by/{{id}}.mp4", **{"retries": 0, "seconds": 60.0, **more})  # type: ignore[arg-type]


def test_s13_a_video_without_end_is_bounded(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(youtube, "MOST_BYTES", 1 << 20)
    with pytest.raises(Exception, match="it is too large"):
        fetcher(server, tmp_path).clip("endless-film", 4.0, 14.0)
    assert list(tmp_path.iterdir()) == []


def test_s13_the_users_cookies_stay_as_they_are(server: Server, tmp_path: Path) -> None:
    cookies = tmp_path / "cookies"
    cookies.write_text("# Netscape HTTP Cookie File\n\n# mine\n.example.org\tTRUE\t/\tFALSE\t1\tname\tvalue\n")
    before = cookies.read_bytes()
    (tmp_path / "work").mkdir()
    clip, _ = fetcher(server, tmp_path / "work", cookies=cookies).clip("ok-film", 4.0, 14.0)
    assert clip and cookies.read_bytes() == before and list((tmp_path / "work").iterdir()) == []


def test_s13_a_full_disk_is_no_fault_of_the_network(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reason_of(OSError(28, "No space left on device")) == "the disk is full"
    monkeypatch.setattr(youtube, "_outcome", lambda order, seconds: "the disk is full")
    with pytest.raises(FailedJob, match="no space left on the disk"):
        fetcher(server, tmp_path).clip("ok-film", 4.0, 14.0)


def test_s13_a_deadline_that_is_none(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--timeout: 0\.5 is less than 1"):
        downloads(server, tmp_path, {"ok-film": None}, timeout=0.5)


class Leading(Handler):
    """To ffmpeg, which asks for the titles of radio stations too, it answers with what leads into a private network."""

    answer = ""

    def _act(self, deed: str, name: str = "") -> None:
        private = f"{self.server_state.url.replace('127.0.0.1', 'localhost')}/ok/secret"
        if "Icy-MetaData" not in self.headers or "secret" in name:
            return super()._act(deed, name)
        self.server_state.asked["by ffmpeg"] += 1
        self.close_connection = True
        if self.answer == "redirect":
            return self._answer(302, b"", Location=private)
        return self._answer(200, self.answer.replace("PRIVATE", private).encode())


ASTRAY = [
    pytest.param("redirect", True, id="a redirect"),
    pytest.param("redirect", False, id="a redirect that is allowed", marks=pytest.mark.soak),
    pytest.param(
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nPRIVATE\n#EXT-X-ENDLIST\n", True, id="a playlist",
        marks=pytest.mark.soak,
    ),
    pytest.param("ffconcat version 1.0\nfile PRIVATE\n", True, id="a list of parts", marks=pytest.mark.soak),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "guarded"), ASTRAY)
def test_s13_ffmpeg_is_led_into_no_private_network(
    answer: str, guarded: bool, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By no server, whatever it answers to ffmpeg alone; with ``--private-host`` it may be."""
    monkeypatch.setenv("no_proxy", "localhost")
    monkeypatch.setattr(Leading, "answer", answer)
    with serving(server.content, Leading) as leading:
        hosts = frozenset() if guarded else frozenset({"localhost"})
        with suppress(Exception):
            fetcher(leading, tmp_path, ffmpeg=find_ffmpeg(None), private_hosts=hosts).clip("ok-film", 4.0, 14.0)
    assert leading.asked["by ffmpeg"]
    assert (leading.asked["/ok/secret"] == 0) == guarded


def test_s13_a_page_leads_ffmpeg_to_no_private_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that nobody but ffmpeg would ask; the user's own proxy is private and may be."""
    monkeypatch.setattr(socket, "getaddrinfo", socket.getaddrinfo)
    _guard_addresses(("127.0.0.1",), {"http": "http://localhost:3128"})
    _check("http://127.0.0.1:1/a.mp4", ("127.0.0.1",))
    for url in ("http://10.0.0.1/a.mp4", "http://[::1]/a", "http://localhost/a", "http://nowhere.internal/a"):
        with pytest.raises(Unavailable, match=PRIVATE):
            _check(url, ("127.0.0.1",))
    assert socket.getaddrinfo("localhost", 3128)


def test_s13_what_ffmpeg_asks_goes_on_to_the_users_proxy() -> None:
    """With their password, and unless they want it to pass that by; what is no request is refused."""
    with serving(lambda name: b"came") as running, socket.create_server(("127.0.0.1", 0)) as proxy:
        host = f"127.0.0.1:{proxy.getsockname()[1]}"
        proxies = {"http": f"http://me:pass@{host}", "no": "127.0.0.1"}

        def said(request: str) -> bytes:
            with (
                gate(lambda url: None, proxies) as way,
                socket.create_connection(("127.0.0.1", urlsplit(way).port)) as s,
            ):
                s.sendall(request.encode())
                if "example" not in request:
                    return s.makefile("rb").read()
                asked, _ = proxy.accept()
                with asked:
                    return asked.recv(1 << 16)

        assert said(f"GET {running.url}/ok/a HTTP/1.0\r\n\r\n").endswith(b"came")
        assert said("GET http://example.org/a HTTP/1.1\r\nHost: example.org\r\n\r\n") == (
            b"GET http://example.org/a HTTP/1.1\r\nHost: example.org\r\nProxy-Authorization: Basic bWU6cGFzcw==\r\n\r\n"
        )
        for wrong in ("\r\n", "GET\r\n\r\n", "GET /a HTTP/1.1\r\n\r\n", "GET ftp://a/ HTTP/1.1\r\n\r\n"):
            assert said(wrong).startswith(b"HTTP/1.1 403")

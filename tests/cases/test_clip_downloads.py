"""``vatex --download`` with yt-dlp itself, from servers that do not behave: rows of the ledger, soon, and no more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skillnet_cli.api import FailedJob, UserError
from skillnet_video.datasets import youtube
from skillnet_video.datasets.fetch_clip import reason_of
from skillnet_video.datasets.youtube import Youtube
from skillnet_video.recoding import Recoding
from tests.plugins.video.films import film, numbered, streamable
from tests.plugins.video.test_vatex import downloads, rows
from tests.webserver import Server, serving


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

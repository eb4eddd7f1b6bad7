"""``webvid`` from its tables: clips fetched or found, captions translated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skillnet_cli.data.format import read_ledger
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.data.verify import verify
from skillnet_cli.prepare.preparer import Preparation, Tolerance
from skillnet_cli.prepare.run import run
from skillnet_video import skillnet_datasets
from skillnet_video.datasets import webvid
from skillnet_video.datasets.webvid import Webvid
from tests.plugins.video.films import film, numbered
from tests.plugins.video.test_vatex import counting
from tests.webserver import Server, serving

DATASET = next(each for each in skillnet_datasets() if each.name == "webvid")
OPTIONS = {
    **{option.name: option.absent for option in DATASET.options},
    "timeout": 4.0, "retries": 0, "private-host": ("127.0.0.1",), "shard-rows": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    clip = film(numbered(10), rate=10)
    with serving(lambda name: b"no clip" if name == "text" else clip) as running:
        yield running


def publish(folder: Path, url: str) -> Path:
    folder.mkdir()
    rows = [
        ("1", f"{url}/ok/1", "a dog runs"), ("2", f"{url}/status/404", "gone"), ("3", f"{url}/ok/text", "no clip"),
        ("4", f"{url}/drop/4", "dropped"), ("5", f"{url}/ok/5", "  "), ("6", f"{url}/ok/6", '"two, ""words"""'),
        ("7", f"{url}/leads/file:///etc/passwd", "astray"), ("8", f"{url}/ok/8", "poor"),
    ]  # fmt: skip
    lines = ["videoid,contentUrl,duration,page_dir,name"]
    lines += [f"{id},{link},PT00H00M01S,000001_000050,{name}" for id, link, name in rows]
    (folder / "results_2M_train.csv").write_text("\n".join(lines) + "\n")
    (folder / "results_2M_val.csv").write_text("\n".join([lines[0], lines[1].replace("1,", "9,", 1)]))
    return folder


def prepare(source: Path, out: Path, options: dict[str, Any] | None = None) -> PreparedSet:
    more: Any = {"tolerance": Tolerance(damaged=None), "options": {**OPTIONS, **(options or {})}}
    run(Webvid, Preparation(DATASET, (str(source),), out, **more))
    return PreparedSet.open(out)


def test_clips_are_fetched_and_every_row_accounted_for(server: Server, tmp_path: Path) -> None:
    made = prepare(publish(tmp_path / "webvid", server.url), tmp_path / "set")
    assert not list(verify(made.path))
    assert [(sample["id"], sample["text"]) for sample in made.split("train")] == [
        ("1", ["a dog runs"]), ("6", ['two, "words"']), ("8", ["poor"]),
    ]  # fmt: skip
    assert made.split("validation")[0]["id"] == "9"
    assert [(row.id, row.why) for row in read_ledger(made.path)] == [
        ("1", "kept"), ("2", "unavailable"), ("3", "damaged"), ("4", "unavailable"), ("5", "damaged"), ("6", "kept"),
        ("7", "unavailable"), ("8", "kept"), ("9", "kept"),
    ]  # fmt: skip


def test_captions_are_translated(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webvid, "translation_of", lambda job: counting(tmp_path / "cache"))
    made = prepare(publish(tmp_path / "webvid", server.url), tmp_path / "set")
    assert [sample["text"] for sample in made.split("train")] == [["译文10"], ["译文12"]]
    reasons = {row.id: (row.why, row.reason) for row in read_ledger(made.path)}
    assert reasons["8"] == ("filtered", "it could not be translated") and reasons["5"][0] == "damaged"


def test_clips_that_are_there_already(tmp_path: Path) -> None:
    source = publish(tmp_path / "webvid", "http://example.org")
    folder = tmp_path / "videos" / "000001_000050"
    folder.mkdir(parents=True)
    (folder / "1.mp4").write_bytes(film(numbered(10), rate=10))
    (folder / "3.mp4").write_bytes(b"broken")
    made = prepare(source, tmp_path / "set", {"videos": tmp_path / "videos"})
    whys = [row.why for row in read_ledger(made.path)]
    assert whys == ["kept", "unavailable", "damaged", "unavailable", "damaged", *["unavailable"] * 4]

"""``vatex`` from the publisher's JSON: clips that are there, clips that are fetched, and the paper's division."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skillnet_cli.api import DatasetOption, UserError
from skillnet_cli.data.format import read_ledger
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.data.verify import verify
from skillnet_cli.prepare.preparer import Preparation, Tolerance
from skillnet_cli.prepare.run import run
from skillnet_cli.prepare.translation import Translation, TranslationCache
from skillnet_video import skillnet_datasets
from skillnet_video.clips import frame_pixels, steady_frames
from skillnet_video.datasets import vatex, youtube
from skillnet_video.datasets.vatex import Vatex
from skillnet_video.datasets.youtube import Youtube, find_ffmpeg, reason_of
from tests.plugins.video.films import film, numbered, only_sound, streamable
from tests.webserver import Server, serving

DATASET = next(each for each in skillnet_datasets() if each.name == "vatex")
PACKS = os.environ.get("SKILLNET_TEST_PACKS")
OPTIONS = {option.name: option.absent for option in DATASET.options}
ANY = Tolerance(damaged=None)


def ffmpeg() -> str | None:
    try:
        return find_ffmpeg(None)
    except UserError:
        return None


def entry(id: str, **more: Any) -> dict[str, Any]:
    return {"videoID": id, "enCap": ["a clip"], "chCap": ["一个片段", " ", "又一句"], **more}


def publish(folder: Path, train: list[Any], validation: list[Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, entries in (("training", train), ("validation", validation)):
        text = json.dumps(entries, ensure_ascii=False)
        (folder / f"vatex_{name}_v1.0.json").write_text(text, encoding="utf-8")
    return folder


def prepare(source: Path, out: Path, options: dict[str, Any] | None = None, **more: Any) -> PreparedSet:
    more = {"tolerance": ANY, "options": {**OPTIONS, **(options or {})}, **more}
    run(Vatex, Preparation(DATASET, (str(source),), out, **more))
    return PreparedSet.open(out)


def rows(made: PreparedSet) -> dict[str, tuple[str, str]]:
    return {row.id: (row.why, row.reason) for row in read_ledger(made.path)}


def levels(clip: bytes) -> list[int]:
    return [round(float(frame_pixels(frame).float().mean())) for frame in islice(steady_frames(clip, 3.0), 40)]


def test_clips_in_an_archive_and_all_that_is_wrong(tmp_path: Path, short_clip: bytes, long_clip: bytes) -> None:
    clips = {
        "aa_000000_000010.mp4": short_clip,
        "bb_000000_000010.webm": long_clip,
        "cc.mp4": long_clip,
        "empty_000000_000010.mp4": b"",
        "cut_000000_000010.mp4": short_clip[:800],
        "text_000000_000010.mp4": b"not a clip",
        "sound_000000_000010.mp4": only_sound(),
        "nobodys_000000_000010.mp4": short_clip,
    }
    with tarfile.open(tmp_path / "clips.tar", "w") as archive:
        for name, content in clips.items():
            (tmp_path / name).write_bytes(content)
            archive.add(tmp_path / name, f"clips/{name}")
    train = [
        *(entry(f"{name}_000000_000010") for name in ("aa", "bb", "empty", "cut", "text", "sound", "missing", "aa")),
        entry("cc_000003_000013"),
        entry("cc_000020_000030"),
        entry("en_000000_000010", chCap=[]),
        entry("none_000000_000010", chCap=None, enCap=[]),
        "no object",
    ]
    source = publish(tmp_path / "vatex", train, [entry("bb_000000_000010")])
    made = prepare(source, tmp_path / "set", {"videos": tmp_path / "clips.tar"})
    assert not list(verify(made.path))
    assert [sample["id"] for sample in made.split("train")] == ["aa_000000_000010", "bb_000000_000010",
                                                                "cc_000003_000013"]  # fmt: skip
    assert made.split("train")[0]["text"] == ["一个片段", "又一句"]
    assert [len(levels(sample["video"])) for sample in made.split("train")] == [3, 30, 27]
    assert abs(levels(made.split("train")[2]["video"])[0] - 60) <= 2, "cut out where its id says"
    train_rows = [(row.id.split("_")[0], row.why) for row in read_ledger(made.path) if row.split == "train"]
    assert train_rows == [
        ("aa", "kept"), ("bb", "kept"), ("empty", "damaged"), ("cut", "damaged"), ("text", "damaged"),
        ("sound", "damaged"), ("missing", "unavailable"), ("aa", "duplicate"), ("cc", "kept"), ("cc", "damaged"),
        ("en", "filtered"), ("none", "damaged"), ("train-000012", "damaged"),
    ]  # fmt: skip
    last = list(read_ledger(made.path))[-1]
    assert last.id.endswith("nobodys_000000_000010.mp4") and last.reason == "no caption names this clip"
    assert made.manifest.choices["split"] == "official" and len(made.split("validation")) == 1


def test_the_papers_division_is_random_by_the_seed(
    tmp_path: Path, short_clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vatex, "PAPER", {"test": 6, "dev": 5})
    source = publish(tmp_path / "vatex", [entry("a0_000000_000010")], [entry(f"v{n}_000000_000010") for n in range(9)])
    for name in ["a0", *(f"v{number}" for number in range(9))]:
        (source / f"{name}_000000_000010.mp4").write_bytes(short_clip)
    made = prepare(source, tmp_path / "set")
    sizes = {split: facts.items for split, facts in made.manifest.splits.items()}
    assert sizes == {"dev": 3, "test": 6, "train": 1} and made.manifest.choices["split"] == "paper"
    test = {sample["id"] for sample in made.split("test")}
    assert set((made.path / "assets" / "test.txt").read_text().split()) == test
    assert {sample["id"] for sample in prepare(source, tmp_path / "other", seed=1).split("test")} != test
    monkeypatch.setattr(vatex, "PAPER", {"test": 1500, "dev": 1209})
    small = prepare(source, tmp_path / "small", protocol="paper")
    assert (len(small.split("test")), len(small.split("dev"))) == (5, 4), "1,500 of 2,709"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Films of 16 seconds at 5 frames a second, frame i of level 2·i, their table in front."""
    whole = streamable(film(numbered(80), rate=5), tmp_path_factory.mktemp("film") / "film.mp4")

    def content(name: str) -> bytes:
        return b"<html>no video</html>" if name.startswith("html") else whole

    with serving(content) as running:
        yield running


FATES = {
    "ok-film": ("kept", ""),
    "ranges-film": ("kept", ""),
    "status-404": ("unavailable", "it is gone"),
    "status-410": ("unavailable", "it is gone"),
    "status-403": ("unavailable", "the server refuses it"),
    "status-429": ("unavailable", "the server wants fewer requests"),
    "drop-film": ("unavailable", "the transfer breaks off"),
    "dropped-film": ("unavailable", "the transfer breaks off"),
    "stall-film": ("unavailable", "the server does not answer in time"),
    "status-503": ("unavailable", "the server fails"),
    "ok-html": ("unavailable", "there is no video at its address"),
}


def downloads(server: Server, tmp_path: Path, fates: dict[str, Any], **options: Any) -> PreparedSet:
    """Prepare clips of seconds 4 to 14 of the server's films."""
    source = publish(tmp_path / "vatex", [entry(f"{id}_000004_000014") for id in fates], [])
    options = {"download": True, "url-template": f"{server.url}/by/{{id}}.mp4", "retries": 1, **options}
    return prepare(source, tmp_path / "set", options)


def check_fates(made: PreparedSet, fates: dict[str, Any]) -> None:
    found = {id.removesuffix("_000004_000014"): row for id, row in rows(made).items()}
    for id, (why, reason) in fates.items():
        assert found[id][0] == why and (reason is None or found[id][1] == reason), (id, found[id])
    for sample in made.split("train"):
        expected = [2 * int(5 * (4 + place / 3) + 1e-6) for place in range(30)]
        assert len(levels(sample["video"])) == 30
        assert np.abs(np.subtract(levels(sample["video"]), expected)).max() <= 4, sample["id"]


def test_whole_videos_are_fetched_and_cut_here(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(youtube, "TIMEOUT", 1)
    monkeypatch.setenv("PATH", "/nowhere")
    made = downloads(server, tmp_path, FATES, **{"whole-videos": True})
    check_fates(made, FATES)
    assert not (tmp_path / "set" / ".work").exists()


@pytest.mark.skipif(ffmpeg() is None, reason="no ffmpeg: neither the machine's nor imageio-ffmpeg's")
def test_clips_are_cut_on_the_way_and_fetched_whole_where_the_server_knows_no_ranges(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(youtube, "TIMEOUT", 5)
    cut, fetched = [], Youtube._fetched

    def spy(self: Youtube, id: str, folder: Path, more: dict[str, Any]) -> Path:
        cut.append((id, bool(more)))
        return fetched(self, id, folder, more)

    monkeypatch.setattr(Youtube, "_fetched", spy)
    fates = {id: FATES[id] for id in ("ranges-film", "ok-film", "status-404")}
    check_fates(downloads(server, tmp_path, fates), fates)
    assert [on_the_way for id, on_the_way in cut if id == "ranges-film"] == [True]
    assert [on_the_way for id, on_the_way in cut if id == "status-404"] == [True]


@pytest.mark.soak
def test_many_clips_from_a_bad_server(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(youtube, "TIMEOUT", 1)
    draw = random.Random(0)
    fates = {f"{draw.choice(list(FATES))}-{number}": None for number in range(200)}
    expected = {id: next(fate for name, fate in FATES.items() if id.startswith(name)) for id in fates}
    check_fates(downloads(server, tmp_path, expected, **{"whole-videos": True}), expected)


def test_only_what_is_missing_is_fetched(server: Server, tmp_path: Path, short_clip: bytes) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "status-404_000004_000014.mp4").write_bytes(short_clip)
    made = downloads(server, tmp_path, {"status-404": None}, videos=tmp_path / "clips", **{"whole-videos": True})
    assert rows(made)["status-404_000004_000014"][0] == "kept"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Private video. Sign in if you've been granted access to this video", "it is private"),
        ("Video unavailable. This video has been removed by the uploader", "it is gone"),
        ("This video is no longer available because the YouTube account has been terminated", "it is gone"),
        ("The uploader has not made this video available in your country", "it is blocked here"),
        ("Video unavailable. This video contains content from X, who has blocked it", "it is blocked here"),
        (
            "Sign in to confirm your age. This video may be inappropriate for some users.",
            "it wants a sign-in: --cookies",
        ),
        ("Sign in to confirm you’re not a bot", "it wants a sign-in: --cookies"),
        ("Join this channel to get access to members-only content", "it is for members only"),
        ("HTTP Error 429: Too Many Requests", "the server wants fewer requests"),
        ("Unsupported URL: http://127.0.0.1:42917/private?status=404", "there is no video at its address"),
        ("something new", "it cannot be fetched"),
    ],
)
def test_reasons_by_what_yt_dlp_says(said: str, reason: str) -> None:
    from yt_dlp.utils import DownloadError, ExtractorError

    within = ExtractorError(said, expected=True)
    assert reason_of(DownloadError("ERROR", (ExtractorError, within, None))) == reason


class Counting:
    """Translates into how long a text is; ``poor`` it cannot."""

    def __init__(self, model: str | None, folder: Path) -> None:
        self.identity = "counting"

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        return [None if text == "poor" else f"译文{len(text)}" for text in texts]


def counting(folder: Path) -> Translation:
    return Translation("counting", Counting(None, folder), TranslationCache(folder / "translations.sqlite"))


def test_missing_chinese_captions_are_translated(
    tmp_path: Path, short_clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        vatex, "open_translation", lambda named, cache, registry: asked.append(named) or counting(tmp_path / "cache")
    )
    entries = [entry("a_000000_000010", chCap=[], enCap=["a man is running", "poor"]), entry("b_000000_000010"),
               entry("c_000000_000010", chCap=[], enCap=["poor"])]  # fmt: skip
    source = publish(tmp_path / "vatex", entries, [])
    for name in "abc":
        (source / f"{name}_000000_000010.mp4").write_bytes(short_clip)
    made = prepare(source, tmp_path / "set", {"translate": True})
    assert [sample["text"] for sample in made.split("train")] == [["译文16"], ["一个片段", "又一句"]]
    assert rows(made)["c_000000_000010"][0] == "filtered" and set(asked) == {"marian"}
    assert made.manifest.choices["translate"] is True


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "there are no clips: name their folder with --videos, or fetch them with --download"),
        ({"videos": Path("/nowhere")}, "--videos: '/nowhere': no such folder or archive"),
        ({"side": 4}, "--side: 4 is not between"),
        ({"download": True, "url-template": "http://x/"}, "is not an http\\(s\\) address with {id} in it"),
        ({"download": True, "url-template": "file:///{id}"}, "is not an http\\(s\\) address"),
        ({"download": True, "cookies": Path("/nowhere")}, "--cookies: '/nowhere': no such file"),
        ({"download": True, "ffmpeg": Path("/nowhere")}, "--ffmpeg: '/nowhere' is not a program"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        prepare(publish(tmp_path / "vatex", [entry("a_000000_000010")], []), tmp_path / "set", options)


def test_what_is_not_installed_is_named_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = publish(tmp_path / "vatex", [entry("a_000000_000010")], [])
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match="needs ffmpeg to cut out clips, and it is not installed: install it"):
        prepare(source, tmp_path / "set", {"download": True})
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    with pytest.raises(UserError, match=r"--download needs yt-dlp: pip install 'skillnet-video\[download\]'"):
        prepare(source, tmp_path / "set", {"download": True})


def test_options_that_change_nothing_about_the_result_are_not_recorded() -> None:
    recorded = {option.name for option in DATASET.options if option.recorded}
    assert recorded == {"videos", "side", "translate", "translator", "download"}
    assert all(isinstance(option, DatasetOption) for option in DATASET.options)


@pytest.mark.skipif(not PACKS, reason="SKILLNET_TEST_PACKS names no folder with vatex")
def test_the_pack(tmp_path: Path) -> None:
    made = prepare(Path(PACKS or "") / "vatex", tmp_path / "set", protocol="paper", limit=30)
    assert not list(verify(made.path))
    sizes = {split: facts.items for split, facts in made.manifest.splits.items()}
    assert sizes == {"train": 30, "test": 30, "dev": 30}
    assert Counter(len(levels(sample["video"])) for sample in made.split("dev")) == {6: 30}

"""Published tables of addresses in the forms in which people really have them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from skillnet_cli.api import UserError
from skillnet_cli.data.format import read_ledger
from tests.plugins.image import pictures_of_the_web as wukong
from tests.plugins.video import test_webvid as webvid
from tests.plugins.video.films import film, numbered


def test_d12_a_flat_folder_of_webvid_clips(tmp_path: Path) -> None:
    """As img2dataset and most mirrors leave them: VIDEOID.mp4, without the folders of the pages."""
    source = webvid.publish(tmp_path / "webvid", "http://example.org")
    (tmp_path / "videos").mkdir()
    for name in ("1.mp4", "9.webm"):
        (tmp_path / "videos" / name).write_bytes(film(numbered(10), rate=10))
    made = webvid.prepare(source, tmp_path / "set", {"videos": tmp_path / "videos"})
    assert [row.id for row in read_ledger(made.path) if row.why == "kept"] == ["1", "9"]


def test_d12_wukongs_own_test_table(tmp_path: Path) -> None:
    """Its columns are dir and caption: where a picture lies in the folder beside it, and no address."""
    release = tmp_path / "wukong_test"
    (release / "pictures").mkdir(parents=True)
    table = io.StringIO()
    rows = [("pictures/0.jpg", "一张图片的标题"), ("pictures/9.jpg", "没有这张图片")]
    csv.writer(table).writerows([("dir", "caption"), *rows])
    (release / "wukong_test.csv").write_text(table.getvalue(), encoding="utf-8")
    (release / "pictures" / "0.jpg").write_bytes(wukong.content("0"))
    made = wukong.prepare(release, tmp_path / "set", {"images": release})
    assert [(row.split, row.why) for row in read_ledger(made.path)] == [("test", "kept"), ("test", "unavailable")]
    assert made.split("test")[0]["text"] == ["一张图片的标题"] and "url" not in made.manifest.splits["test"].fields
    with pytest.raises(UserError, match=r"wukong_test.csv: it has no column 'url', only dir, caption"):
        wukong.prepare(release, tmp_path / "without pictures")

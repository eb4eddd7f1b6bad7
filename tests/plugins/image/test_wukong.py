"""``wukong`` from its tables: captions filtered, pictures fetched from a bad server, and kills that leave no trace."""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from skillnet_cli.api import UserError
from skillnet_cli.data.format import read_ledger
from skillnet_cli.data.verify import verify
from skillnet_image.datasets.wukong import reason_against
from tests.kills import killed_and_resumed
from tests.plugins.image.pictures_of_the_web import DAMAGED, KILLED, SOUND, content, prepare, publish, rows
from tests.webserver import Server, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(content) as running:
        yield running


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bad_server_is_survived_and_every_row_accounted_for(server: Server, tmp_path: Path) -> None:
    check_account(server, tmp_path, 300)


@pytest.mark.soak
def test_a_bad_server_is_survived_for_long(server: Server, tmp_path: Path) -> None:
    check_account(server, tmp_path, 5_000)


def check_account(server: Server, tmp_path: Path, count: int) -> None:
    asked = rows(server.url, count)
    source = publish(tmp_path / "wukong_release", {"2": asked[: count // 3], "10": asked[count // 3 :]})
    made = prepare(source, tmp_path / "set")
    assert not list(verify(made.path))
    ledger = list(read_ledger(made.path))
    ids = [f"wukong_100m_2-{n + 1:07d}" for n in range(count // 3)]
    ids += [f"wukong_100m_10-{n + 1:07d}" for n in range(count - count // 3)]
    assert [row.id for row in ledger] == ids, "one row each, in order of the files' numbers"
    classes = ["kept" if d in SOUND else "damaged" if d in DAMAGED else "unavailable" for d, _, _ in asked]
    assert [row.why for row in ledger] == classes
    assert made.manifest.ledger == {**dict.fromkeys(made.manifest.ledger, 0), **Counter(classes)}
    expected = [(url, [caption]) for deed, url, caption in asked if deed in SOUND]
    assert [(sample["url"], sample["text"]) for sample in made.split("train")] == expected
    number = int(expected[-1][0].rpartition("/")[2])
    pixel = Image.open(io.BytesIO(made.split("train")[len(expected) - 1]["image"])).getpixel((8, 8))
    assert all(abs(a - b) < 6 for a, b in zip(pixel, (number % 256, number // 256, 7), strict=True))
    assert len(made.manifest.splits["train"].shards) >= count // 50, "a shard for each range of rows"


def test_any_number_of_processes_makes_the_same_bytes(server: Server, tmp_path: Path) -> None:
    source = publish(tmp_path / "release", {"0": [row for row in rows(server.url, 160) if row[0] != "once"]})
    prepare(source, tmp_path / "one")
    prepare(source, tmp_path / "two", workers=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def check_kills(server: Server, tmp_path: Path, count: int, kills: int, longest: float) -> None:
    asked = [row for row in rows(server.url, count) if row[0] != "once"]
    source = publish(tmp_path / "release", {"0": asked})
    prepare(source, tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, str(source), str(tmp_path / "set")]
    environment = {"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    killed_and_resumed(command, tmp_path / "set", kills, longest, environment)
    assert files(tmp_path / "set") == files(tmp_path / "whole")


def test_kills_leave_no_trace(server: Server, tmp_path: Path) -> None:
    check_kills(server, tmp_path, 250, kills=1, longest=0.6)


@pytest.mark.soak
def test_many_kills_leave_no_trace(server: Server, tmp_path: Path) -> None:
    check_kills(server, tmp_path, 5_000, kills=20, longest=8)


def test_pictures_that_are_there_already(tmp_path: Path) -> None:
    asked = [("", f"http://example.org/{number}", f"标题第 {number}") for number in range(6)]
    source = publish(tmp_path / "release", {"3": asked})
    folder = tmp_path / "images" / "003"
    folder.mkdir(parents=True)
    for number in (0, 1, 4):
        (folder / f"{number:05d}.jpg").write_bytes(content(str(number)) if number != 1 else b"broken")
    made = prepare(source, tmp_path / "set", {"images": tmp_path / "images"})
    assert [sample["id"][-7:] for sample in made.split("train")] == ["0000001", "0000005"]
    whys = [row.why for row in read_ledger(made.path)]
    assert whys == ["kept", "damaged", "unavailable", "unavailable", "kept", "unavailable"]


def test_a_column_may_say_where_pictures_lie(tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    lines = ["url,caption,filename", "http://x/1,一张图片的标题,a.jpg", "http://x/2,一张图片的标题,../b.jpg"]
    (tmp_path / "release" / "wukong_test.csv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(content("1"))
    (tmp_path / "b.jpg").write_bytes(content("2"))
    made = prepare(tmp_path / "release", tmp_path / "set", {"images": tmp_path / "images"})
    assert [row.why for row in read_ledger(made.path)] == ["kept", "damaged"]


def test_rows_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    text = 'url,caption\nhttp://x/1\n,没有地址的标题\nhttp://x/2,太短\nhttp://x/3,no chinese\nhttp://x/4,"不合上\n'
    (tmp_path / "release" / "wukong_100m_0.csv").write_text(text, encoding="utf-8")
    (tmp_path / "images" / "000").mkdir(parents=True)
    with pytest.raises(Exception, match="no item could be kept"):
        prepare(tmp_path / "release", tmp_path / "set", {"images": tmp_path / "images"})
    found = [json.loads(line) for line in (tmp_path / "set" / "ledger.jsonl").read_text().splitlines()]
    assert [(row["class"], row["reason"]) for row in found] == [
        ("damaged", "row 1 has 1 cells, the header has 2"),
        ("damaged", "it has no address"),
        ("filtered", "the caption is shorter than 4 characters"),
        ("filtered", "the caption has no Chinese words"),
        ("damaged", "row 5 has a quote that is never closed"),
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"side": 3}, "--side: 3 is not between"),
        ({"shard-rows": 0}, "--shard-rows: 0 is less than 1"),
        ({"timeout": 0.0}, "--timeout: 0.0 is less than"),
        ({"images": Path("/nowhere")}, "'/nowhere': no such folder or archive"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    source = publish(tmp_path / "release", {"0": rows("http://x", 3)})
    with pytest.raises(UserError, match=said):
        prepare(source, tmp_path / "set", options)


def test_another_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    with pytest.raises(UserError, match=r"there is no \*.csv in it"):
        prepare(tmp_path / "release", tmp_path / "set")
    (tmp_path / "release" / "other.csv").write_text("name,link\n")
    with pytest.raises(UserError, match="other.csv: it has no column 'url', only name, link"):
        prepare(tmp_path / "release", tmp_path / "set2")


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("一只猫在沙发上睡觉", None),
        ("iPhone 13 手机壳（透明）, 包邮!", None),
        ("价格：￥99.00 起", None),
        ("猫咪图", "the caption is shorter than 4 characters"),
        ("  猫咪图  ", "the caption is shorter than 4 characters"),
        ("a cat on a sofa", "the caption has no Chinese words"),
        ("1234567890", "the caption has no Chinese words"),
        ("<div>猫</div>=={}", "more than 20% of the caption are illegal symbols"),
        ("猫咪图片\ufffd\ufffd", "more than 20% of the caption are illegal symbols"),
        ("😀😀😀猫咪图", "more than 20% of the caption are illegal symbols"),
        ("好看的猫咪图片大全😀", None),
    ],
)
def test_captions_by_the_papers_rules(caption: str, reason: str | None) -> None:
    assert reason_against(caption) == reason


def test_without_aiohttp_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skillnet_cli.sources.web", None)
    source = publish(tmp_path / "release", {"0": rows("http://127.0.0.1:9", 5)})
    with pytest.raises(UserError, match=r"needs aiohttp: pip install 'skillnet-cli\[download\]'"):
        prepare(source, tmp_path / "set")

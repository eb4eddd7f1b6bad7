"""Sets that are made again, from sources that have changed, by two at once, and from folders that hold more."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from skillnet_cli.cli.app import run
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.data.verify import verify
from tests.plugins.sound.corpora import laid_out, packed, wav

CHINESE = "小猫坐在窗台上看雨，今天的天气真好，我们去公园散步吧。"


def prepare(*words: object) -> int:
    return run(["prepare", *map(str, words)])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def texts(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, words in files.items():
        (folder / f"{name}.txt").write_text("".join(f"{words}{CHINESE}第{line}行。\n" for line in range(5)), "utf-8")
    return folder


def kept(out: Path) -> str:
    made = PreparedSet.open(out)
    assert not list(verify(out))
    return "".join(sample["text"][0] for name in made.manifest.splits for sample in made.split(name))


def tnews(folder: Path, *parts: str, items: int = 6) -> Path:
    folder.mkdir(exist_ok=True)
    for part in parts:
        rows = [
            {"sentence": f"{part}的第{number}条新闻", "label": "104", "label_desc": "news_finance"}
            for number in range(items)
        ]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{part}.json").write_text(text, encoding="utf-8")
    return folder


def table(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


# --- sources that change ----------------------------------------------------------------------------------------------


def test_d01_repaired_recordings_are_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two of seven recordings are damaged; put right, they are read again, and the set is that of a sound source."""
    good = {f"{number}.wav": wav(0.5, seed=number) for number in range(7)}
    source = laid_out(tmp_path / "source", {**good, "2.wav": b"RIFF", "5.wav": b""})
    asked = ("speech-corpus", "--source", source, "--workers", 1, "--out")
    assert prepare(*asked, tmp_path / "set") == 1
    said = capsys.readouterr().err
    assert "2 of 7 items are damaged" in said and "run it again (only what has changed is read again)" in said
    assert prepare(*asked, tmp_path / "set") == 1 and "made anew" not in capsys.readouterr().err
    laid_out(source, good)
    assert prepare(*asked, tmp_path / "set") == 0
    assert "1 part is made anew: their sources have changed" in capsys.readouterr().err.replace("its", "their")
    assert prepare(*asked, tmp_path / "fresh") == 0
    assert contents(tmp_path / "set") == contents(tmp_path / "fresh")
    assert len(PreparedSet.open(tmp_path / "set").split("train")) == 7


@pytest.mark.parametrize("how", ["shares", "interrupted"])
def test_d02_a_text_that_changes_in_between_is_never_mixed_in(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The new text has the size of the old one: only its time, or its inode, tells."""
    source = texts(tmp_path / "source", a="甲", b="乙", c="丙")
    before = (source / "a.txt").stat()
    out = tmp_path / "set"
    assert prepare("text-corpus", "--source", source, "--out", out, "--shard", "1/2") == 0
    (source / "new").write_text((source / "a.txt").read_text("utf-8").replace("甲", "丁"), "utf-8")
    os.utime(source / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (source / "new").replace(source / "a.txt")
    capsys.readouterr()
    if how == "shares":
        assert prepare("text-corpus", "--source", source, "--out", out, "--shard", "2/2") == 0
        assert prepare("merge", out) == 2
        assert "1 of them again: their sources have changed" in capsys.readouterr().err
        assert prepare("text-corpus", "--source", source, "--out", out, "--shard", "1/2") == 0
        assert "1 part is made anew" in capsys.readouterr().err
        assert prepare("merge", out) == 0
    else:
        assert prepare("text-corpus", "--source", source, "--out", out) == 0
        assert "1 part is made anew" in capsys.readouterr().err
    assert "甲" not in kept(out) and {"乙", "丙", "丁"} <= set(kept(out))


def test_d02_an_archive_that_changes_in_between_is_read_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = texts(tmp_path / "source", a="甲", b="乙")
    archive = tmp_path / "texts.tar.gz"
    archive.write_bytes(packed({path.name: path.read_bytes() for path in sorted(folder.iterdir())}))
    asked = ("text-corpus", "--source", archive, "--out", tmp_path / "set")
    assert prepare(*asked, "--shard", "1/2") == 0
    archive.write_bytes(
        packed(
            {path.name: path.read_bytes().replace("甲".encode(), "丁".encode()) for path in sorted(folder.iterdir())}
        )
    )
    assert prepare(*asked) == 0 and "made anew" in capsys.readouterr().err
    assert "甲" not in kept(tmp_path / "set") and "丁" in kept(tmp_path / "set")


def test_d02_files_that_come_and_go_are_taken_up_and_dropped(tmp_path: Path) -> None:
    source = texts(tmp_path / "source", b="乙", c="丙")
    asked = ("text-corpus", "--source", source, "--out", tmp_path / "set")
    assert prepare(*asked, "--shard", "1/2") == 0
    texts(source, a="甲")
    (source / "c.txt").unlink()
    assert prepare(*asked) == 0
    assert {"甲", "乙"} <= set(kept(tmp_path / "set")) and "丙" not in kept(tmp_path / "set")


def test_d02_a_change_to_a_set_that_is_whole_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = texts(tmp_path / "source", a="甲", b="乙")
    asked = ("text-corpus", "--source", source, "--out", tmp_path / "set")
    assert prepare(*asked) == 0 and prepare(*asked) == 0
    assert "is complete already" in capsys.readouterr().err
    (source / "notes.log").write_text("not a text of the corpus")
    assert prepare(*asked) == 0, "what is not read does not count"
    texts(source, b="戊")
    capsys.readouterr()
    assert prepare(*asked) == 2
    assert "has changed since" in (said := capsys.readouterr().err) and "--again" in said
    assert "戊" not in kept(tmp_path / "set")
    assert prepare(*asked, "--again") == 0
    assert "戊" in kept(tmp_path / "set") and "乙" not in kept(tmp_path / "set")


def test_d02_the_set_in_the_making_may_lie_in_its_own_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts(tmp_path / "source", a="甲", b="乙")
    monkeypatch.chdir(tmp_path / "source")
    asked = ("text-corpus", "--source", ".", "--out", "set")
    assert prepare(*asked, "--shard", "1/2") == 0 and prepare(*asked) == 0 and prepare(*asked) == 0
    assert prepare("text-corpus", "--source", ".", "--out", tmp_path / "other") == 0
    assert kept(Path("set")) == kept(tmp_path / "other")


# --- what is asked for now --------------------------------------------------------------------------------------------


def test_d04_a_set_made_otherwise_is_not_taken_for_the_one_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tnews(tmp_path / "source", "train", "dev")
    out = tmp_path / "set"
    assert prepare("tnews", "--source", source, "--limit", 2, "--out", out) == 0
    before = contents(out)
    for more, what in (
        ((), "limit 2, now none"),
        (("--limit", 3), "limit 2, now 3"),
        (("--limit", 2, "--seed", 1), "seed 0, now 1"),
        (("--limit", 2, "--split", "official"), "split none, now official"),
    ):
        assert prepare("tnews", "--source", source, "--out", out, *more) == 2
        assert what in (said := capsys.readouterr().err) and "--again" in said, said
    assert prepare("tnews", "--source", "/nonexistent", "--limit", 2, "--out", out) == 2
    assert "no such file or folder" in capsys.readouterr().err
    shutil.copytree(source, tmp_path / "elsewhere")
    assert prepare("tnews", "--source", tmp_path / "elsewhere", "--limit", 2, "--out", out) == 2
    assert contents(out) == before
    assert prepare("tnews", "--source", source, "--limit", 2, "--out", out) == 0 and contents(out) == before
    assert prepare("tnews", "--source", source, "--out", out, "--again") == 0
    assert len(PreparedSet.open(out).split("train")) == 6 and sorted(tmp_path.iterdir()) == sorted(
        tmp_path / name for name in ("source", "elsewhere", "set")
    )


def test_d04_an_old_set_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    source = laid_out(tmp_path / "source", {f"{number}.wav": wav(0.5, seed=number) for number in range(4)})
    asked = ("speech-corpus", "--source", source, "--workers", 1, "--out", tmp_path / "set")
    assert prepare(*asked) == 0
    before = contents(tmp_path / "set")
    laid_out(source, {f"{number}.wav": b"" for number in range(2)})
    assert prepare(*asked, "--again") == 1, "half of it is damaged"
    assert contents(tmp_path / "set") == before
    laid_out(source, {f"{number}.wav": wav(0.6, seed=number) for number in range(2)})
    assert prepare(*asked, "--again") == 0
    assert contents(tmp_path / "set") != before and not list(verify(tmp_path / "set"))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_d04_again_never_replaces_what_is_no_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tnews(tmp_path / "source", "train", "dev")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.json").write_text("{}")
    (tmp_path / "mine" / "thesis.tex").write_text("do not lose me")
    assert prepare("tnews", "--source", source, "--out", tmp_path / "mine", "--again") == 2
    assert "thesis.tex" in capsys.readouterr().err and (tmp_path / "mine" / "thesis.tex").exists()


def test_d04_a_table_is_compared_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["text", "label", "other"], *([f"第{number}条", number % 3, "x"] for number in range(30))]
    source = table(tmp_path / "t.csv", rows)
    asked = ("table", source, "--task", "tc", "--out", tmp_path / "set")
    assert prepare(*asked) == 0
    before = contents(tmp_path / "set")
    assert prepare(*asked) == 0 and "is complete already" in capsys.readouterr().err
    for more in (
        ("--limit", 2), ("--seed", 3), ("--columns", "label=other"), ("--shares", "train=0.5,test=0.5"),
        ("--split-column", "label"), ("--licence", "CC0"), ("--task", "mlm"),
    ):  # fmt: skip
        assert prepare(*asked, *more) == 2 and "--again" in capsys.readouterr().err, more
    assert contents(tmp_path / "set") == before
    table(source, [*rows, ["又一条", 1, "x"]])
    assert prepare(*asked) == 2 and "has changed since" in capsys.readouterr().err
    assert prepare(*asked, "--again") == 0
    assert PreparedSet.open(tmp_path / "set").manifest.ledger["kept"] == 31


def test_d04_a_picture_of_a_table_that_was_missing_is_found_the_next_time(tmp_path: Path) -> None:
    from tests.faults.corpus import sound_files

    picture = next(iter(sound_files()["image"].values()))
    source = table(tmp_path / "t.csv", [["image", "text"], ["a.png", "一只猫"], ["b.png", "一条狗"]])
    (tmp_path / "a.png").write_bytes(picture)
    asked = ("table", source, "--task", "t2i", "--shares", "train=1", "--out", tmp_path / "set")
    assert prepare(*asked) == 0 and prepare(*asked) == 0
    (tmp_path / "b.png").write_bytes(picture)
    assert prepare(*asked) == 2 and prepare(*asked, "--again") == 0
    assert len(PreparedSet.open(tmp_path / "set").split("train")) == 2


# --- two at once ------------------------------------------------------------------------------------------------------

AT_WORK = """
import sys
from skillnet_cli.cli.app import run
from skillnet_cli.prepare.writer import SetWriter
keep = SetWriter.keep
def waiting(self, *given, **more):
    print("at work", flush=True)
    sys.stdin.readline()
    SetWriter.keep = keep
    return keep(self, *given, **more)
SetWriter.keep = waiting
sys.exit(run(sys.argv[1:]))
"""


def test_d03_two_tables_at_once_do_not_meet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first one waits in the middle of its work; the second one ends at once; the first one's set is whole."""
    one = table(tmp_path / "a.csv", [["text", "label"], *([f"第{number}条", number % 5] for number in range(50))])
    two = table(tmp_path / "b.csv", [["text", "label"], *([f"另一{number}条", number % 5] for number in range(20))])
    out = tmp_path / "set"
    command = [sys.executable, "-c", AT_WORK, "prepare", "table", str(one), "--task", "tc", "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as first:
        assert first.stdout and first.stdout.readline() == "at work\n"
        start = time.monotonic()
        assert prepare("table", two, "--task", "tc", "--out", out) == 2
        assert "another process prepares it right now" in capsys.readouterr().err and time.monotonic() - start < 60
        first.communicate("go on\n", timeout=60)
        assert first.returncode == 0
    assert not list(verify(out)) and PreparedSet.open(out).manifest.ledger["kept"] == 50
    assert not (out / ".work").exists()


@pytest.mark.parametrize(
    ("held", "wanted", "meet"),
    [
        ("all", "1-of-2", True), ("1-of-2", "all", True), ("1-of-2", "2-of-2", False), ("1-of-2", "1-of-3", True),
        ("1-of-2", "2-of-4", False), ("1-of-2", "3-of-4", True), ("all", "all", True), ("1-of-2", "1-of-2", True),
    ],
)  # fmt: skip
def test_d03_shares_that_have_ranges_in_common_do_not_meet(held: str, wanted: str, meet: bool, tmp_path: Path) -> None:
    from skillnet_cli.api import UserError
    from skillnet_cli.prepare.claims import claimed

    with claimed(tmp_path / "set", held):
        if meet:
            with pytest.raises(UserError, match="another process prepares it"), claimed(tmp_path / "set", wanted):
                pass
        else:
            with claimed(tmp_path / "set", wanted):
                pass
    with claimed(tmp_path / "set", wanted):
        pass


# --- folders that hold more than asked --------------------------------------------------------------------------------


def aidatatang() -> bytes:
    """As it is published: an archive of archives, one a speaker."""
    speakers = {}
    lines = []
    for speaker, split in (("G0002", "train"), ("G0003", "dev"), ("G0004", "test")):
        names = [f"T0055{speaker}S{number:04d}" for number in (1, 2)]
        files = {f"./{speaker}/{name}.wav": wav(0.6, seed=len(lines) + place) for place, name in enumerate(names)}
        lines += [f"{name} 你好 世界" for name in names]
        speakers[f"aidatatang_200zh/corpus/{split}/{speaker}.tar.gz"] = packed(files)
    listed = {"aidatatang_200zh/transcript/aidatatang_200_zh_transcript.txt": "\n".join(lines).encode()}
    return packed({**listed, **speakers})


def test_d05_a_folder_that_holds_the_archive_stands_for_it(tmp_path: Path) -> None:
    (tmp_path / "downloads" / "corpus").mkdir(parents=True)
    (tmp_path / "downloads" / "corpus" / "aidatatang_200zh.tgz").write_bytes(aidatatang())
    made = {}
    asked = ("speech-corpus", "--preset", "aidatatang-200zh", "--workers", 1, "--source")
    for source in ("downloads/corpus/aidatatang_200zh.tgz", "downloads/corpus", "downloads"):
        out = tmp_path / f"set-{len(made)}"
        assert prepare(*asked, tmp_path / source, "--out", out) == 0
        manifest = PreparedSet.open(out).manifest
        made[source] = {
            name: [sample["id"] for sample in PreparedSet.open(out).split(name)] for name in manifest.splits
        }
    assert len(set(map(str, made.values()))) == 1 and set(made["downloads"]) == {"train", "dev", "test"}


def test_d05_a_try_that_found_nothing_does_not_keep_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "transcript.txt").write_text("")
    source = laid_out(tmp_path / "source", {"a.wav": wav(0.5)})
    for wrong in ("empty", "a.txt"):
        (tmp_path / "a.txt").write_text("no recording")
        assert prepare("speech-corpus", "--source", tmp_path / wrong, "--out", tmp_path / "set") == 2
    (tmp_path / "blank.txt").write_text("\n")
    assert prepare("text-corpus", "--source", tmp_path / "blank.txt", "--out", tmp_path / "set") == 2
    assert "holds no items" in capsys.readouterr().err
    assert prepare("speech-corpus", "--source", source, "--workers", 1, "--out", tmp_path / "set") == 0


@pytest.mark.parametrize("name", ["texts.zip", "texts.tar", "texts.tar.gz", "texts.tgz"])
def test_d05_archives_in_a_folder_are_looked_into(name: str, tmp_path: Path) -> None:
    import zipfile

    folder = texts(tmp_path / "texts", a="甲", b="乙")
    (tmp_path / "downloads").mkdir()
    if name.endswith(".zip"):
        with zipfile.ZipFile(tmp_path / "downloads" / name, "w") as archive:
            for path in folder.iterdir():
                archive.write(path, path.name)
    else:
        members = {path.name: path.read_bytes() for path in folder.iterdir()}
        (tmp_path / "downloads" / name).write_bytes(packed(members, "w" if name.endswith("tar") else "w:gz"))
    assert prepare("text-corpus", "--source", tmp_path / "downloads", "--out", tmp_path / "set") == 0
    assert {"甲", "乙"} <= set(kept(tmp_path / "set"))


# --- names and paths --------------------------------------------------------------------------------------------------


def test_d11_a_path_may_be_written_in_any_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal requests make equal bytes, and the manifest says nothing of where things lay."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    members = {path.name: path.read_bytes() for path in sorted(texts(tmp_path / "texts", a="甲", b="乙").iterdir())}
    Path("t.tar").write_bytes(packed(members, "w"))
    shutil.copy("t.tar", tmp_path / "t.tar")
    ways: Mapping[str, Any] = {
        "plain": "t.tar",
        "dotted": "./t.tar",
        "whole": tmp_path / "here" / "t.tar",
        "copy": "../t.tar",
    }
    for name, source in ways.items():
        assert prepare("text-corpus", "--source", source, "--out", tmp_path / name) == 0
    made = [contents(tmp_path / name) for name in ways]
    assert all(each == made[0] for each in made[1:])
    assert str(tmp_path).encode() not in b"".join(made[0].values())
    assert prepare("text-corpus", "--source", "t.tar", "--out", "set", "--shard", "1/2") == 0
    assert prepare("text-corpus", "--source", "./t.tar", "--out", "./set") == 0
    assert prepare("text-corpus", "--source", tmp_path / "here" / "t.tar", "--out", "set") == 0


@pytest.mark.parametrize(
    ("given", "split"),
    [
        ("valid", "dev"), ("Test", "test"), ("validation", "dev"), ("eval", "dev"), (" test ", "test"),
        ("TRAIN", "train"), ("val", "dev"), ("held-out", "held-out"), ("测试", "测试"),
    ],
)  # fmt: skip
def test_d09_the_usual_names_of_parts_are_known(
    given: str, split: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [["text", "label", "part"], *([f"第{number}条", "a", ("train", given)[number % 2]] for number in range(8))]
    source = table(tmp_path / "t.csv", rows)
    assert prepare("table", source, "--task", "tc", "--split-column", "part", "--out", tmp_path / "set") == 0
    assert set(PreparedSet.open(tmp_path / "set").manifest.splits) == {"train", split}
    said = capsys.readouterr().err
    assert (f"is {split}" in said) == (given.strip() != split)
    assert (f"{split}: kept as parts of these names" in said) == (split not in ("train", "dev", "test"))


@pytest.mark.parametrize("part", ["train/a", "v1.0", "..", "a\\b", "x:y", "a\tb", "长" * 90, "json"])
def test_t04_a_part_that_no_file_can_be_called_is_a_damaged_row(part: str, tmp_path: Path) -> None:
    source = table(
        tmp_path / "t.csv", [["text", "label", "part"], ["一", "a", part], ["二", "a", "test"], ["三", "b", "test"]]
    )
    assert prepare("table", source, "--task", "tc", "--split-column", "part", "--out", tmp_path / "set") == 0
    manifest = PreparedSet.open(tmp_path / "set").manifest
    assert manifest.ledger["kept"] == 2 and manifest.ledger["damaged"] == 1
    assert prepare("table", source, "--task", "tc", "--shares", f"{part}=1", "--out", tmp_path / "two") == 2


def test_t04_a_column_of_anything_is_no_column_of_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = table(tmp_path / "t.csv", [["text", "label"], *([f"第{number}条", "a"] for number in range(200))])
    assert prepare("table", source, "--task", "tc", "--split-column", "text", "--out", tmp_path / "set") == 2
    assert "names more than 100 parts" in capsys.readouterr().err


def test_d07_home_is_expanded_wherever_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    tnews(tmp_path / "home" / "raw", "train", "dev")
    assert prepare("tnews", "--source=~/raw", "--out=~/data/tnews") == 0
    assert prepare("tnews", "--source", "~/raw", "--out", "~/data/again") == 0
    assert run(["data", "verify", "tnews", "--data=~/data"]) == 0 and run(["data", "verify", "~/data/tnews"]) == 0
    assert run(["recipes", "copy", "mini", "--to=~"]) == 0 and (tmp_path / "home" / "mini.toml").exists()
    monkeypatch.setenv("SKILLNET_DATA", "~/data")
    assert run(["data", "verify", "again"]) == 0
    assert list((tmp_path / "work").iterdir()) == []


def test_d07_home_is_expanded_in_recipes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from skillnet_cli.recipe.load import load_recipe, shipped_recipes

    monkeypatch.setenv("HOME", str(tmp_path))
    assert run(["recipes", "copy", "mini", "--to", str(tmp_path / "own.toml")]) == 0
    recipe = load_recipe(
        tmp_path / "own.toml",
        ['model.embedders.text.vocab="~/v.txt"', 'finetune.tasks.tc.datasets=["~/data/tnews"]', "init.text=~/bert"],
    )
    assert recipe.model.embedders["text"]["vocab"] == f"{tmp_path}/v.txt" and "mini" in shipped_recipes()
    assert list(recipe.finetune.tasks["tc"].datasets) == [f"{tmp_path}/data/tnews"]
    assert recipe.init["text"].source == f"{tmp_path}/bert"


# --- packs to measure on ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [("dev",), ("test",), ("dev", "test")])
def test_d08_tnews_without_train_is_prepared_as_it_is(
    parts: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare("tnews", "--source", tnews(tmp_path / "raw", *parts), "--out", tmp_path / "set") == 0
    assert set(PreparedSet.open(tmp_path / "set").manifest.splits) == set(parts)
    assert "there is no train.json" in capsys.readouterr().err


def test_d08_aic_icc_without_train_is_prepared_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.faults.corpus import sound_files

    picture = next(iter(sound_files()["image"].values()))
    names = [f"{number}.jpg" for number in range(4)]
    listed = json.dumps([{"image_id": name, "caption": [f"第{name}张"]} for name in names]).encode()
    folder = tmp_path / "raw" / "validation"
    laid_out(folder, {"caption_validation_annotations_20170910.json": listed})
    laid_out(folder / "caption_validation_images_20170910", {name: picture + name.encode() for name in names})
    assert prepare("aic-icc", "--source", tmp_path / "raw", "--split", "official", "--out", tmp_path / "set") == 0
    assert {name: facts.items for name, facts in PreparedSet.open(tmp_path / "set").manifest.splits.items()} == {
        "validation": 4
    }
    assert "only validation is prepared" in capsys.readouterr().err


def test_d08_vatex_without_training_is_prepared_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.faults.corpus import sound_files

    clip = next(iter(sound_files()["video"].values()))
    listed = json.dumps([{"videoID": f"a{number}_000000_000010", "chCap": ["一段"]} for number in range(3)]).encode()
    clips = {f"a{number}_000000_000010.mp4": clip for number in range(3)}
    source = laid_out(tmp_path / "raw", {"vatex_validation_v1.0.json": listed, **clips})
    asked = ("vatex", "--source", source, "--split", "official", "--workers", 1, "--out", tmp_path / "set")
    assert prepare(*asked) == 0
    assert set(PreparedSet.open(tmp_path / "set").manifest.splits) == {"validation"}
    assert "prepared without train" in capsys.readouterr().err


def test_d08_partitions_of_ones_own_are_kept(tmp_path: Path) -> None:
    rows = []
    for number, part in enumerate(("held-out", "Validation", "train", "test") * 6):
        body = "".join(f"    x{number}_{line} = x * {line}\n" for line in range(12))
        text = f"第{number}个函数计算的是{'甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未申酉戌亥天地'[number]}的数值"
        row = {"code": f"def f{number}(x):\n{body}    return x\n", "docstring": text, "partition": part}
        rows.append(json.dumps({**row, "language": "python", "func_name": f"f{number}"}, ensure_ascii=False))
    (tmp_path / "records.jsonl").write_text("\n".join(rows), "utf-8")
    asked = ("pytorrent", "--source", tmp_path / "records.jsonl", "--split", "official", "--workers", 1)
    assert prepare(*asked, "--out", tmp_path / "set") == 0
    splits = PreparedSet.open(tmp_path / "set").manifest.splits
    assert {name: facts.items for name, facts in splits.items()} == {"held-out": 6, "dev": 6, "train": 6, "test": 6}


def test_u08_a_set_that_is_made_of_no_files_takes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare("demo-digits", "--source", "nope", "--out", tmp_path / "set") == 2
    assert prepare("demo-digits", "--source", tmp_path, "--out", tmp_path / "set") == 2
    assert "leave out --source" in capsys.readouterr().err and not (tmp_path / "set" / "manifest.json").exists()


def test_u12_a_vocabulary_says_how_large_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four characters occur twice, five occur once: special tokens, four characters, and what is joined of them."""
    (tmp_path / "texts.txt").write_text("甲乙丙丁\n甲乙丙丁\n戊己庚辛壬\n", encoding="utf-8")
    out = tmp_path / "vocab.txt"
    asked = ("vocab", "--modality", "text", "--from", tmp_path / "texts.txt", "--size", 500, "--out", out)
    assert prepare(*asked) == 0
    lines = len(out.read_text("utf-8").splitlines())
    assert f"{lines} entries of 500 asked for" in (said := capsys.readouterr().err)
    assert "5 rare characters are left out" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.txt", "vocab.txt"]


def test_d03_two_vocabularies_at_once_do_not_meet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from skillnet_cli.files import only_one

    (tmp_path / "texts.txt").write_text("甲乙丙丁\n甲乙丙丁\n", encoding="utf-8")
    asked = ("vocab", "--modality", "text", "--from", tmp_path / "texts.txt", "--out", tmp_path / "vocab.txt")
    with only_one(tmp_path / ".vocab.txt.lock", "busy"):
        assert prepare(*asked) == 2 and "another process learns it" in capsys.readouterr().err
    assert prepare(*asked) == 0


def test_u18_a_disk_without_room_is_said_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two recordings of 1 s and 16 bits take 64 kB, twice while the set is put together."""
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    source = laid_out(tmp_path / "source", {"a.wav": wav(1.0, 1), "b.wav": wav(1.0, 2)})
    asked = ("speech-corpus", "--source", source, "--workers", 1, "--out", tmp_path / "set")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: usage(10**6, 9 * 10**5, 100_000))
        assert prepare(*asked) == 1
    assert "GB free" in (said := capsys.readouterr().err) and "ranges" not in said
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**6, 5 * 10**5, 200_000))
    assert prepare(*asked) == 0


def test_d04_a_set_that_is_being_made_anew_is_made_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from skillnet_cli.prepare.claims import claimed

    source = tnews(tmp_path / "source", "train", "dev")
    asked = ("tnews", "--source", source, "--out", tmp_path / "set")
    assert prepare(*asked) == 0
    with claimed(tmp_path / "set"):
        assert prepare(*asked, "--again") == 2 and "another process prepares it" in capsys.readouterr().err
        assert prepare(*asked) == 0, "it is there, and whole"
        assert prepare(*asked, "--again") == 2, "and still held"
    assert prepare(*asked, "--again") == 0 and sorted(tmp_path.iterdir()) == [tmp_path / "set", source]

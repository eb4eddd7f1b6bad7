"""Reading sets: by index, from threads and forks, and never bytes that were altered."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.data import prepared
from skillnet_cli.data.prepared import PreparedSet, data_roots, find_set
from tests.sets import MakeSet


def test_every_index_gives_its_own_sample(make_set: MakeSet) -> None:
    split = make_set(items=25, shard_items=10).split("train")
    assert len(split) == 25
    assert [sample["id"] for sample in split] == [f"item {number}" for number in range(25)]
    assert split[-1] == split[24]
    assert [sample["id"] for sample in split[8:12]] == ["item 8", "item 9", "item 10", "item 11"]
    assert split[3]["blob"].startswith(b"3 4 5") and split[3]["label"] == "odd"
    for outside in (25, -26):
        with pytest.raises(IndexError):
            split[outside]


def test_the_index_says_where_each_sample_begins(make_set: MakeSet) -> None:
    made = make_set(items=4)
    offsets = np.load(made.path / "train-000000.index.npy")
    assert offsets.dtype == np.int64 and offsets.shape == (5,)
    tar = (made.path / "train-000000.tar").read_bytes()
    assert [tar[start : start + 13] for start in offsets[:-1]] == [f"{key:08d}.json".encode() for key in range(4)]


def test_a_split_that_is_not_there_is_named_with_those_that_are(make_set: MakeSet) -> None:
    with pytest.raises(UserError, match="set 'numbers' has no split 'test': it has train, validation"):
        make_set().split("test")


def test_threads_and_forks_read_what_one_reader_reads(make_set: MakeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    split = make_set(items=60, shard_items=2).split("train")
    wanted = [sample["id"] for sample in split]
    monkeypatch.setattr(prepared, "_open_shard", prepared.functools.lru_cache(maxsize=2)(prepared._Shard))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda place: split[place]["id"], list(range(60)) * 20))
    assert found == wanted * 20
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, b"." if [sample["id"] for sample in split] == wanted else b"x")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 1) == b"."


def test_a_split_is_cheap_to_copy(make_set: MakeSet) -> None:
    split = make_set(items=500).split("train")
    split[0]
    copy = pickle.dumps(split)
    assert len(copy) < 20_000
    assert pickle.loads(copy)[499] == split[499]


def spoil(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "altered":
        content[700] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["truncated", "altered", "missing"])
@pytest.mark.parametrize("name", ["train-000000.tar", "train-000000.index.npy", "train-000000.crc32.npy"])
def test_spoilt_files_are_refused_by_name(make_set: MakeSet, name: str, how: str) -> None:
    made = make_set(items=400, shard_items=400)
    spoil(made.path / name, how)
    with pytest.raises(FailedJob, match=rf"{name}: .*prepare the set again"):
        list(made.split("train"))


def test_a_set_prepared_again_is_read_anew(make_set: MakeSet) -> None:
    assert make_set(blob=10).split("train")[0]["blob"] != make_set(blob=20).split("train")[0]["blob"]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 2}', "\x00"])
def test_a_damaged_manifest_is_one_line(make_set: MakeSet, content: str) -> None:
    made = make_set()
    (made.path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest.json: damaged, or of another version") as error:
        PreparedSet.open(made.path)
    assert "\n" not in str(error.value)


def test_folders_that_are_no_sets_say_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such prepared set"):
        PreparedSet.open(tmp_path / "nowhere")
    with pytest.raises(UserError, match="not a prepared set"):
        PreparedSet.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not a prepared set"):
        PreparedSet.open(tmp_path / "file")


def test_sets_are_found_in_the_first_root_that_has_them(make_set: MakeSet, tmp_path: Path) -> None:
    made = make_set("emoji")
    assert find_set("emoji", [tmp_path / "other", tmp_path]) == made.path
    assert find_set(str(made.path), []) == made.path


def test_a_name_nearly_right_is_pointed_out(make_set: MakeSet, tmp_path: Path) -> None:
    make_set("emoji")
    with pytest.raises(UserError, match="did you mean 'emoji'"):
        find_set("emojis", [tmp_path])
    with pytest.raises(UserError, match="found emoji; make it with 'skillnet prepare'"):
        find_set("speech", [tmp_path])
    with pytest.raises(UserError, match="found none"):
        find_set("speech", [tmp_path / "empty"])


def test_an_unfinished_set_is_not_passed_over_in_silence(make_set: MakeSet, tmp_path: Path) -> None:
    (make_set("emoji").path / "manifest.json").unlink()
    with pytest.raises(UserError, match="unfinished"):
        find_set("emoji", [tmp_path])


def test_roots_are_those_given_then_the_environments_then_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKILLNET_DATA", f"/a{os.pathsep}/b")
    assert data_roots([Path("given")]) == [Path("given"), Path("/a"), Path("/b"), Path("data")]
    monkeypatch.delenv("SKILLNET_DATA")
    assert data_roots() == [Path("data")]

"""What is written is there whole, old or new, at every moment."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from skillnet_cli import files
from skillnet_cli.api import FailedJob


def folder(path: Path, word: str) -> Path:
    path.mkdir()
    (path / "inside").mkdir()
    (path / "inside" / "word").write_text(word)
    return path


def test_a_folder_is_replaced_and_at_no_moment_absent(tmp_path: Path) -> None:
    target, done, absent = folder(tmp_path / "target", "0"), threading.Event(), []

    def watch() -> None:
        while not done.is_set():
            absent.extend([] if target.exists() else [1])

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(1, 200):
        files.replace_path(target, folder(tmp_path / "fresh", str(number)))
        assert (target / "inside" / "word").read_text(encoding="utf-8") == str(number)
    done.set()
    watcher.join()
    assert not absent and [each.name for each in tmp_path.iterdir()] == ["target"]


@pytest.mark.parametrize("before", ["nothing", "a file", "a folder", "a link to a folder"])
@pytest.mark.parametrize("exchanges", [True, False])
def test_whatever_was_there_is_replaced(
    before: str, exchanges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanges:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    other, target, room = folder(tmp_path / "other", "other"), tmp_path / "room" / "target", tmp_path / "room"
    room.mkdir()
    if before == "a file":
        target.write_text("old")
    elif before == "a folder":
        folder(target, "old")
    elif before == "a link to a folder":
        target.symlink_to(other)
    files.replace_path(target, folder(room / "fresh", "new"))
    assert (target / "inside" / "word").read_text(encoding="utf-8") == "new" and [
        each.name for each in room.iterdir()
    ] == ["target"]
    assert (other / "inside" / "word").read_text(encoding="utf-8") == "other" and not target.is_symlink()
    (room / "fresh").write_text("a file")
    files.replace_path(target, room / "fresh")
    assert target.read_text(encoding="utf-8") == "a file" and [each.name for each in room.iterdir()] == ["target"]


def test_a_name_is_given_once_the_content_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, call=original: [calls.append(name), call(*args)][1])
    files.write_json(tmp_path / "facts.json", {"word": "识别"})
    assert calls == ["fsync", "replace", "fsync"]
    assert (tmp_path / "facts.json").read_text(encoding="utf-8") == '{\n "word": "识别"\n}\n'
    with pytest.raises(FailedJob, match=r"nowhere/facts.json cannot be written: No such file"):
        files.write_json(tmp_path / "nowhere" / "facts.json", {})


def test_what_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    file = files.AtomicFile(tmp_path / "shard.tar")
    file.write(b"half of it")
    file.close()
    assert list(tmp_path.iterdir()) == []
    file = files.AtomicFile(tmp_path / "shard.tar")
    file.write(b"all of it")
    file.finish()
    file.close()
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"all of it"]

"""A tree gives the same files wherever they lie, and counts what it does not touch; cached files are found by path."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.sources.archives import CachedFiles, FileTree
from tests.sources.test_archives import FILES, folder_of, tar_of, tgz_of, zip_of

KINDS = [zip_of, tar_of, tgz_of, folder_of]
SUFFIXES = (".jpg", ".png")


def tree(path: Path) -> FileTree:
    return FileTree([path], path.parent / "work")


@pytest.mark.parametrize("make", KINDS)
def test_every_kind_of_source_gives_the_same_files_in_any_order(tmp_path: Path, make) -> None:
    found = tree(make(tmp_path / "source", FILES))
    assert {leaf.name: leaf.read() for leaf in reversed(found.members)} == FILES
    with found["a/one.txt"].open() as file:
        file.seek(990)
        assert file.read(5) == b"11111" and file.read() == b"11111"
    assert found.one("one.txt", "nothing").name == "a/one.txt" and "b/two.txt" not in found
    assert [leaf.name for leaf in found.named("a/*.txt")] == ["a/one.txt", "a/b/two.txt"] or make is folder_of
    with pytest.raises(DamagedItem, match="there is no file 'four'"):
        found["four"]
    with pytest.raises(UserError, match=r"source: there is no four.txt in it: check --source"):
        found.one("four.txt")


@pytest.mark.parametrize("make", [zip_of, tar_of, tgz_of])
def test_an_archive_in_an_archive_is_walked(tmp_path: Path, make) -> None:
    inner = tgz_of(tmp_path / "inner.tgz", FILES).read_bytes()
    for outer in (make(tmp_path / "outer", {"S1.tar.gz": inner}), folder_of(tmp_path / "f", {"S1.tar.gz": inner})):
        found = tree(outer)
        assert {each.name: each.read() for each in found.read_archive(found["S1.tar.gz"])} == FILES
    broken = tree(make(tmp_path / "broken", {"S1.tar.gz": inner[:-20]}))
    with pytest.raises(DamagedItem, match=r"S1.tar.gz: not an archive, or a damaged one"):
        list(broken.read_archive(broken["S1.tar.gz"]))


def test_archives_in_a_folder_are_part_of_the_tree(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "folder", {"list.json": b"[]"})
    tar_of(folder / "clips.tar", {"a.gif": b"GIF"})
    zip_of(folder / "more.zip", {"b/c.gif": b"gif"})
    assert {leaf.name: leaf.read() for leaf in tree(folder).members} == {
        "clips.tar/a.gif": b"GIF", "list.json": b"[]", "more.zip/b/c.gif": b"gif",
    }  # fmt: skip


def test_several_sources_and_single_files(tmp_path: Path) -> None:
    sources = [zip_of(tmp_path / "x.zip", {"a": b"1"}), folder_of(tmp_path, {"rows.csv": b"2"}) / "rows.csv"]
    assert [(leaf.name, leaf.read()) for leaf in FileTree(sources, tmp_path).members] == [
        ("a", b"1"),
        ("rows.csv", b"2"),
    ]


def test_a_compressed_tar_is_unpacked_once(tmp_path: Path) -> None:
    found = tree(tgz_of(tmp_path / "x.tgz", FILES))
    assert len(found.members) == 3
    (plain,) = (tmp_path / "work").iterdir()
    stamp = plain.stat().st_mtime_ns
    assert len(tree(tmp_path / "x.tgz").members) == 3 and plain.stat().st_mtime_ns == stamp


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/passwd", "C:/evil", "..\\evil"])
@pytest.mark.parametrize("make", [zip_of, tar_of, tgz_of])
def test_paths_that_lead_out_are_counted_and_the_rest_is_there(tmp_path: Path, make, name: str) -> None:
    found = tree(make(tmp_path / "x", {"fine": b"1", name: b"x", "also": b"2"}))
    assert {leaf.name for leaf in found.members} == {"fine", "also"}
    ((refused, reason),) = found.refused
    assert refused == name.replace("\\", "/") or refused == name
    assert "leads out of the archive" in reason


def test_links_and_devices_are_counted_in_archives_within_too(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"odd{kind.decode()}")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("fine")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"1"))
    found = tree(tmp_path / "x.tar")
    assert [leaf.name for leaf in found.members] == ["fine"] and len(found.refused) == 5
    outer = tree(zip_of(tmp_path / "o.zip", {"x.tar": (tmp_path / "x.tar").read_bytes()}))
    assert [member.name for member in outer.read_archive(outer["x.tar"])] == ["fine"]
    assert len(outer.take_refused_within()) == 5 and outer.take_refused_within() == [] == outer.refused


def test_a_link_out_of_a_folder_is_counted(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    folder = folder_of(tmp_path / "folder", {"fine": b"1", "d/also": b"2"})
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "within").symlink_to(folder / "fine")
    (folder / "d" / "round").symlink_to(folder)
    (folder / "dangling").symlink_to("nowhere")
    found = tree(folder)
    assert [leaf.name for leaf in found.members] == ["d/also", "fine", "within"]
    assert sorted(name for name, _ in found.refused) == ["dangling", "out"]


@pytest.mark.parametrize("make", [zip_of, tar_of, tgz_of])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_source_is_a_users_mistake(tmp_path: Path, make, share: float) -> None:
    path = make(tmp_path / "x.zip", {f"{number}": os.urandom(10_000) for number in range(9)})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match=r"x\.zip: .*fetch it again"):
        _ = tree(path).members


def test_one_damaged_member_is_one_damaged_item(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("bad", b"A" * 100)
        archive.writestr("good", b"B" * 100)
    (tmp_path / "x.zip").write_bytes((tmp_path / "x.zip").read_bytes().replace(b"A" * 100, b"C" * 100))
    found = tree(tmp_path / "x.zip")
    with pytest.raises(DamagedItem, match="'bad' cannot be read"):
        found["bad"].read()
    assert found["good"].read() == b"B" * 100


def test_a_tar_whose_last_member_is_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = zip_of(tmp_path / "inner.zip", {"other": b"1"}).read_bytes()
    path = tar_of(tmp_path / "x.tar", {"one": b"1", "inner.zip": inner})
    assert zipfile.is_zipfile(path), "what the standard library takes it for"
    assert [member.name for member in tree(path).members] == ["one", "inner.zip"]


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skillnet_cli.sources.bounds.SMALL", 1 << 16)
    for make in (zip_of, tgz_of):
        with pytest.raises(UserError, match="200 times its size"):
            _ = tree(make(tmp_path / "bomb", {"zeros": bytes(1 << 24)})).members


@pytest.fixture(params=["folder", "archive"])
def cached(request: pytest.FixtureRequest, tmp_path: Path) -> CachedFiles:
    folder = tmp_path / "folder"
    (folder / "003").mkdir(parents=True)
    (folder / "003" / "00001.png").write_bytes(b"one")
    (folder / "003" / "two.jpg").write_bytes(b"two")
    (folder / "none.txt").write_bytes(b"text")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    if request.param == "folder":
        (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
        return CachedFiles(folder, tmp_path / "work")
    with tarfile.open(tmp_path / "pictures.tar.gz", "w:gz") as archive:
        archive.add(folder, ".")
    return CachedFiles(tmp_path / "pictures.tar.gz", tmp_path / "work")


def test_files_are_found_with_or_without_their_suffix(cached: CachedFiles) -> None:
    assert cached.find("003/00001", SUFFIXES) == b"one"
    assert cached.find("003/two.jpg", SUFFIXES) == b"two" == cached.find("./003/two", SUFFIXES)
    assert cached.find("003/three", SUFFIXES) is None and cached.find("none.txt", SUFFIXES) is None
    assert cached.find("003", SUFFIXES) is None and cached.find("x" * 5000, SUFFIXES[:0]) is None


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "003/../../secret.jpg", "", "C:\\x", "a\0b"])
def test_nothing_outside_is_read(cached: CachedFiles, name: str) -> None:
    with pytest.raises(DamagedItem):
        cached.find(name, SUFFIXES)


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out.jpg").write_bytes(b"out")
    (tmp_path / "in" / "link.jpg").symlink_to(tmp_path / "out.jpg")
    with pytest.raises(DamagedItem, match="leads out"):
        CachedFiles(tmp_path / "in", tmp_path).find("link", SUFFIXES)


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder or archive"):
        CachedFiles(tmp_path / "nowhere", tmp_path)

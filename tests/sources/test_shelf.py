"""Files fetched before, in a folder or an archive, by paths that may lie."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.sources.trees import Shelf

SUFFIXES = (".jpg", ".png")


@pytest.fixture(params=["folder", "archive"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    folder = tmp_path / "folder"
    (folder / "003").mkdir(parents=True)
    (folder / "003" / "00001.png").write_bytes(b"one")
    (folder / "003" / "two.jpg").write_bytes(b"two")
    (folder / "none.txt").write_bytes(b"text")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    if request.param == "folder":
        (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
        return Shelf(folder, tmp_path / "work")
    with tarfile.open(tmp_path / "pictures.tar.gz", "w:gz") as archive:
        archive.add(folder, ".")
    return Shelf(tmp_path / "pictures.tar.gz", tmp_path / "work")


def test_files_are_found_with_or_without_their_suffix(shelf: Shelf) -> None:
    assert shelf.find("003/00001", SUFFIXES) == b"one"
    assert shelf.find("003/two.jpg", SUFFIXES) == b"two" == shelf.find("./003/two", SUFFIXES)
    assert shelf.find("003/three", SUFFIXES) is None and shelf.find("none.txt", SUFFIXES) is None
    assert shelf.find("003", SUFFIXES) is None and shelf.find("x" * 5000, SUFFIXES[:0]) is None


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "003/../../secret.jpg", "", "C:\\x", "a\0b"])
def test_nothing_outside_is_read(shelf: Shelf, name: str) -> None:
    with pytest.raises(DamagedItem):
        shelf.find(name, SUFFIXES)


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out.jpg").write_bytes(b"out")
    (tmp_path / "in" / "link.jpg").symlink_to(tmp_path / "out.jpg")
    with pytest.raises(DamagedItem, match="leads out"):
        Shelf(tmp_path / "in", tmp_path).find("link", SUFFIXES)


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder or archive"):
        Shelf(tmp_path / "nowhere", tmp_path)

"""Archives are walked, never extracted, and refused where they are broken or mean harm."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.sources import bounds
from skillnet_cli.sources.archives import FileTree, read_archive

FILES = {"a/one.txt": b"1" * 1000, "a/b/two.txt": b"", "three.txt": "三".encode()}


def zip_of(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tar_of(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def folder_of(path: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def tgz_of(path: Path, files: Mapping[str, bytes]) -> Path:
    return tar_of(path, files, "w:gz")


def contents(archive: Path) -> dict[str, bytes]:
    return {member.name: member.read() for member in read_archive(archive)}


@pytest.mark.parametrize("make", [zip_of, tar_of, tgz_of, folder_of])
def test_every_kind_gives_the_same_files(tmp_path: Path, make) -> None:
    path = make(tmp_path / "archive", FILES)
    assert contents(path) == FILES
    assert {member.name: member.size for member in read_archive(path)} == {n: len(c) for n, c in FILES.items()}


@given(st.dictionaries(st.from_regex(r"[a-zA-Z0-9一-龥 ]{1,20}", fullmatch=True), st.binary(max_size=300), max_size=5))
def test_any_files_come_back(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("any")
    assert contents(zip_of(folder / "x.zip", files)) == files
    assert contents(tar_of(folder / "x.tar", files)) == files


def test_a_folder_is_walked_in_order_of_name(tmp_path: Path) -> None:
    assert list(contents(folder_of(tmp_path, FILES))) == ["a/b/two.txt", "a/one.txt", "three.txt"]


def test_an_archive_in_an_archive_is_walked_too(tmp_path: Path) -> None:
    inner = tgz_of(tmp_path / "inner.tgz", FILES).read_bytes()
    for make in (zip_of, tar_of):
        outer = make(tmp_path / "outer", {"S1.tar.gz": inner})
        assert [member.name for each in read_archive(outer) for member in read_archive(each)] == list(FILES)


def test_what_file_managers_leave_behind_is_passed_over(tmp_path: Path) -> None:
    noisy = {"__MACOSX/._one": b"x", "a/.DS_Store": b"x", ".DS_Store": b"x", "one": b"1"}
    for make in (zip_of, tar_of, folder_of):
        assert contents(make(tmp_path / make.__name__, noisy)) == {"one": b"1"}


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_chinese_names_without_the_flag_are_read(tmp_path: Path, encoding: str) -> None:
    raw, stand_in = "训练/图片.png".encode(encoding), "x" * len("训练/图片.png".encode(encoding))
    path = zip_of(tmp_path / "x.zip", {stand_in: b"1"})
    path.write_bytes(path.read_bytes().replace(stand_in.encode(), raw))
    assert contents(path) == {"训练/图片.png": b"1"}


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/passwd", "C:/evil", "a/..", ".", "..\\evil"])
@pytest.mark.parametrize("make", [zip_of, tar_of, tgz_of])
def test_paths_that_lead_out_are_refused(tmp_path: Path, make, name: str) -> None:
    with pytest.raises(UserError, match="leads out of the archive"):
        contents(make(tmp_path / "x", {"fine": b"", name: b"x"}))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        info = tarfile.TarInfo("odd")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(UserError, match=r"'odd' is a (link|device), which is not followed"):
        contents(tmp_path / "x.tar")


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info = zipfile.ZipInfo("odd")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match="'odd' is a link"):
        contents(tmp_path / "x.zip")


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", {"secret": b"x"})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flags of the member, in its own header and in the directory
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="encrypted"):
        contents(path)


@pytest.mark.parametrize("make", [zip_of, tgz_of])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skillnet_cli.sources.bounds.SMALL", 1 << 16)
    path = make(tmp_path / "x", {"zeros": bytes(1 << 20)})
    with pytest.raises(UserError, match="200 times its size"):
        contents(path)
    assert contents(make(tmp_path / "y", {"zeros": bytes(1 << 15)})), "small archives may be as dense as they like"


def test_numbers_and_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zip_of(tmp_path / "x.zip", FILES)
    for bound, enough in (("MAX_MEMBERS", 3), ("MAX_MEMBER_BYTES", 1000), ("MAX_TOTAL_BYTES", 1003)):
        monkeypatch.setattr(bounds, bound, enough)
        assert len(list(read_archive(path))) == 3
        monkeypatch.setattr(bounds, bound, enough - 1)
        for read in (lambda: list(read_archive(path)), lambda: FileTree([path], tmp_path).members):
            with pytest.raises(UserError, match="not read, because"):
                read()
        monkeypatch.undo()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"no tar" * 200, gzip.compress(b"no tar" * 200)])
def test_what_is_no_archive_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.zip: not an archive, or a damaged one") as error:
        contents(tmp_path / "x.zip")
    assert "\n" not in str(error.value)


def test_a_name_in_a_zip_that_is_not_the_text_it_claims_is_one_line(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", {"图": b"1"})
    path.write_bytes(path.read_bytes().replace("图".encode(), b"\xff\xff\xff"))
    with pytest.raises(UserError, match=r"x\.zip: not an archive, or a damaged one"):
        contents(path)


@pytest.mark.parametrize("make", [zip_of, tar_of, tgz_of])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.7, 0.95])
def test_a_truncated_archive_never_passes_for_whole(tmp_path: Path, make, share: float) -> None:
    noise = {f"{number}": bytes(range(256)) * 40 for number in range(9)}
    path = make(tmp_path / "x", noise)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    if make is tar_of and share > 0.9:
        return  # only the empty blocks at the end are gone
    with pytest.raises((UserError, DamagedItem)):
        contents(path)


def test_one_damaged_member_is_one_damaged_item(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("bad", b"A" * 100)
        archive.writestr("good", b"B" * 100)
    path.write_bytes(path.read_bytes().replace(b"A" * 100, b"C" * 100))
    found = {member.name: member for member in read_archive(path)}
    with pytest.raises(DamagedItem, match="'bad' cannot be read"):
        for member in read_archive(path):
            member.read()
    assert set(found) == {"bad", "good"}
    assert [member.read() for member in read_archive(path) if member.name == "good"] == [b"B" * 100]


def test_a_missing_archive_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        contents(tmp_path / "nowhere.zip")

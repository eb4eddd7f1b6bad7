"""Archives that mean harm or are broken, through the preparation engine: one row of the ledger for each, no more."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from skillnet_cli.api import DamagedItem, Dataset, UserError
from skillnet_cli.data.format import Entry, read_ledger
from skillnet_cli.data.verify import verify
from skillnet_cli.prepare.preparer import Kept, Preparation, Preparer, Range, Rejected, Tolerance
from skillnet_cli.prepare.run import run
from skillnet_cli.sources.texts import read_lines

GOOD = {f"good/{number}.txt": f"{number}".encode() * 50 for number in range(4)}
INNER = (".tar", ".tgz", ".zip")


class Everything(Preparer):
    """Each file is an item, each line of a ``.jsonl`` and each file of an archive within the source as well."""

    def ranges(self) -> Sequence[Range]:
        return [Range(leaf.name) for leaf in self.files.members]

    def read(self, range: Range) -> Iterator[Kept | Rejected]:
        leaf = self.files[range.name]
        if leaf.name.endswith(INNER):
            for member in self.files.read_archive(leaf):
                yield self.item(f"{leaf.name}/{member.name}", member.read)
        elif leaf.name.endswith(".jsonl"):
            for line in read_lines(leaf):
                yield self.item(f"{leaf.name}:{line.number}", lambda line=line: str(line.json()["a"]).encode())
        else:
            yield self.item(leaf.name, leaf.read)

    def item(self, id: str, read: Callable[[], bytes]) -> Kept | Rejected:
        try:
            content = read()
        except DamagedItem as error:
            return Rejected("train", id, "damaged", str(error))
        return Kept("train", id, {"size": len(content)}, {"blob": (content, ".bin")})


def prepare(tmp_path: Path, *sources: Path) -> list[Entry]:
    """The ledger's rows of the sources."""
    dataset = Dataset("everything", "tests.faults.test_archives:Everything", (), "CC0", "small")
    out = tmp_path / "set"
    run(Everything, Preparation(dataset, tuple(map(str, sources)), out, tolerance=Tolerance(damaged=None)))
    assert list(verify(out)) == []
    rows = list(read_ledger(out))
    assert all(row.reason and "\n" not in row.reason for row in rows if row.why != "kept")
    return rows


def tar_info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


EVIL = {
    "climbs out": tar_info("../../evil"),
    "climbs out in the middle": tar_info("good/../../evil"),
    "absolute": tar_info("/etc/evil"),
    "of another drive": tar_info("C:\\evil"),
    "with backslashes": tar_info("..\\evil"),
    "symbolic link": tar_info("link", tarfile.SYMTYPE, "/etc/passwd"),
    "symbolic link within": tar_info("link within", tarfile.SYMTYPE, "good/0.txt"),
    "link to a link": tar_info("link on", tarfile.SYMTYPE, "link"),
    "hard link": tar_info("hard", tarfile.LNKTYPE, "/etc/passwd"),
    "character device": tar_info("null", tarfile.CHRTYPE),
    "block device": tar_info("disk", tarfile.BLKTYPE),
    "pipe": tar_info("pipe", tarfile.FIFOTYPE),
}


def evil_tar(mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for (name, content), info in zip([*GOOD.items()] * 3, EVIL.values(), strict=True):
            archive.addfile(info)
            info = tar_info(f"beside {len(info.name)} {info.type.hex()}/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def evil_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("../evil", "/evil", "a/../../evil", "C:/evil"):
            archive.writestr(name, b"x")
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        for name, content in GOOD.items():
            archive.writestr(name, content)
        archive.writestr("spoilt", b"A" * 500)
        archive.writestr("secret", b"B" * 500)
    content = bytearray(file.getvalue().replace(b"A" * 500, b"C" * 500))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.rindex(mark, 0, content.rindex(b"secret") if mark == b"PK\x01\x02" else None) + at] |= 1
    return bytes(content)


def zip_of(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_each_evil_member_of_a_tar_is_one_row(tmp_path: Path, mode: str) -> None:
    (tmp_path / "x.tar").write_bytes(evil_tar(mode))
    rows = prepare(tmp_path, tmp_path / "x.tar")
    damaged = [row.id for row in rows if row.why == "damaged"]
    assert sorted(damaged) == sorted(info.name for info in EVIL.values()) and len(rows) == 2 * len(EVIL)


def test_each_evil_member_of_a_zip_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(evil_zip())
    rows = prepare(tmp_path, tmp_path / "x.zip")
    damaged = {row.id: row.reason for row in rows if row.why == "damaged"}
    assert set(damaged) == {"../evil", "/evil", "a/../../evil", "C:/evil", "link", "spoilt", "secret"}
    assert "encrypted" in damaged["secret"] and "link" in damaged["link"]
    assert [row.id for row in rows if row.why == "kept"] == list(GOOD)


@pytest.mark.parametrize("nested", [evil_tar(), evil_tar("w:gz")], ids=["tar", "tgz"])
def test_evil_members_of_nested_archives_are_counted_too(tmp_path: Path, nested: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(zip_of({**GOOD, "in/S1.tgz": nested}))
    rows = prepare(tmp_path, tmp_path / "x.zip")
    assert sum(row.why == "damaged" for row in rows) == len(EVIL)
    assert sum(row.why == "kept" for row in rows) == len(EVIL) + len(GOOD)


NESTED = {
    "of nothing": b"",
    "of noise": os.urandom(2000),
    "cut in half": evil_tar("w:gz")[:300],
    "cut in its plain middle": evil_tar()[:5000],
    "with a garbled header": evil_tar()[:512] + b"\xff" * 512 + evil_tar()[1024:],
    "with a wrong checksum": evil_tar("w:gz")[:-8] + bytes(8),
    "packed twice": gzip.compress(evil_tar("w:gz")),
    "a page": b"<!doctype html>" * 99,
    "a zip cut in half": zip_of(GOOD)[:200],
    "a zip without its directory": zip_of(GOOD)[: zip_of(GOOD).index(b"PK\x01\x02")],
}


@pytest.mark.parametrize("what", NESTED)
def test_a_broken_archive_in_an_archive_is_a_row_and_its_neighbours_stay(tmp_path: Path, what: str) -> None:
    (tmp_path / "x.zip").write_bytes(zip_of({"a.tgz": NESTED[what], "b.zip": zip_of(GOOD), **GOOD}))
    rows = prepare(tmp_path, tmp_path / "x.zip")
    kept = [row.id for row in rows if row.why == "kept"]
    assert [id for id in kept if not id.startswith("a.tgz")] == [*(f"b.zip/{name}" for name in GOOD), *GOOD]
    broken = [row for row in rows if row.why == "damaged" and row.id == "a.tgz"]
    assert len(broken) == 1


def test_bombs_within_are_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skillnet_cli.sources.bounds.SMALL", 1 << 16)
    bomb = io.BytesIO()
    with tarfile.open(fileobj=bomb, mode="w:gz") as archive:
        info = tar_info("zeros")
        info.size = 1 << 25
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "bomb.tgz").write_bytes(bomb.getvalue())
    (tmp_path / "folder" / "good.txt").write_bytes(b"good")
    rows = prepare(tmp_path, tmp_path / "folder")
    assert [(row.id, row.why) for row in rows] == [("bomb.tgz", "damaged"), ("good.txt", "kept")]
    assert "times its size" in rows[0].reason


BROKEN_SOURCES = {
    "nothing.zip": b"",
    "noise.zip": os.urandom(3000),
    "half.zip": zip_of(GOOD)[:150],
    "half.tar": evil_tar()[:5000],
    "half.tgz": evil_tar("w:gz")[:200],
    "half.tar.bz2": evil_tar("w:bz2")[:200],
    "half.tar.xz": evil_tar("w:xz")[:200],
    "page.tar": b"<!doctype html>" * 99,
    "garbled.tgz": evil_tar("w:gz")[:100] + bytes(60) + evil_tar("w:gz")[160:],
}


@pytest.mark.parametrize("name", BROKEN_SOURCES)
def test_a_broken_source_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BROKEN_SOURCES[name])
    with pytest.raises(UserError, match=name) as error:
        prepare(tmp_path, tmp_path / name)
    assert "\n" not in str(error.value) and not (tmp_path / "set" / "manifest.json").exists()


def test_links_devices_and_pipes_of_a_folder_are_never_opened(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "good").mkdir(parents=True)
    for name, content in GOOD.items():
        (folder / name).write_bytes(content)
    (tmp_path / "secret").write_text("secret")
    (folder / "out.txt").symlink_to(tmp_path / "secret")
    (folder / "endless.txt").symlink_to("/dev/zero")
    (folder / "good" / "round").symlink_to(folder)
    (folder / "dangling.txt").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.txt")
    rows = prepare(tmp_path, folder)
    assert [row.id for row in rows if row.why == "kept"] == list(GOOD)
    assert {"out.txt", "endless.txt"} <= {row.id for row in rows if row.why == "damaged"}


LINES = [
    b'{"a": 1}',
    b'{"a": ',
    b"[1]",
    "{“a”: 1}".encode(),
    b'{"a": "\xff\xfe"}',
    b"\x00\x00",
    b'{"b": 1}',
    b'{"a": 2}',
]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_each_broken_line_is_one_row(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    lines = [line for line in LINES if line != b'{"b": 1}']
    (tmp_path / "x.jsonl").write_bytes(pack(b"\n".join(lines * 3)))
    rows = prepare(tmp_path, tmp_path / "x.jsonl")
    assert len(rows) == 3 * len(lines) and sum(row.why == "kept" for row in rows) == 6


@pytest.mark.parametrize("pack", [gzip.compress, lambda content: bz2.compress(content, 1), lzma.compress])
def test_lines_that_break_off_are_kept_up_to_there(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    content = pack(b"\n".join(b'{"a": "%s"}' % os.urandom(40).hex().encode() for _ in range(3_000)))
    (tmp_path / "x.jsonl").write_bytes(content[: len(content) * 2 // 3])
    rows = prepare(tmp_path, tmp_path / "x.jsonl")
    assert sum(row.why == "kept" for row in rows) > 500 and "breaks off" in rows[-1].reason
    assert 1 <= sum(row.why == "damaged" for row in rows) <= 2

"""Archives that are made to fill memory or the disk are refused in one line, before they do."""

from __future__ import annotations

import gzip
import lzma
import tarfile
import zipfile
from pathlib import Path
from typing import Any, cast

import pytest
import zstandard

from skillnet_cli.api import UserError
from skillnet_cli.data.format import read_ledger
from skillnet_cli.prepare.preparer import Preparation, Tolerance
from skillnet_cli.prepare.run import run
from skillnet_cli.sources.archives import FileTree, read_archive
from skillnet_cli.sources.compression import decompressed
from skillnet_cli.sources.tars import streamed_tar_members
from skillnet_sound.datasets.tree import _holds_archives
from skillnet_text import skillnet_datasets
from skillnet_text.datasets.corpus import STEP, TextCorpus

PACK = {"": bytes, ".xz": lzma.compress, ".zst": zstandard.ZstdCompressor().compress}


def header(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
@pytest.mark.parametrize("suffix", PACK)
def test_s10_extended_headers_are_bounded(tmp_path: Path, kind: bytes, suffix: str) -> None:
    size = 8 << 20
    (tmp_path / f"x.tar{suffix}").write_bytes(PACK[suffix](header(kind, size) + bytes(size) + bytes(1024)))
    with pytest.raises(UserError, match="has more than 262144 bytes"):
        list(read_archive(tmp_path / f"x.tar{suffix}"))
    with pytest.raises(UserError):
        FileTree([tmp_path / f"x.tar{suffix}"], tmp_path / "work").members  # noqa: B018
    assert not any((tmp_path / "work").glob("*"))


def test_s11_zeros_behind_a_tar_are_not_all_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    with (tmp_path / "x.tar").open("r+b") as file:
        file.truncate(1 << 42)
    assert [member.name for member in read_archive(tmp_path / "x.tar")] == ["a"]


def test_s04_a_member_whose_own_header_is_damaged_is_damage_of_one_member(tmp_path: Path) -> None:
    sentences = [
        f"这是第{number}个足够长的段落，它讲的是编号为{number}的一件小事，没有别的内容。" for number in range(3)
    ]
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for number, sentence in enumerate(sentences):
            archive.writestr(f"{number}.txt", sentence)
        archive.writestr("large.txt", b"\n" * STEP + b"\n", zipfile.ZIP_DEFLATED)
    content = (tmp_path / "x.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        starts = {info.filename: info.header_offset for info in archive.infolist()}
    for name in ("1.txt", "large.txt"):
        content = content[: starts[name]] + b"junk" + content[starts[name] + 4 :]
    (tmp_path / "x.zip").write_bytes(content)
    dataset = next(each for each in skillnet_datasets() if each.name == "text-corpus")
    options = {option.name: option.absent for option in dataset.options}
    tolerance = Tolerance(damaged=None)
    run(TextCorpus, Preparation(dataset, (str(tmp_path),), tmp_path / "set", options=options, tolerance=tolerance))
    rows = [(row.id, row.why, row.reason) for row in read_ledger(tmp_path / "set")]
    assert [row for row in rows if row[1] == "kept"] == [("x.zip/0.txt:1", "kept", ""), ("x.zip/2.txt:1", "kept", "")]
    broken = "the file breaks off after line 0 (Bad magic number for file header)"
    damaged = [("x.zip/1.txt:1", "damaged", broken), ("x.zip/large.txt:1", "damaged", broken)]
    assert [row for row in rows if row[1] != "kept"] == damaged


@pytest.mark.parametrize("padding", [0, 1, 70_000, 1 << 28])
def test_s11_zeros_behind_a_gzip_are_not_read_one_by_one(tmp_path: Path, padding: int) -> None:
    with (tmp_path / "a.gz").open("wb") as file:
        file.write(gzip.compress(b"one"))
        file.seek(padding, 1)
        file.write(gzip.compress(b"two"))
        file.seek(padding, 1)
        file.truncate()
    with (tmp_path / "a.gz").open("rb") as packed:
        unpacked = decompressed(cast(Any, packed))
        assert unpacked.read() == b"onetwo"
        unpacked.seek(1)
        assert unpacked.read(3) == b"net"


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, b"9"])
def test_s11_a_member_that_claims_an_exabyte_is_not_gone_past(tmp_path: Path, kind: bytes) -> None:
    header = tarfile.TarInfo("wav/a.wav.gz")
    header.size, header.type = 1 << 60, kind
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(header.tobuf() + b"a" * 512))
    with (
        (tmp_path / "x.tar.gz").open("rb") as file,
        pytest.raises(tarfile.ReadError, match="claims 1152921504606846976"),
    ):
        list(streamed_tar_members(cast(Any, file), lambda name, reason: None))
    with pytest.raises(UserError, match="1152921504606846976 bytes"):
        list(read_archive(tmp_path / "x.tar.gz"))
    assert not _holds_archives(tmp_path / "x.tar.gz")

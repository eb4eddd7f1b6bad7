"""Archives that are made to fill memory or the disk are refused in one line, before they do."""

from __future__ import annotations

import lzma
import tarfile
from pathlib import Path

import pytest
import zstandard

from skillnet_cli.api import UserError
from skillnet_cli.sources.archives import FileTree, read_archive

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

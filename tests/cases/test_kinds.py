"""What a file is, whatever it is called, and remarks on what is read all the same."""

from __future__ import annotations

import io
import tarfile
import zipfile

import numpy as np
import pytest
import soundfile
from PIL import Image

from skillnet_cli.api import add_remark, collect_remarks
from skillnet_cli.sources.kinds import HEAD, kind_of


def made(what: str) -> bytes:
    file = io.BytesIO()
    if what in ("png", "jpeg", "gif", "webp", "tiff", "bmp"):
        Image.new("RGB", (8, 8)).save(file, what)
    elif what in ("wav", "flac", "ogg", "aiff"):
        soundfile.write(file, np.zeros(800), 16_000, format=what)
    elif what == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a", "b")
    elif what == "tar":
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("a"))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty"),
        (b"\0" * 5000, "nothing but zeros"),
        (b"<html>404</html>", "a web page (HTML)"),
        (b"\xef\xbb\xbf\r\n<!DOCTYPE HTML PUBLIC>", "a web page (HTML)"),
        (b"<!-- served by x -->\n<body>", "a web page (HTML)"),
        (b"<?xml version='1.0'?><svg/>", "an SVG drawing"),
        (b'{"error": "not found"}', "JSON text"),
        (b"not a sound at all", "text"),
        ("红色的汽车。".encode(), "text"),
        ("红色的汽车,红色的汽车,红色的汽车".encode("gb18030"), "text"),
        ("红色的汽车".encode("utf-16"), "text"),
        (b"\x02#!SILK_V3abc", "SILK, the format of WeChat's and QQ's voice messages"),
        (b"#EXTM3U\n", "a playlist, which only names other files"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer, whose file was not fetched"),
        (b"%PDF-1.7\n", "a PDF document"),
        (bytes(range(256)), "of a kind that is not known here"),
        (made("png"), "a PNG picture"),
        (made("jpeg"), "a JPEG picture"),
        (made("gif"), "a GIF picture"),
        (made("webp"), "a WebP picture"),
        (made("tiff"), "a TIFF picture"),
        (made("bmp"), "a BMP picture"),
        (made("wav"), "a WAV recording"),
        (made("flac"), "a FLAC recording"),
        (made("ogg"), "an Ogg file"),
        (made("aiff"), "an AIFF recording"),
        (made("zip"), "a ZIP archive, or a document made of one"),
        (made("tar"), "a tar archive"),
    ],
)
def test_m05_a_file_is_called_what_its_content_is(content: bytes, kind: str) -> None:
    assert kind_of(content[:HEAD]) == kind


def test_r05_remarks_reach_whoever_asks_and_nobody_else() -> None:
    add_remark("nobody asks")
    with collect_remarks() as outer:
        add_remark("of one")
        with collect_remarks() as inner:
            add_remark("of another")
            add_remark("of another")
        add_remark("of one more")
    assert (outer, inner) == (["of one", "of one more"], ["of another"])

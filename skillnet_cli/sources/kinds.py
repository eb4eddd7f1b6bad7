"""What a file is by its first bytes, in words, for messages about files that are not what their names say."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

HEAD = 4096
"""So many first bytes of a file are enough for :func:`kind_of`."""

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF87a", "a GIF picture"),
    (0, b"GIF89a", "a GIF picture"),
    (0, b"II*\0", "a TIFF picture"),
    (0, b"MM\0*", "a TIFF picture"),
    (0, b"8BPS", "a Photoshop picture"),
    (0, b"\0\0\x01\0", "an icon (ICO)"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (8, b"WEBP", "a WebP picture"),
    (8, b"WAVE", "a WAV recording"),
    (8, b"AVI ", "an AVI video"),
    (8, b"AIFF", "an AIFF recording"),
    (8, b"AIFC", "an AIFF recording"),
    (0, b"fLaC", "a FLAC recording"),
    (0, b"OggS", "an Ogg file"),
    (0, b"ID3", "an MP3 recording"),
    (0, b"#!AMR", "an AMR recording"),
    (0, b"#!SILK_V3", "SILK, the format of WeChat's and QQ's voice messages"),
    (0, b"\x02#!SILK_V3", "SILK, the format of WeChat's and QQ's voice messages"),
    (0, b"MThd", "MIDI, which has notes and no sound"),
    (0, b"caff", "a CAF recording"),
    (0, b".snd", "an AU recording"),
    (0, b"wvpk", "a WavPack recording"),
    (0, b"TTA1", "a TTA recording"),
    (0, b"MAC ", "a Monkey's Audio recording"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM file"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "a Windows Media file"),
    (0, b"FLV\x01", "a Flash video"),
    (0, b"\0\0\x01\xba", "an MPEG video"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"{\\rtf", "an RTF document"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
    (0, b"PK\x03\x04", "a ZIP archive, or a document made of one"),
    (0, b"PK\x05\x06", "an empty ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\0", "an xz archive"),
    (0, b"(\xb5/\xfd", "a zstd archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a Windows program"),
    (0, b"SQLite format 3\0", "a SQLite database"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"PAR1", "a Parquet table"),
    (0, b"version https://git-lfs.github.com", "a Git LFS pointer, whose file was not fetched"),
    (0, b"#EXTM3U", "a playlist, which only names other files"),
    (0, b"[playlist]", "a playlist, which only names other files"),
    (0, b"ffconcat", "a list of other files"),
)
"""Offset, bytes, and what has them there."""

_FTYP = {b"avif": "an AVIF picture", b"avis": "an AVIF picture", b"qt  ": "a QuickTime file"}
_FTYP |= dict.fromkeys((b"heic", b"heix", b"hevc", b"mif1", b"msf1"), "a HEIF picture")

_MARKUP = re.compile(
    rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|title|script|meta|div|p)\b", re.I | re.S
)
_XML = re.compile(rb"\s*<\?xml\b|\s*<svg\b", re.I)


def kind_of(head: bytes) -> str:
    """What a file is, as the end of a sentence that begins with "it is".

    Args:
        head: its first bytes, :data:`HEAD` of them if it has so many; all of a shorter file.
    """
    if not head:
        return "empty"
    if not head.strip(b"\0"):
        return "nothing but zeros"
    if head[4:8] == b"ftyp":
        return _FTYP.get(head[8:12], "an MP4 file")
    for offset, magic, kind in _MAGIC:
        if head.startswith(magic, offset):
            return kind
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "a BMP picture"
    return _kind_of_text(head) or "of a kind that is not known here"


def _kind_of_text(head: bytes) -> str | None:
    """What a text is, None for what is no text."""
    bare = head.removeprefix(b"\xef\xbb\xbf")
    if _MARKUP.match(bare):
        return "a web page (HTML)"
    if _XML.match(bare):
        return "an SVG drawing" if b"<svg" in bare.lower() else "an XML document"
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = head[: len(head) // 2 * 2].decode("utf-16", "replace")
    else:
        text = bare.decode("utf-8", "replace")
        # The last character may be cut; other encodings than UTF-8 have many that are none.
        if text[:-3].count("\ufffd") > len(text) // 100:
            text = bare.decode("gb18030", "replace")
    if sum(unicodedata.category(each) in ("Cc", "Cn", "Co") and each not in "\t\n\r\f" for each in text):
        return None
    if text[:-3].count("\ufffd") > len(text) // 100:
        return None
    if text.lstrip().startswith(("{", "[")):
        return "JSON text"
    return "text"


_PAGES = {"", ".html", ".htm", ".xhtml", ".shtml", ".php", ".asp", ".aspx", ".jsp", ".cgi"}
_BINARY = set(
    ".zip .tar .gz .tgz .bz2 .tbz2 .xz .txz .zst .7z .rar .parquet .npy .npz .whl .png .jpg .jpeg .gif .webp .bmp .tif"
    " .tiff .avif .heic .wav .flac .mp3 .ogg .opus .m4a .aac .mp4 .webm .mkv .mov .avi .safetensors".split()
)


def not_as_named(name: str, head: bytes) -> str | None:
    """What a fetched file is, where that cannot be what its name says; see :func:`kind_of`.

    Nothing is said of what merely has another binary format, which readers find out. A page is what servers send to
    those who are to sign in, or instead of an error.

    Args:
        name: the file's name, or its path in an address; a page may be called anything that has no suffix.
        head: its first bytes, as for :func:`kind_of`.
    """
    kind, suffix = kind_of(head), PurePosixPath(name).suffix.lower()
    textual = kind in ("text", "JSON text", "an XML document") or "Git LFS pointer" in kind
    page = kind == "a web page (HTML)"
    return kind if not head or (suffix not in _PAGES and page) or (suffix in _BINARY and (textual or page)) else None

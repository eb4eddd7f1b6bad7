"""The formats of files that are read, and docs/formats.md, which is made of them: ``python -m tests.cases.formats``."""

from __future__ import annotations

import io
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

import skillnet_code
import skillnet_image
import skillnet_text
import skillnet_video
from tests.cases import test_sound_formats

DOCUMENT = Path(__file__).parents[2] / "docs" / "formats.md"


@dataclass(frozen=True)
class Row:
    """A format: what it is called, how its files usually are, and what is to be known of it.

    ``format``, ``mode`` and ``options`` are Pillow's, or ffmpeg's, for an example of it.
    """

    name: str
    suffixes: str
    remark: str = ""
    format: str = ""
    mode: str = "RGB"
    options: Any = field(default_factory=dict)


PICTURES: Sequence[Row] = (
    Row("JPEG", ".jpg .jpeg .jpe .jfif", "CMYK and YCCK too", "JPEG"),
    Row("MPO", ".mpo", "several pictures, of which the first is read", "MPO"),
    Row("PNG, APNG", ".png .apng", "of an APNG the picture that is shown where nothing moves", "PNG", "RGBA"),
    Row("WebP", ".webp", "of an animated one the first frame", "WEBP", "RGBA", {"lossless": True}),
    Row("AVIF", ".avif .avifs", "of a sequence the first frame", "AVIF"),
    Row("GIF", "", "under another name than `.gif`: its first frame; a `.gif` is a clip", "GIF", "P"),
    Row("BMP, DIB", ".bmp .dib", "", "BMP"),
    Row("TIFF", ".tif .tiff", "the first page", "TIFF", "RGBA"),
    Row("JPEG 2000", ".jp2 .j2k .jpx .jpf .j2c .jpc", "", "JPEG2000"),
    Row("ICO, CUR, ICNS", ".ico .cur .icns", "the largest picture", "ICO", "RGBA"),
    Row("PBM, PGM, PPM, PFM", ".pbm .pgm .ppm .pnm .pfm", "", "PPM"),
    Row("QOI", ".qoi", "", "QOI", "RGBA"),
    Row("Targa", ".tga", "with the signature at its end, as all newer ones have", "TGA", "RGBA"),
    Row("PCX, SGI, Sun raster", ".pcx .sgi .rgb .bw .ras", "", "PCX"),
    Row("DDS", ".dds", "", "DDS", "RGBA"),
    Row("Photoshop", ".psd", "the picture of all layers, where it was saved with it"),
    Row("XPM, XBM", ".xpm .xbm", ""),
)

_H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
CLIPS: Sequence[Row] = (
    Row("MP4 and QuickTime", ".mp4 .m4v .mov .qt .3gp .3g2 .f4v", "fragmented ones too", "mp4", options=_H264),
    Row("MPEG-TS", ".ts .m2ts .mts", "also where a page's loader calls it `.mp4`", "mpegts", options=_H264),
    Row("Matroska, WebM", ".mkv .webm", "", "webm", options=("-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p")),
    Row("AVI", ".avi .divx", "", "avi", options=("-c:v", "mpeg4")),
    Row("MPEG", ".mpg .mpeg .mpe .vob .m1v .m2v", "", "mpeg", options=("-c:v", "mpeg2video", "-r", "25")),
    Row("Flash video", ".flv", "", "flv", options=("-c:v", "flv")),
    Row("Windows Media", ".wmv .asf", "", "asf", options=("-c:v", "wmv2")),
    Row("Ogg", ".ogv .ogm", "", "ogg", options=("-c:v", "libtheora")),
    Row("RealMedia", ".rm .rmvb", "", "rm", options=("-c:v", "rv20")),
    Row("MXF, DV", ".mxf .dv", "", "mxf", options=("-c:v", "mpeg2video", "-r", "25")),
    Row(
        "bare streams", ".h264 .hevc .ivf .y4m .nut", "25 frames a second if they do not say",
        "ivf", options=("-c:v", "libvpx", "-pix_fmt", "yuv420p"),
    ),
    Row("GIF", ".gif", "", "gif"),
)  # fmt: skip

OTHERS: dict[str, Sequence[Row]] = {
    "Texts": (
        Row(
            "plain text", " ".join(skillnet_text.skillnet_modalities()[0].suffixes),
            "UTF-8; `text-corpus` and tables take any usual encoding",
        ),
    ),
    "Code": (Row("Python", " ".join(skillnet_code.skillnet_modalities()[0].suffixes), ""),),
    "Tables (`prepare table`)": (
        Row("CSV, TSV", ".csv .tsv", "in any usual encoding"),
        Row("JSON", ".json .jsonl", ""),
        Row("Parquet", ".parquet", "with pyarrow; files in columns too"),
        Row("WebDataset", ".tar", "one sample a row; not compressed"),
    ),
    "Archives (`--source`)": (
        Row("tar, plain or packed", ".tar .tar.gz .tgz .tar.bz2 .tar.xz .tar.zst", "the last with `zstandard`"),
        Row("ZIP, wheels", ".zip .whl", ""),
    ),
}  # fmt: skip


def picture(row: Row, image: Image.Image) -> bytes:
    """A picture in this format."""
    file = io.BytesIO()
    image.convert(row.mode).save(file, row.format, **row.options)
    return file.getvalue()


def clip(row: Row, ffmpeg: str, source: Sequence[str]) -> bytes:
    """A clip of ffmpeg's source in this format."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip"
        command = [ffmpeg, "-y", "-loglevel", "error", *source, *row.options, "-f", row.format, str(path)]
        subprocess.run(command, check=True, capture_output=True)
        return path.read_bytes()


def document() -> str:
    """docs/formats.md."""
    named = {"Pictures": PICTURES, "Clips": CLIPS, "Sounds": test_sound_formats.ROWS, **OTHERS}
    rules = {**_RULES, "Sounds": test_sound_formats.RULES}
    parts = [_INTRODUCTION]
    for title, rows in named.items():
        cells = [(row.name, " ".join(f"`{each}`" for each in row.suffixes.split()), row.remark) for row in rows]
        lines = ["| format | usual names | |", "| --- | --- | --- |", *(f"| {' | '.join(row)} |" for row in cells)]
        parts.append("\n".join([f"## {title}", "", *([rules[title], ""] if title in rules else []), *lines]))
    return "\n\n".join(parts) + "\n"


_INTRODUCTION = """\
# Formats

Which files are read, and how. In a folder a file's suffix says which skill it is for; what it is, its content
says: a GIF called `.jpg` is read. What no skill claims is counted. `tests/cases/formats.py` has these tables;
the tests build each format with Pillow or ffmpeg, and compare what is read with what those read. Write this
page anew with `.venv/bin/python -m tests.cases.formats > docs/formats.md`."""

_RULES = {
    "Pictures": f"""\
Read as Pillow reads them:

* Turned upright by their Exif orientation, all eight, in every format that has one. Of several frames or pages
  the first.
* Transparent parts are white. Of 16 bits the upper 8 count; floating-point numbers are 0 to 1, or 0 to 255.
* Colour profiles are not applied and pixels count as square (the densities of JFIF are ignored), as in CLIP's
  own preparation. CMYK becomes RGB by its definition.
* A picture that is cut short or damaged is refused, with the reason: half a picture is another picture.
* Nothing takes more than 700 MB to decode, by what the header claims: 100 million pixels, 43 million in WebP,
  35 million in AVIF and JPEG 2000, 70 million in TIFF; JPEG up to 233 million (116 million without chroma
  subsampling). Above {(1 << 25) / 1e6:.1f} million pixels a JPEG is decoded at a half, a quarter or an eighth,
  and others are averaged down.
* Refused by name: HEIF (`.heic`) and JPEG XL, which Pillow does not read: save them as JPEG or PNG. EPS, PDF,
  WMF and SVG are programs and drawings, not pictures.""",
    "Clips": """\
Read as ffmpeg shows them:

* Turned and flipped as the file's display matrix says, to the nearest right angle; with square pixels, by the
  sample aspect ratio of the container, else of the codec. Not deinterlaced. Transparency is laid on white where
  the decoder gives it (GIF; not VP9).
* The track: the largest, one marked as default first. A cover picture is none, and a recording with a cover no
  clip.
* Times count from the first frame, wherever its clock begins. A frame without a time follows the one before it;
  a clock that goes back, or jumps ahead by 10 s within a broadcast (an hour elsewhere), goes on from where it
  was.
* What is there of an interrupted recording is used, with a remark, if the format keeps its table in front or
  needs none. An MP4 whose table was never written is refused. Frames that cannot be decoded are left out, with
  a remark.
* Frames of up to 8192 × 4608 pixels, and 1,000 frames a second. Playlists (`.m3u8`, `.concat`) name other
  files: refused.
* Animated WebP, APNG and AVIF are pictures. `.ts` may be TypeScript: its content decides.""",
}

KNOWN = {
    "image": (PICTURES, skillnet_image.SUFFIXES),
    "video": (CLIPS, skillnet_video.SUFFIXES),
}
"""What must name each suffix that a modality claims, and no other."""

if __name__ == "__main__":
    print(document(), end="")

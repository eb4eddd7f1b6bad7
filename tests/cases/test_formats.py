"""Every format of pictures and clips, read as Pillow and ffmpeg read it."""

from __future__ import annotations

import functools
import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from skillnet_cli.api import DamagedItem, collect_remarks
from skillnet_image import pictures
from skillnet_image.pictures import as_published, made_small
from skillnet_image.pixels import decode
from skillnet_image.preview import thumbnail
from skillnet_video.clips import frame_pixels, steady_frames
from skillnet_video.config import VideoConfig
from skillnet_video.datasets.youtube import find_ffmpeg
from skillnet_video.preview import contact_sheet
from skillnet_video.reader import VideoReader
from skillnet_video.recoding import Recoding
from tests.cases import formats
from tests.cases.formats import CLIPS, DOCUMENT, KNOWN, PICTURES, Row, clip, document
from tests.cases.formats import picture as saved

TURNABLE = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
SHOWN = [row for row in PICTURES if row.format]


def photo(mode: str = "RGB") -> Image.Image:
    """A smooth picture of 50 × 30 pixels, with transparency where the mode has some."""
    down, across = np.mgrid[0:30, 0:50]
    channels = np.stack([across * 5, down * 8, (across + down) * 3, 255 - 4 * across], axis=-1).astype(np.uint8)
    return Image.fromarray(channels).convert(mode)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def pillows(data: bytes) -> np.ndarray:
    """The picture as Pillow has it: first frame, upright, on white."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    return np.asarray(image.convert("RGB"), dtype=int)


def ours(data: bytes) -> np.ndarray:
    return decode(data).permute(1, 2, 0).numpy().astype(int)


def check_picture(data: bytes) -> None:
    assert ours(data).shape == pillows(data).shape
    assert np.abs(ours(data) - pillows(data)).max() <= 1


def said_of(data: bytes) -> str:
    with pytest.raises(DamagedItem) as error:
        decode(data)
    return str(error.value)


def test_l04_the_page_of_formats_says_what_is_claimed() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "python -m tests.cases.formats > docs/formats.md"
    for rows, claimed in KNOWN.values():
        assert sorted(" ".join(row.suffixes for row in rows).split()) == sorted(claimed)


@pytest.mark.parametrize("row", SHOWN, ids=lambda row: row.format)
def test_r10_every_picture_that_pillow_opens_is_read(row: Row, tmp_path: Path) -> None:
    data = saved(row, photo("RGBA"))
    check_picture(data)
    assert as_published(data)[0] == data and as_published(data)[1].lstrip(".").isalnum()
    small, suffix = made_small(data, 16)
    assert suffix == ".jpg" and min(Image.open(io.BytesIO(small)).size) == min(16, *pillows(data).shape[:2])
    (tmp_path / "called.jpg").write_bytes(data)
    assert thumbnail(tmp_path / "called.jpg").startswith('<img alt="" src="data:image/jpeg;base64,')


MODES = [
    (format, mode)
    for format, modes in {
        "JPEG": "L CMYK", "PNG": "1 L LA P PA", "WEBP": "RGB RGBA", "TIFF": "1 L LA P CMYK YCbCr RGB",
        "GIF": "1 L RGBA", "BMP": "1 L P RGBA", "JPEG2000": "L RGBA CMYK", "TGA": "L P RGB", "AVIF": "RGBA L",
        "PPM": "1 L", "ICO": "RGB P",
    }.items()
    for mode in modes.split()
]  # fmt: skip


@pytest.mark.parametrize(("format", "mode"), MODES)
def test_r10_every_mode_of_colours_and_transparency(format: str, mode: str) -> None:
    if (format, mode) == ("PNG", "PA"):  # a palette of which some colours are clear
        data = encoded(photo("RGB").quantize(16), "PNG", transparency=bytes(range(0, 256, 16)))
    else:
        data = encoded(photo("RGBA").convert(mode), format)
    check_picture(data)


@pytest.mark.parametrize("format", TURNABLE)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_w01_all_orientations_in_every_format(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for mode in ("RGB", "RGBA") if format != "JPEG" else ("RGB", "L"):
        data = encoded(photo(mode), format, exif=exif if format == "TIFF" else exif.tobytes())
        check_picture(data)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).size
    small = Image.open(io.BytesIO(made_small(data, 16)[0])).size
    assert (upright[0] > upright[1]) == (small[0] > small[1])


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_w01_an_orientation_that_is_none_turns_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert decode(encoded(photo(), "JPEG", exif=exif.tobytes())).shape == (3, 30, 50)
    assert decode(encoded(photo(), "JPEG", exif=b"Exif\0\0" + b"noise" * 9)).shape == (3, 30, 50)


@pytest.mark.parametrize("format", ["WEBP", "PNG", "AVIF", "GIF"])
def test_r09_of_moving_pictures_the_first_frame(format: str) -> None:
    frames = [photo(), photo().rotate(180), photo().rotate(90)]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=100, **options)
    check_picture(data)
    assert np.abs(ours(data) - np.asarray(photo(), dtype=int)).mean() < (12 if format == "GIF" else 3)


def test_r10_sixteen_bits_and_floating_point() -> None:
    """The upper eight of 16 bits, which Pillow would cut off at 255."""
    values = np.linspace(0, 65535, 1500).astype(np.uint16).reshape(30, 50)
    for format in ("PNG", "TIFF", "PPM", "JPEG2000"):
        assert np.abs(ours(encoded(Image.fromarray(values), format))[..., 0] - (values >> 8)).max() <= 1, format
    floats = Image.fromarray((values / 65535).astype(np.float32))
    assert np.abs(ours(encoded(floats, "TIFF"))[..., 0] - (values >> 8)).max() <= 1
    assert ours(png(50, 30, bits=16, colours=6)).shape == (30, 50, 3)


def png(width: int, height: int, bits: int, colours: int) -> bytes:
    """A PNG of even rows; ``colours`` 6 is RGBA."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = b"\0" + bytes(range(1, 1 + bits // 2)) * width
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_m05_what_is_no_picture_is_named() -> None:
    assert said_of(b"<html>404</html>") == "is not a picture but a web page (HTML)"
    assert said_of(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)) == (
        "is a HEIF picture that is not read: save it as JPEG or PNG"
    )
    assert said_of(b"RIFF\x24\0\0\0WAVEfmt " + bytes(40)) == "is not a picture but a WAV recording"
    assert "object at 0x" not in said_of(bytes(range(256)) * 4)
    with pytest.raises(DamagedItem, match=r"is not a video but a web page \(HTML\)"):
        list(steady_frames(b"<html>404</html>", 3.0))
    with pytest.raises(DamagedItem, match="is not a video but text"):  # .ts is TypeScript, too
        list(steady_frames(b"export const answer: number = 42;\n" * 20, 3.0))


@pytest.mark.parametrize("row", SHOWN, ids=lambda row: row.format)
def test_r05_a_picture_that_is_cut_short_is_refused(row: Row) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 4), np.uint8))
    data = saved(row, noise)
    said = said_of(data[: len(data) // 2])
    assert "\n" not in said and said.startswith("is ")
    if row.format in ("JPEG", "PNG", "WEBP", "TIFF"):
        assert said.endswith("is cut short")


def test_r11_a_photo_of_108_million_pixels_is_read() -> None:
    data = encoded(Image.new("RGB", (12000, 9000), (200, 30, 60)), "JPEG", quality=30)
    pixels = decode(data)
    assert pixels.shape[1] * pixels.shape[2] <= pictures.LARGE and pixels.shape[1] * 4 == pixels.shape[2] * 3
    assert np.abs(pixels[:, 100, 100].int().numpy() - [200, 30, 60]).max() <= 4
    assert Image.open(io.BytesIO(made_small(data, 64)[0])).size == (85, 64)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "TIFF"])
def test_r11_a_large_picture_is_what_pillow_makes_of_it(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is lowered: all that is larger is decoded at a fraction, or averaged by strips."""
    whole = Image.fromarray(np.random.default_rng(1).integers(0, 255, (9, 16, 3), np.uint8)).resize((1600, 900))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(whole, format, **({"exif": exif.tobytes()} if format in ("PNG", "JPEG") else {}))
    expected = pillows(data)
    monkeypatch.setattr(pictures, "LARGE", 400_000)
    monkeypatch.setattr("skillnet_image.pixels.LARGE", 400_000)
    found = ours(data)
    assert found.size // 3 <= 400_000 and found.shape[0] * 2 == expected.shape[0] + expected.shape[0] % 2
    halved = np.asarray(Image.fromarray(expected.astype(np.uint8)).reduce(2), dtype=int)
    assert np.abs(found - halved).mean() < 2


READ = """
import re, sys
from skillnet_image.reader import ImageReader, ImageConfig
from skillnet_cli.api import DamagedItem
try:
    ImageReader(ImageConfig()).read(open(sys.argv[1], "rb").read())
except DamagedItem as error:
    print(error)
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) // 1024)
"""
"""getrusage's figure is no less than that of the process by which this one was started."""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read in /proc")
@pytest.mark.parametrize("bomb", ["png", "gif"])
def test_s10_a_bomb_is_bounded_before_memory_is_spent(bomb: str, tmp_path: Path) -> None:
    """A PNG of 100 million pixels of 64 bits, and a GIF that claims 4 thousand million."""
    gif = b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0\0\0\0\xff\xff\xff"
    gif += b"," + struct.pack("<HHHH", 0, 0, 65535, 65535) + b"\0\x02\x02L\x01\0;"
    (tmp_path / "bomb").write_bytes(gif if bomb == "gif" else png(10_000, 10_000, 16, 6))
    done = subprocess.run([sys.executable, "-c", READ, tmp_path / "bomb"], capture_output=True, text=True, check=True)
    *said, megabytes = done.stdout.splitlines()
    assert int(megabytes) < 1500 and (said == [] if bomb == "png" else "claims 65535 × 65535 pixels" in said[0])


@functools.cache
def ffmpeg() -> str:
    return find_ffmpeg(None)


def source(seconds: float = 2, rate: int = 10, size: str = "160x120") -> Sequence[str]:
    return (
        "-f",
        "lavfi",
        "-i",
        f"gradients=size={size}:rate={rate}:duration={seconds}:speed=0.2:n=2:c0=red:c1=blue:x0=0:y0=0:x1=159:y1=119",
    )


def ffmpegs(data: bytes, shape: tuple[int, ...], path: Path, filters: str = "null") -> np.ndarray:
    """All frames as ffmpeg shows them, turned upright by itself."""
    path.write_bytes(data)
    command = [ffmpeg(), "-loglevel", "error", "-i", str(path), "-vf", filters, "-fps_mode", "passthrough"]
    done = subprocess.run([*command, "-pix_fmt", "rgb24", "-f", "rawvideo", "-"], capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, *shape[1:], 3).transpose(0, 3, 1, 2).astype(int)


def frames(data: bytes, fps: float = 10.0) -> list[torch.Tensor]:
    return [frame_pixels(frame) for frame in steady_frames(data, fps)]


@pytest.mark.parametrize("row", CLIPS, ids=lambda row: row.format)
def test_r07_every_clip_that_ffmpeg_opens_is_read(row: Row, tmp_path: Path) -> None:
    data = clip(row, ffmpeg(), source())
    rate = 25 if "-r" in row.options else 10
    seen = frames(data, float(rate))
    truth = ffmpegs(data, tuple(seen[0].shape), tmp_path / "called.mp4")
    assert len(seen) == len(truth) and 2 * rate - 1 <= len(seen) <= 2 * rate
    assert max(np.abs(one.numpy() - other).mean() for one, other in zip(seen, truth, strict=True)) < 3
    assert len(frames(Recoding().clip(data)[0], 3.0)) == 6
    assert contact_sheet(tmp_path / "called.mp4").startswith("<img")


WIDE = {
    "mp4": ("mp4", "-c:v", "libx264", "-pix_fmt", "yuv420p"),
    "codec alone": ("mpegts", "-c:v", "mpeg2video", "-r", "25"),
    "webm": ("webm", "-c:v", "libvpx", "-pix_fmt", "yuv420p"),
}


@pytest.mark.parametrize("name", WIDE)
def test_w04_pixels_that_are_not_square(name: str) -> None:
    format, *options = WIDE[name]
    square = frames(clip(Row("", "", format=format, options=options), ffmpeg(), source()))
    for size, ratio, shape in (("80:120", "2", (3, 120, 160)), ("160:60", "1/2", (3, 60, 80))):
        scaled = Row("", "", format=format, options=[*options, "-vf", f"scale={size},setsar={ratio}"])
        seen = frames(clip(scaled, ffmpeg(), source()))
        assert seen[0].shape == shape
        if shape == (3, 120, 160):
            assert max(float((a.int() - b.int()).abs().float().mean()) for a, b in zip(seen, square, strict=False)) < 5


@pytest.mark.parametrize("turn", [90, 180, 270])
@pytest.mark.parametrize("flip", [False, True])
def test_w04_turned_flipped_and_not_square(turn: int, flip: bool, tmp_path: Path) -> None:
    plain = clip(
        Row("", "", format="mp4", options=[*WIDE["mp4"][1:], "-vf", "scale=80:120,setsar=2"]), ffmpeg(), source()
    )
    (tmp_path / "plain.mp4").write_bytes(plain)
    shown = ["-display_rotation", str(turn), *(["-display_hflip"] if flip else []), "-i", str(tmp_path / "plain.mp4")]
    data = clip(Row("", "", format="mp4", options=["-c", "copy"]), ffmpeg(), shown)
    seen = frames(data)
    assert seen[0].shape == ((3, 160, 120) if turn % 180 else (3, 120, 160))
    square = "scale='trunc(iw*max(sar,1)+.5)':'trunc(ih/min(sar,1)+.5)',setsar=1"
    truth = ffmpegs(data, tuple(seen[0].shape), tmp_path / "turned.mp4", square)
    assert max(np.abs(one.numpy() - other).mean() for one, other in zip(seen, truth, strict=True)) < 3


@pytest.mark.parametrize("row", CLIPS[:9], ids=lambda row: row.format)
def test_r07_of_an_interrupted_recording_what_is_there_is_used(row: Row) -> None:
    options = [*row.options, *(["-movflags", "+faststart"] if row.format == "mp4" else [])]
    data = clip(Row("", "", format=row.format, options=options), ffmpeg(), source(8))
    whole = frames(data)
    with collect_remarks() as remarks:
        seen = frames(data[: len(data) * 8 // 10])
    assert 0.5 * len(whole) < len(seen) < len(whole)
    assert torch.equal(seen[10], whole[10])
    if row.format in ("mp4", "webm", "avi", "flv", "rm"):  # these say how long they would be
        assert any("is cut short" in each for each in remarks)
    stated = [float(each.split()[7]) for each in remarks if each.startswith("is cut short")]
    assert stated == pytest.approx([8] * len(stated), abs=0.5)
    with collect_remarks() as remarks:
        frames(data)
    assert remarks == []


def test_r07_a_track_that_appears_later_is_passed_over() -> None:
    data = clip(Row("", "", format="flv", options=["-c:v", "flv"]), ffmpeg(), source(8))
    tag = b"\x08\0\0\x20" + b"\0" * 7 + b"\x2f\xff\xfb\x90\x64" + b"\0" * 27 + (11 + 32).to_bytes(4, "big")
    with collect_remarks() as remarks:
        assert len(frames(data + tag)) == len(frames(data))
    assert remarks == []


@pytest.mark.parametrize("format", ["matroska", "flv"])
def test_r07_sound_that_goes_on_behind_the_pictures_is_no_damage(format: str) -> None:
    longer = [*source(), "-f", "lavfi", "-i", "sine=duration=9"]
    codecs = ["-c:v", "flv", "-c:a", "mp3", "-ar", "44100"]
    data = clip(Row("", "", format=format, options=codecs), ffmpeg(), longer)
    with collect_remarks() as remarks:
        assert 18 <= len(frames(data)) <= 24
    assert remarks == []
    with collect_remarks() as remarks:
        frames(data[: len(data) // 3])
    assert any("is cut short" in each for each in remarks)


def test_r07_an_mp4_without_its_table_says_so() -> None:
    data = clip(Row("", "", format="mp4", options=WIDE["mp4"][1:]), ffmpeg(), source())
    with pytest.raises(DamagedItem, match="is cut short: the table of its frames, which comes last, is missing"):
        frames(data[: len(data) * 8 // 10])


def test_r07_clocks_that_begin_late_jump_or_are_missing(tmp_path: Path) -> None:
    one = clip(Row("", "", format="mpegts", options=["-c:v", "mpeg2video", "-r", "25"]), ffmpeg(), source())
    late = [*("-c:v", "mpeg2video", "-r", "25", "-output_ts_offset", "50000")]
    other = clip(Row("", "", format="mpegts", options=late), ffmpeg(), source())
    assert len(frames(other)) == len(frames(one)) == 20
    assert 38 <= len(frames(one + other)) <= 42 and 38 <= len(frames(other + one)) <= 42
    bare = clip(Row("", "", format="h264", options=["-c:v", "libx264", "-bf", "3"]), ffmpeg(), source(rate=25))
    assert 18 <= len(frames(bare)) <= 20
    b_frames = clip(Row("", "", format="avi", options=["-c:v", "libx264", "-bf", "3"]), ffmpeg(), source())
    assert 20 <= len(frames(b_frames)) <= 24


def test_r07_the_film_and_not_the_cover(tmp_path: Path) -> None:
    cover, sound = tmp_path / "cover.png", ["-f", "lavfi", "-i", "sine=duration=2"]
    Image.new("RGB", (640, 480), "red").save(cover)
    picture = ["-map", "0", "-map", "1", "-c:v:1", "png", "-disposition:v:1", "attached_pic"]
    film = clip(
        Row("", "", format="mp4", options=["-c:v:0", "libx264", *picture]), ffmpeg(), [*source(), "-i", str(cover)]
    )
    assert frames(film)[0].shape == (3, 120, 160)
    song = ["-map", "0", "-map", "1", "-c:v", "png", "-disposition:v", "attached_pic"]
    with pytest.raises(DamagedItem, match=r"holds no moving pictures \(only a cover picture\)"):
        frames(clip(Row("", "", format="mp4", options=song), ffmpeg(), [*sound, "-i", str(cover)]))


def test_r07_one_frame_odd_sizes_and_ten_bits() -> None:
    ten = ["-c:v", "libx264", "-pix_fmt", "yuv420p10le", "-frames:v", "1"]
    assert len(frames(clip(Row("", "", format="matroska", options=ten), ffmpeg(), source()), 3.0)) == 1
    odd = ["-c:v", "libx264", "-pix_fmt", "yuv444p"]
    assert frames(clip(Row("", "", format="mp4", options=odd), ffmpeg(), source(size="33x47")))[0].shape == (3, 47, 33)


def test_r11_an_8k_frame_is_read() -> None:
    large = ["-c:v", "mpeg4", "-frames:v", "2", "-qscale:v", "31"]
    data = clip(
        Row("", "", format="mp4", options=large), ffmpeg(), ("-f", "lavfi", "-i", "color=red:size=7680x4320:rate=2")
    )
    seen = VideoReader(VideoConfig(resolution=16, tube=(3, 8, 8))).read(data)
    assert (seen[:, 0].float().mean() > 230) and seen[:, 1:].float().mean() < 20


def test_l04_the_page_is_made_by_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    print(formats.document(), end="")
    assert capsys.readouterr().out.startswith("# Formats\n")

"""Decoding against Pillow, and everything that must not decode."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from skillnet_cli.api import DamagedItem
from skillnet_image.pictures import MAX_PIXELS
from skillnet_image.pixels import decode, flatten, source_bytes, square
from tests.plugins.image.broken import png_of_size
from tests.plugins.image.conftest import Encode, encode


def as_array(pixels: torch.Tensor) -> np.ndarray:
    return pixels.permute(1, 2, 0).numpy().astype(int)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
@pytest.mark.parametrize("format, options", [("PNG", {}), ("JPEG", {"quality": 90}), ("WEBP", {"lossless": True})])
def test_decodes_as_pillow_does(photo: Image.Image, mode: str, format: str, options: dict) -> None:
    stored = photo.convert(mode)
    data = encode(stored if format == "PNG" else stored.convert("RGB"), format, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=int)
    assert np.abs(as_array(decode(data)) - expected).max() <= 1


def test_colours_for_print_become_rgb(photo: Image.Image, encoded: Encode) -> None:
    pixels = decode(encoded(photo.convert("CMYK"), "JPEG", quality=95))
    assert pixels.shape == (3, 30, 50)
    assert np.abs(as_array(pixels) - np.asarray(photo, dtype=int)).mean() < 12


def test_sixteen_bits_become_eight(encoded: Encode) -> None:
    values = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    pixels = decode(encoded(Image.fromarray(values), "PNG"))
    assert torch.equal(pixels[0], torch.from_numpy((values >> 8).astype(np.uint8)))


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_transparent_parts_become_white(photo: Image.Image, encoded: Encode, format: str) -> None:
    alpha = np.random.default_rng(1).integers(0, 256, (30, 50), dtype=np.uint8)
    clear = photo.copy()
    clear.putalpha(Image.fromarray(alpha))
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    white = Image.new("RGBA", clear.size, "white")
    expected = np.asarray(Image.alpha_composite(white, clear).convert("RGB"), dtype=int)
    assert np.abs(as_array(decode(encoded(clear, format, **options))) - expected).max() <= 1


def test_a_palette_with_a_clear_colour_becomes_white(photo: Image.Image, encoded: Encode) -> None:
    flat = Image.new("P", (8, 8), 0)
    flat.putpalette([0, 0, 0, 255, 0, 0])
    flat.putpixel((0, 0), 1)
    pixels = decode(encoded(flat, "PNG", transparency=0))
    assert pixels[:, 0, 0].tolist() == [255, 0, 0]
    assert pixels[:, 1, 1].tolist() == [255, 255, 255]


@given(colour=st.integers(0, 255), alpha=st.integers(0, 255))
def test_flattening_is_exact_to_half_a_step(colour: int, alpha: int) -> None:
    pixels = torch.tensor([colour, colour, colour, alpha], dtype=torch.uint8)[:, None, None]
    exact = (colour * alpha + 255 * (255 - alpha)) / 255
    assert abs(int(flatten(pixels)[0, 0, 0]) - exact) <= 0.5


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_photos_stand_upright(photo: Image.Image, encoded: Encode, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photo, "JPEG", exif=exif.tobytes(), quality=95)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.abs(as_array(decode(data)) - np.asarray(upright, dtype=int)).max() <= 1


@pytest.mark.parametrize("size", [(64, 64), (100, 60), (60, 100), (30, 21), (400, 37)])
def test_square_is_pillows_resize_and_centre_crop(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (size[1] // 3 + 1, size[0] // 3 + 1, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    scale = 32 / min(size)
    resized = picture.resize((int(size[0] * scale), int(size[1] * scale)), Image.Resampling.BICUBIC)
    left, top = (round((side - 32) / 2) for side in resized.size)
    expected = np.asarray(resized.crop((left, top, left + 32, top + 32)), dtype=int)
    pixels = square(torch.from_numpy(np.array(picture)).permute(2, 0, 1), 32)
    tolerance = 2 if max(size) <= 4 * min(size) else 255
    assert pixels.shape == (3, 32, 32)
    assert np.abs(as_array(pixels) - expected).max() <= tolerance


@given(height=st.integers(1, 300), width=st.integers(1, 300))
def test_any_shape_becomes_a_square(height: int, width: int) -> None:
    assert square(torch.full((3, height, width), 7, dtype=torch.uint8), 16).eq(7).all()


def test_a_hair_thin_picture_does_not_fill_the_memory() -> None:
    thin = torch.zeros(3, 1, 1_000_000, dtype=torch.uint8)
    thin[:, :, 499_900:500_100] = 200
    assert square(thin, 32).eq(200).all()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_picture_cut_short_is_damaged(encoded: Encode, format: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(3).integers(0, 256, (90, 90, 3), dtype=np.uint8))
    data = encoded(noise, format)
    with pytest.raises(DamagedItem):
        decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("data", [b"not a picture", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(20)])
def test_what_is_no_picture_is_damaged(data: bytes) -> None:
    with pytest.raises(DamagedItem):
        decode(data)


@given(data=st.binary(min_size=1, max_size=200), start=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]))
def test_noise_raises_nothing_else(data: bytes, start: bytes) -> None:
    with pytest.raises(DamagedItem):
        decode(start + data)


@given(place=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_changed_byte_raises_nothing_else(place: int, value: int) -> None:
    gradient = Image.linear_gradient("L").resize((20, 20)).convert("RGBA")
    data = bytearray(encode(gradient, "PNG"))
    data[place % len(data)] = value
    with contextlib.suppress(DamagedItem):
        assert decode(bytes(data)).shape[0] == 3


@pytest.mark.parametrize("side", [11_000, 15_000, 60_000])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DamagedItem, match=r"pixels|bomb"):
            decode(png_of_size(side, side))
    assert side * side > MAX_PIXELS


def test_sources(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    (tmp_path / "empty").touch()
    assert source_bytes(b"abc") == source_bytes(tmp_path / "a.bin")
    for missing in [b"", tmp_path / "empty", tmp_path / "none", tmp_path, tmp_path / "a\0b", str(tmp_path / "a.bin")]:
        with pytest.raises(DamagedItem):
            source_bytes(missing)

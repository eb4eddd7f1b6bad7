"""Pictures left as published or made small, and everything that is none."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from skillnet_cli.api import DamagedItem
from skillnet_image.pictures import MAX_PIXELS, as_published, made_small
from skillnet_image.pixels import decode
from tests.plugins.image.broken import png_of_size
from tests.plugins.image.conftest import Encode, encode

BROKEN = [b"", b"<html>404</html>", b"\xff\xd8\xff\xe0", b"GIF89a" + bytes(20), b"BM" + bytes(60), bytes(5000)]


@pytest.mark.parametrize("format, suffix", [("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp")])
def test_a_sound_picture_keeps_its_bytes_and_gets_the_suffix_that_fits(
    photo: Image.Image, encoded: Encode, format: str, suffix: str
) -> None:
    data = encoded(photo, format)
    assert as_published(data) == (data, suffix)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("size, small", [((200, 100), (64, 32)), ((100, 300), (32, 96)), ((20, 25), (20, 25))])
def test_a_picture_made_small_looks_the_same(
    photo: Image.Image, encoded: Encode, format: str, size: tuple[int, int], small: tuple[int, int]
) -> None:
    whole = photo.resize(size, Image.Resampling.BICUBIC)
    data, suffix = made_small(encoded(whole, format), 32)
    assert suffix == ".jpg" and made_small(encoded(whole, format), 32)[0] == data
    found = Image.open(io.BytesIO(data))
    assert found.format == "JPEG" and found.size == small
    expected = np.asarray(whole.resize(small, Image.Resampling.BICUBIC), dtype=int)
    assert np.abs(np.asarray(found, dtype=int) - expected).mean() < (12 if format == "GIF" else 8)
    assert decode(data).shape[1:] == small[::-1]


def test_small_pictures_stand_upright_on_white(photo: Image.Image, encoded: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert Image.open(io.BytesIO(made_small(encoded(photo, "JPEG", exif=exif.tobytes()), 16)[0])).size == (16, 27)
    clear = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    assert Image.open(io.BytesIO(made_small(encoded(clear, "PNG"), 16)[0])).getpixel((8, 8)) == (255, 255, 255)


@pytest.mark.parametrize("data", BROKEN)
def test_what_is_no_picture_is_damaged(data: bytes) -> None:
    for prepared in (as_published, lambda data: made_small(data, 32)):
        with pytest.raises(DamagedItem):
            prepared(data)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_picture_cut_short_is_damaged(encoded: Encode, format: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(3).integers(0, 256, (90, 90, 3), dtype=np.uint8))
    data = encoded(noise, format)
    with pytest.raises(DamagedItem):
        made_small(data[: int(len(data) * share)], 32)


@pytest.mark.parametrize("side", [11_000, 60_000])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    assert side * side > MAX_PIXELS
    with pytest.raises(DamagedItem, match=r"pixels|bomb"):
        made_small(png_of_size(side, side), 32)


@given(place=st.integers(0, 10_000), value=st.integers(0, 255), format=st.sampled_from(["JPEG", "GIF", "WEBP"]))
def test_a_changed_byte_raises_nothing_else(place: int, value: int, format: str) -> None:
    data = bytearray(encode(Image.linear_gradient("L").resize((20, 20)).convert("RGB"), format))
    data[place % len(data)] = value
    with contextlib.suppress(DamagedItem):
        assert made_small(bytes(data), 16)[0].startswith(b"\xff\xd8")

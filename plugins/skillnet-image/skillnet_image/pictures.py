"""Pictures of every format that is read: recognised by their content, decoded by Pillow within bounds, made small."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from skillnet_cli.api import DamagedItem
from skillnet_cli.sources.kinds import HEAD, kind_of

FORMATS = (
    "JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "ICO", "CUR", "ICNS", "PPM", "QOI", "PSD",
    "TGA", "PCX", "SGI", "SUN", "DDS", "DIB", "XPM", "XBM",
)  # fmt: skip
"""Pillow's names of what is read: all but what other programs would draw (EPS, WMF), films and rarities."""
LARGE = 1 << 25
"""Pixels of the largest picture that is decoded as it is, an 8K frame; of a larger one a half, a third, …"""
MAX_PIXELS = 100_000_000
"""The most pixels of a picture; of a JPEG, which can be decoded at a fraction of its size, twice as many and more."""
MAX_BYTES = 700_000_000
"""The most memory that a decoder may need, by what the header claims: a small file may claim any size."""
QUALITY = 90
ORIENTATION = 0x0112
"""The tag of Exif."""

_COSTS = {"WEBP": 16, "AVIF": 20, "JPEG2000": 20, "TIFF": 10, "GIF": 6}
"""Bytes a pixel that decoders were seen to take; all others need the 4 of Pillow's own picture and a little."""
_FOOTER = b"TRUEVISION-XFILE."
"""At the end of a Targa file, which has no signature at its beginning."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def as_published(data: bytes) -> tuple[bytes, str]:
    """The same bytes, once they have been decoded, and the suffix that fits them, whatever the file was called.

    Raises:
        DamagedItem: it is no picture that the reader takes.
    """
    from skillnet_image.pixels import decode

    decode(data)
    return data, suffix_of(data)


def made_small(data: bytes, side: int) -> tuple[bytes, str]:
    """The picture upright, on white, its short side no longer than ``side``, as JPEG.

    Raises:
        DamagedItem: it is no picture that is read, is damaged or cut short, or claims too many pixels.
    """
    with decoding(data):
        image = opened(data)
        image.draft("RGB", (side, side))  # a JPEG comes out of its decoder at a half, a quarter, an eighth
        return _encoded(_small(_on_white(upright_colours(image)), side)), ".jpg"


def suffix_of(data: bytes) -> str:
    """The customary suffix of a picture that can be decoded."""
    format = str(opened(data).format)
    usual = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2", "SUN": ".ras"}
    return usual.get(format, f".{format.lower()}")


@contextmanager
def decoding(data: bytes) -> Iterator[None]:
    """Turns whatever goes wrong while a picture is decoded into DamagedItem, and keeps Pillow's warnings to itself."""
    if not data:
        raise DamagedItem("is empty (zero bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DamagedItem:
        raise
    except Exception as error:  # what a decoder raises at a damaged file has no common name
        riff = data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little")
        if riff or "truncated" in str(error).lower():
            raise DamagedItem(f"is {_what(data)} that is cut short") from error
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DamagedItem(f"is {_what(data)} that cannot be decoded ({reason})") from error


def _what(data: bytes) -> str:
    kind = kind_of(data[:HEAD])
    return kind if "picture" in kind else "a picture"


def opened(data: bytes) -> ImageFile.ImageFile:
    """The picture, of which only the header has been read. A JPEG that is larger than LARGE is to be decoded smaller.

    Pillow's own ``open`` refuses 179 million pixels whatever they cost, which is less than phones make.

    Raises:
        DamagedItem: its content is none of FORMATS, or claims too many pixels.
    """
    for format in FORMATS:
        if (image := _opened_as(format, data)) is not None:
            check_size(*image.size, limit=_most_pixels(image))
            if image.format in ("JPEG", "MPO") and image.width * image.height > LARGE:
                scale = next((scale for scale in (2, 4) if image.width * image.height <= LARGE * scale**2), 8)
                image.draft(image.mode, (image.width // scale, image.height // scale))
            return image
    kind = kind_of(data[:HEAD])
    if "picture" not in kind:
        raise DamagedItem(f"is not a picture but {kind}")
    read = (
        "cannot be decoded" if "HEIF" not in kind and "JPEG XL" not in kind else "is not read: save it as JPEG or PNG"
    )
    raise DamagedItem(f"is {kind} that {read}")


def _opened_as(format: str, data: bytes) -> ImageFile.ImageFile | None:
    if format not in Image.OPEN:
        Image.init()
    factory, accept = Image.OPEN.get(format, (None, None))  # Pillow may have been built without a format
    accepted = accept(data[:16]) if accept else _FOOTER in data[-26:]
    if factory is None or not accepted or isinstance(accepted, str):  # a text: that the library for it is missing
        return None
    try:
        return factory(io.BytesIO(data), "")
    except (SyntaxError, IndexError, TypeError, KeyError, struct.error):  # as in Image.open: it is not this format
        return None


def _most_pixels(image: Image.Image) -> int:
    """How many pixels of its kind MAX_BYTES are enough for."""
    if image.format not in ("JPEG", "MPO"):
        return min(MAX_PIXELS, MAX_BYTES // _COSTS.get(str(image.format), 5))
    # Decoded at a half, a quarter or an eighth. What may be kept as a whole are the coefficients, two bytes each.
    layers = [(across, down) for _, across, down, *_ in getattr(image, "layer", [])] or [(1, 1)] * 3
    whole = max(across for across, _ in layers) * max(down for _, down in layers)
    return MAX_BYTES * whole // (2 * sum(across * down for across, down in layers))


def check_size(width: int, height: int, limit: int) -> None:
    """Refuse a picture by the size that its header claims.

    Args:
        width: in pixels.
        height: in pixels.
        limit: the most pixels.

    Raises:
        DamagedItem: it would have no pixels, or more than ``limit``.
    """
    if width <= 0 or height <= 0:
        raise DamagedItem(f"claims {width} × {height} pixels")
    if width * height > limit:
        raise DamagedItem(f"claims {width} × {height} pixels, more than the {limit // 1_000_000} million that are read")


def orientation(image: Image.Image) -> int:
    """How the picture is stored, 1 to 8 as Exif has it: 1 is upright. An Exif that cannot be read turns nothing."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # its parsers raise whatever they meet
        return 1
    return found if found in _TURNS else 1


def upright_colours(image: Image.Image) -> Image.Image:
    """A picture of :func:`opened`, decoded: RGB, or RGBA where it has transparency; upright, no larger than LARGE.

    Of several frames or pages it is the first. Numbers stay as they are stored: colour profiles are not applied, CMYK
    becomes RGB by its definition. Of 16 bits the upper 8 count.
    """
    image.load()
    turn = _TURNS.get(orientation(image))
    small = colours_of(image)
    return small if turn is None else small.transpose(turn)


def colours_of(image: Image.Image) -> Image.Image:
    """The same of a picture in memory, as it lies there: not turned."""
    image.load()
    factor = 1
    while (image.width // factor) * (image.height // factor) > LARGE:
        factor += 1
    colours = _conversion_of(image)
    return colours(image) if factor == 1 else _reduced(image, colours, factor)


def _reduced(image: Image.Image, colours: Callable[[Image.Image], Image.Image], factor: int) -> Image.Image:
    """Every ``factor`` × ``factor`` pixels as one, by strips: all of a picture in RGBA may be too much."""
    rows = factor * 64
    small: Image.Image | None = None
    for number, top in enumerate(range(0, image.height, rows)):
        strip = colours(image.crop((0, top, image.width, min(top + rows, image.height)))).reduce(factor)
        if small is None:
            small = Image.new(strip.mode, (strip.width, -(-image.height // factor)))
        small.paste(strip, (0, number * 64))
    assert small is not None, "a picture has a row at least"
    return small


def _conversion_of(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """What makes RGB or RGBA of this picture or of a part of it."""
    if not image.mode.startswith(("I", "F")):
        mode = "RGBA" if image.has_transparency_data else "RGB"
        return lambda part: part if part.mode == mode and "transparency" not in part.info else part.convert(mode)
    # Pillow would cut such numbers off at 255.
    highest: Any = image.getextrema()[1] if image.mode == "I" or image.mode == "F" else 0
    clear = image.info.get("transparency")

    def grey(part: Image.Image) -> Image.Image:
        numbers = np.asarray(part)
        if part.mode == "F":  # 0 to 1, as floating-point pictures have it, or 0 to 255
            levels = np.nan_to_num(numbers * 255 if highest <= 1 else numbers)
        else:
            levels = numbers >> 8 if part.mode != "I" or highest > 255 else numbers
        found = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
        if isinstance(clear, int):
            found.putalpha(Image.fromarray((numbers != clear).astype(np.uint8) * 255))
            return found.convert("RGBA")
        return found.convert("RGB")

    return grey


def _small(image: Image.Image, side: int) -> Image.Image:
    scale = side / min(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()

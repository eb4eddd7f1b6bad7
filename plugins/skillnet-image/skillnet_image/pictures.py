"""Pictures as they are put into prepared sets: checked and left as published, or made small and encoded anew."""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageOps

from skillnet_cli.api import DamagedItem

MAX_PIXELS = 100_000_000
"""The largest picture that is decoded: a small file may claim far more than the memory holds."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""What is made small; of a moving picture the first frame."""
QUALITY = 90


def as_published(data: bytes) -> tuple[bytes, str]:
    """The same bytes, once they have been decoded, and the suffix that fits them, whatever the file was called.

    Raises:
        DamagedItem: it is no picture that the reader takes.
    """
    from skillnet_image.pixels import decode

    if not data:
        raise DamagedItem("is empty (zero bytes)")
    decode(data)
    if data.startswith(b"\xff\xd8"):
        return data, ".jpg"
    return data, ".png" if data.startswith(b"\x89PNG") else ".webp"


def made_small(data: bytes, side: int) -> tuple[bytes, str]:
    """The picture upright, on white, its short side no longer than ``side``, as JPEG.

    Raises:
        DamagedItem: it is none of FORMATS, is damaged or cut short, or claims more than MAX_PIXELS.
    """
    if not data:
        raise DamagedItem("is empty (zero bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _encoded(_small(_opened(data), side)), ".jpg"
    except DamagedItem:
        raise
    except Exception as error:  # what a decoder raises at a damaged file has no common name
        reason = "" if isinstance(error, Image.UnidentifiedImageError) else f" ({error or type(error).__name__})"
        raise DamagedItem(f"is not a picture that can be decoded{reason}") from error


def check_size(width: int, height: int, limit: int = MAX_PIXELS) -> None:
    """Refuse a picture by the size that its header claims.

    Args:
        width: in pixels.
        height: in pixels.
        limit: the most pixels.

    Raises:
        DamagedItem: it would have no pixels, or more than ``limit``.
    """
    if not 0 < width * height <= limit:
        raise DamagedItem(f"claims {width} × {height} pixels, more than {limit:,} or none")


def _opened(data: bytes) -> Image.Image:
    """The picture, of which only the header has been read."""
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    check_size(*image.size)
    return image


def _small(image: Image.Image, side: int) -> Image.Image:
    image.draft("RGB", (side, side))  # a JPEG comes out of its decoder at a half, a quarter, an eighth
    image = _on_white(ImageOps.exif_transpose(image))
    scale = side / min(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    clear = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")


def _encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()

"""From the bytes of a picture to red, green and blue pixels: decoding, flattening, resizing, cropping.

The skill video reads its frames with the same functions.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from skillnet_cli.api import DamagedItem, Source
from skillnet_image.pictures import check_size

FORMATS = ("JPEG", "PNG", "WEBP")
WIDEST = 4
"""Cut a picture to this many times its short side before resizing: the centre crop sees no more anyway."""


def source_bytes(source: Source) -> bytes:
    """The bytes of a media file given as such or as a path. Raises DamagedItem where there are none."""
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except (OSError, ValueError) as error:
        raise DamagedItem(f"cannot be read: {error}") from error
    if not data:
        raise DamagedItem("is empty (zero bytes)")
    return data


def decode(data: bytes) -> UInt8[Tensor, "3 height width"]:
    """A JPEG, PNG or WebP file as RGB pixels, turned upright by its EXIF orientation, transparent parts white.

    Raises:
        DamagedItem: it is none of the three, is damaged or cut short, or claims more than MAX_PIXELS.
    """
    mode = ImageReadMode.RGB_ALPHA if _has_alpha(data) else ImageReadMode.RGB
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    try:
        pixels = decode_image(encoded, mode, apply_exif_orientation=True)
    except RuntimeError as error:
        raise DamagedItem(f"cannot be decoded: {str(error).splitlines()[0]}") from error
    return flatten(_eight_bits(pixels))


def _has_alpha(data: bytes) -> bool:
    """Whether the picture has transparency. Reads the header only, so that a decompression bomb is refused unopened."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as header:
                check_size(*header.size)
                return header.format != "JPEG" and header.has_transparency_data
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DamagedItem(f"is not a picture in JPEG, PNG or WebP: {error}") from error


def _eight_bits(pixels: Tensor) -> UInt8[Tensor, "channels height width"]:
    return pixels if pixels.dtype == torch.uint8 else (pixels.to(torch.int32) >> 8).to(torch.uint8)


def flatten(pixels: UInt8[Tensor, "channels height width"]) -> UInt8[Tensor, "3 height width"]:
    """Lay RGB or RGBA pixels on white."""
    colours, alpha = pixels[:3], pixels[3:].int()
    if not len(alpha) or int(alpha.min()) == 255:
        return colours
    return ((colours.int() * alpha + 255 * (255 - alpha) + 127) // 255).to(torch.uint8)


def square(pixels: UInt8[Tensor, "3 height width"], side: int) -> UInt8[Tensor, "3 side side"]:
    """Resize the short side to ``side`` (bicubic, antialiased) and cut out the centre, as CLIP does."""
    height, width = pixels.shape[-2:]
    pixels = transforms.center_crop(pixels, [min(height, WIDEST * width), min(width, WIDEST * height)])
    pixels = transforms.resize(pixels, [side], interpolation=InterpolationMode.BICUBIC, antialias=True)
    return transforms.center_crop(pixels, [side, side])

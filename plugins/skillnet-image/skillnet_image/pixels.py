"""From the bytes of a picture to red, green and blue pixels: decoding, flattening, resizing, cropping.

The skill video reads its frames with the same functions.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageFile
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from skillnet_cli.api import DamagedItem, Source
from skillnet_cli.untrusted import Untrusted, medium, read_bytes
from skillnet_image.pictures import (
    LARGE,
    MAX_PIXELS,
    check_size,
    colours_of,
    decoding,
    opened,
    orientation,
    upright_colours,
)

WIDEST = 4
"""Cut a picture to this many times its short side before resizing: the centre crop sees no more anyway."""
_LATE = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
"""What a PNG may say of its orientation, even behind its pixels."""


def source_bytes(source: Source) -> bytes:
    """The bytes of a picture's file, given as such or by its path. Raises DamagedItem where there are none."""
    try:
        given = medium(source, "a picture")
        data = given if isinstance(given, bytes) else read_bytes(given)
    except Untrusted as error:
        raise DamagedItem(str(error)) from error
    except (OSError, ValueError) as error:
        raise DamagedItem(f"cannot be read: {error}") from error
    if not data:
        raise DamagedItem("is empty (zero bytes)")
    return data


def pixels_of(source: Source | Image.Image) -> UInt8[Tensor, "3 height width"]:
    """The RGB pixels of a picture's bytes, of the file at a path, or of a picture that Pillow has opened or made.

    The last is taken as it is in memory, as if it were saved as PNG: an Exif orientation is its owner's to apply.

    Raises:
        DamagedItem: it cannot be decoded, is a text, or has too many pixels.
    """
    if not isinstance(source, Image.Image):
        return decode(source_bytes(source))
    check_size(*source.size, MAX_PIXELS)
    try:
        return _on_white(colours_of(source))
    except Exception as error:  # it may be of a file that is read only now
        raise DamagedItem(f"is a picture that cannot be decoded ({error})") from error


def decode(data: bytes) -> UInt8[Tensor, "3 height width"]:
    """A picture of any of FORMATS as RGB pixels, turned upright by its Exif orientation, transparent parts white.

    Raises:
        DamagedItem: it is none of them, is damaged or cut short, or claims too many pixels.
    """
    with decoding(data):
        image = opened(data)
        if (plain := _plain(image, data)) is not None:
            return plain
        colours = upright_colours(image)
        if colours is not image:
            image.close()  # its own pixels may take 400 MB
        return _on_white(colours)


def _on_white(image: Image.Image) -> UInt8[Tensor, "3 height width"]:
    return flatten(torch.from_numpy(np.array(image)).permute(2, 0, 1))


def _plain(image: ImageFile.ImageFile, data: bytes) -> UInt8[Tensor, "3 height width"] | None:
    """The pixels of an everyday JPEG or PNG by torchvision, twice as fast as Pillow and the same; None for another."""
    if image.mode not in ("RGB", "L") or image.width * image.height > LARGE:
        return None
    if image.format == "PNG":
        bits = image.tile[0].args if image.tile else None
        if bits != image.mode or "transparency" in image.info or any(each in data for each in _LATE):
            return None
        turn = 1
    elif image.format in ("JPEG", "MPO") and not image.decoderconfig:  # of its full size
        turn = orientation(image)
    else:
        return None
    try:
        pixels = decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
    except RuntimeError:  # what is wrong with it, or whether it is, is Pillow's to say
        return None
    return _turned(pixels, turn)


def _turned(pixels: UInt8[Tensor, "3 rows columns"], orientation: int) -> UInt8[Tensor, "3 height width"]:
    """Stored pixels upright: the orientations 5 to 8 swap rows and columns, then the odd corners are flipped."""
    if orientation > 4:
        pixels = pixels.transpose(1, 2)
    flipped = {2: [2], 3: [1, 2], 4: [1], 6: [2], 7: [1, 2], 8: [1]}.get(orientation)
    return pixels.flip(flipped) if flipped else pixels


def flatten(pixels: UInt8[Tensor, "channels height width"]) -> UInt8[Tensor, "3 height width"]:
    """Lay RGB or RGBA pixels on white."""
    colours, alpha = pixels[:3], pixels[3:]
    if not len(alpha) or int(alpha.min()) == 255:
        return colours
    found = torch.empty(colours.shape, dtype=torch.uint8)
    for rows in torch.arange(colours.shape[1]).split(256):  # what is calculated with takes four times the memory
        part, opaque = colours[:, rows].int(), alpha[:, rows].int()
        found[:, rows] = ((part * opaque + 255 * (255 - opaque) + 127) // 255).to(torch.uint8)
    return found


def square(pixels: UInt8[Tensor, "3 height width"], side: int) -> UInt8[Tensor, "3 side side"]:
    """Resize the short side to ``side`` (bicubic, antialiased) and cut out the centre, as CLIP does."""
    height, width = pixels.shape[-2:]
    pixels = transforms.center_crop(pixels, [min(height, WIDEST * width), min(width, WIDEST * height)])
    pixels = transforms.resize(pixels, [side], interpolation=InterpolationMode.BICUBIC, antialias=True)
    return transforms.center_crop(pixels, [side, side])

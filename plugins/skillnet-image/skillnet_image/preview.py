"""Pictures for galleries."""

from __future__ import annotations

import base64

from jaxtyping import UInt8
from torch import Tensor
from torchvision.io import encode_jpeg
from torchvision.transforms.v2 import functional as transforms

from skillnet_cli.api import Source
from skillnet_image.pixels import pixels_of

LONGEST = 160


def thumbnail(source: Source) -> str:
    """An HTML ``<img>`` that carries a small copy of the picture in itself. Raises DamagedItem."""
    return image_tag(pixels_of(source))


def image_tag(pixels: UInt8[Tensor, "3 height width"], longest: int = LONGEST) -> str:
    """An HTML ``<img>`` with these pixels as JPEG, shrunk to ``longest`` along the longer side."""
    height, width = pixels.shape[-2:]
    scale = min(1.0, longest / max(height, width))
    small = transforms.resize(pixels, [max(1, round(height * scale)), max(1, round(width * scale))], antialias=True)
    encoded = base64.b64encode(encode_jpeg(small, quality=85).numpy().tobytes()).decode("ascii")
    return f'<img alt="" src="data:image/jpeg;base64,{encoded}">'

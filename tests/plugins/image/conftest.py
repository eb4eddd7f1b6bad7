from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

Encode = Callable[..., bytes]


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


@pytest.fixture
def encoded() -> Encode:
    return encode


@pytest.fixture
def photo() -> Image.Image:
    """A smooth picture with some noise, 50 × 30."""
    down, across = np.mgrid[0:30, 0:50]
    channels = np.stack([across * 5, down * 8, (across + down) * 3], axis=-1)
    return Image.fromarray((channels + np.random.default_rng(0).integers(0, 9, channels.shape)).astype(np.uint8))

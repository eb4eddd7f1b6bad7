from __future__ import annotations

import re
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from skillnet_cli.api import DamagedItem
from skillnet_image.augment import augment
from skillnet_image.config import ImageConfig
from skillnet_image.embedder import PatchEmbedder
from skillnet_image.pixels import decode
from skillnet_image.preview import LONGEST, thumbnail
from skillnet_image.reader import ImageReader
from tests.plugins.image.conftest import Encode


@pytest.fixture
def reader() -> ImageReader:
    return ImageReader(ImageConfig(resolution=32, patch=8))


def test_bytes_and_paths_read_alike(reader: ImageReader, photo: Image.Image, encoded: Encode, tmp_path: Path) -> None:
    data = encoded(photo, "PNG")
    (tmp_path / "图.png").write_bytes(data)
    pixels = reader.read(data)
    assert pixels.shape == (3, 32, 32) and pixels.dtype == torch.uint8
    assert torch.equal(pixels, reader.read(tmp_path / "图.png"))
    (window,) = reader.split(tmp_path / "图.png")
    assert torch.equal(window.features, pixels)


def test_reading_draws_nothing(reader: ImageReader, photo: Image.Image, encoded: Encode) -> None:
    data = encoded(photo, "PNG")
    assert torch.equal(reader.read(data), reader.read(data, np.random.default_rng(5)))


def test_length_is_what_the_embedder_makes(reader: ImageReader, photo: Image.Image, encoded: Encode) -> None:
    pixels = reader.read(encoded(photo, "PNG"))
    _, lengths = PatchEmbedder(reader.config, 8)(reader.collate([pixels]))
    assert lengths.tolist() == [reader.length(pixels)] == [17]


def test_damaged_files_are_named_as_such(reader: ImageReader, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(DamagedItem, match="empty"):
        reader.read(tmp_path / "empty.jpg")


@pytest.mark.parametrize(
    "keys", [{"resolution": 100}, {"resolution": 0}, {"patch": -1}, {"std": (0, 1, 1)}, {"resolutoin": 64}]
)
def test_configurations_that_cannot_be(keys: dict) -> None:
    with pytest.raises(ValidationError):
        ImageConfig(**keys)


def test_the_defaults_are_clips() -> None:
    from transformers import CLIPImageProcessor, CLIPVisionConfig

    config, processor, vision = ImageConfig(), CLIPImageProcessor(), CLIPVisionConfig(patch_size=16)
    assert (config.mean, config.std) == (tuple(processor.image_mean), tuple(processor.image_std))
    assert (config.resolution, config.patch) == (vision.image_size, vision.patch_size)


def test_augmentation_depends_on_its_generator_alone(reader: ImageReader, photo: Image.Image, encoded: Encode) -> None:
    pixels = reader.read(encoded(photo, "PNG"))
    torch.manual_seed(0)
    first = augment(pixels, np.random.default_rng(1))
    torch.manual_seed(1)
    np.random.seed(1)
    assert torch.equal(first, augment(pixels, np.random.default_rng(1)))
    assert not torch.equal(first, augment(pixels, np.random.default_rng(2)))


def test_augmentation_is_mild_and_never_mirrors() -> None:
    picture = torch.zeros(3, 32, 32, dtype=torch.uint8)
    picture[:, :, :8] = 250
    for seed in range(50):
        changed = augment(picture, np.random.default_rng(seed)).float()
        assert changed.shape == picture.shape
        assert changed[:, 8:24, 0].mean() > 150 > 60 > changed[:, 8:24, 16:].mean()


def test_frames_of_a_clip_change_alike() -> None:
    frame = torch.randint(0, 256, (3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    changed = augment(frame.expand(4, 3, 16, 16), np.random.default_rng(3))
    assert all(torch.equal(changed[0], other) for other in changed[1:])


def test_a_thumbnail_carries_a_small_copy(encoded: Encode) -> None:
    wide = Image.linear_gradient("L").resize((800, 200)).convert("RGB")
    tag = thumbnail(encoded(wide, "PNG"))
    found = re.fullmatch(r'<img alt="" src="data:image/jpeg;base64,([A-Za-z0-9+/=]+)">', tag)
    assert found
    small = decode(b64decode(found[1]))
    assert small.shape == (3, LONGEST // 4, LONGEST)
    assert abs(small.float().mean() - 127.5) < 4

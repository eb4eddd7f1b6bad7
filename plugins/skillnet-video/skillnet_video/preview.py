"""Clips for galleries."""

from __future__ import annotations

from contextlib import closing
from itertools import islice

import torch

from skillnet_cli.api import Source
from skillnet_image.preview import image_tag
from skillnet_video.clips import squares, steady_frames
from skillnet_video.reader import choose

SHOWN = 4
SIDE = 96
"""Pixels along a frame."""
FPS = 3.0
SECONDS = 10


def contact_sheet(source: Source) -> str:
    """An HTML ``<img>`` with four frames of the clip side by side in itself. Raises DamagedItem."""
    with closing(steady_frames(source, FPS)) as frames:
        kept = squares(islice(frames, round(FPS * SECONDS)), SIDE)
    chosen = [kept[place]() for place in choose(len(kept), SHOWN, None)]
    return image_tag(torch.cat(chosen, dim=2), longest=SHOWN * SIDE)

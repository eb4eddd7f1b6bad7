"""``demo-clips`` and ``demo-clips-pretrain``: emoji in motion, captioned with their Chinese names and the motion.

The division of vendors and names is that of the pictures. No caption of a test occurs in training: its name does,
with other motions, and its motion does, with other names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from skillnet_cli.api import DamagedItem
from skillnet_cli.prepare.preparer import Preparation
from skillnet_cli.prepare.writer import SetWriter
from skillnet_image.datasets import emoji as source
from skillnet_image.datasets.emoji import Emoji, EmojiCollection
from skillnet_video.datasets.motions import MOTIONS, Motion, encode, render

CONCEPTS = 320
"""Seen names that clips are made of, of those that all seven vendors have."""
COPIES = 2
"""Clips of a training vendor's picture, each with another motion."""
DEV = 100


@dataclass(frozen=True)
class _Clip:
    """A clip to be made."""

    emoji: Emoji
    motion: Motion

    @property
    def id(self) -> str:
        """The picture's and the motion's number, such as ``Appl-1F682-0``."""
        return f"{self.emoji.id}-{MOTIONS.index(self.motion)}"

    @property
    def caption(self) -> str:
        """The name and what it does, such as 火车从左向右移动."""
        return self.motion.caption.format(self.emoji.name)


def prepare(job: Preparation) -> None:
    """Write the set that the job names: ``train`` and, for fine-tuning, ``dev``, ``test`` and ``unseen``."""
    collection = source.read_emoji(job)
    for_pretraining = job.dataset.name.endswith("-pretrain")
    vendors: tuple[str, ...] = source.PRETRAIN_VENDORS if for_pretraining else source.FINETUNE_VENDORS
    clips = list(_training_clips(collection, vendors))
    pairs = [("train", clip) for clip in clips]
    if not for_pretraining:
        vendors = (*vendors, source.TEST_VENDOR)
        pairs = [*_divided(clips), *_test_clips(collection)]
    chosen = list(source.limited(pairs, job.limit))
    choices = {"vendors": list(vendors), "concepts": CONCEPTS, "motions": len(MOTIONS)}
    with job.writer(source=job.sources or source.SOURCES, choices=choices) as writer:
        for split, clip in job.progress.track(chosen, len(chosen), job.dataset.name):
            _write(writer, split, clip, job.seed)
        writer.finish()


def _write(writer: SetWriter, split: str, clip: _Clip, seed: int) -> None:
    """Keep a clip, or record why not."""
    try:
        writer.keep(split, clip.id, {"text": [clip.caption]}, {"video": (_film(clip, seed), ".mp4")})
    except DamagedItem as error:
        writer.reject(split, clip.id, "damaged", str(error))


def _concepts(collection: EmojiCollection) -> list[str]:
    """The seen names that clips are made of."""
    vendors = (*source.PRETRAIN_VENDORS, *source.FINETUNE_VENDORS, source.TEST_VENDOR)
    return source.in_hash_order(collection.common_names(*vendors))[:CONCEPTS]


def _training_clips(collection: EmojiCollection, vendors: tuple[str, ...]) -> Iterator[_Clip]:
    """COPIES clips of every vendor's picture of every concept, with motions all different for one name."""
    wanted = frozenset(_concepts(collection))
    for place, vendor in enumerate(vendors):
        for emoji in collection.of(vendor):
            if emoji.name in wanted:
                yield from (_Clip(emoji, _motion_of(emoji.name, place * COPIES + copy)) for copy in range(COPIES))


def _test_clips(collection: EmojiCollection) -> Iterator[tuple[str, _Clip]]:
    """One clip of the test vendor's picture of every concept and of every held-out name, with its split."""
    seen = frozenset(_concepts(collection))
    for emoji in collection.of(source.TEST_VENDOR):
        if source.reason_against(emoji) is None and emoji.name in seen | collection.unseen:
            clip = _Clip(emoji, _motion_of(emoji.name, COPIES * len(source.FINETUNE_VENDORS)))
            yield "test" if emoji.name in seen else "unseen", clip


def _motion_of(name: str, turn: int) -> Motion:
    """The motion of a name's clip number ``turn``: they follow one another from a place given by the name's hash."""
    first = hashlib.sha256(name.encode()).digest()[0]
    return MOTIONS[(first + turn) % len(MOTIONS)]


def _divided(clips: list[_Clip]) -> Iterator[tuple[str, _Clip]]:
    """Training clips with their split: DEV of them, in the order of their hashes, for development."""
    dev = frozenset(source.in_hash_order(clip.id for clip in clips)[:DEV])
    return (("dev" if clip.id in dev else "train", clip) for clip in clips)


def _film(clip: _Clip, seed: int) -> bytes:
    """The clip's mp4 file; ground and course are drawn from the seed and the clip's id. Raises DamagedItem."""
    rng = np.random.default_rng((seed, crc32(clip.id.encode())))
    return encode(render(source.sprite(clip.emoji), clip.motion, rng))

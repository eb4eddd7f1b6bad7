"""``demo-emoji`` and ``demo-emoji-pretrain``: emoji at 64 pixels, captioned with their Chinese names."""

from __future__ import annotations

from collections.abc import Mapping

from torchvision.io import encode_png

from skillnet_cli.api import DamagedItem
from skillnet_cli.prepare.preparer import Preparation
from skillnet_cli.prepare.writer import SetWriter
from skillnet_image.datasets import emoji as source
from skillnet_image.datasets.emoji import Emoji, EmojiCollection
from skillnet_image.pixels import decode, square

SIDE = 64
DEV = 150


def prepare(job: Preparation) -> None:
    """Write the set that the job names: ``train`` and, for fine-tuning, ``dev``, ``test`` and ``unseen``."""
    collection = source.read_emoji(job)
    for_pretraining = job.dataset.name.endswith("-pretrain")
    vendors = source.PRETRAIN_VENDORS if for_pretraining else (*source.FINETUNE_VENDORS, source.TEST_VENDOR)
    dev = {} if for_pretraining else _dev_vendors(collection)
    pairs = ((_split_of(emoji, collection.unseen, dev), emoji) for emoji in collection.of(*vendors))
    chosen = list(source.limited(pairs, job.limit))
    choices = {"vendors": list(vendors), "side": SIDE, "unseen_names": len(collection.unseen)}
    with job.writer(source=job.sources or source.SOURCES, choices=choices) as writer:
        for split, emoji in job.progress.track(chosen, len(chosen), job.dataset.name):
            _write(writer, split, emoji, collection.unseen)
        writer.finish()


def _dev_vendors(collection: EmojiCollection) -> Mapping[str, str]:
    """Names of which one picture is kept for development -> its vendor; the other vendors' pictures train."""
    names = source.in_hash_order(collection.common_names(*source.FINETUNE_VENDORS, source.TEST_VENDOR))[:DEV]
    vendors = source.FINETUNE_VENDORS
    return {name: vendors[place % len(vendors)] for place, name in enumerate(names)}


def _split_of(emoji: Emoji, unseen: frozenset[str], dev: Mapping[str, str]) -> str:
    """The split that a picture would belong to."""
    if emoji.vendor == source.TEST_VENDOR:
        return "unseen" if emoji.name in unseen else "test"
    return "dev" if dev.get(emoji.name) == emoji.vendor else "train"


def _write(writer: SetWriter, split: str, emoji: Emoji, unseen: frozenset[str]) -> None:
    """Keep a picture, or record why not."""
    reason = source.reason_against(emoji)
    if not reason and split == "train" and emoji.name in unseen:
        reason = "a held-out name"
    if reason:
        writer.reject(split, emoji.id, "filtered", reason)
        return
    try:
        writer.keep(split, emoji.id, {"text": [emoji.name]}, {"image": (_shrink(emoji.png), ".png")})
    except DamagedItem as error:
        writer.reject(split, emoji.id, "damaged", str(error))


def _shrink(png: bytes) -> bytes:
    """The picture on white at SIDE × SIDE pixels, as PNG."""
    return encode_png(square(decode(png), SIDE)).numpy().tobytes()

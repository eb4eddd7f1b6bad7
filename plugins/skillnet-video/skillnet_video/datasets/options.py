"""Options of this plugin's data sets. The top module imports them, so nothing heavy is imported here."""

from __future__ import annotations

from pathlib import Path

from skillnet_cli.api import DatasetOption

TEMPLATE = "https://www.youtube.com/watch?v={id}"

SIDE = DatasetOption("side", "The short side of the frames that are kept.", int, 256, metavar="PIXELS")

YOUTUBE_OPTIONS = (
    DatasetOption("download", "Fetch the clips that are missing.", bool),
    DatasetOption("whole-videos", "Fetch whole videos and cut them here, without ffmpeg.", bool, recorded=False),
    DatasetOption("url-template", "Address of a video, with {id}.", default=TEMPLATE, metavar="URL", recorded=False),
    DatasetOption("cookies", "A file of cookies, for videos that require signing in.", Path, recorded=False),
    DatasetOption("rate-limit", "KiB per second, for each process.", int, recorded=False),
    DatasetOption("retries", "Further tries after temporary failures.", int, 3, recorded=False),
    DatasetOption("timeout", "Seconds for a clip, all tries together.", float, 600.0, recorded=False),
    DatasetOption(
        "private-host",
        "A host of a private network that may be asked all the same, a mirror of your own; may be repeated.",
        repeatable=True,
        metavar="HOST",
        recorded=False,
    ),
    DatasetOption("ffmpeg", "The ffmpeg program, if it is not on the PATH.", Path, recorded=False),
)

"""Options of this plugin's data sets. Nothing heavy is imported here."""

from __future__ import annotations

from pathlib import Path

from skillnet_cli.api import DatasetOption

TEMPLATE = "https://www.youtube.com/watch?v={id}"

SIDE = DatasetOption("side", "The short side of the frames that are kept.", int, 256, metavar="PIXELS")

YOUTUBE_OPTIONS = (
    DatasetOption("download", "Fetch the clips that are not there yet.", bool),
    DatasetOption("whole-videos", "Fetch whole videos and cut them here, without ffmpeg.", bool, recorded=False),
    DatasetOption("url-template", "Where videos are, with {id}.", default=TEMPLATE, metavar="URL", recorded=False),
    DatasetOption("cookies", "A file of cookies, for videos that want a sign-in.", Path, recorded=False),
    DatasetOption("rate-limit", "KiB a second, for each process.", int, recorded=False),
    DatasetOption("retries", "Further tries of what fails for the moment.", int, 3, recorded=False),
    DatasetOption("ffmpeg", "The ffmpeg program, where it is not found by its name.", Path, recorded=False),
)

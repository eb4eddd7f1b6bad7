"""A release of ``wukong`` whose pictures lie on a server of this machine. Light, for processes of its own."""

from __future__ import annotations

import csv
import functools
import io
import random
from pathlib import Path
from typing import Any

from PIL import Image

from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.prepare.preparer import Preparation, Tolerance
from skillnet_cli.prepare.run import run
from skillnet_image import skillnet_datasets
from skillnet_image.datasets.wukong import Wukong
from tests.plugins.image.broken import png_of_size

DATASET = next(each for each in skillnet_datasets() if each.name == "wukong")
OPTIONS = {
    **{option.name: option.absent for option in DATASET.options},
    "shard-rows": 50, "side": 16, "timeout": 4.0, "retries": 1, "connections": 32, "per-host": 32,
    "private-host": ("127.0.0.1",),
}  # fmt: skip
DEEDS = {
    "ok": 20, "slow": 3, "once": 1, "leads/SELF/ok": 1, "status/404": 4, "status/503": 1, "drop": 1, "dropped": 1,
    "leads/file:///etc/passwd#": 1, "leads/http://10.0.0.1": 1, "round": 1, "claims": 1, "ok/html": 1, "ok/empty": 1,
    "ok/cut": 1, "ok/bomb": 1, "ok/gif": 1,
}  # fmt: skip
"""What the server does, and how often in proportion."""
SOUND = {"ok", "slow", "once", "leads/SELF/ok", "ok/gif"}
DAMAGED = {"ok/html", "ok/empty", "ok/cut", "ok/bomb"}
ANY = Tolerance(damaged=None)


def encoded(image: Image.Image, format: str) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    image.save(file, format)
    return file.getvalue()


@functools.lru_cache(maxsize=2000)
def content(name: str) -> bytes:
    """The picture of a number, or what stands in its place."""
    kind, _, number = name.rpartition("/")
    image = Image.new("RGB", (40, 30), (int(number) % 256, int(number) // 256, 7))
    broken = {"html": b"<html>", "empty": b"", "cut": encoded(image, "PNG")[:60], "bomb": png_of_size(60_000, 60_000)}
    return broken[kind] if kind in broken else encoded(image, "GIF" if kind == "gif" else "JPEG")


def rows(url: str, count: int) -> list[tuple[str, str, str]]:
    """Deed, address and caption of so many rows, in an order that looks random."""
    draw = random.Random(count)
    deeds = draw.choices(list(DEEDS), list(DEEDS.values()), k=count)
    return [(deed, f"{url}/{deed}/{number}", f"第 {number} 张图片的标题") for number, deed in enumerate(deeds)]


def publish(folder: Path, tables: dict[str, list[tuple[str, str, str]]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, each in tables.items():
        file = io.StringIO()
        csv.writer(file).writerows([("url", "caption"), *((url, caption) for _, url, caption in each)])
        (folder / f"wukong_100m_{name}.csv").write_text(file.getvalue(), encoding="utf-8")
    return folder


def prepare(source: Path, out: Path, options: dict[str, Any] | None = None, **more: Any) -> PreparedSet:
    more = {"tolerance": ANY, "options": {**OPTIONS, **(options or {})}, **more}
    run(Wukong, Preparation(DATASET, (str(source),), out, **more))
    return PreparedSet.open(out)


KILLED = "from tests.plugins.image.pictures_of_the_web import in_a_process; import sys; in_a_process(*sys.argv[1:])"


def in_a_process(source: str, out: str) -> None:
    """For a process that will be killed."""
    prepare(Path(source), Path(out))

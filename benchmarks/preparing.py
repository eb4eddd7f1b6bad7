"""Measures what lies between a prepared set and a model, on one core: reading, the loader, and memory.

Run: python benchmarks/preparing.py [--rows 1000000] [--rounds 9]. It prints

* the rate of reading pictures from shards and decoding them, as a ratio to decoding the same bytes from memory by the
  modality's decoder and by torchvision's alone (wanted: at least 0.95);
* what the loader costs a sample beside reading features: order, shard, record, choices, batch (wanted: at most 40 µs);
* the largest memory of preparing so many generated rows, of verifying them and of looking for leaks (at most 600 MB).

Each figure is a median of rounds whose sides run in turn in one process; memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import io
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

PICTURES = 64
SIZE = (640, 480)
SAMPLES = 4096
BATCH = 64
STAGES = ("prepare", "verify", "overlap")


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def picture(seed: int) -> bytes:
    """A photograph's size and amount of detail, as JPEG."""
    import numpy as np
    from PIL import Image

    coarse = np.random.default_rng(seed).integers(0, 255, (SIZE[1] // 8, SIZE[0] // 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def reading(folder: Path, rounds: int) -> None:
    """Print the rate of reading and decoding, and its ratios."""
    import torch
    from torchvision.io import ImageReadMode, decode_image

    from skillnet_cli.data.prepared import PreparedSet
    from skillnet_cli.prepare.writer import SetWriter
    from skillnet_image.pixels import decode

    torch.set_num_threads(1)
    content = [picture(number) for number in range(PICTURES)]
    with SetWriter(folder / "pictures", name="pictures", licence="none") as writer:
        for number, each in enumerate(content):
            writer.keep("train", f"{number}", {"text": ["一句话"] * 5}, {"image": (each, ".jpg")})
        writer.finish()
    split = PreparedSet.open(folder / "pictures").split("train")

    def bare(data: bytes) -> torch.Tensor:
        return decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)

    sides: list[Callable[[int], object]] = [
        lambda place: decode(split[place]["image"]),
        lambda place: decode(content[place]),
        lambda place: bare(split[place]["image"]),
        lambda place: bare(content[place]),
    ]
    rows = [turns(sides, PICTURES) for _ in range(rounds + 1)]
    shards, memory, bare_shards, bare_memory = zip(*rows, strict=True)
    rate = PICTURES / statistics.median(shards[1:])
    print(f"pictures of {SIZE[0]} x {SIZE[1]} from shards, decoded   {rate:8.0f} a second")
    print(f"  ratio to the decoder on bytes in memory   {ratio(memory, shards):8.3f}   (wanted: at least 0.95)")
    print(
        f"  the same for torchvision's decoder alone  {ratio(bare_memory, bare_shards):8.3f}   (wanted: at least 0.95)"
    )


def turns(sides: Sequence[Callable[[int], object]], places: int) -> list[float]:
    """The CPU seconds of each side over all places; the sides take turns at every one, so that all meet the same."""
    spent = [0.0] * len(sides)
    for place in range(places):
        for number, side in enumerate(sides):
            spent[number] += seconds(lambda side=side, place=place: side(place))  # type: ignore[misc]
    return spent


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """The median of quotients, without the first round."""
    return statistics.median(a / b for a, b in list(zip(one, other, strict=True))[1:])


class Nothing:
    """A reader and a target side that cost nothing: what is left is the loader."""

    def __init__(self) -> None:
        import torch

        self.features = torch.zeros(1)

    def read(self, source: Any, rng: Any = None) -> Any:
        """Always the same features."""
        return self.features

    def length(self, features: Any) -> int:
        """One token."""
        return 1

    def example(self, features: Any, target: Any, rng: Any) -> tuple[Any, Any]:
        """As they are."""
        return features, None

    def collate(self, *_: Any) -> dict[str, Any]:
        """Nothing."""
        return {}


def loading(folder: Path, rounds: int) -> None:
    """Print what the loader costs a sample."""
    from skillnet_cli.api import Task
    from skillnet_cli.data.pipeline import TaskPipeline
    from skillnet_cli.data.prepared import PreparedSet
    from skillnet_cli.data.sampler import Stream, TaskOrder
    from skillnet_cli.engine.loader import StepDataset
    from skillnet_cli.prepare.writer import SetWriter

    with SetWriter(folder / "samples", name="samples", licence="none") as writer:
        for number in range(SAMPLES):
            media = {"image": (number.to_bytes(4, "little") * 1000, ".bin")}
            writer.keep("train", f"{number}", {"text": [f"第{number}句话"] * 5}, media)
        writer.finish()
    split = PreparedSet.open(folder / "samples").split("train")
    nothing: Any = Nothing()
    task = Task("find", (("text",), ("image",)), "contrastive")
    pipeline = TaskPipeline(task, {"text": nothing, "image": nothing}, nothing)
    dataset = StepDataset(
        TaskOrder({"find": 1}, 0), {"find": Stream([split], None, BATCH, 0)}, {"find": pipeline}, 0, 1, {"find": None}
    )
    many = SAMPLES // BATCH

    def whole() -> None:
        for _ in dataset.read_ahead(0, many, workers=0):
            pass

    times = [(seconds(whole), seconds(lambda: [split[place] for place in range(SAMPLES)])) for _ in range(rounds + 1)]
    loader, shard = (1e6 * statistics.median(side[1:]) / SAMPLES for side in zip(*times, strict=True))
    print(f"loader, for a sample                        {loader:8.1f} µs  (wanted: at most 40)")
    print(f"  of which from the shard                   {shard:8.1f} µs")


def generated(rows: int) -> Any:
    """A preparer of so many rows, a hundredth of them copies, as many damaged."""
    from skillnet_cli.prepare.preparer import Kept, Preparer, Range, Rejected

    class Rows(Preparer):
        def ranges(self) -> Sequence[Range]:
            return [Range(f"rows from {start}", start) for start in range(0, rows, 10_000)]

        def read(self, range_: Range) -> Iterator[Kept | Rejected]:
            for number in range(range_.payload, min(range_.payload + 10_000, rows)):
                split, id, text = "dev" if number % 20 == 0 else "train", f"row-{number:09d}", f"第{number}行的一句话"
                if number % 100 == 7:
                    yield Rejected(split, id, "damaged", "it is damaged")
                else:
                    content = f"{number - number % 100}" if number % 100 == 9 else text
                    yield Kept(split, id, {"text": [text]}, content=content)

    return Rows


def stage(name: str, folder: Path, rows: int) -> None:
    """One stage, in a process of its own; prints its seconds and the most memory it had."""
    begin = time.process_time()
    if name == "prepare":
        from skillnet_cli.api import Dataset
        from skillnet_cli.prepare.preparer import Preparation
        from skillnet_cli.prepare.run import run

        run(generated(rows), Preparation(Dataset("rows", "", (), "none", "any"), (str(folder),), folder / "rows"))
    elif name == "verify":
        from skillnet_cli.data.verify import verify

        assert not list(verify(folder / "rows"))
    else:
        from skillnet_cli.data.overlap import Part, find_overlaps
        from skillnet_cli.data.prepared import PreparedSet

        find_overlaps(Part.all_of(PreparedSet.open(folder / "rows"), "rows", apart=True), {"text": False})
    print(time.process_time() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def memory(folder: Path, rows: int) -> None:
    """Print the most memory that each stage needs."""
    for name in STAGES:
        command = [sys.executable, __file__, "--stage", name, "--folder", str(folder), "--rows", str(rows)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        spent, most = map(float, done.stdout.split())
        print(f"{name:8} {rows:,} rows {'':20} {most:8.0f} MB  (wanted: at most 600), {spent:.0f} s of CPU")


def main() -> None:
    """Print all figures; one thread, so that CPU seconds count work and not waiting."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        return stage(given.stage, given.folder, given.rows)
    with tempfile.TemporaryDirectory() as name:
        memory(Path(name), given.rows)  # first, because a process begins with the memory of the one that starts it
        reading(Path(name), given.rounds)
        loading(Path(name), given.rounds)


if __name__ == "__main__":
    main()

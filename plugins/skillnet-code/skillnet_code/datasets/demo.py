"""``demo-functions`` and ``demo-code``: functions of Chinese Python packages with descriptions from their docstrings.

Both are made from the same harvest, and a description falls into its part by its own checksum: no description is on
two sides of a split, and what ``demo-functions`` keeps for dev and test is never in ``demo-code``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from skillnet_cli.prepare.preparer import Kept, Preparation, Rejected
from skillnet_cli.sources.archives import read_archive
from skillnet_code.datasets.describe import chinese_characters
from skillnet_code.datasets.harvest import Example, harvest
from skillnet_code.datasets.sources import SOURCES

FEWEST_CHINESE = 5
"""Chinese characters that a description needs to distinguish one function among hundreds."""

TEST_BUCKETS, DEV_BUCKET, PRETRAINING_DEV_BUCKET = (0, 1), 2, 3


def prepare_functions(job: Preparation) -> None:
    """Functions with Chinese descriptions, for text-to-code retrieval: about 17/20 train, 1/20 dev, 2/20 test."""
    _prepare(job, _filter_for_retrieval)


def prepare_code(job: Preparation) -> None:
    """Functions with descriptions in any language, for masked tokens: none that ``demo-functions`` holds out."""
    _prepare(job, _filter_for_pretraining)


def _filter_for_retrieval(example: Example) -> Kept | Rejected:
    split = "test" if example.bucket in TEST_BUCKETS else "dev" if example.bucket == DEV_BUCKET else "train"
    if chinese_characters(example.text) < FEWEST_CHINESE:
        reason = f"the description has fewer than {FEWEST_CHINESE} Chinese characters"
        return Rejected(split, example.id, "filtered", reason)
    return _keep(split, example)


def _filter_for_pretraining(example: Example) -> Kept | Rejected:
    split = "dev" if example.bucket == PRETRAINING_DEV_BUCKET else "train"
    if example.bucket in (*TEST_BUCKETS, DEV_BUCKET):
        return Rejected(split, example.id, "filtered", "held out for retrieval")
    return _keep(split, example)


def _keep(split: str, example: Example) -> Kept:
    return Kept(split, example.id, {"text": [example.text], "code": example.code})


def _prepare(job: Preparation, filter: Callable[[Example], Kept | Rejected]) -> None:
    sources = job.sources or tuple(SOURCES)
    items = (filter(found) if isinstance(found, Example) else found for found in harvest(_files(job, sources)))
    job.write(items, sources)


def _files(job: Preparation, sources: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """The Python files of every source, under paths that begin with the package's name."""
    for source in sources:
        for member in read_archive(job.fetch(source, SOURCES.get(source))):
            if member.name.endswith(".py"):
                yield member.name, member.read()

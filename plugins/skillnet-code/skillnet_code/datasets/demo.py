"""``demo-functions`` and ``demo-code``: functions of Chinese Python packages with descriptions from their docstrings.

Both are made from the same harvest, and a description falls into its part by its own checksum: no description is on
two sides of a split, and what ``demo-functions`` keeps for dev and test is never in ``demo-code``. Its part ``unseen``
is of whole packages of which nothing else is in either set, since functions of one package resemble each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from skillnet_cli.prepare.preparer import Kept, Preparation, Rejected
from skillnet_cli.sources.archives import read_archive
from skillnet_code.datasets.describe import chinese_characters
from skillnet_code.datasets.harvest import Example, harvest

SOURCES = {
    "pypi:akshare==1.19.5": "4c49141dcdc3b27c43cb38cec628683f6803d6316adf8abc8dfc2adcd1e851cf",
    "pypi:wechatpy==1.8.18": "bfd0457dfd3f4623a490534cc9cb9c29b53f9397b3ebbee0f11ee7925b9b71f6",
    "pypi:cos-python-sdk-v5==1.9.44": "584a97ecd5e9b15b04a1e511e6dd0ea4eca00ee87fe50aa9a3c91ce716149bcb",
    "pypi:jionlp==1.5.31": "688ba3793c5c0888b166ae1b11aaf6161db661a162019e77ffcf5951427e528f",
    "pypi:nonebot2==2.5.0": "12380d396a3d5126eeeae0a1aa53af45e9d99b63896e3e2dd6340ee436869e36",
    "pypi:oss2==2.19.1": "a8ab9ee7eb99e88a7e1382edc6ea641d219d585a7e074e3776e9dec9473e59c1",
    "pypi:adata==2.9.5": "f9dc5d276f8771cf5a5f11fb81c6d97a00d188e20cfcef67022f210c8b23cbf1",
    "pypi:qiniu==7.18.0": "0f1be608ac6800ad5f32690d1aa02353b6b2ff5edc78f32a2318859d375a27df",
    "pypi:efinance==0.5.9": "787b4068eac2d0757a39c8f6f652067892586af24fa3795eb15268fac20a8b11",
}
"""Source -> SHA-256. All are under the MIT or the Apache-2.0 licence, most describe their functions in Chinese."""

UNSEEN = {
    "pypi:lunar_python==1.4.8": "3aa11cc73c25e70ddf0ba5bdac7398c03acc9491a3aa512a91c9642973b669d6",
    "pypi:wechatpayv3==2.0.4": "20e74fe05a33399ba9c0896a31c392e9ebb578ea538a713db1507954679a1870",
}
"""Packages held out whole, read after the others, so that what resembles one of those is left out (both MIT)."""

FEWEST_CHINESE = 5
"""Chinese characters that a description needs to distinguish one function among hundreds."""

TEST_BUCKETS, DEV_BUCKET, PRETRAINING_DEV_BUCKET = (0, 1), 2, 3


def prepare_functions(job: Preparation) -> None:
    """Functions with Chinese descriptions, for text-to-code retrieval.

    About 17/20 of those in :data:`SOURCES` are ``train``, 1/20 ``dev``, 2/20 ``test``; all of :data:`UNSEEN` are
    ``unseen``.
    """
    _prepare(job, (*SOURCES, *UNSEEN), _filter_for_retrieval)


def prepare_code(job: Preparation) -> None:
    """Functions with descriptions in any language, for masked tokens: none that ``demo-functions`` holds out."""
    _prepare(job, tuple(SOURCES), _filter_for_pretraining)


def _filter_for_retrieval(example: Example, unseen: bool) -> Kept | Rejected:
    if unseen:
        split = "unseen"
    else:
        split = "test" if example.bucket in TEST_BUCKETS else "dev" if example.bucket == DEV_BUCKET else "train"
    if chinese_characters(example.text) < FEWEST_CHINESE:
        reason = f"the description has fewer than {FEWEST_CHINESE} Chinese characters"
        return Rejected(split, example.id, "filtered", reason)
    return _keep(split, example)


def _filter_for_pretraining(example: Example, unseen: bool) -> Kept | Rejected:
    split = "dev" if example.bucket == PRETRAINING_DEV_BUCKET else "train"
    if unseen or example.bucket in (*TEST_BUCKETS, DEV_BUCKET):
        return Rejected(split, example.id, "filtered", "held out for retrieval")
    return _keep(split, example)


def _keep(split: str, example: Example) -> Kept:
    return Kept(split, example.id, {"text": [example.text], "code": example.code})


def _prepare(job: Preparation, published: tuple[str, ...], filter: Callable[[Example, bool], Kept | Rejected]) -> None:
    """Write what becomes of every function; ``filter`` is told whether it is of a package in :data:`UNSEEN`."""
    sources = job.sources or published
    unseen: set[str] = set()  # paths of files, each noted before its functions come

    def files() -> Iterator[tuple[str, bytes]]:
        for source in sources:
            for member in read_archive(job.fetch(source, {**SOURCES, **UNSEEN}.get(source))):
                if member.name.endswith(".py"):
                    if source in UNSEEN:
                        unseen.add(member.name)
                    yield member.name, member.read()

    items = (filter(each, each.path in unseen) if isinstance(each, Example) else each for each in harvest(files()))
    job.write(items, sources)

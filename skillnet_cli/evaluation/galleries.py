"""What a model found, heard and said: galleries as in the paper's figures 6 to 8, transcripts, predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from skillnet_cli.api import DamagedItem, Task, UserError
from skillnet_cli.data.prepared import PreparedSet, Split, find_set
from skillnet_cli.evaluation.reading import texts
from skillnet_cli.plugins import Registry, resolve


@dataclass(frozen=True)
class Album:
    """Shows items of one split, each by the ``preview`` of its modality."""

    split: Split
    registry: Registry

    def show(self, index: int, skill: str, which: int = 0) -> str:
        """An item's field of a skill as HTML; ``which`` of its texts where it has several."""
        try:
            source = texts(self.split[index][skill])[which]
            preview = self.registry.modality(skill).preview
            return str(resolve(preview)(source)) if preview else _plain(source)
        except (DamagedItem, UserError, LookupError) as error:
            return f'<p class="note">cannot be shown: {escape(str(error))}</p>'


def gallery(row: Mapping[str, Any], registry: Registry, roots: Sequence[Path]) -> str:
    """The cases of one result. Where its task or set is not there any more, a line says so."""
    if not row["cases"]:
        return ""
    title = f"<h3>{escape(row['task'])} <small>{escape(row['set'])}:{escape(row['split'])}</small></h3>"
    try:
        task = registry.task(row["task"])
        split = PreparedSet.open(find_set(row["set"], roots)).split(row["split"])
    except UserError as error:
        return f'{title}<p class="note">cannot be shown: {escape(str(error))}</p>'
    draw = _searches if "best" in row["cases"][0] else _answers
    return title + draw(row["cases"], task, Album(split, registry))


def _searches(cases: Sequence[Mapping[str, Any]], task: Task, album: Album) -> str:
    """A block a query: the query, the best items with their scores, the truth."""
    return "".join(_search(case, task, album) for case in cases)


def _search(case: Mapping[str, Any], task: Task, album: Album) -> str:
    asking, found = task.towers[0][-1], task.towers[1][-1]
    best = "".join(_hit(hit, case["index"], found, album) for hit in case["best"])
    truth = f'<figure class="truth">{album.show(case["index"], found)}<figcaption>ground truth</figcaption></figure>'
    query = f"{album.show(case['index'], asking, case['caption'])}<small>rank {case['rank']}</small>"
    return f'<section class="case"><div class="query">{query}</div><div class="hits">{best}{truth}</div></section>'


def _hit(hit: Mapping[str, Any], truth: int, skill: str, album: Album) -> str:
    style, mark = ("right", " ✓") if hit["index"] == truth else ("wrong", "")
    caption = f"<figcaption>score {hit['score']:.3f}{mark}</figcaption>"
    return f'<figure class="{style}">{album.show(hit["index"], skill)}{caption}</figure>'


def _answers(cases: Sequence[Mapping[str, Any]], task: Task, album: Album) -> str:
    """A block an item: the item, what the model says of it, what is true."""
    return "".join(_answer(case, task, album) for case in cases)


def _answer(case: Mapping[str, Any], task: Task, album: Album) -> str:
    right = case["predicted"] == case["reference"]
    style, mark = ("right", "✓") if right else ("wrong", "✗")
    shown = "".join(album.show(case["index"], skill) for skill in task.towers[0])
    return (
        f'<section class="case"><div class="query">{shown}</div><dl><dt>model</dt>'
        f'<dd class="{style}">{escape(str(case["predicted"])) or "(nothing)"} {mark}</dd>'
        f"<dt>truth</dt><dd>{escape(str(case['reference']))}</dd></dl></section>"
    )


def _plain(source: Any) -> str:
    return f"<p>{escape(source)}</p>" if isinstance(source, str) else '<p class="note">has no preview</p>'

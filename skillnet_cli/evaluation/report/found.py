"""What a search has found, as a page to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skillnet_cli.api import DamagedItem, Source, UserError
from skillnet_cli.evaluation.report.html import Markup, element, facts, page
from skillnet_cli.files import write_whole
from skillnet_cli.plugins import Registry, resolve


@dataclass(frozen=True)
class Shown:
    """An item of a page: its name, score, skill, what is known of it in words, and itself if it is still there."""

    name: str
    score: float
    skill: str
    text: str
    source: Source | None


def write_found(query: str, items: Sequence[Shown], registry: Registry, out: Path) -> None:
    """Write one self-contained page of what was found, best first, each item as its modality's plugin shows it.

    Args:
        query: what was asked for.
        items: what was found.
        registry: whose modalities show them.
        out: the page, written whole or not at all.

    Raises:
        FailedJob: the page cannot be written.
    """
    cases = [element("section", _facts_of(item), element("div", _preview(item, registry), class_="query"),
                     class_="case") for item in items]  # fmt: skip
    write_whole(out, page(query, {f"{len(items)} items": Markup().join(cases)}))


def _facts_of(item: Shown) -> Markup:
    known = {"item": item.name, "score": f"{item.score:.3f}", "skill": item.skill, "text": item.text}
    return facts((name, value) for name, value in known.items() if value)


def _preview(item: Shown, registry: Registry) -> Markup:
    try:
        if item.source is None:
            raise DamagedItem("it is not there any more")
        preview = registry.modality(item.skill).preview
        return Markup(resolve(preview)(item.source)) if preview else element("p", "has no preview", class_="note")
    except (DamagedItem, UserError, OSError) as error:
        return element("p", f"cannot be shown: {error}", class_="note")

"""A prepared set as a page to look through: its manifest, how long its items are, and some of them to see and hear."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skillnet_cli.data.prepared import PreparedSet, Split
from skillnet_cli.data.survey import Spread, Survey
from skillnet_cli.evaluation.report.html import Markup, bar_chart, element, facts, page
from skillnet_cli.evaluation.report.report import Previews
from skillnet_cli.files import write_whole
from skillnet_cli.plugins import Registry

LONGEST = 2_000
"""Characters of a value that are shown: a page of text."""


def write_page(
    prepared: PreparedSet,
    surveys: Mapping[str, Survey],
    chosen: Mapping[str, Sequence[int]],
    registry: Registry,
    out: Path,
) -> None:
    """Write one self-contained page: pictures, clips and sounds lie in it, nothing is loaded from anywhere.

    Args:
        prepared: the set.
        surveys: split -> its numbers.
        chosen: split -> the places of the items to show.
        registry: whose modalities show them.
        out: the page, written whole or not at all.

    Raises:
        FailedJob: the set is damaged, or the page cannot be written.
    """
    sections = {"Account": _account(prepared)}
    for name, found in surveys.items():
        items = _items(prepared.split(name), chosen.get(name, ()), registry)
        sections[f"{name} ({found.items:,} items)"] = Markup().join((_numbers(found), items))
    write_whole(out, page(prepared.name, sections))


def _account(prepared: PreparedSet) -> Markup:
    manifest = prepared.manifest
    stated = {
        "prepared as": manifest.name,
        "version": manifest.version,
        "licence": manifest.licence,
        "source": ", ".join(manifest.source),
        "splits": ", ".join(f"{name} {facts.items:,}" for name, facts in manifest.splits.items()),
        "ledger": ", ".join(f"{why} {count:,}" for why, count in manifest.ledger.items()),
        "fields": ", ".join(f"{name} ({kind})" for name, kind in manifest.fields.items()),
        "seed": str(manifest.seed),
        **{name: _in_words(value) for name, value in manifest.choices.items()},
    }
    return facts(stated.items())


def _numbers(found: Survey) -> Markup:
    spreads = [_spread(what, each) for what, each in found.spreads.items()]
    labels = [_labels(name, counts) for name, counts in found.labels.items()]
    cards = element("div", *spreads, *labels, class_="cards")
    if found.looked_at == found.items:
        return cards
    spread = element("p", f"of {found.looked_at:,} items, evenly spread", class_="note")
    return Markup().join((spread, cards))


def _spread(what: str, spread: Spread) -> Markup:
    bars = [(f"{spread.smallest + place * spread.width:,.4g}", count) for place, count in enumerate(spread.bins)]
    summary = f"{spread.smallest:,.4g} to {spread.largest:,.4g}, median {spread.median:,.4g}, mean {spread.mean:,.4g}"
    return element("figure", element("h4", what), bar_chart(bars, what), element("figcaption", summary))


def _labels(name: str, counts: Mapping[str, int]) -> Markup:
    rows = (
        element("tr", element("td", value), element("td", f"{count:,}", class_="number"))
        for value, count in counts.items()
    )
    return element("figure", element("h4", name), element("table", *rows))


def _items(split: Split, places: Sequence[int], registry: Registry) -> Markup:
    previews = Previews(split, registry)
    return Markup().join(_item(split[place], place, previews, registry) for place in places)


def _item(sample: Mapping[str, Any], place: int, previews: Previews, registry: Registry) -> Markup:
    """An item: what is known of it, and its media and texts, each in a figure of its own under its field's name."""
    media = [name for name, value in sample.items() if isinstance(value, bytes)]
    shown = [_part(name, [previews.show(place, name)]) for name in sorted(media)]
    skills = {name: value for name, value in sample.items() if name in registry.modalities and name not in media}
    for name, value in skills.items():
        count = len(value) if isinstance(value, list) else 1
        shown.append(_part(name, [previews.show(place, name, which) for which in range(count)]))
    rest = [name for name in sample if name not in media and name not in skills and name != "id"]
    described = facts([("id", sample["id"]), *((name, _in_words(sample[name])) for name in rest)])
    return element("section", described, element("div", *shown, class_="query parts"), class_="case")


def _part(name: str, shown: Sequence[Markup]) -> Markup:
    return element("figure", element("figcaption", name), *shown)


def _in_words(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"

"""A prepared set as a page to look through: its account, how long its items are, and some of them, seen and heard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from skillnet_cli.data.files import write_whole
from skillnet_cli.data.prepared import PreparedSet, Split
from skillnet_cli.data.survey import Spread, Survey
from skillnet_cli.evaluation.charts import bar_chart
from skillnet_cli.evaluation.galleries import Album
from skillnet_cli.evaluation.page import page
from skillnet_cli.plugins import Registry

LONGEST = 2_000
"""Characters of a value that are shown."""


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
        sections[f"{name} ({found.items:,} items)"] = _numbers(found) + _items(
            prepared.split(name), chosen.get(name, ()), registry
        )
    write_whole(out, page(f"{prepared.manifest.name}", sections).encode("utf-8", errors="replace"))


def _account(prepared: PreparedSet) -> str:
    manifest = prepared.manifest
    facts = {
        "version": manifest.version,
        "licence": manifest.licence,
        "source": ", ".join(manifest.source),
        "splits": ", ".join(f"{name} {facts.items:,}" for name, facts in manifest.splits.items()),
        "ledger": ", ".join(f"{why} {count:,}" for why, count in manifest.ledger.items()),
        "fields": ", ".join(f"{name} ({kind})" for name, kind in manifest.fields.items()),
        "seed": str(manifest.seed),
        **{name: _said(value) for name, value in manifest.choices.items()},
    }
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in facts.items())}</dl>"


def _numbers(found: Survey) -> str:
    note = f'<p class="note">of {found.looked_at:,} items, evenly spread</p>' if found.looked_at < found.items else ""
    spreads = "".join(_spread(what, each) for what, each in found.spreads.items())
    labels = "".join(_labels(name, counts) for name, counts in found.labels.items())
    return f'{note}<div class="cards">{spreads}{labels}</div>'


def _spread(what: str, spread: Spread) -> str:
    width = (spread.largest - spread.smallest) / len(spread.bins)
    bars = [(f"{spread.smallest + place * width:,.4g}", count) for place, count in enumerate(spread.bins)]
    said = f"{spread.smallest:,.4g} to {spread.largest:,.4g}, median {spread.median:,.4g}, mean {spread.mean:,.4g}"
    return f"<figure><h4>{escape(what)}</h4>{bar_chart(bars, what)}<figcaption>{said}</figcaption></figure>"


def _labels(name: str, counts: Mapping[str, int]) -> str:
    rows = "".join(
        f'<tr><td>{escape(value)}</td><td class="number">{count:,}</td></tr>' for value, count in counts.items()
    )
    return f"<figure><h4>{escape(name)}</h4><table>{rows}</table></figure>"


def _items(split: Split, places: Sequence[int], registry: Registry) -> str:
    album = Album(split, registry)
    return "".join(_item(split[place], place, album, registry) for place in places)


def _item(sample: Mapping[str, Any], place: int, album: Album, registry: Registry) -> str:
    media = [name for name, value in sample.items() if isinstance(value, bytes)]
    shown = "".join(f"<small>{escape(name)}</small>{album.show(place, name)}" for name in sorted(media))
    skills = {name: value for name, value in sample.items() if name in registry.modalities and name not in media}
    for name, value in skills.items():
        count = len(value) if isinstance(value, list) else 1
        shown += f"<small>{escape(name)}</small>{''.join(album.show(place, name, which) for which in range(count))}"
    rest = [name for name in sample if name not in media and name not in skills and name != "id"]
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(_said(sample[name]))}</dd>" for name in rest)
    title = f"<dt>id</dt><dd>{escape(str(sample['id']))}</dd>"
    return f'<section class="case"><dl>{title}{facts}</dl><div class="query">{shown}</div></section>'


def _said(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"

"""``skillnet data show``: a prepared set to look at, to listen to and to read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skillnet_cli.api import UserError
from skillnet_cli.cli.options import AsJson, Data
from skillnet_cli.cli.output import print_json, print_table, remark
from skillnet_cli.cli.prepare import describe, summary
from skillnet_cli.plugins import load_registry

if TYPE_CHECKING:
    from skillnet_cli.data.prepared import PreparedSet, Split
    from skillnet_cli.data.survey import Spread, Survey

BLOCKS = " ▁▂▃▄▅▆▇█"
SHOWN_LABELS = 8
LONGEST = 60
"""Characters of a value in a line."""


def data_show(
    prepared: Annotated[str, typer.Argument(metavar="PREPARED", help="A prepared set: its name, or its folder.")],
    split: Annotated[str | None, typer.Option(help="Only this split.", show_default="all")] = None,
    sample: Annotated[int, typer.Option(min=0, help="So many items of each split.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of their choice.")] = 0,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page with pictures, clips and sounds in it.", show_default=False),
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show what a prepared set holds.

    How long its texts and media are, how its labels are spread, what its ledger left out, and some items. The page is
    one file that needs nothing else.

    \b
    Examples:
      skillnet data show NAME
      skillnet data show data/NAME --split test --sample 40 --html NAME.html
    """
    from skillnet_cli.data.prepared import PreparedSet, data_roots, locate_set
    from skillnet_cli.data.survey import picked, survey

    if html and not html.parent.is_dir():
        raise UserError(f"--html {html}: there is no folder {html.parent}")
    opened = PreparedSet.open(locate_set(prepared, data_roots(data or [])))
    splits = {name: opened.split(name) for name in ([split] if split else opened.manifest.splits)}
    surveys = {name: survey(each) for name, each in splits.items()}
    chosen = {name: picked(each, sample, seed) for name, each in splits.items()}
    if html:
        from skillnet_cli.evaluation.browse import write_page

        write_page(opened, surveys, chosen, load_registry(), html)
        remark(f"{html}: {sum(map(len, chosen.values()))} items to look at")
    if as_json:
        return print_json(document(opened, surveys, {name: shown(splits[name], chosen[name]) for name in splits}))
    print(f"{opened.path}: {summary(opened)}; licence: {opened.manifest.licence}")
    for name, found in surveys.items():
        print_split(name, found)
        for place in chosen[name]:
            print_item(splits[name][place])


def document(prepared: PreparedSet, surveys: Mapping[str, Survey], items: Mapping[str, Any]) -> dict[str, Any]:
    """A set for programs."""
    numbers = {
        name: {
            "items": found.items,
            "looked_at": found.looked_at,
            "spreads": {what: vars(spread) for what, spread in found.spreads.items()},
            "labels": found.labels,
            "sample": items[name],
        }
        for name, found in surveys.items()
    }
    return {**describe(prepared), "fields": prepared.manifest.fields, "shown": numbers}


def shown(split: Split, places: list[int]) -> list[dict[str, Any]]:
    """Items as JSON can say them: of media, the number of bytes."""
    return [
        {name: {"bytes": len(value)} if isinstance(value, bytes) else value for name, value in split[place].items()}
        for place in places
    ]


def print_split(name: str, found: Survey) -> None:
    """Print the numbers of a split."""
    part = f", {found.looked_at:,} of them looked at" if found.looked_at < found.items else ""
    print(f"\n{name} ({found.items:,} items{part})")
    if found.spreads:
        head = ("", "smallest", "median", "mean", "largest", "")
        print_table([head, *(spread_row(what, spread) for what, spread in found.spreads.items())])
    for label, values in found.labels.items():
        most = ", ".join(f"{value} {count:,}" for value, count in list(values.items())[:SHOWN_LABELS])
        print(f"{label}: {most}{f' and {len(values) - SHOWN_LABELS} more' if len(values) > SHOWN_LABELS else ''}")


def spread_row(what: str, spread: Spread) -> tuple[str, ...]:
    """A spread in a line, its histogram drawn with blocks."""
    numbers = (spread.smallest, spread.median, spread.mean, spread.largest)
    most = max(spread.bins)
    bars = "".join(BLOCKS[-(-count * (len(BLOCKS) - 1) // most)] for count in spread.bins)
    return (what, *(f"{number:,.4g}" if number < 1e6 else f"{number:,.0f}" for number in numbers), bars)


def print_item(sample: Mapping[str, Any]) -> None:
    """Print an item, a field a line."""
    print(f"- {short(sample['id'])}")
    for name, value in sample.items():
        if name != "id":
            print(f"    {name}: {f'{len(value):,} bytes' if isinstance(value, bytes) else short(value)}")


def short(value: Any) -> str:
    """A value in a line."""
    text = " ".join(str(" | ".join(map(str, value)) if isinstance(value, list) else value).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"

"""``skillnet data``: look at a prepared set, check every byte of it, find what two sets have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.cli.common import (
    AsJson,
    Data,
    Group,
    PreparedName,
    complete,
    print_json,
    print_line,
    print_table,
    remark,
)
from skillnet_cli.cli.prepare.common import describe, summary
from skillnet_cli.plugins import load_registry

if TYPE_CHECKING:
    from skillnet_cli.data.overlap import Overlap
    from skillnet_cli.data.prepared import PreparedSet, Split
    from skillnet_cli.data.survey import Spread, Survey


app = typer.Typer(cls=Group, help="Look at a prepared set, check it, and find what two sets have in common.")

BLOCKS = " ▁▂▃▄▅▆▇█"
SHOWN_LABELS = 8
LONGEST = 60
"""Characters of a value in a line."""
LONGEST_WHOLE = 2_000
"""Characters of a value of an item that is looked at by itself."""


@app.command("show")
def show(
    prepared: Annotated[
        str,
        typer.Argument(
            metavar="SET[:SPLIT[#ID]]",
            help="A prepared set by its name or folder, one of its splits, or one item as search names it.",
            autocompletion=complete("sets"),
        ),
    ],
    split: Annotated[str | None, typer.Option(help="Only this split.", show_default="all")] = None,
    sample: Annotated[int, typer.Option(min=0, help="How many items of each split to show.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of their choice.")] = 0,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a page with the pictures, clips and sounds in it.", show_default=False
        ),
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show what a prepared set holds.

    The lengths of its texts and media, the distribution of its labels, what its ledger left out, and some items. The
    page is a single file that needs nothing else.

    \b
    Examples:
      skillnet data show NAME
      skillnet data show NAME:test#ID
      skillnet data show data/NAME --split test --sample 40 --html NAME.html
    """
    from skillnet_cli.data.prepared import data_roots, find_item
    from skillnet_cli.data.survey import picked, survey

    if html and not html.parent.is_dir():
        raise UserError(f"--html {html}: the folder {html.parent} does not exist")
    roots = data_roots(data or [])
    item = None if Path(prepared).is_dir() else find_item(prepared, roots)
    if item is not None:
        opened, part, place = item
        splits, chosen = {part: opened.split(part)}, {part: [place]}
    else:
        opened, named = _open(prepared, roots)
        if named and split:
            raise UserError(f"--split {split}: {prepared} names a split already")
        wanted = split or named
        splits = {name: opened.split(name) for name in ([wanted] if wanted else opened.manifest.splits)}
        chosen = {name: picked(each, sample, seed) for name, each in splits.items()}
    surveys = {name: survey(each) for name, each in splits.items()} if item is None or html or as_json else {}
    if html:
        from skillnet_cli.evaluation.report.browse import write_page

        write_page(opened, surveys, chosen, load_registry(), html)
        remark(f"{html}: {sum(map(len, chosen.values()))} items to look at")
    if as_json:
        return print_json(_document(opened, surveys, {name: _shown(splits[name], chosen[name]) for name in splits}))
    if item is not None:
        return _print_item(splits[part][place], LONGEST_WHOLE)
    print_line(f"{opened.path}: {summary(opened)}; licence: {opened.manifest.licence}")
    for name, found in surveys.items():
        _print_split(name, found)
        for place in chosen[name]:
            _print_item(splits[name][place])


def _open(named: str, roots: Sequence[Path]) -> tuple[PreparedSet, str | None]:
    """The set that a folder, a name or ``NAME:SPLIT`` names, and the split that it names."""
    from skillnet_cli.data.prepared import PreparedSet, find_split

    return (PreparedSet.open(named, roots), None) if Path(named).is_dir() else find_split(named, roots)


def _document(prepared: PreparedSet, surveys: Mapping[str, Survey], items: Mapping[str, Any]) -> dict[str, Any]:
    """A set as JSON."""
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


def _shown(split: Split, places: list[int]) -> list[dict[str, Any]]:
    """Items as JSON; media as their number of bytes."""
    return [
        {name: {"bytes": len(value)} if isinstance(value, bytes) else value for name, value in split[place].items()}
        for place in places
    ]


def _print_split(name: str, found: Survey) -> None:
    """Print the numbers of a split."""
    part = f", {found.looked_at:,} of them looked at" if found.looked_at < found.items else ""
    print_line(f"\n{name} ({found.items:,} items{part})")
    if found.spreads:
        head = ("", "smallest", "median", "mean", "largest", "")
        print_table([head, *(_spread_row(what, spread) for what, spread in found.spreads.items())])
    for label, values in found.labels.items():
        most = ", ".join(f"{value} {count:,}" for value, count in list(values.items())[:SHOWN_LABELS])
        print_line(f"{label}: {most}{f' and {len(values) - SHOWN_LABELS} more' if len(values) > SHOWN_LABELS else ''}")


def _spread_row(what: str, spread: Spread) -> tuple[str, ...]:
    """A spread in a line, its histogram drawn with blocks."""
    numbers = (spread.smallest, spread.median, spread.mean, spread.largest)
    most = max(spread.bins)
    bars = "".join(BLOCKS[-(-count * (len(BLOCKS) - 1) // most)] for count in spread.bins)
    return (what, *(f"{number:,.4g}" if number < 1e6 else f"{number:,.0f}" for number in numbers), bars)


def _print_item(sample: Mapping[str, Any], longest: int = LONGEST) -> None:
    """Print an item, a field a line."""
    print_line(f"- {_short(sample['id'], longest)}")
    for name, value in sample.items():
        if name != "id":
            print_line(f"    {name}: {f'{len(value):,} bytes' if isinstance(value, bytes) else _short(value, longest)}")


def _short(value: Any, longest: int) -> str:
    """A value in a line."""
    text = " ".join(str(" | ".join(map(str, value)) if isinstance(value, list) else value).split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


@app.command("verify")
def verify(
    prepared: PreparedName,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Check every byte of a prepared set.

    The checksums of all files, the tables beside the shards, every sample, the assets, and the ledger: its classes
    must sum to the manifest's counts, and the items it keeps must be those that the shards hold. Each fault is one
    line; the exit code is then 1.

    \b
    Example:
      skillnet data verify data/NAME
    """
    from skillnet_cli.data.prepared import PreparedSet, data_roots, locate_set
    from skillnet_cli.data.verify import verify

    folder = locate_set(prepared, data_roots(data or []))
    faults = []
    for fault in verify(folder):
        faults.append(fault)
        if not as_json:
            print_line(str(fault))
    if as_json:
        print_json({"path": str(folder), "sound": not faults, "faults": [vars(fault) for fault in faults]})
    if faults:
        raise FailedJob(f"{folder}: damaged in {len(faults)} place{'s' * (len(faults) > 1)}: prepare the set again")
    if not as_json:
        print_line(f"{folder}: sound ({summary(PreparedSet.open(folder))})")


FORMS = {"bytes": "the same file", "text": "the same text", "normal": "the same but for case, width and spaces"}


@app.command("overlap")
def overlap(
    first: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A prepared set or a split of one: NAME, FOLDER or NAME:SPLIT.",
            autocompletion=complete("sets"),
        ),
    ],
    others: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[B]...", help="What to compare it with.", autocompletion=complete("sets"), show_default=False
        ),
    ] = None,
    splits: Annotated[bool, typer.Option("--splits", help="Compare every split with every other one.")] = False,
    fields: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD,...",
            help="The fields of media or texts to compare.",
            show_default="all media, and the texts that a skill reads",
        ),
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Find items that occur in two places, such as in training and in testing.

    Media are compared by their bytes; texts as they are, and again without regard to case, width and white space. An
    item counts once, however many of its texts are found. The splits of a single set are compared with each other.

    \b
    Examples:
      skillnet data overlap NAME --splits
      skillnet data overlap my-photos:train data/NAME:test
      skillnet data overlap data/a data/b --splits --json
    """
    from skillnet_cli.data.overlap import Part, find_overlaps, kinds_to_compare
    from skillnet_cli.data.prepared import data_roots, find_split
    from skillnet_cli.data.progress import choose_progress

    places = [(named, *find_split(named, data_roots(data or []))) for named in (first, *(others or ()))]
    sets = [prepared for _, prepared, _ in places]
    apart = splits or len(sets) == 1
    parts = [
        part
        for named, prepared, split in places
        for part in Part.all_of(prepared, named.removesuffix(f":{split}"), split, apart)
    ]
    chosen = [name.strip() for name in (fields or "").split(",") if name.strip()]
    kinds = kinds_to_compare(sets, list(load_registry().modalities), chosen)
    found = find_overlaps(parts, kinds, choose_progress())
    if as_json:
        return print_json({"overlaps": [vars(each) for each in found]})
    _print_overlaps(found)


def _print_overlaps(found: list[Overlap]) -> None:
    """Print what is shared, with examples; where nothing is, say so."""
    shared = [each for each in found if each.left_items]
    rows = [(each.left, each.right, each.field, FORMS[each.form], *map(_share, *_counts(each))) for each in shared]
    if rows:
        print_table([("in", "and in", "field", "compared", "items of the first", "of the second"), *rows])
    for each in shared:
        pairs = ", ".join(left if left == right else f"{left} = {right}" for left, right in each.examples)
        remark(f"{each.left} and {each.right}, {each.field} ({each.form}): {pairs}")
    if not rows:
        print_line(f"nothing in common ({len({(each.left, each.right) for each in found})} pairs compared)")


def _counts(overlap: Overlap) -> tuple[tuple[int, int], tuple[int, int]]:
    """The items found in each of the two, and all items of each."""
    return (overlap.left_items, overlap.right_items), (overlap.left_size, overlap.right_size)


def _share(items: int, size: int) -> str:
    """A number of items and what part of all they are."""
    return f"{items:,} of {size:,} ({items / max(size, 1):.2%})"

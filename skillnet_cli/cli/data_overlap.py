"""``skillnet data overlap``: what two prepared sets, or the splits of one, have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skillnet_cli.api import UserError
from skillnet_cli.cli.options import AsJson, Data
from skillnet_cli.cli.output import print_json, print_table, remark
from skillnet_cli.plugins import load_registry

if TYPE_CHECKING:
    from skillnet_cli.data.overlap import Overlap

FORMS = {"bytes": "the same file", "text": "the same text", "normal": "the same but for case, width and spaces"}


def data_overlap(
    first: Annotated[
        str, typer.Argument(metavar="A", help="A prepared set or a split of one: NAME, FOLDER, NAME:SPLIT.")
    ],
    others: Annotated[
        list[str] | None, typer.Argument(metavar="[B]...", help="What to compare it with.", show_default=False)
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
    """Find items that are in two places: in training and in testing, for instance.

    Media are compared by their bytes, texts as they are and without differences of case, width and white space. An
    item counts once, whichever of its texts is found. One set alone is compared split by split.

    \b
    Examples:
      skillnet data overlap NAME --splits
      skillnet data overlap my-photos:train data/NAME:test
      skillnet data overlap data/a data/b --splits --json
    """
    from skillnet_cli.data.overlap import find_overlaps, kinds_to_compare, parts_of
    from skillnet_cli.data.prepare import choose_progress
    from skillnet_cli.data.prepared import PreparedSet, data_roots

    roots = data_roots(data or [])
    places = [located(each, roots) for each in (first, *(others or ()))]
    sets = [PreparedSet.open(folder) for _, folder, _ in places]
    apart = splits or len(sets) == 1
    parts = [
        part
        for prepared, (name, _, split) in zip(sets, places, strict=True)
        for part in parts_of(prepared, name, split, apart)
    ]
    chosen = [name.strip() for name in (fields or "").split(",") if name.strip()]
    kinds = kinds_to_compare(sets, list(load_registry().modalities), chosen)
    found = find_overlaps(parts, kinds, choose_progress())
    if as_json:
        return print_json({"overlaps": [vars(each) for each in found]})
    show(found)


def located(named: str, roots: list[Path]) -> tuple[str, Path, str | None]:
    """What is called ``NAME:SPLIT``: its name, its folder, its split."""
    from skillnet_cli.data.prepared import locate_set

    try:
        return named, locate_set(named, roots), None
    except UserError:
        name, colon, split = named.rpartition(":")
        if not colon:
            raise
        return name, locate_set(name, roots), split


def show(found: list[Overlap]) -> None:
    """Print what is shared, with examples; where nothing is, say so."""
    shared = [each for each in found if each.left_items]
    rows = [(each.left, each.right, each.field, FORMS[each.form], *map(share, *counts(each))) for each in shared]
    if rows:
        print_table([("in", "and in", "field", "compared", "items of the first", "of the second"), *rows])
    for each in shared:
        pairs = ", ".join(left if left == right else f"{left} = {right}" for left, right in each.examples)
        remark(f"{each.left} and {each.right}, {each.field} ({each.form}): {pairs}")
    if not rows:
        print(f"nothing in common ({len({(each.left, each.right) for each in found})} pairs compared)")


def counts(overlap: Overlap) -> tuple[tuple[int, int], tuple[int, int]]:
    """The items found in each of the two, and all items of each."""
    return (overlap.left_items, overlap.right_items), (overlap.left_size, overlap.right_size)


def share(items: int, size: int) -> str:
    """A number of items and what part of all they are."""
    return f"{items:,} of {size:,} ({items / max(size, 1):.2%})"

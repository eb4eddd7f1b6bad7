"""``skillnet skills diff``: what differs between two models."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skillnet_cli.cli.checkpoint import hush_transformers
from skillnet_cli.cli.options import AsJson
from skillnet_cli.cli.output import print_json, print_table

if TYPE_CHECKING:
    from skillnet_cli.model.surgery import Difference


def skills_diff(
    first: Annotated[Path, typer.Argument(metavar="MODEL", help="A model's folder.")],
    second: Annotated[Path, typer.Argument(metavar="MODEL", help="Another.")],
    as_json: AsJson = False,
) -> None:
    """Compare two models part by part.

    Parts are the shared one, each skill's projections, each embedder and each task's head. No plugin is needed.

    \b
    Examples:
      skillnet skills diff runs/one/model runs/two/model
      skillnet skills diff model merged --json
    """
    from skillnet_cli.model.surgery import diff

    hush_transformers()
    found = diff(first, second)
    if as_json:
        return print_json({"first": str(first), "second": str(second), "parts": [asdict(each) for each in found]})
    print_table([(each.part, f"{each.equal} of {each.tensors} tensors equal", described(each)) for each in found])


def described(difference: Difference) -> str:
    """What differs in a part, in a line."""
    said = [f"largest difference {difference.largest:.3g}"] if difference.largest else []
    said += [f"{name} has shape {one} and {two}" for name, (one, two) in list(difference.shapes.items())[:1]]
    said += [f"{len(difference.shapes)} tensors of other shapes"] if len(difference.shapes) > 1 else []
    for side in ("first", "second"):
        count = list(difference.only.values()).count(side)
        said += [f"{count} only in the {side}"] if count else []
    return "; ".join(said)

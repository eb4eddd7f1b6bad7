"""``skillnet embed``: files, folders and prepared sets into a collection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skillnet_cli.cli.checkpoint import collection_of, find_checkpoint
from skillnet_cli.cli.options import AsJson, Checkpoint, Data
from skillnet_cli.cli.output import print_json, remark
from skillnet_cli.plugins import load_registry

if TYPE_CHECKING:
    from skillnet_cli.inference.embedding import Tally


def embed(
    what: Annotated[list[str], typer.Argument(metavar="PATH|SET[:PART]...", help="Files, folders or prepared sets.")],
    to: Annotated[
        Path | None,
        typer.Option(metavar="COLLECTION", help="The collection's folder.", show_default="that of the model's run"),
    ] = None,
    checkpoint: Checkpoint = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Put items into a collection to search.

    What is in it already, unchanged, is not embedded again. Recordings enter by the text vector of their transcript,
    and are marked so. Of a prepared set the part test is taken where none is said.

    \b
    Examples:
      skillnet embed pictures/ clips/ --to my-collection
      skillnet embed demo-emoji:test --to runs/demo/collection --json
    """
    saved = find_checkpoint(checkpoint)

    from skillnet_cli.data.prepared import data_roots
    from skillnet_cli.inference.embedding import Embedding
    from skillnet_cli.inference.skills import needed_for
    from skillnet_cli.inference.sources import gather
    from skillnet_cli.inference.stores import Collection

    found = gather(what, saved.config, load_registry(), data_roots(data or ()))
    model, readers = saved.open(*needed_for(saved.config, sorted(found.skills)))
    folder = collection_of(saved, to)
    collection = Collection.create(folder, saved.fingerprint, saved.config.hidden)
    tally = Embedding(model, readers, saved.config, collection).add(found.candidates)
    tell(tally, folder, len(collection))
    if as_json:
        print_json({"collection": str(folder), "model": saved.fingerprint, "items": len(collection), **vars(tally)})


def tell(tally: Tally, folder: Path, size: int) -> None:
    """Say on standard error what became of the items."""
    for path, reason in tally.damaged.items():
        remark(f"{path}: {reason}")
    for skill, count in tally.refused.items():
        remark(f"{count} of skill {skill} left out: no contrastive task of the model trained it")
    added, reused = sum(tally.added.values()), sum(tally.reused.values())
    remark(f"{folder}: {size} items ({added} embedded now, {reused} unchanged, {len(tally.damaged)} could not be read)")

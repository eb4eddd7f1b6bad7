"""``skillnet search``: the items of a collection nearest to a sentence or a file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.cli.checkpoint import Saved, collection_of, find_checkpoint
from skillnet_cli.cli.completion import skill_names
from skillnet_cli.cli.options import AsJson, Checkpoint
from skillnet_cli.cli.output import print_json, print_table, remark
from skillnet_cli.plugins import load_registry

if TYPE_CHECKING:
    from skillnet_cli.inference.stores import Hit


def search(
    query: Annotated[str, typer.Argument(metavar="TEXT|FILE", help="What to look for: a sentence, or a file.")],
    in_: Annotated[
        Path | None,
        typer.Option("--in", metavar="COLLECTION", help="The collection.", show_default="that of the model's run"),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many items to show.")] = 10,
    skill: Annotated[
        list[str] | None,
        typer.Option(help="Only items of this skill; may be repeated.", show_default=False, autocompletion=skill_names),
    ] = None,
    checkpoint: Checkpoint = None,
    as_json: AsJson = False,
) -> None:
    """Search a collection with a sentence or a file.

    A file may be of any kind that the model embeds. Scores are cosines, or dot products where the model was trained by
    them. A collection that another model made is refused.

    \b
    Examples:
      skillnet search "红色的汽车" --in runs/demo/collection
      skillnet search photo.jpg --in my-collection --top 3 --json
    """
    saved = find_checkpoint(checkpoint)

    from skillnet_cli.inference.skills import strangers
    from skillnet_cli.inference.stores import Collection

    collection = Collection.open(collection_of(saved, in_), saved.fingerprint)
    asking, vector = asked(saved, query)
    hits = collection.search(vector, top, skill or ())
    never = strangers(saved.config, asking, {hit.entry.skill for hit in hits if hit.entry.by == "content"})
    for other in never:
        remark(f"{asking} and {other} were never trained together: their scores mean little")
    if as_json:
        document = {"query": query, "skill": asking, "collection": str(collection.folder), "model": collection.model}
        print_json({**document, "untrained": never, "hits": [row_of(hit) for hit in hits]})
    else:
        print_table([(f"{hit.score:.3f}", marked(hit), hit.entry.path, hit.entry.text) for hit in hits])


def asked(saved: Saved, query: str) -> tuple[str, Any]:
    """The skill and the vector of what is looked for.

    Raises:
        UserError: it is a file that cannot be read, or of a kind that the model does not embed; or an empty text.
    """
    from skillnet_cli.inference.asking import asking_skill, embed_query
    from skillnet_cli.inference.skills import needed_for

    registry = load_registry()
    model, readers = saved.open(*needed_for(saved.config, [asking_skill(saved.config, registry, query)]))
    try:
        return embed_query(model, readers, saved.config, registry, query)
    except DamagedItem as error:
        raise UserError(f"cannot search with {query!r}: {error}") from error


def marked(hit: Hit) -> str:
    """A hit's skill, and that it was found by its transcript where it was."""
    return hit.entry.skill if hit.entry.by == "content" else f"{hit.entry.skill} by {hit.entry.by}"


def row_of(hit: Hit) -> dict[str, Any]:
    """A hit for programs."""
    facts = {key: value for key, value in asdict(hit.entry).items() if key != "stamp"}
    return {"score": round(hit.score, 6), **facts}

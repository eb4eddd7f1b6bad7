"""``skillnet embed`` and ``skillnet search``: a trained model in use."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.cli.checkpoint import Saved, find_checkpoint
from skillnet_cli.cli.common import AsJson, Checkpoint, Data, complete, print_json, print_table, remark
from skillnet_cli.plugins import load_registry

if TYPE_CHECKING:
    from skillnet_cli.inference.collection import CollectionWriter, Hit


def embed(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH|SET[:PART]...", help="Files, folders or prepared sets.", autocompletion=complete("sets")
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="COLLECTION", help="Folder of the collection.", show_default="collection in the model's run"
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Add items to a collection that can be searched.

    Items that are in it already and have not changed are not embedded again. Recordings are represented by the text
    vector of their transcript, and are marked as such. PART defaults to test.

    \b
    Examples:
      skillnet embed pictures/ clips/ --to my-collection
      skillnet embed demo-emoji:test --to runs/demo/collection --json
    """
    saved = find_checkpoint(checkpoint)

    from skillnet_cli.data.prepared import data_roots
    from skillnet_cli.inference.capabilities import Capabilities
    from skillnet_cli.inference.collection import Collection, CollectionWriter, MadeBy
    from skillnet_cli.inference.inputs import gather

    capabilities = Capabilities(saved.config, load_registry())
    skills, candidates = gather(what, capabilities, load_registry(), data_roots(data or ()))
    model, readers = saved.open(*capabilities.needed_for(sorted(skills)))
    folder = saved.collection(to)
    collection = Collection.create(folder, MadeBy.of(saved.folder, capabilities), saved.config.hidden)
    writer = CollectionWriter(collection, model, readers, capabilities)
    writer.add(candidates)
    _report_counts(writer, folder, len(collection))
    if as_json:
        counts = {name: getattr(writer, name) for name in ("added", "reused", "refused", "damaged")}
        print_json({"collection": str(folder), "model": saved.fingerprint, "items": len(collection), **counts})


def _report_counts(writer: CollectionWriter, folder: Path, size: int) -> None:
    """Print what became of the items on standard error."""
    for path, remark_ in writer.remarks.items():
        remark(f"{path}: {remark_}")
    for path, reason in writer.damaged.items():
        remark(f"{path}: {reason}")
    for skill, count in writer.refused.items():
        remark(f"{count} items of skill {skill} left out: no contrastive task of the model trained this skill")
    added, reused = sum(writer.added.values()), sum(writer.reused.values())
    remark(
        f"{folder}: {size} items ({added} embedded now, {reused} unchanged, {len(writer.damaged)} could not be read)"
    )


def search(
    query: Annotated[str, typer.Argument(metavar="TEXT|FILE", help="What to look for: a sentence or a file.")],
    in_: Annotated[
        Path | None,
        typer.Option(
            "--in", metavar="COLLECTION", help="Folder of the collection.", show_default="collection in the model's run"
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many items to show.")] = 10,
    skill: Annotated[
        list[str] | None,
        typer.Option(
            help="Only items of this skill; may be repeated.", show_default=False, autocompletion=complete("skills")
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    as_json: AsJson = False,
) -> None:
    """Search a collection with a sentence or a file.

    The file may be of any kind that the model embeds. Scores are cosines, or dot products where the model was trained
    with them. A collection is refused where other weights have made its vectors than the model's.

    \b
    Examples:
      skillnet search "红色的汽车" --in runs/demo/collection
      skillnet search photo.jpg --in my-collection --top 3 --json
    """
    saved = find_checkpoint(checkpoint)

    from skillnet_cli.inference.capabilities import Capabilities
    from skillnet_cli.inference.collection import Collection, MadeBy

    capabilities = Capabilities(saved.config, load_registry())
    collection = Collection.open(saved.collection(in_), MadeBy.of(saved.folder, capabilities))
    asking, vector = _asked(saved, query)
    hits = collection.search(vector, top, skill or ())
    never = capabilities.untrained_pairs(asking, {hit.entry.skill for hit in hits if hit.entry.by == "content"})
    for other in never:
        remark(f"{asking} and {other} were never trained together: their scores mean little")
    if as_json:
        document = {"query": query, "skill": asking, "collection": str(collection.folder), "model": saved.fingerprint}
        print_json({**document, "untrained": never, "hits": [_row_of(hit) for hit in hits]})
    else:
        print_table([(f"{hit.score:.3f}", _marked(hit), hit.entry.path, hit.entry.text) for hit in hits])


def _asked(saved: Saved, query: str) -> tuple[str, Any]:
    """The skill and the vector of the query.

    Raises:
        UserError: it is a file that cannot be read, or of a kind that the model does not embed; or an empty text.
    """
    from skillnet_cli.inference.capabilities import Capabilities
    from skillnet_cli.inference.inputs import Query

    capabilities = Capabilities(saved.config, load_registry())
    parsed = Query.parse(query, capabilities, load_registry())
    model, readers = saved.open(*capabilities.needed_for([parsed.skill]))
    try:
        return parsed.embed(model, readers, capabilities)
    except DamagedItem as error:
        raise UserError(f"cannot search with {query!r}: {error}") from error


def _marked(hit: Hit) -> str:
    """A hit's skill, marked where the hit was found by its transcript."""
    return hit.entry.skill if hit.entry.by == "content" else f"{hit.entry.skill} by {hit.entry.by}"


def _row_of(hit: Hit) -> dict[str, Any]:
    """A hit as JSON."""
    facts = {key: value for key, value in asdict(hit.entry).items() if key != "stamp"}
    return {"score": round(hit.score, 6), **facts}

"""``skillnet embed`` and ``skillnet search``: a trained model in use."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skillnet_cli.api import DamagedItem, FailedJob, UserError, collect_remarks
from skillnet_cli.cli.checkpoint import COLLECTION, RUNS, check_stated, find_with_collection
from skillnet_cli.cli.common import (
    AsJson,
    BatchSize,
    Checkpoint,
    Data,
    Device,
    Precision,
    PrecisionName,
    complete,
    print_json,
    print_table,
    remark,
    shorten_last,
)
from skillnet_cli.plugins import load_registry

if TYPE_CHECKING:
    from skillnet_cli.inference.collection import Collection, CollectionWriter, Hit
    from skillnet_cli.inference.inputs import Inputs
    from skillnet_cli.model.skillnet import SkillNet


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
    prune: Annotated[
        bool, typer.Option("--prune", help="Take out of the collection what is gone from PATH and SET.")
    ] = False,
    checkpoint: Checkpoint = None,
    data: Data = None,
    device: Device = None,
    precision: Precision = PrecisionName.auto,
    batch_size: BatchSize = None,
    as_json: AsJson = False,
) -> None:
    """Add items to a collection that can be searched.

    Items that are in it already and have not changed are not embedded again; those that can no longer be read leave it.
    Recordings are represented by the text vector of their transcript, and are marked as such. Linked folders are
    entered, hidden files are left out, and a file counts once by whatever path. PART defaults to test.

    \b
    Examples:
      skillnet embed pictures/ clips/ --to my-collection
      skillnet embed pictures/ --to my-collection --prune
      skillnet embed demo-emoji:test --to runs/demo/collection --json
    """
    from skillnet_cli.data.prepared import data_roots
    from skillnet_cli.inference.arguments import existing_path, open_named_split

    # What is gone may still be in a collection, which can then be asked to let it go.
    for named in () if (to and to.is_dir()) or any(RUNS.glob(f"*/{COLLECTION}")) else what:
        if existing_path(named) is None:
            open_named_split(named, data_roots(data or ()))
    check_stated(checkpoint)
    saved, folder = find_with_collection(checkpoint, to, may_begin=True)

    from skillnet_cli.data.progress import choose_progress
    from skillnet_cli.inference.capabilities import Capabilities
    from skillnet_cli.inference.collection import FACTS, Collection, CollectionWriter, MadeBy
    from skillnet_cli.inference.inputs import gather

    capabilities = Capabilities(saved.config, load_registry())
    made_by = MadeBy.of(saved.folder, capabilities)
    known = Collection.open(folder, made_by).stamps() if (folder / FACTS).exists() else {}
    inputs = gather(what, capabilities, load_registry(), data_roots(data or ()), known)
    model, readers = saved.open(
        *capabilities.needed_for(sorted(inputs.skills) or capabilities.embeddable[:1]), device=device
    )
    collection = Collection.create(
        folder, made_by, saved.config.hidden, _in_precision(precision, model), str(saved.folder.resolve())
    )
    _check_precision(collection, precision)
    writer = CollectionWriter(collection, model, readers, capabilities, batch_size)
    for _ in choose_progress().track(writer.add(inputs), inputs.size, "embedding"):
        pass
    gone = inputs.gone(known)
    if prune:
        collection.remove(gone)
    _report_counts(writer, inputs, folder, len(collection))
    if gone:
        count = f"{len(gone)} {'item is' if len(gone) == 1 else 'items are'} gone"
        remark(f"{count}, and taken out" if prune else f"{count}: --prune takes them out of the collection")
    if as_json:
        counts = {name: getattr(writer, name) for name in ("added", "reused", "refused", "damaged", "remarks")}
        made = {"model": saved.fingerprint, "precision": collection.precision}
        left = {"left_out": inputs.files.counts(), "gone": gone, "pruned": prune}
        print_json({"collection": str(folder), **made, "items": len(collection), **counts, **left})
    if writer.damaged and not writer.added and not writer.reused:
        raise FailedJob(f"none of {len(writer.damaged)} items could be read")


def _in_precision(asked: PrecisionName, model: SkillNet) -> str:
    """What the vectors of a new collection are computed in."""
    from skillnet_cli.model.device import steady_precision

    return steady_precision(model.device) if asked is PrecisionName.auto else asked.value


def _check_precision(collection: Collection, asked: PrecisionName) -> None:
    """Raises UserError where a collection's vectors are computed in another precision than is asked for."""
    if asked.value not in ("auto", collection.precision or asked.value):
        raise UserError(
            f"the vectors of {collection.folder} are computed in {collection.precision}: leave out --precision, or "
            "embed the items into another folder"
        )


def _report_counts(writer: CollectionWriter, inputs: Inputs, folder: Path, size: int) -> None:
    """Print what became of the items on standard error."""
    for text in inputs.files.remarks():
        remark(text)
    tell(writer.remarks)
    for path, reason in writer.damaged.items():
        remark(f"{shown(path)}: {reason}")
    for skill, count in writer.refused.items():
        remark(f"{count} items of skill {skill} left out: no contrastive task of the model trained this skill")
    added, reused = sum(writer.added.values()), sum(writer.reused.values())
    remark(
        f"{folder}: {size} items ({added} embedded now, {reused} unchanged, {len(writer.damaged)} could not be read)"
    )


TOLD = 3
"""Items that a remark names one by one."""


def tell(remarks: Mapping[str, Sequence[str]]) -> None:
    """Print remarks on items on standard error: one by one, or how many items say much the same.

    Args:
        remarks: the end of a line -> the names of the items that it is said of. Texts that differ in numbers alone are
            much the same.
    """
    alike: dict[str, list[tuple[str, str]]] = {}
    for text, names in remarks.items():
        alike.setdefault(_NUMBERS.sub("#", text), []).extend((name, text) for name in names)
    for pairs in alike.values():
        if len(pairs) > TOLD:
            name, text = pairs[0]
            remark(f"{len(pairs)} items, such as {shown(name)}: {text}")
        else:
            for name, text in pairs:
                remark(f"{shown(name)}: {text}")


_NUMBERS = re.compile(r"\d+")


def shown(name: str) -> str:
    """The name of an item of a collection as a person would type it: a path below this folder without the folder."""
    here = str(Path.cwd()) + os.sep
    return name.removeprefix(here) or name


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
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page with the items that were found in it.", show_default=False),
    ] = None,
    checkpoint: Checkpoint = None,
    data: Data = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Search a collection with a sentence or a file.

    The file may be of any kind that the model embeds. Scores are cosines, or dot products where the model was trained
    with them. Without --checkpoint, the model that began the collection is taken. A collection is refused where other
    weights have made its vectors than the model's.

    \b
    Examples:
      skillnet search "红色的汽车" --in runs/demo/collection
      skillnet search photo.jpg --in my-collection --top 3 --json
      skillnet search "海边的日落" --in my-collection --html found.html
    """
    if html and not html.parent.is_dir():
        raise UserError(f"--html {html}: the folder {html.parent} does not exist")
    from skillnet_cli.inference.arguments import check_query

    check_query(query, load_registry())
    if in_ is not None and not in_.is_dir():
        raise UserError(f"{in_} is not a collection: make one with 'skillnet embed'")
    check_stated(checkpoint, skills=skill or ())
    saved, folder = find_with_collection(checkpoint, in_, may_begin=False)

    from skillnet_cli.inference.capabilities import Capabilities
    from skillnet_cli.inference.collection import Collection, MadeBy
    from skillnet_cli.inference.inputs import Query

    capabilities = Capabilities(saved.config, load_registry())
    parsed = Query.parse(query, capabilities, load_registry())
    collection = Collection.open(folder, MadeBy.of(saved.folder, capabilities))
    model, readers = saved.open(*capabilities.needed_for([parsed.skill]), device=device)
    try:
        with collect_remarks() as said:
            asking, vector = parsed.embed(model, readers, capabilities, collection.precision or "auto")
    except DamagedItem as error:
        raise UserError(f"cannot search with '{query}': {error}") from error
    for text in said:
        remark(f"the query {text}")
    hits = collection.search(vector, top, skill or ())
    if not hits:
        of_skill = f" of skill {' or '.join(skill)}" if skill else ""
        remark(f"{folder} has no items{of_skill}; it has {', '.join(collection.skills()) or 'none at all'}")
    never = capabilities.untrained_pairs(asking, {hit.entry.skill for hit in hits if hit.entry.by == "content"})
    for other in never:
        remark(f"{asking} and {other} were never trained together: their scores mean little")
    if html:
        _write_page(query, hits, data or (), html)
    if as_json:
        document = {"query": query, "skill": asking, "collection": str(collection.folder), "model": saved.fingerprint}
        made = {"precision": collection.precision, "remarks": said}
        print_json({**document, **made, "untrained": never, "hits": [_row_of(hit) for hit in hits]})
    elif hits:
        rows = [(f"{hit.score:.3f}", _marked(hit), shown(hit.entry.path), hit.entry.text) for hit in hits]
        print_table(shorten_last(rows))


def _write_page(query: str, hits: Sequence[Hit], data: Sequence[Path], out: Path) -> None:
    """Write what was found as a page; items of prepared sets are looked for in the folders of sets."""
    from skillnet_cli.data.prepared import data_roots
    from skillnet_cli.evaluation.report.found import Shown, write_found
    from skillnet_cli.inference.inputs import find_sources

    items = [(hit.entry.path, hit.entry.skill) for hit in hits]
    sources = find_sources(items, load_registry(), data_roots(data))
    entries = [(hit.entry, hit.score) for hit in hits]
    found = [Shown(shown(each.path), score, each.skill, each.text, sources.get(each.path)) for each, score in entries]
    write_found(query, found, load_registry(), out)
    remark(f"{out}: {len(hits)} items to look at")


def _marked(hit: Hit) -> str:
    """A hit's skill, marked where the hit was found by its transcript."""
    return hit.entry.skill if hit.entry.by == "content" else f"{hit.entry.skill} by {hit.entry.by}"


def _row_of(hit: Hit) -> dict[str, Any]:
    """A hit as JSON."""
    facts = {key: value for key, value in asdict(hit.entry).items() if key != "stamp"}
    return {"score": round(hit.score, 6), **facts}

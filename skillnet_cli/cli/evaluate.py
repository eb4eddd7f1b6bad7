"""``skillnet eval`` and ``skillnet report``: the figures of a model's tasks, and the page of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skillnet_cli.api import UserError
from skillnet_cli.cli.checkpoint import Saved, choose_checkpoint, find_checkpoint
from skillnet_cli.cli.common import AsJson, Checkpoint, Data, complete, print_json, print_table, remark
from skillnet_cli.plugins import load_registry

if TYPE_CHECKING:
    from skillnet_cli.data.prepared import Split
    from skillnet_cli.runs import Result


def evaluate(
    task: Annotated[str, typer.Option(help="One of the model's tasks.", autocompletion=complete("tasks"))],
    split: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SET[:PART]",
            help="What to measure on; may be repeated. PART defaults to test.",
            autocompletion=complete("sets"),
            show_default="the sets that the task was trained on",
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    data: Data = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Only this many items, evenly spread; the results are not kept.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a task on prepared sets.

    The task's objective decides how. Results on whole splits are kept in results.json in the model's run, for its
    report.

    \b
    Examples:
      skillnet eval --task t2i
      skillnet eval --task t2i --split demo-emoji:unseen --json
      skillnet eval --task asr --split my-speech:dev --limit 200 --checkpoint runs/my/model
    """
    saved = find_checkpoint(checkpoint)
    results = _measured(saved, task, split or [], data or [], limit)
    if saved.run is not None and limit is None:
        from skillnet_cli.model.card import write_card
        from skillnet_cli.runs import record_results

        write_card(saved.folder, record_results(saved.run, results, saved.fingerprint))
    if as_json:
        print_json(_as_document(saved, results))
    else:
        _print_results(results)


def _measured(saved: Saved, name: str, places: list[str], data: list[Path], limit: int | None) -> list[Result]:
    """The task's results on each split. Raises UserError where the task or a set is unknown."""
    from skillnet_cli.evaluation.evaluate import evaluate as measure

    task = saved.task(name)
    splits = list(_open_splits(places or list(task.datasets), data, strict=bool(places)))
    if not splits:
        raise UserError(f"none of the sets of task '{name}' has a split 'test': name another with --split SET:PART")
    model, readers = saved.open(tasks=[name])
    results = []
    for split in splits:
        result = measure(model, readers, task, split, load_registry(), limit=limit)
        if result.damaged:
            remark(f"{result.set}:{result.split}: {result.damaged} items could not be read and were left out")
        results.append(result)
    return results


def _open_splits(places: list[str], data: list[Path], strict: bool) -> Iterator[Split]:
    """The splits that ``SET[:PART]`` names; without ``strict``, sets that lack the part are passed over."""
    from skillnet_cli.data.prepared import DEFAULT_SPLIT, data_roots, find_split

    for place in places:
        prepared, part = find_split(place, data_roots(data))
        part = part or DEFAULT_SPLIT
        if strict or part in prepared.manifest.splits:
            yield prepared.split(part)


def _as_document(saved: Saved, results: list[Result]) -> dict[str, Any]:
    """The results as JSON, without the examples that reports show."""
    rows = [{key: value for key, value in each.as_json().items() if key != "cases"} for each in results]
    return {"checkpoint": str(saved.folder), "model": saved.fingerprint, "results": rows}


def _print_results(results: list[Result]) -> None:
    """Print a row a result."""
    for result in results:
        figures = [(name, f"{value:.4f}") for name, value in result.metrics.items()]
        print_table([(f"{result.task} {result.set}:{result.split}", f"{result.items} items"), *figures])


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN...", help="Folders of runs.", show_default="that of the newest model"),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="The page to write.", show_default="report.html in the run, or beside the first of several"),
    ] = None,
    data: Data = None,
) -> None:
    """Write the page of a run, or the learning curves of several runs in one picture.

    The page of one run shows results, learning curves, and examples of what the model finds and transcribes. The page
    of several has a chart of each task's metric over updates, with a line for each run. The results are those that
    training and skillnet eval have kept in results.json.

    \b
    Examples:
      skillnet report runs/demo
      skillnet report runs/demo runs/demo-fresh --to figure5.html
    """
    from skillnet_cli.data.prepared import data_roots
    from skillnet_cli.evaluation.report.report import REPORT, write_comparison, write_report

    folders = runs or [choose_checkpoint(None).parent]
    for folder in folders:
        if not (folder / "recipe.toml").is_file():
            raise UserError(f"{folder} is not a run (recipe.toml is missing)")
    if len(folders) == 1:
        written = write_report(folders[0], load_registry(), data_roots(data or ()), to)
    else:
        written = write_comparison(folders, to or folders[0].resolve().parent / REPORT)
    remark(f"wrote {written}")

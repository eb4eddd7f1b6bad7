"""``skillnet eval`` and ``skillnet report``: the figures of a model's tasks, and the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skillnet_cli.api import UserError
from skillnet_cli.cli.checkpoint import Saved, check_stated, choose_checkpoint, find_checkpoint
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
)
from skillnet_cli.plugins import load_registry

if TYPE_CHECKING:
    from skillnet_cli.data.prepared import Split
    from skillnet_cli.model.skillnet import SkillNet
    from skillnet_cli.objectives import TaskConfig
    from skillnet_cli.runs import Result


def evaluate(
    task: Annotated[str, typer.Option(help="One of the model's tasks.", autocompletion=complete("tasks"))],
    split: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SET[:PART]",
            help="What to measure on; may be repeated. PART defaults to test, or to dev where test lacks the target.",
            autocompletion=complete("sets"),
            show_default="the sets that the task was trained on",
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    data: Data = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Ask about this many items only, evenly spread; a search still sees all. The results are not kept.",
            show_default=False,
        ),
    ] = None,
    device: Device = None,
    precision: Precision = PrecisionName.auto,
    batch_size: BatchSize = None,
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
    from skillnet_cli.data.prepared import data_roots, find_split

    check_stated(checkpoint, tasks=[task])
    for place in split or ():
        find_split(place, data_roots(data or ()))
    saved = find_checkpoint(checkpoint, lambda saved: task in saved.config.tasks)
    splits = _open_splits(saved.task(task), split or [], data or [])
    model = saved.open(tasks=[task], device=device)[0]
    results = [_measured(model, saved.task(task), each, limit, precision, batch_size) for each in splits]
    if saved.run is not None and limit is None:
        from skillnet_cli.model.card import write_card
        from skillnet_cli.runs import record_results

        write_card(saved.folder, record_results(saved.run, results, saved.fingerprint))
    if as_json:
        print_json(_as_document(saved, results))
    else:
        _print_results(results)


def _measured(
    model: SkillNet,
    task: TaskConfig,
    split: Split,
    limit: int | None,
    precision: PrecisionName,
    batch_size: int | None,
) -> Result:
    """The task's result on a split; what the figures leave out is printed."""
    from skillnet_cli.evaluation.evaluate import evaluate as measure

    result = measure(
        model,
        model.readers,
        task,
        split,
        load_registry(),
        limit=limit,
        precision=precision.value,
        batch_size=batch_size,
    )
    place = f"{result.set}:{result.split}"
    if result.damaged:
        remark(f"{place}: {result.damaged} items could not be read and were left out")
    if "unknown" in result.protocol:
        remark(f"{place}: {result.protocol['unknown']}")
    return result


def _open_splits(task: TaskConfig, places: list[str], data: list[Path]) -> list[Split]:
    """The splits that ``SET[:PART]`` names, or those of the sets that the task was trained on.

    Raises:
        UserError: a set or a part is not there, or lacks what the task needs. Of the task's own sets only that no one
            can be measured on is a mistake; what is left out is printed.
    """
    from skillnet_cli.data.prepared import DEFAULT_SPLIT, data_roots, find_split
    from skillnet_cli.evaluation.evaluate import choose_split, lacking

    found, left_out = [], []
    for place in places or task.datasets:
        prepared, part = find_split(place, data_roots(data))
        try:
            split = choose_split(prepared, part, task)
        except UserError as error:
            if places:
                raise
            left_out.append(str(error))
            continue
        if part is None and split.name != DEFAULT_SPLIT:
            there = DEFAULT_SPLIT in prepared.manifest.splits
            why = lacking(task, prepared.split(DEFAULT_SPLIT)) if there else "is not there"
            remark(f"{prepared.name}: measured on {split.name}, as {DEFAULT_SPLIT} {why}")
        found.append(split)
    if not found:
        raise UserError("\n".join(left_out) or f"task '{task.name}' names no set: name one with --split SET:PART")
    for line in left_out:
        remark(f"left out: {line}")
    return found


def _as_document(saved: Saved, results: list[Result]) -> dict[str, Any]:
    """The results as JSON, without the examples that reports show."""
    from skillnet_cli.files import finite

    rows = [{key: value for key, value in finite(each.as_json()).items() if key != "cases"} for each in results]
    return {"checkpoint": str(saved.folder), "model": saved.fingerprint, "results": rows}


def _print_results(results: list[Result]) -> None:
    """Print a row a result."""
    for result in results:
        figures = [(name, f"{value:.4f}") for name, value in result.metrics.items()]
        print_table([(f"{result.task} {result.set}:{result.split}", _asked(result)), *figures])


def _asked(result: Result) -> str:
    """How many items and questions a result is about."""
    if "pool" in result.protocol:
        return f"{result.queries} queries in a pool of {result.items} items"
    return f"{result.items} items"


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

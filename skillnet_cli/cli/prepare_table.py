"""``skillnet prepare table``: anyone's own files, texts and recordings as a prepared set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skillnet_cli.api import UserError
from skillnet_cli.cli.completion import task_names
from skillnet_cli.cli.options import AsJson
from skillnet_cli.cli.output import print_json, remark
from skillnet_cli.cli.prepare import DATA, describe, summary
from skillnet_cli.plugins import load_registry

if TYPE_CHECKING:
    from skillnet_cli.data.table import TableJob

SHARES = "train=0.8,dev=0.1,test=0.1"


def prepare_table(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A .csv, .tsv, .jsonl or .parquet file.")],
    task: Annotated[str, typer.Option(help="The task that the set shall feed.", autocompletion=task_names)],
    columns: Annotated[
        str, typer.Option(metavar="FIELD=COLUMN,...", help="Columns that are not called as the task's fields are.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="The new set's folder.", show_default="data and the table's name")
    ] = None,
    split_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The column that says which part a row is of.", show_default=False),
    ] = None,
    shares: Annotated[
        str, typer.Option(metavar="PART=SHARE,...", help="The parts to deal the items to, where no column says.")
    ] = SHARES,
    licence: Annotated[str, typer.Option(help="The licence of what is in it.")] = "unknown",
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many items of each part.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the dealing.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Make a prepared set of your own table.

    Its rows are captioned files, functions, labelled texts or transcribed recordings; paths in it are relative to its
    folder. Rows that repeat a file become one item with several texts. What cannot be used is written down in the
    set's ledger.

    \b
    Examples:
      skillnet prepare table photos.csv --task t2i --columns image=file,text=caption
      skillnet prepare table reviews.jsonl --task tc --columns label=stars --split-column part --out data/reviews
    """
    from skillnet_cli.data.prepare import choose_progress
    from skillnet_cli.data.table import TableJob

    job = TableJob(
        table=table,
        out=out or DATA / table.stem,
        task=load_registry().task(task),
        columns=pairs("--columns", columns),
        split_column=split_column,
        fractions=fractions(shares),
        licence=licence,
        seed=seed,
        limit=limit,
        progress=choose_progress(),
    )
    make(job, as_json)


def make(job: TableJob, as_json: bool) -> None:
    """Prepare the set and say what it holds."""
    from skillnet_cli.data import table
    from skillnet_cli.data.prepared import PreparedSet

    table.prepare_table(job, load_registry())
    prepared = PreparedSet.open(job.out)
    remark(f"{job.out}: {summary(prepared)}")
    if as_json:
        print_json({"sets": [describe(prepared)]})


def pairs(option: str, text: str) -> dict[str, str]:
    """``a=b,c=d`` as a mapping. Raises UserError where a part is no such pair."""
    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, sign, value = part.partition("=")
        if not (key.strip() and sign and value.strip()):
            raise UserError(f"{option}: '{part}' is not KEY=VALUE")
        found[key.strip()] = value.strip()
    return found


def fractions(text: str) -> Mapping[str, float]:
    """``train=0.9,test=0.1`` as numbers. Raises UserError where one is none."""
    try:
        return {part: float(share) for part, share in pairs("--shares", text).items()}
    except ValueError as error:
        raise UserError(f"--shares: {error}") from error

"""``skillnet prepare table``: a set of anyone's table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from skillnet_cli.api import UserError
from skillnet_cli.cli.common import AsJson, complete, print_json, remark
from skillnet_cli.cli.prepare.common import DATA, Again, describe, summary
from skillnet_cli.plugins import load_registry

_SHARES = "train=0.8,dev=0.1,test=0.1"


def table(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE",
            help="A .csv, .tsv, .json, .jsonl, .parquet or WebDataset .tar, or a folder of the last two.",
        ),
    ],
    task: Annotated[str, typer.Option(help="The task that the set is for.", autocompletion=complete("tasks"))],
    columns: Annotated[
        str,
        typer.Option(
            metavar="FIELD=COLUMN,...",
            help='Columns that are not named like the task\'s fields; text="a, b" names one with a comma.',
        ),
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the new set.", show_default="data/ and the table's name")
    ] = None,
    split_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The column that names the part a row belongs to.", show_default=False),
    ] = None,
    shares: Annotated[
        str, typer.Option(metavar="PART=SHARE,...", help="The parts to draw items for, where no column names them.")
    ] = _SHARES,
    licence: Annotated[str, typer.Option(help="The licence of the data.")] = "unknown",
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most this many items of each part.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    again: Again = False,
    as_json: AsJson = False,
) -> None:
    """Make a prepared set from a table of your own.

    Its rows are captioned files, functions, labelled texts or transcribed recordings; paths in it are relative to its
    folder. Rows that repeat a file become one item with several texts. What cannot be used is recorded in the set's
    ledger. A set that is there is left as it is where the same is asked for.

    \b
    Examples:
      skillnet prepare table photos.csv --task t2i --columns image=file,text=caption
      skillnet prepare table reviews.jsonl --task tc --columns label=stars --split-column part --out data/reviews
      skillnet prepare table shards --task t2i --columns image=jpg,text=txt --split-column split
      skillnet prepare table questions.csv --task text-pair --columns text=first,text2=second,label=same
    """
    from skillnet_cli.data.format import MANIFEST
    from skillnet_cli.data.prepared import PreparedSet
    from skillnet_cli.data.progress import choose_progress
    from skillnet_cli.objectives import load
    from skillnet_cli.prepare.again import make_anew
    from skillnet_cli.prepare.table import TableJob, check_same_table, prepare_table
    from skillnet_cli.sources.tables import unusual_separator

    registry = load_registry()
    feeds = registry.task(task)
    job = TableJob(
        table=table,
        out=out or DATA / table.stem,
        task=feeds,
        target_kind=load(feeds.objective, registry).target_kind,
        columns=_columns(columns),
        split_column=split_column,
        fractions=_fractions(shares),
        licence=licence,
        seed=seed,
        limit=limit,
        progress=choose_progress(),
        say=remark,
    )
    made = again or not (job.out / MANIFEST).exists()
    if not made:
        check_same_table(job, registry)
    elif again:
        make_anew(job.out, job.asked, lambda out: prepare_table(replace(job, out=out), registry))
    else:
        prepare_table(job, registry)
    separator = unusual_separator(table) if made else None
    if separator:
        remark(f"table '{table}': its cells are separated by {separator}")
    prepared = PreparedSet.open(job.out)
    remark(f"{job.out}{'' if made else ' is complete already'}: {summary(prepared)}")
    if as_json:
        print_json({"sets": [describe(prepared)]})


def _columns(text: str) -> dict[str, str]:
    """``field=column,field=column`` as a mapping.

    A comma divides where an equals sign follows before the next one, so a column's name may hold commas; blanks belong
    to it; in double quotes it may hold anything, a doubled one standing for itself.

    Raises:
        UserError: a part is not such a pair.
    """
    found: dict[str, str] = {}
    while text:
        pair = _PAIR.match(text)
        if not pair:
            raise UserError(f"--columns: '{text}' is not FIELD=COLUMN")
        quoted, plain = pair["quoted"], pair["plain"]
        found[pair["field"].strip()] = quoted.replace('""', '"') if quoted is not None else plain
        text = text[pair.end() :].removeprefix(",")
    return found


_PAIR = re.compile(
    r"""(?P<field>[^=,"]*[^=,"\s])\s*=(?:\s*"(?P<quoted>(?:[^"]|"")+)"\s*(?=,|\Z)|(?P<plain>.+?)(?=,[^=,"]+=|,?\Z))"""
)


def _fractions(text: str) -> Mapping[str, float]:
    """``train=0.9,test=0.1`` as numbers. Raises UserError where a value is not a number."""
    try:
        return {part: float(share) for part, share in _pairs("--shares", text).items()}
    except ValueError as error:
        raise UserError(f"--shares: {error}") from error


def _pairs(option: str, text: str) -> dict[str, str]:
    """``a=b,c=d`` as a mapping. Raises UserError where a part is not such a pair."""
    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, sign, value = part.partition("=")
        if not (key.strip() and sign and value.strip()):
            raise UserError(f"{option}: '{part}' is not KEY=VALUE")
        found[key.strip()] = value.strip()
    return found

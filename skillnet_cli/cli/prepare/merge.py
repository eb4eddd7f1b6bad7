"""``skillnet prepare merge``: the shares of a set, put together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skillnet_cli.cli.common import AsJson, complete, print_json
from skillnet_cli.cli.prepare.common import (
    DATA,
    MaxDamaged,
    MaxDuplicate,
    MaxFiltered,
    MaxUnavailable,
    report,
    stated_shares,
)
from skillnet_cli.plugins import load_registry, resolve


def merge(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|OUT", help="The data set, or the folder of its shares.", autocompletion=complete("datasets")
        ),
    ],
    max_damaged: MaxDamaged = None,
    max_filtered: MaxFiltered = None,
    max_duplicate: MaxDuplicate = None,
    max_unavailable: MaxUnavailable = None,
    as_json: AsJson = False,
) -> None:
    """Put the shares of a set together, once every --shard has been read.

    What needs the whole set is done now: duplicates are left out, random splits are drawn, label spaces are gathered.
    The result is that of one process without --shard, to the byte.

    \b
    Example:
      skillnet prepare merge NAME
    """
    from skillnet_cli.data.progress import choose_progress
    from skillnet_cli.prepare.merge import merge
    from skillnet_cli.prepare.preparer import Preparation, Tolerance
    from skillnet_cli.prepare.workdir import WorkFolder

    out = Path(name) if Path(name).is_dir() else DATA / name
    work = WorkFolder(out)
    registry = load_registry()
    dataset = registry.dataset(work.dataset_name())
    tolerance = Tolerance.parse(stated_shares(max_damaged, max_filtered, max_duplicate, max_unavailable))
    job = Preparation(dataset, (), out, progress=choose_progress(), tolerance=tolerance, registry=registry)
    with work.lock_share(job):
        result = merge(resolve(dataset.prepare)(work.recorded_job(job)), work)
    row = report(job, made=True, result=result)
    if as_json:
        print_json({"sets": [row]})

"""``skillnet prepare merge``: puts the shares of a set together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skillnet_cli.cli.options import AsJson
from skillnet_cli.cli.output import print_json
from skillnet_cli.cli.prepare import DATA, MaxDamaged, MaxDuplicate, MaxFiltered, MaxUnavailable, tell, tolerance
from skillnet_cli.plugins import load_registry, resolve


def prepare_merge(
    name: Annotated[str, typer.Argument(metavar="NAME|OUT", help="The data set, or the folder that it was given.")],
    max_damaged: MaxDamaged = None,
    max_filtered: MaxFiltered = None,
    max_duplicate: MaxDuplicate = None,
    max_unavailable: MaxUnavailable = None,
    as_json: AsJson = False,
) -> None:
    """Put the shares of a set together, once every --shard is read.

    What looks at the whole set is done now: copies are left out, random splits dealt, label spaces gathered. The
    result is that of one process without --shard, to the byte.

    \b
    Example:
      skillnet prepare merge NAME
    """
    from skillnet_cli.data.parts.run import begun_name, merge, resumed
    from skillnet_cli.data.parts.work import Work
    from skillnet_cli.data.prepare import Preparation, choose_progress

    out = Path(name) if Path(name).is_dir() else DATA / name
    dataset = load_registry().dataset(begun_name(out))
    stated = {
        "max_damaged": max_damaged,
        "max_filtered": max_filtered,
        "max_duplicate": max_duplicate,
        "max_unavailable": max_unavailable,
    }
    job = Preparation(dataset, (), out, progress=choose_progress(), tolerance=tolerance(stated))
    job = resumed(out, dataset, job)
    account = merge(resolve(dataset.prepare)(job), Work(out))
    row = tell(job, made=True, account=account)
    if as_json:
        print_json({"sets": [row]})

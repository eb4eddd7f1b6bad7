"""``skillnet data verify``: whether a prepared set is as it was written."""

from __future__ import annotations

from typing import Annotated

import typer

from skillnet_cli.api import FailedJob
from skillnet_cli.cli.options import AsJson, Data
from skillnet_cli.cli.output import print_json
from skillnet_cli.cli.prepare import summary


def data_verify(
    prepared: Annotated[str, typer.Argument(metavar="PREPARED", help="A prepared set: its name, or its folder.")],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Check every byte of a prepared set.

    The checksums of all files, the tables beside the shards, every sample, the assets, and the ledger: its classes
    must sum to what the manifest says, and what it keeps must be what the shards hold. Each fault is a line; the exit
    code is then 1.

    \b
    Example:
      skillnet data verify data/NAME
    """
    from skillnet_cli.data.prepared import PreparedSet, data_roots, locate_set
    from skillnet_cli.data.verify import verify

    folder = locate_set(prepared, data_roots(data or []))
    faults = []
    for fault in verify(folder):
        faults.append(fault)
        if not as_json:
            print(fault)
    if as_json:
        print_json({"path": str(folder), "sound": not faults, "faults": [vars(fault) for fault in faults]})
    if faults:
        raise FailedJob(f"{folder}: damaged in {len(faults)} place{'s' * (len(faults) > 1)}: prepare the set again")
    if not as_json:
        print(f"{folder}: sound ({summary(PreparedSet.open(folder))})")

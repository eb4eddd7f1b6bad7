"""The options of every data set that fetches many files by their addresses. Nothing heavy is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skillnet_cli.api import DatasetOption, UserError

if TYPE_CHECKING:
    from skillnet_cli.data.prepare import Preparation
    from skillnet_cli.data.web import Manners

FETCH_OPTIONS = (
    DatasetOption("connections", "Files fetched at a time, in each process.", int, 64, recorded=False),
    DatasetOption("per-host", "Files fetched at a time from one server, in each process.", int, 8, recorded=False),
    DatasetOption("timeout", "Seconds for a file, all tries together.", float, 30.0, recorded=False),
    DatasetOption("retries", "Further tries where a server fails for the moment.", int, 2, recorded=False),
    DatasetOption(
        "private-host",
        "A host of a private network that may be asked all the same, a mirror of your own; may be repeated.",
        repeatable=True,
        metavar="HOST",
        recorded=False,
    ),
)


def manners_of(job: Preparation, most_bytes: int) -> Manners:
    """How servers are asked, as the job's options say. Raises UserError where one makes no sense."""
    from skillnet_cli.data.web import Manners

    options = {"connections": 64, "per-host": 8, "timeout": 30.0, "retries": 2, "private-host": (), **job.options}
    for name, least in (("connections", 1), ("per-host", 1), ("timeout", 0.1), ("retries", 0)):
        if options[name] < least:
            raise UserError(f"--{name}: {options[name]} is less than {least}")
    return Manners(
        connections=options["connections"],
        per_host=options["per-host"],
        seconds=options["timeout"],
        idle=min(10.0, options["timeout"]),
        retries=options["retries"],
        most_bytes=most_bytes,
        private_hosts=frozenset(options["private-host"]),
    )

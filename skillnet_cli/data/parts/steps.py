"""The steps over all items of a set, once its ranges are read: copies out, pools dealt, limits kept."""

from __future__ import annotations

import numpy as np

from skillnet_cli.data.parts.duplicates import equal_keys
from skillnet_cli.data.parts.part import SAME_ID, beyond
from skillnet_cli.data.parts.table import Table
from skillnet_cli.data.preparer import Preparer

IDS, CONTENTS = slice(0, 2), slice(2, 4)


def take_steps(table: Table, preparer: Preparer) -> str | None:
    """Leave out copies and what the preparer judges, divide pools, keep the limit; returns the protocol used."""
    if not preparer.independent:
        leave_out_copies(table)
        preparer.judge(table)
        table.settle()
    protocol = choose_protocol(table, preparer)
    for name in tuple(table.names):
        table.split[table.places(name)] = table.number(preparer.pool(name, protocol))
    for pool in preparer.pools:
        deal(table, preparer, pool, protocol)
    keep_limit(table, preparer.job.limit)
    return protocol


def leave_out_copies(table: Table) -> None:
    """Of items with the same id in a split, and of items with the same content, keep the first."""
    for places, _ in equal_keys(table.keys(IDS), table.alive, table.work):
        for place in places.tolist():
            table.reject(place, "duplicate", SAME_ID)
    table.settle()
    for places, firsts in equal_keys(table.keys(CONTENTS), table.alive, table.work):
        order = np.argsort(firsts)  # so that ids are looked up part by part
        for place, first in zip(places[order].tolist(), firsts[order].tolist(), strict=True):
            table.reject(place, "duplicate", f"the same content as '{table.id_of(first)}'")
    table.settle()


def choose_protocol(table: Table, preparer: Preparer) -> str | None:
    """What ``--split`` asks for, else the paper's where the set is large enough."""
    job, known = preparer.job, preparer.job.dataset.protocols
    if job.protocol or not known:
        return job.protocol
    paper = "paper" in known and ("official" not in known or preparer.large_enough(table.sizes()))
    return "paper" if paper else "official"


def deal(table: Table, preparer: Preparer, pool: str, protocol: str | None) -> None:
    """Divide a pool as the preparer says; what it leaves to nobody is filtered."""
    places = table.places(pool)
    how = preparer.deal(pool, len(places), protocol)
    if how is None:
        return
    if how.shuffled:
        # Each pool has a generator of its own, so that another one's size changes nothing here.
        seed = [preparer.job.seed, *pool.encode()]
        places = np.random.default_rng(seed).permutation(places)
    start = 0
    for split, size in how.sizes.items():
        table.split[places[start : start + size]] = table.number(split)
        start += size
    for place in places[start:].tolist():
        table.reject(place, "filtered", "more items than the splits take")
    table.settle()


def keep_limit(table: Table, limit: int | None) -> None:
    """Of each split keep the first ``limit`` items in order of the input."""
    for name in table.names if limit is not None else ():
        for place in table.places(name)[limit:].tolist():
            table.reject(place, "filtered", beyond(limit))
    table.settle()

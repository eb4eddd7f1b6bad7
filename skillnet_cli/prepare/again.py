"""Makes a set anew while the old one stays where it is, whole, until the new one takes its place."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from skillnet_cli.data.format import MANIFEST, WORK
from skillnet_cli.files import disk_errors, replace_path
from skillnet_cli.prepare.claims import claimed
from skillnet_cli.prepare.workdir import WorkFolder
from skillnet_cli.prepare.writer import check_folder

T = TypeVar("T")


def make_anew(out: Path, asked: Mapping[str, Any], make: Callable[[Path], T]) -> T:
    """Make a set that takes the place of the one that is there, if there is one.

    Interrupted, it goes on where it stopped when it is asked for again.

    Args:
        out: the set's folder.
        asked: what is asked for; what was begun with something else is dropped.
        make: makes the set in a folder, whose name is that of ``out``.

    Returns:
        What ``make`` returns.

    Raises:
        UserError: ``out`` holds what is no set, or another process works on it.
        FailedJob: the disk is full.
    """
    check_folder(out)
    if not (out / MANIFEST).exists():
        with disk_errors(out):
            if (out / WORK).exists():
                with claimed(out):
                    WorkFolder(out).remove()
        return make(out)
    out = out.resolve()  # the set itself where the folder is a link to it
    aside = out.parent / f".{out.name}.again"
    fresh = aside / out.name
    with claimed(out):  # from the beginning: a folder that cannot be written is said before the work
        with disk_errors(aside):
            if fresh.exists() and not WorkFolder(fresh).is_begun_with(asked):
                shutil.rmtree(aside)
        try:
            made = make(fresh)
        except BaseException:
            shutil.rmtree(out / WORK, ignore_errors=True)  # the lock: the old set stays as it was
            raise
        with disk_errors(out):
            replace_path(out, fresh)
            for path in sorted(aside.iterdir()):  # what a preparer lays beside its set
                replace_path(out.parent / path.name, path)
            shutil.rmtree(aside)
    return made

"""``skillnet prepare vocab``: a vocabulary learnt from the texts of prepared sets and of plain files."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from skillnet_cli.api import UserError, second_field
from skillnet_cli.data.prepared import PreparedSet, Split, find_set
from skillnet_cli.files import PARTIAL, disk_errors, make_folder, only_one, replace_path
from skillnet_cli.plugins import Registry, resolve, suggest
from skillnet_cli.sources.texts import read_lines

TRAIN = "train"


def prepare_vocab(
    registry: Registry,
    skill: str,
    origins: Sequence[str],
    size: int,
    out: Path,
    kind: str | None = None,
    roots: Iterable[Path] | None = None,
) -> str | None:
    """Learn a vocabulary for a skill; ``out`` has its name only when it is complete.

    Args:
        registry: where the skill's modality names its builders.
        skill: whose reader shall use the vocabulary; also the field of the sets that is read.
        origins: names of prepared sets, whose split ``train`` is read, or text files with one text a line.
        size: the most entries.
        out: the new file or folder, as the builder makes it.
        kind: which of the modality's builders; without it the first that its plugin names.
        roots: where sets are looked for.

    Returns:
        What the builder says of it.

    Raises:
        UserError: no such skill, kind, set or field; an origin is not UTF-8; there are no texts; ``out`` is a folder;
            another process writes it.
        FailedJob: it cannot be written.
    """
    builder = _vocabulary_builder(registry, skill, kind)
    if out.is_dir():
        raise UserError(f"{out} is a folder: name a new file")
    partial, lock = out.with_name(out.name + PARTIAL), out.with_name(f".{out.name}.lock")
    make_folder(out.parent, "name another file with --out")
    with only_one(lock, f"{out}: another process learns it right now: wait for it, or end it"):
        _remove(partial)
        try:
            with disk_errors(out):
                said: str | None = resolve(builder)(_texts_of(origins, skill, roots), size, partial)
                replace_path(out, partial)
        finally:
            _remove(partial)
            lock.unlink(missing_ok=True)
    return said


def _vocabulary_builder(registry: Registry, skill: str, kind: str | None = None) -> str:
    """What builds a skill's vocabularies of a kind. Raises UserError naming the kinds there are."""
    kinds = registry.modality(skill).vocabularies
    if not kinds:
        raise UserError(f"skill '{skill}' uses no vocabulary")
    if kind is None:
        return next(iter(kinds.values()))
    if kind not in kinds:
        hint = suggest(kind, kinds, f"it has {', '.join(kinds)}")
        raise UserError(f"skill '{skill}' has no vocabulary of kind '{kind}'{hint}")
    return kinds[kind]


def _texts_of(origins: Sequence[str], field: str, roots: Iterable[Path] | None = None) -> Iterator[str]:
    """All texts of a field, and of the second of a pair, in the split ``train`` of prepared sets, and files' lines.

    They come in the order of the origins.
    """
    looked_in = None if roots is None else list(roots)
    for origin in origins:
        if Path(origin).is_file():
            yield from _lines(Path(origin))
        else:
            yield from _texts_of_split(PreparedSet.open(find_set(origin, looked_in)).split(TRAIN), field)


def _texts_of_split(split: Split, field: str) -> Iterator[str]:
    if field not in split.facts.fields:
        raise UserError(f"set '{split.set_name}' has no field '{field}': it has {', '.join(split.facts.fields)}")
    fields = [name for name in (field, second_field(field)) if name in split.facts.fields]
    for sample in split:
        for value in (sample[name] for name in fields):
            yield from value if isinstance(value, list) else [value]


def _lines(path: Path) -> Iterator[str]:
    for line in read_lines(path):
        if line.damage:
            raise UserError(f"{path}: {line.damage}: repair it")
        if line.text.strip(" \t\r\n"):
            yield line.text


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

"""What can be embedded: files, the files of folders, and the items of prepared sets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from skillnet_cli.api import Source, UserError
from skillnet_cli.data.format import MANIFEST
from skillnet_cli.data.prepared import PreparedSet, Split, find_set
from skillnet_cli.files import sha256_of
from skillnet_cli.inference.capabilities import embeddable, query_skill, route_of
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.plugins import Registry

PART = "test"
"""The part of a prepared set that is meant where none is said."""

T = TypeVar("T")


@dataclass(frozen=True)
class Candidate:
    """Something to embed: its name in the collection, its skill, what is known of it in words.

    ``source`` opens it, ``stamp`` tells one state of it from another; both are called only when needed.
    """

    path: str
    skill: str
    source: Callable[[], Source]
    stamp: Callable[[], str]
    text: str = ""


@dataclass(frozen=True)
class _Gathered:
    """Candidates, and the skills that they are of, known before the first candidate is read."""

    skills: frozenset[str]
    candidates: Iterator[Candidate]


def gather(what: Sequence[str], config: SkillNetConfig, registry: Registry, roots: Sequence[Path]) -> _Gathered:
    """Everything that files, folders and prepared sets (``SET[:PART]``) hold and modalities claim.

    Raises:
        UserError: before the first candidate, where one of them is not there, or the model can embed none of it.
    """
    paths = [Path(each) for each in what if Path(each).exists() and not (Path(each) / MANIFEST).exists()]
    splits = [_open_split(each, roots) for each in what if Path(each) not in paths]
    files = list(_of_files(_files_in(paths), registry))
    skills = {candidate.skill for candidate in files} | {_skill_of(split, config) for split in splits}
    if not any(route_of(config, skill) for skill in skills):
        raise UserError(f"nothing to embed in {', '.join(what)}: {_why_none(skills, config, registry)}")
    return _Gathered(frozenset(skills), chain(files, *(_of_split(split, config) for split in splits)))


def _files_in(paths: Iterable[Path]) -> list[Path]:
    """The files that are named, and those in the folders that are named, in order; hidden ones are left out."""
    found: list[Path] = []
    for path in paths:
        inside = (file for file in sorted(path.rglob("*")) if not _hidden(file.relative_to(path)))
        found.extend([path] if path.is_file() else (file for file in inside if file.is_file()))
    return list(dict.fromkeys(found))


def _of_files(files: Iterable[Path], registry: Registry) -> Iterator[Candidate]:
    """Files whose suffix a modality claims, named by their full path; others are passed over."""
    for file in files:
        modality = registry.modality_of_suffix(file.suffix)
        if modality is not None:
            yield Candidate(str(file.resolve()), modality.skill, partial(_give, file), partial(sha256_of, file))


def _open_split(name: str, roots: Sequence[Path]) -> Split:
    """The split that ``SET[:PART]`` names. Raises UserError where there is no such set or part."""
    place, _, part = name.rpartition(":") if ":" in name else (name, "", PART)
    try:
        folder = Path(place) if (Path(place) / MANIFEST).exists() else find_set(place, roots)
    except UserError as error:
        raise UserError(f"'{name}' is no file and no folder, and there is {error}") from error
    return PreparedSet.open(folder).split(part)


def _skill_of(split: Split, config: SkillNetConfig) -> str:
    """The skill by which a split's items are embedded: the first that is searched for, else the one that asks.

    Raises:
        UserError: the items have no field that the model embeds.
    """
    asking = query_skill(config)
    pool = [skill for skill in config.skills if skill != asking and route_of(config, skill)]
    for skill in [*pool, asking]:
        if skill in split.facts.fields:
            return skill
    raise UserError(
        f"set '{split.set_name}' has no {', '.join([*pool, asking])}; it has {', '.join(split.facts.fields)}"
    )


def _of_split(split: Split, config: SkillNetConfig) -> Iterator[Candidate]:
    """A split's items, named ``SET:PART#ID``; what is known of them in words is their first text that can ask."""
    skill, asking = _skill_of(split, config), query_skill(config)
    for sample in split:
        name = f"{split.set_name}:{split.name}#{sample['id']}"
        source = _first(sample[skill])
        yield Candidate(name, skill, partial(_give, source), partial(_digest, source), _words(sample, asking))


def _why_none(skills: Iterable[str], config: SkillNetConfig, registry: Registry) -> str:
    if skills:
        return (
            f"no contrastive task of the model trained {', '.join(sorted(skills))}, and none transcribes it; "
            f"it embeds {', '.join(embeddable(config)) or 'nothing'}"
        )
    known = [suffix for skill in config.skills for suffix in registry.modality(skill).suffixes]
    return f"no file ends in {' '.join(known)}"


def _words(sample: Mapping[str, Any], skill: str) -> str:
    text = _first(sample.get(skill, ""))
    return text if isinstance(text, str) else ""


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


def _give(value: T) -> T:
    return value


def _digest(source: bytes | str) -> str:
    return hashlib.sha256(source if isinstance(source, bytes) else source.encode()).hexdigest()


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)

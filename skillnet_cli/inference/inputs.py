"""What is embedded: the files, folders and prepared sets that enter a collection, and the queries that search it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from jaxtyping import Float
from torch import Tensor

from skillnet_cli.api import DamagedItem, Reader, Source, UserError
from skillnet_cli.data.format import MANIFEST
from skillnet_cli.data.prepared import DEFAULT_SPLIT, Split, find_split
from skillnet_cli.files import sha256_of
from skillnet_cli.inference.capabilities import Capabilities
from skillnet_cli.inference.encoder import encode_sources
from skillnet_cli.inference.transcriber import Transcriber
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import Registry

T = TypeVar("T")


@dataclass(frozen=True)
class Candidate:
    """Something to embed.

    Attributes:
        path: its name in the collection: a file's full path, or ``SET:SPLIT#ID``.
        skill: the skill that reads it.
        source: opens it; called only when needed.
        stamp: tells one state of it from another; called only when needed.
        text: what is known of it in words.
    """

    path: str
    skill: str
    source: Callable[[], Source]
    stamp: Callable[[], str]
    text: str = ""


def gather(
    inputs: Sequence[str], capabilities: Capabilities, registry: Registry, roots: Sequence[Path]
) -> tuple[frozenset[str], Iterator[Candidate]]:
    """All that files, folders and prepared sets hold and modalities claim.

    Args:
        inputs: paths, and sets as ``SET[:SPLIT]``.
        capabilities: the model's.
        registry: whose modalities claim files.
        roots: where sets are looked for.

    Returns:
        The skills of all candidates, and the candidates, which are read from disk as they are taken.

    Raises:
        UserError: before the first candidate, where an input does not exist, or the model can embed none of them.
    """
    # A prepared set is a folder too, but its shards are not what is to be embedded.
    paths = [Path(each) for each in inputs if Path(each).exists() and not (Path(each) / MANIFEST).exists()]
    splits = [_open_split(each, roots) for each in inputs if Path(each) not in paths]
    files = list(_of_files(_files_in(paths), registry))
    skills = {candidate.skill for candidate in files} | {_skill_of(split, capabilities) for split in splits}
    if not any(map(capabilities.route_of, skills)):
        raise UserError(f"nothing to embed in {', '.join(inputs)}: {_why_none(skills, capabilities, registry)}")
    return frozenset(skills), chain(files, *(_of_split(split, capabilities) for split in splits))


def _files_in(paths: Iterable[Path]) -> list[Path]:
    """The files that are named, and those in the folders that are named, in order; hidden ones are left out."""
    found: list[Path] = []
    for path in paths:
        inside = (
            file
            for file in sorted(path.rglob("*"))
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
        )
        found.extend([path] if path.is_file() else inside)
    return list(dict.fromkeys(found))


def _of_files(files: Iterable[Path], registry: Registry) -> Iterator[Candidate]:
    """Files whose suffix a modality claims; others are passed over."""
    for file in files:
        modality = registry.modality_of_suffix(file.suffix)
        if modality is not None:
            yield Candidate(str(file.resolve()), modality.skill, partial(_give, file), partial(sha256_of, file))


def _open_split(named: str, roots: Sequence[Path]) -> Split:
    try:
        prepared, split = find_split(named, roots)
    except UserError as error:
        raise UserError(f"'{named}' is neither a file nor a folder, and there is {error}") from error
    return prepared.split(split or DEFAULT_SPLIT)


def _skill_of(split: Split, capabilities: Capabilities) -> str:
    """The skill by which a split's items are embedded: the first that is searched for, else that of queries.

    Raises:
        UserError: the items have no field that the model embeds.
    """
    query = capabilities.query_skill
    pool = [skill for skill in capabilities.config.skills if skill != query and capabilities.route_of(skill)]
    for skill in [*pool, query]:
        if skill in split.facts.fields:
            return skill
    raise UserError(
        f"set '{split.set_name}' has no {', '.join([*pool, query])}; it has {', '.join(split.facts.fields)}"
    )


def _of_split(split: Split, capabilities: Capabilities) -> Iterator[Candidate]:
    """A split's items; what is known of them in words is their first text that could be a query."""
    skill = _skill_of(split, capabilities)
    for sample in split:
        source, text = _first(sample[skill]), _first(sample.get(capabilities.query_skill, ""))
        yield Candidate(
            f"{split.set_name}:{split.name}#{sample['id']}",
            skill,
            partial(_give, source),
            partial(_digest, source),
            text if isinstance(text, str) else "",
        )


def _why_none(skills: Iterable[str], capabilities: Capabilities, registry: Registry) -> str:
    if skills:
        return (
            f"no contrastive task of the model trained {', '.join(sorted(skills))}, and none transcribes it; "
            f"it embeds {', '.join(capabilities.embeddable) or 'nothing'}"
        )
    known = [suffix for skill in capabilities.config.skills for suffix in registry.modality(skill).suffixes]
    return f"no file ends in {' '.join(known)}"


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


def _give(value: T) -> T:
    return value


def _digest(source: bytes | str) -> str:
    return hashlib.sha256(source if isinstance(source, bytes) else source.encode()).hexdigest()


@dataclass(frozen=True)
class Query:
    """What a search looks for: a sentence, or a file. ``skill`` is the skill that reads it."""

    skill: str
    source: Source

    @classmethod
    def parse(cls, text: str, capabilities: Capabilities, registry: Registry) -> Query:
        """A file where ``text`` is the path of one, else a sentence.

        Args:
            text: a sentence or a path.
            capabilities: the model's.
            registry: whose modalities claim files.

        Raises:
            UserError: it is a file that the model does not embed.
        """
        path = Path(text)
        try:
            is_file = path.is_file()
        except (OSError, ValueError):  # a sentence may be too long for a path, or hold a null byte
            is_file = False
        if not is_file:
            return cls(capabilities.query_skill, text)
        modality = registry.modality_of_suffix(path.suffix)
        if modality is None or capabilities.route_of(modality.skill) is None:
            kind = modality.skill if modality else f"files ending in '{path.suffix}'"
            raise UserError(f"{path}: the model does not embed {kind}; it embeds {', '.join(capabilities.embeddable)}")
        return cls(modality.skill, path)

    def embed(
        self, model: SkillNet, readers: Mapping[str, Reader], capabilities: Capabilities
    ) -> tuple[str, Float[Tensor, " hidden"]]:
        """The vector of the query, and its skill: that of queries where the vector is that of a transcript.

        Args:
            model: needs only what :meth:`Capabilities.needed_for` says of :attr:`skill`.
            readers: the model's, by skill.
            capabilities: the model's.

        Raises:
            DamagedItem: it cannot be read.
        """
        skill, source = self.skill, self.source
        if capabilities.route_of(skill) == "transcript":
            source = Transcriber(model, readers, capabilities.transcribing_task()).transcribe(source).text
            skill = capabilities.query_skill
        embedded = encode_sources(model, readers, skill, [source], capabilities.vector_task)
        for _, reason in embedded.damaged:
            raise DamagedItem(reason)
        return skill, embedded.vectors[0]

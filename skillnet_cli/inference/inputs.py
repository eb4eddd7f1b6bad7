"""What is embedded: the files, folders and prepared sets that enter a collection, and the queries that search it."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from jaxtyping import Float
from torch import Tensor

from skillnet_cli.api import DamagedItem, FailedJob, Reader, Source, UserError, add_remark
from skillnet_cli.data.format import MANIFEST
from skillnet_cli.data.prepared import DEFAULT_SPLIT, Split, find_split
from skillnet_cli.files import sha256_of
from skillnet_cli.inference.arguments import check_query, decoded, existing_path, open_named_split
from skillnet_cli.inference.capabilities import Capabilities
from skillnet_cli.inference.encoder import encode_sources
from skillnet_cli.inference.transcriber import Transcriber
from skillnet_cli.inference.walk import Found, find_files, name_of, path_of
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import Registry

T = TypeVar("T")


@dataclass(frozen=True)
class Candidate:
    """Something to embed.

    Attributes:
        path: its name in the collection: a file's (:func:`~skillnet_cli.inference.walk.name_of`), or ``SET:SPLIT#ID``.
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


@dataclass
class Inputs:
    """All that files, folders and prepared sets hold and modalities claim.

    Attributes:
        skills: those of all candidates.
        files: what was found in folders, and what was left out.
        size: how many candidates there are.
    """

    skills: frozenset[str]
    files: Found
    size: int
    _candidates: Iterable[Candidate]
    _places: tuple[str, ...]
    _seen: set[str]

    def __iter__(self) -> Iterator[Candidate]:
        """The candidates, which are read from disk as they are taken."""
        for candidate in self._candidates:
            if candidate.path not in self._seen:  # a set that is named twice
                self._seen.add(candidate.path)
                yield candidate

    def gone(self, known: Iterable[str]) -> list[str]:
        """Those of the names that a collection has which lay below these inputs and are not there any more.

        To be asked when all candidates have been taken.
        """
        unseen = [name for name in known if name not in self._seen and _is_below(name, self._places)]
        return [name for name in unseen if not os.path.lexists(path_of(name))]


def gather(
    inputs: Sequence[str],
    capabilities: Capabilities,
    registry: Registry,
    roots: Sequence[Path],
    known: Collection[str] = (),
) -> Inputs:
    """All that files, folders and prepared sets hold and modalities claim.

    Args:
        inputs: paths, and sets as ``SET[:SPLIT]``.
        capabilities: the model's.
        registry: whose modalities claim files.
        roots: where sets are looked for.
        known: names of what a collection holds; an input that only these tell of has gone.

    Raises:
        UserError: before the first candidate, where an input does not exist, or the model can embed none of them.
    """
    paths, splits, places = [], [], []
    for each in inputs:
        path = existing_path(each)
        # A prepared set is a folder too, but its shards are not what is to be embedded.
        if path is not None and not (path / MANIFEST).is_file():
            paths.append(path)
        elif path is None and any(_is_below(name, [os.path.realpath(each)]) for name in known):
            places.append(os.path.realpath(each))
        else:
            splits.append(open_named_split(each, roots))
    found = find_files(paths, registry)
    files = [_of_file(file, registry) for file in found.files]
    skills = {candidate.skill for candidate in files} | {_skill_of(split, capabilities) for split in splits}
    if not any(map(capabilities.route_of, skills)) and not places:
        raise UserError(_why_none(inputs, found, skills, capabilities, registry))
    places += [os.path.realpath(path) for path in paths] + [*map(str, found.folders)]
    places += [f"{split.set_name}:{split.name}" for split in splits]
    places = [unicodedata.normalize("NFC", place) for place in places]
    candidates = chain(files, *(_of_split(split, capabilities) for split in splits))
    size = len(files) + sum(map(len, splits))
    return Inputs(frozenset(skills), found, size, candidates, tuple(places), set())


def _is_below(name: str, places: Sequence[str]) -> bool:
    """Whether a name in a collection is one of these, or of something in one of these folders or sets."""
    plain = unicodedata.normalize("NFC", str(path_of(name)))
    return any(plain == place or plain.startswith((place.rstrip(os.sep) + os.sep, f"{place}#")) for place in places)


def _of_file(file: Path, registry: Registry) -> Candidate:
    modality = registry.modality_of_suffix(file.suffix)
    assert modality is not None, "files of other kinds are left out"
    return Candidate(name_of(file), modality.skill, partial(_give, file), partial(sha256_of, file))


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


def _why_none(
    inputs: Sequence[str], found: Found, skills: Iterable[str], capabilities: Capabilities, registry: Registry
) -> str:
    if skills:
        why = (
            f"no contrastive task of the model trained {', '.join(sorted(skills))}, and none transcribes it; "
            f"it embeds {', '.join(capabilities.embeddable) or 'nothing'}"
        )
    else:
        suffixes = [suffix for skill in capabilities.config.skills for suffix in registry.modality(skill).suffixes]
        why = "; ".join([f"no file ends in {' '.join(suffixes)}", *found.remarks()])
    return f"nothing to embed in {', '.join(inputs)}: {why}"


def _first(value: Any) -> Any:
    return next(iter(value), None) if isinstance(value, list) else value


def _give(value: T) -> T:
    return value


def _digest(source: Any) -> str:
    """Raises DamagedItem where a set has neither a text nor a medium."""
    if not isinstance(source, (str, bytes)):
        raise DamagedItem("it is neither a text nor a file")
    content = source if isinstance(source, bytes) else source.encode("utf-8", "surrogatepass")
    return hashlib.sha256(content).hexdigest()


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
            UserError: it is a file that the model does not embed, a folder, the path of nothing, or empty.
        """
        path = check_query(text, registry)
        if path is None:
            return cls(capabilities.query_skill, decoded(text))
        modality = registry.modality_of_suffix(path.suffix)
        if modality is None or capabilities.route_of(modality.skill) is None:
            kind = modality.skill if modality else f"files ending in '{path.suffix}'"
            raise UserError(f"{path}: the model does not embed {kind}; it embeds {', '.join(capabilities.embeddable)}")
        return cls(modality.skill, path)

    def embed(
        self, model: SkillNet, readers: Mapping[str, Reader], capabilities: Capabilities, precision: str = "auto"
    ) -> tuple[str, Float[Tensor, " hidden"]]:
        """The vector of the query, and its skill: that of queries where the vector is that of a transcript.

        What readers remark on it goes to whoever collects remarks (:func:`~skillnet_cli.api.collect_remarks`).

        Args:
            model: needs only what :meth:`Capabilities.needed_for` says of :attr:`skill`.
            readers: the model's, by skill.
            capabilities: the model's.
            precision: what the vector is computed in: that of the collection.

        Raises:
            DamagedItem: it cannot be read.
        """
        skill, source = self.skill, self.source
        if capabilities.route_of(skill) == "transcript":
            task = capabilities.transcribing_task()
            source = Transcriber(model, readers, task, precision).text(source)
            skill = capabilities.query_skill
        embedded = encode_sources(model, readers, skill, [source], capabilities.vector_task, precision)
        for _, remark in embedded.remarks:
            add_remark(remark)
        for _, reason in embedded.damaged:
            raise DamagedItem(reason)
        return skill, embedded.vectors[0]


def find_sources(items: Iterable[tuple[str, str]], registry: Registry, roots: Sequence[Path]) -> dict[str, Source]:
    """What items of a collection are, by their names; those that are not there any more are left out.

    Args:
        items: the name and the skill of each. A file is given only where its suffix is of the skill: a collection that
            somebody else has made could name any.
        registry: whose modalities claim files.
        roots: where sets are looked for.
    """
    found: dict[str, Source] = {}
    wanted: dict[str, dict[str, str]] = defaultdict(dict)
    for name, skill in items:
        path = path_of(name)
        if not path.is_absolute():
            place, _, id = name.partition("#")
            wanted[place][id] = skill
        elif path.is_file() and registry.modality_of_suffix(path.suffix) == registry.modalities[skill].value:
            found[name] = path
    for place, ids in wanted.items():
        with suppress(UserError, FailedJob):  # the set has gone, or is damaged
            prepared, part = find_split(place, roots)
            for sample in prepared.split(part or DEFAULT_SPLIT):
                if sample["id"] in ids:
                    found[f"{place}#{sample['id']}"] = _first(sample[ids[sample["id"]]])
    return found

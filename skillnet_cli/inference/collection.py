"""Collections: vectors of many items in a folder (LanceDB), marked with what made them.

Vectors belong to the parts of a model that made them: the encoder, the skill's projections, its embedder and assets. A
collection takes vectors of every model whose parts are the same to the bit: of one that was cut out of the first by
``export``, given a skill more by ``graft``, or trained on with those parts frozen.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from jaxtyping import Float
from pydantic import BaseModel, Field
from torch import Tensor

from skillnet_cli.api import Reader, Source, UserError, collect_remarks
from skillnet_cli.files import PARTIAL, disk_errors, write_json
from skillnet_cli.inference.capabilities import Capabilities
from skillnet_cli.inference.encoder import UNREADABLE, encode_sources, why
from skillnet_cli.inference.inputs import Candidate
from skillnet_cli.inference.table import REMAINS, Table, clear, import_lancedb, quoted, was_filled, writing
from skillnet_cli.inference.transcriber import Transcriber
from skillnet_cli.model.checkpoint import checksums_by_part, fingerprint
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.untrusted import Untrusted, read_json, validate

FACTS = "collection.json"


@dataclass(frozen=True)
class Entry:
    """One item of a collection.

    Attributes:
        path: its name, one entry a path.
        skill: the skill of the item.
        stamp: tells one state of the item from another.
        text: what is known of it in words.
        by: what its vector was made of: ``content``, or ``transcript`` where that of its text stands for a recording.
    """

    path: str
    skill: str
    stamp: str
    text: str = ""
    by: str = "content"


@dataclass(frozen=True)
class MadeBy:
    """What makes a model's vectors.

    Attributes:
        model: the model's fingerprint, which names it.
        skills: for each skill whose items enter a collection, the checksum of all that makes their vectors.
    """

    model: str
    skills: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path, capabilities: Capabilities) -> MadeBy:
        """That of the model in a folder, whose capabilities these are."""
        return cls(fingerprint(folder), capabilities.checksums(checksums_by_part(folder)))


class _Facts(BaseModel):
    """What ``collection.json`` says. Earlier ones have ``model`` and ``hidden`` alone."""

    model: str
    hidden: int = Field(gt=0, le=1 << 20)
    skills: dict[str, str] = {}
    precision: str | None = Field(default=None, pattern="^(bf16|fp32)$")
    folder: str | None = None


def model_of(folder: Path) -> Path | None:
    """The folder of the model that began a collection, if there is a collection that says so, and a folder."""
    try:
        named = _facts(folder).folder
        return Path(named) if named and Path(named).is_dir() else None
    except (UserError, ValueError):
        return None


def fits(folder: Path, made_by: MadeBy) -> bool:
    """Whether what makes a model's vectors is what has made those of a collection, as far as both tell."""
    try:
        facts = _facts(folder)
    except UserError:
        return False
    common = facts.skills.keys() & made_by.skills.keys()
    if not common:
        return facts.model == made_by.model
    return all(facts.skills[skill] == made_by.skills[skill] for skill in common)


@dataclass(frozen=True)
class Hit:
    """An item that a search found, with the similarity of its vector and the query's."""

    entry: Entry
    score: float


class Collection:
    """Items with their vectors, one a path, whose vectors can be compared.

    ``precision`` is what they are computed in, None where an earlier version did not write it down.
    """

    def __init__(self, folder: Path, table: Table, made_by: MadeBy, facts: _Facts) -> None:
        self.folder = folder
        self.made_by = made_by
        self.precision = facts.precision
        self._table = table

    @classmethod
    def create(
        cls, folder: Path, made_by: MadeBy, hidden: int, precision: str | None = None, model: str | None = None
    ) -> Collection:
        """Open a collection for adding to, or start it where the folder is empty or does not exist.

        A folder in which starting one was interrupted counts as empty.

        Args:
            folder: the collection's.
            made_by: what makes the vectors.
            hidden: the width of the vectors.
            precision: what the vectors of a new one are computed in, ``"bf16"`` or ``"fp32"``.
            model: the folder of the model that starts it.

        Raises:
            UserError: the folder holds something else, or vectors that other parts or nobody knows what have made.
            FailedJob: the folder cannot be written.
        """
        facts = _Facts(
            model=made_by.model, hidden=hidden, skills=dict(made_by.skills), precision=precision, folder=model
        )
        import_lancedb()
        if not (folder / FACTS).exists():
            remains = {*REMAINS, FACTS + PARTIAL}
            if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= remains):
                raise UserError(f"{folder} already exists and is not a collection: choose another folder")
            with disk_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
            # First: a folder with this file is a collection, be there rows in it yet or not.
            with writing(folder):
                if not (folder / FACTS).exists():
                    if was_filled(folder):
                        reason = f"{FACTS} is missing, and without it nobody knows which model made the vectors"
                        raise UserError(f"{folder}: {reason}: delete the folder and embed again")
                    clear(folder)
                    write_json(folder / FACTS, facts.model_dump())
        table = Table.create(folder, "path", _schema(_facts(folder).hidden))
        if not table.count() and _facts(folder) != facts:  # begun with another model
            with writing(folder):
                clear(folder)
                write_json(folder / FACTS, facts.model_dump())
            table = Table.create(folder, "path", _schema(hidden))
        return cls._checked(folder, table, made_by)

    @classmethod
    def open(cls, folder: Path, made_by: MadeBy) -> Collection:
        """Open a collection for a model.

        Raises:
            UserError: there is no collection, it is damaged, or the model's vectors cannot be compared with those in
                it.
        """
        return cls._checked(folder, Table.open(folder, "path", _schema(_facts(folder).hidden)), made_by)

    @classmethod
    def _checked(cls, folder: Path, table: Table, made_by: MadeBy) -> Collection:
        facts = _facts(folder)
        collection = cls(folder, table, made_by, facts)
        collection._check_parts(facts)
        return collection

    def _check_parts(self, facts: _Facts) -> None:
        """Raises UserError where the model that is at work is not made of the parts that made the vectors.

        Every part that both have must be the same, one at least: all skills' vectors come from the shared part too. A
        skill of which there are no items may have changed.
        """
        if not facts.skills and facts.model == self.made_by.model:
            return
        common = [skill for skill in facts.skills if skill in self.made_by.skills]
        same = [skill for skill in common if facts.skills[skill] == self.made_by.skills[skill]]
        others = [skill for skill in common if skill not in same and self._has_items(skill)]
        if same and not others:
            return
        which = f" of {', '.join(others)}" if others else ""
        raise UserError(
            f"collection {self.folder} holds vectors{which} that other weights, settings or assets have made than "
            f"those of this model ({facts.model}, not {self.made_by.model}): choose its model with --checkpoint, or "
            "embed the items again into another folder"
        )

    def _has_items(self, skill: str) -> bool:
        return bool(self._table.count(f"skill = {quoted(skill)}"))

    def stamps(self) -> dict[str, str]:
        """The stamp of every item, by its path."""
        return {row["path"]: row["stamp"] for row in self._table.rows(["path", "stamp"])}

    def skills(self) -> list[str]:
        """The skills of the items."""
        return sorted({row["skill"] for row in self._table.rows(["skill"])})

    def put(self, entries: Sequence[Entry], vectors: Float[Tensor, "items hidden"]) -> None:
        """Add items; those whose path is known already are replaced."""
        import pyarrow

        if not entries:
            return
        columns = {name: [asdict(entry)[name] for entry in entries] for name in asdict(entries[0])}
        flat = pyarrow.array(vectors.flatten().numpy())
        columns["vector"] = pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        rows = pyarrow.table(columns, schema=_schema(vectors.shape[1]))
        self._table.put(rows, partial(self._note_parts, {entry.skill for entry in entries}))

    def _note_parts(self, skills: Iterable[str]) -> None:
        """Write down, before vectors of these skills come in, what makes them."""
        facts = _facts(self.folder)
        self._check_parts(facts)  # another process may have added vectors of another model
        made_by = {skill: self.made_by.skills[skill] for skill in skills if skill in self.made_by.skills}
        if not made_by.items() <= facts.skills.items():
            write_json(self.folder / FACTS, {**facts.model_dump(), "skills": facts.skills | made_by})

    def remove(self, paths: Sequence[str]) -> None:
        """Take out the items with these paths."""
        self._table.remove(paths)

    def search(self, vector: Float[Tensor, " hidden"], top: int, skills: Iterable[str] = ()) -> list[Hit]:
        """The items nearest to a vector, best first.

        Args:
            vector: of a query, by the collection's model.
            top: how many items.
            skills: only items of these, if any are given.
        """
        listed = ", ".join(map(quoted, skills))
        return [_hit(row) for row in self._table.nearest(vector, top, f"skill IN ({listed})" if listed else None)]

    def __len__(self) -> int:
        return self._table.count()


def _hit(row: dict[str, Any]) -> Hit:
    entry = Entry(**{name: row[name] for name in Entry.__dataclass_fields__})
    return Hit(entry, 1 - row["_distance"])  # LanceDB's distance "dot" is one minus the product


def _facts(folder: Path) -> _Facts:
    try:
        return validate(_Facts, read_json(folder / FACTS))
    except OSError as error:
        raise UserError(f"{folder} is not a collection ({FACTS} is missing): make one with 'skillnet embed'") from error
    except Untrusted as error:
        raise UserError(f"{folder / FACTS} is damaged ({error}): delete the collection and embed again") from error


def _schema(hidden: int) -> Any:
    import pyarrow

    texts = [pyarrow.field(name, pyarrow.string()) for name in Entry.__dataclass_fields__]
    return pyarrow.schema([*texts, pyarrow.field("vector", pyarrow.list_(pyarrow.float32(), hidden))])


MOST_AT_ONCE = 512
SECONDS_AT_ONCE = 2.0
"""Candidates between two writes to the collection: as many as take about so long, and no more than so many."""


class CollectionWriter:
    """Embeds candidates with one model into one collection, and counts what becomes of them.

    Attributes:
        added: skill -> candidates that were embedded.
        reused: skill -> candidates that the collection had already, unchanged.
        refused: skill -> candidates of a skill that the model does not embed.
        damaged: path -> why the candidate could not be read; it is not in the collection any more.
        remarks: what is to be said of candidates that were read all the same -> their paths.
    """

    def __init__(
        self,
        collection: Collection,
        model: SkillNet,
        readers: Mapping[str, Reader],
        capabilities: Capabilities,
        batch_size: int | None = None,
    ) -> None:
        """Nothing is written before :meth:`add`.

        Args:
            collection: of this model.
            model: needs only what :meth:`Capabilities.needed_for` says of the candidates' skills.
            readers: the model's, by skill.
            capabilities: the whole model's.
            batch_size: items, or windows of a recording, at a time; None leaves it to their tokens.
        """
        self.added: Counter[str] = Counter()
        self.reused: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.damaged: dict[str, str] = {}
        self.remarks: dict[str, list[str]] = {}
        self._collection = collection
        self._model = model
        self._readers = readers
        self._capabilities = capabilities
        self._precision = collection.precision or "auto"
        self._batch_size = batch_size

    def add(self, candidates: Iterable[Candidate]) -> Iterator[Candidate]:
        """Embed what is not in the collection as it is now, and give back each candidate when that is done with it.

        Damaged and refused candidates are counted, not fatal.
        """
        known = self._collection.stamps()  # once: what is added below is not asked for again
        waiting = iter(candidates)
        count = MOST_AT_ONCE // 32
        while some := list(islice(waiting, count)):
            begin = time.monotonic()
            before = len(self.damaged)
            fresh = list(self._stamped(some, known))
            for skill in dict.fromkeys(candidate.skill for candidate, _ in fresh):
                self._add(skill, [pair for pair in fresh if pair[0].skill == skill])
            unreadable = list(self.damaged)[before:]
            # What was read once and cannot be read now is not what its vector says it is.
            self._collection.remove([path for path in unreadable if path in known])
            if time.monotonic() - begin < SECONDS_AT_ONCE:
                count = min(2 * count, MOST_AT_ONCE)
            yield from some

    def _stamped(self, candidates: Sequence[Candidate], known: Mapping[str, str]) -> Iterator[tuple[Candidate, str]]:
        """The candidates to embed, and their stamps."""
        for candidate in candidates:
            if self._capabilities.route_of(candidate.skill) is None:
                self.refused[candidate.skill] += 1
                continue
            try:
                stamp = candidate.stamp()
            except UNREADABLE as error:
                self.damaged[candidate.path] = why(error)
                continue
            if known.get(candidate.path) == stamp:
                self.reused[candidate.skill] += 1
            else:
                yield candidate, stamp

    def _add(self, skill: str, fresh: Sequence[tuple[Candidate, str]]) -> None:
        route = self._capabilities.route_of(skill)
        assert route is not None, "candidates of other skills are refused"
        sources: Iterable[Source]
        if route == "transcript":
            fresh, texts = self._transcribe(fresh)
            reads, sources = self._capabilities.query_skill, texts
        else:
            texts = [candidate.text for candidate, _ in fresh]
            reads, sources = skill, (candidate.source() for candidate, _ in fresh)
        how = self._capabilities.vector_task, self._precision, self._batch_size
        embedded = encode_sources(self._model, self._readers, reads, sources, *how)
        entries = []
        for place in embedded.kept:
            candidate, stamp = fresh[place]
            entries.append(Entry(candidate.path, skill, stamp, texts[place], route))
            self.added[skill] += 1
        self.damaged.update((fresh[place][0].path, reason) for place, reason in embedded.damaged)
        for place, remark in embedded.remarks:
            self._remark(fresh[place][0], f"its transcript {remark}" if route == "transcript" else remark)
        self._collection.put(entries, embedded.vectors)

    def _transcribe(self, fresh: Sequence[tuple[Candidate, str]]) -> tuple[list[tuple[Candidate, str]], list[str]]:
        """The candidates in which something is spoken, and their transcripts."""
        how = self._capabilities.transcribing_task(), self._precision, self._batch_size
        transcriber = Transcriber(self._model, self._readers, *how)
        kept, texts = [], []
        for candidate, stamp in fresh:
            try:
                with collect_remarks() as said:
                    text = transcriber.text(candidate.source())
                for remark in said:
                    self._remark(candidate, remark)
                kept.append((candidate, stamp))
                texts.append(text)
            except UNREADABLE as error:
                self.damaged[candidate.path] = why(error)
        return kept, texts

    def _remark(self, candidate: Candidate, text: str) -> None:
        self.remarks.setdefault(text, []).append(candidate.path)

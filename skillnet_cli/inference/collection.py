"""Collections: vectors of many items in a folder (LanceDB), marked with what made them.

Vectors belong to the parts of a model that made them: the encoder, the skill's projections, its embedder and assets. A
collection takes vectors of every model whose parts are the same to the bit: of one that was cut out of the first by
``export``, given a skill more by ``graft``, or trained on with those parts frozen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from jaxtyping import Float
from pydantic import BaseModel, PositiveInt
from torch import Tensor

from skillnet_cli.api import DamagedItem, Reader, Source, UserError, collect_remarks
from skillnet_cli.files import write_json
from skillnet_cli.inference.capabilities import Capabilities
from skillnet_cli.inference.encoder import encode_sources
from skillnet_cli.inference.inputs import Candidate
from skillnet_cli.inference.transcriber import Transcriber
from skillnet_cli.model.checkpoint import checksums_by_part, fingerprint
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.untrusted import Untrusted, read_json, validate

FACTS = "collection.json"
TABLE = "items"


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
    """What ``collection.json`` says. Those of skillnet 0.2 and earlier have no ``skills``."""

    model: str
    hidden: PositiveInt
    skills: dict[str, str] = {}


@dataclass(frozen=True)
class Hit:
    """An item that a search found, with the similarity of its vector and the query's."""

    entry: Entry
    score: float


class Collection:
    """Items with their vectors, one a path, whose vectors can be compared."""

    def __init__(self, folder: Path, table: Any, made_by: MadeBy) -> None:
        self.folder = folder
        self.made_by = made_by
        self._table = table

    @classmethod
    def create(cls, folder: Path, made_by: MadeBy, hidden: int) -> Collection:
        """Open a collection for adding to, or start it where the folder is empty or does not exist.

        Args:
            folder: the collection's.
            made_by: what makes the vectors.
            hidden: the width of the vectors.

        Raises:
            UserError: the folder holds something else, or vectors that other parts have made.
        """
        if (folder / FACTS).exists():
            return cls.open(folder, made_by)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} already exists and is not a collection: choose another folder")
        database = _lancedb().connect(folder)
        table = database.create_table(TABLE, schema=_schema(hidden))
        # Last, so that a folder in which creation was interrupted is not taken for a collection.
        write_json(folder / FACTS, {"model": made_by.model, "hidden": hidden, "skills": dict(made_by.skills)})
        return cls(folder, table, made_by)

    @classmethod
    def open(cls, folder: Path, made_by: MadeBy) -> Collection:
        """Open a collection for a model.

        Raises:
            UserError: there is no collection, or the model's vectors cannot be compared with those in it.
        """
        facts = _facts(folder)
        try:
            collection = cls(folder, _lancedb().connect(folder).open_table(TABLE), made_by)
        except (ValueError, OSError) as error:
            raise UserError(f"collection {folder} is damaged ({error}): delete it and embed again") from error
        if facts.skills or facts.model != made_by.model:
            collection._check_parts(facts)
        return collection

    def _check_parts(self, facts: _Facts) -> None:
        """Raises UserError where the model that is at work is not made of the parts that made the vectors.

        Every part that both have must be the same, one at least: all skills' vectors come from the shared part too. A
        skill of which there are no items may have changed.
        """
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
        return bool(self._table.count_rows(f"skill = {_quoted(skill)}"))

    def stamps(self) -> dict[str, str]:
        """The stamp of every item, by its path."""
        # A search for nothing in particular is a scan. Its limit is 10 rows by default, and must not be 0.
        rows = self._table.search().select(["path", "stamp"]).limit(max(1, len(self))).to_list()
        return {row["path"]: row["stamp"] for row in rows}

    def put(self, entries: Sequence[Entry], vectors: Float[Tensor, "items hidden"]) -> None:
        """Add items; those whose path is known already are replaced."""
        import pyarrow

        if not entries:
            return
        self._note_parts({entry.skill for entry in entries})
        columns = {name: [asdict(entry)[name] for entry in entries] for name in asdict(entries[0])}
        flat = pyarrow.array(vectors.flatten().numpy())
        columns["vector"] = pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        rows = pyarrow.table(columns, schema=_schema(vectors.shape[1]))
        self._table.merge_insert("path").when_matched_update_all().when_not_matched_insert_all().execute(rows)

    def _note_parts(self, skills: Iterable[str]) -> None:
        """Write down, before vectors of these skills come in, what makes them."""
        facts = _facts(self.folder)
        made_by = {skill: self.made_by.skills[skill] for skill in skills if skill in self.made_by.skills}
        if not made_by.items() <= facts.skills.items():
            write_json(self.folder / FACTS, {**facts.model_dump(), "skills": facts.skills | made_by})

    def search(self, vector: Float[Tensor, " hidden"], top: int, skills: Iterable[str] = ()) -> list[Hit]:
        """The items nearest to a vector, best first.

        Args:
            vector: of a query, by the collection's model.
            top: how many items.
            skills: only items of these, if any are given.
        """
        query = self._table.search(vector.numpy(), vector_column_name="vector").distance_type("dot")
        quoted = [_quoted(skill) for skill in skills]
        if quoted:
            # Before the search: afterwards it would leave fewer than the best of these skills.
            query = query.where(f"skill IN ({', '.join(quoted)})", prefilter=True)
        return [_hit(row) for row in query.limit(top).to_list()]

    def __len__(self) -> int:
        return int(self._table.count_rows())


def _quoted(text: str) -> str:
    """A string of SQL, in which a quote is written twice."""
    return "'" + text.replace("'", "''") + "'"


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


def _lancedb() -> Any:
    try:
        import lancedb
    except ImportError as error:
        raise UserError("collections need LanceDB: pip install 'skillnet-cli[search]'") from error
    return lancedb


AT_ONCE = 512
"""Candidates between two writes to the collection: an interrupted run loses no more than these."""


class CollectionWriter:
    """Embeds candidates with one model into one collection, and counts what becomes of them.

    Attributes:
        added: skill -> candidates that were embedded.
        reused: skill -> candidates that the collection had already, unchanged.
        refused: skill -> candidates of a skill that the model does not embed.
        damaged: path -> why the candidate could not be read.
        remarks: path -> what is to be said of a candidate that was read all the same.
    """

    def __init__(
        self, collection: Collection, model: SkillNet, readers: Mapping[str, Reader], capabilities: Capabilities
    ) -> None:
        """Nothing is written before :meth:`add`.

        Args:
            collection: of this model.
            model: needs only what :meth:`Capabilities.needed_for` says of the candidates' skills.
            readers: the model's, by skill.
            capabilities: the whole model's.
        """
        self.added: Counter[str] = Counter()
        self.reused: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.damaged: dict[str, str] = {}
        self.remarks: dict[str, str] = {}
        self._collection = collection
        self._model = model
        self._readers = readers
        self._capabilities = capabilities

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Embed what is not in the collection as it is now. Damaged and refused candidates are counted, not fatal."""
        known = self._collection.stamps()  # once: what is added below is not asked for again
        waiting = iter(candidates)
        while some := list(islice(waiting, AT_ONCE)):
            fresh = list(self._stamped(some, known))
            for skill in dict.fromkeys(candidate.skill for candidate, _ in fresh):
                self._add(skill, [pair for pair in fresh if pair[0].skill == skill])

    def _stamped(self, candidates: Sequence[Candidate], known: Mapping[str, str]) -> Iterator[tuple[Candidate, str]]:
        """The candidates to embed, and their stamps."""
        for candidate in candidates:
            if self._capabilities.route_of(candidate.skill) is None:
                self.refused[candidate.skill] += 1
                continue
            try:
                stamp = candidate.stamp()
            except OSError as error:
                self.damaged[candidate.path] = str(error)
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
        embedded = encode_sources(self._model, self._readers, reads, sources, self._capabilities.vector_task)
        entries = []
        for place in embedded.kept:
            candidate, stamp = fresh[place]
            entries.append(Entry(candidate.path, skill, stamp, texts[place], route))
            self.added[skill] += 1
        self.damaged.update((fresh[place][0].path, reason) for place, reason in embedded.damaged)
        # What was transcribed had its remarks when it was heard; the text of a transcript has none of its own.
        self.remarks.update(
            (fresh[place][0].path, remark) for place, remark in embedded.remarks if route != "transcript"
        )
        self._collection.put(entries, embedded.vectors)

    def _transcribe(self, fresh: Sequence[tuple[Candidate, str]]) -> tuple[list[tuple[Candidate, str]], list[str]]:
        """The candidates in which something is spoken, and their transcripts."""
        transcriber = Transcriber(self._model, self._readers, self._capabilities.transcribing_task())
        kept, texts = [], []
        for candidate, stamp in fresh:
            try:
                with collect_remarks() as said:
                    text = transcriber.transcribe(candidate.source()).text
                self.remarks.update((candidate.path, remark) for remark in said)
                if not text:
                    raise DamagedItem("its transcript is empty")
                kept.append((candidate, stamp))
                texts.append(text)
            except DamagedItem as error:
                self.damaged[candidate.path] = str(error)
        return kept, texts

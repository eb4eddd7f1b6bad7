"""Collections: vectors of many items in a folder (LanceDB), marked with the model that made them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from skillnet_cli.api import DamagedItem, Reader, Source, UserError, collect_remarks
from skillnet_cli.files import write_json
from skillnet_cli.inference.capabilities import Capabilities
from skillnet_cli.inference.encoder import encode_sources
from skillnet_cli.inference.inputs import Candidate
from skillnet_cli.inference.transcriber import Transcriber
from skillnet_cli.model.skillnet import SkillNet

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
class Hit:
    """An item that a search found, with the similarity of its vector and the query's."""

    entry: Entry
    score: float


class Collection:
    """Items with their vectors, one a path, all of one model."""

    def __init__(self, folder: Path, table: Any, model: str) -> None:
        self.folder = folder
        self.model = model
        self._table = table

    @classmethod
    def create(cls, folder: Path, model: str, hidden: int) -> Collection:
        """Open a collection for adding to, or start it where the folder is empty or does not exist.

        Args:
            folder: the collection's.
            model: the fingerprint of the model that makes the vectors.
            hidden: the width of the vectors.

        Raises:
            UserError: the folder holds something else, or vectors of another model.
        """
        if (folder / FACTS).exists():
            return cls.open(folder, model)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} already exists and is not a collection: choose another folder")
        database = _lancedb().connect(folder)
        table = database.create_table(TABLE, schema=_schema(hidden))
        # Last, so that a folder in which creation was interrupted is not taken for a collection.
        write_json(folder / FACTS, {"model": model, "hidden": hidden})
        return cls(folder, table, model)

    @classmethod
    def open(cls, folder: Path, model: str) -> Collection:
        """Open a collection for a model, named by its fingerprint.

        Raises:
            UserError: there is no collection, or its vectors are another model's.
        """
        made_by = _facts(folder)["model"]
        if made_by != model:
            raise UserError(
                f"collection {folder} holds vectors of model {made_by}, not of {model}: "
                "choose its model with --checkpoint, or embed the items again into another folder"
            )
        try:
            return cls(folder, _lancedb().connect(folder).open_table(TABLE), model)
        except (ValueError, OSError) as error:
            raise UserError(f"collection {folder} is damaged ({error}): delete it and embed again") from error

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
        columns = {name: [asdict(entry)[name] for entry in entries] for name in asdict(entries[0])}
        flat = pyarrow.array(vectors.flatten().numpy())
        columns["vector"] = pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        rows = pyarrow.table(columns, schema=_schema(vectors.shape[1]))
        self._table.merge_insert("path").when_matched_update_all().when_not_matched_insert_all().execute(rows)

    def search(self, vector: Float[Tensor, " hidden"], top: int, skills: Iterable[str] = ()) -> list[Hit]:
        """The items nearest to a vector, best first.

        Args:
            vector: of a query, by the collection's model.
            top: how many items.
            skills: only items of these, if any are given.
        """
        query = self._table.search(vector.numpy(), vector_column_name="vector").distance_type("dot")
        # The filter is SQL: a quote within a string is written twice.
        quoted = ["'" + skill.replace("'", "''") + "'" for skill in skills]
        if quoted:
            # Before the search: afterwards it would leave fewer than the best of these skills.
            query = query.where(f"skill IN ({', '.join(quoted)})", prefilter=True)
        return [_hit(row) for row in query.limit(top).to_list()]

    def __len__(self) -> int:
        return int(self._table.count_rows())


def _hit(row: dict[str, Any]) -> Hit:
    entry = Entry(**{name: row[name] for name in Entry.__dataclass_fields__})
    return Hit(entry, 1 - row["_distance"])  # LanceDB's distance "dot" is one minus the product


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        return {"model": facts["model"], "hidden": facts["hidden"]}
    except OSError as error:
        raise UserError(f"{folder} is not a collection ({FACTS} is missing): make one with 'skillnet embed'") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / FACTS} is damaged: delete the collection and embed again") from error


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

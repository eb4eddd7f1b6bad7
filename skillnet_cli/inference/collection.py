"""Collections: vectors of many items in a folder (LanceDB), marked with the model that made them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from skillnet_cli.api import DamagedItem, Reader, Source, UserError
from skillnet_cli.files import write_json
from skillnet_cli.inference.capabilities import query_skill, route_of, transcribing_task
from skillnet_cli.inference.encoder import Encoded, encode_sources
from skillnet_cli.inference.inputs import Candidate
from skillnet_cli.inference.transcriber import Transcriber
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.skillnet import SkillNet

FACTS = "collection.json"
TABLE = "items"


@dataclass(frozen=True)
class Entry:
    """One item of a collection.

    ``stamp`` tells one state of the item from another. ``text`` is what is known of it in words. ``by`` says what its
    vector was made of: ``content``, or ``transcript`` where the text stands for a recording.
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
        """Open a collection for adding to, or start it where the folder is empty or not there.

        Raises:
            UserError: the folder holds something else, or vectors of another model.
        """
        if (folder / FACTS).exists():
            return cls.open(folder, model)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} is there and is no collection: choose another folder")
        database = _lancedb().connect(folder)
        table = database.create_table(TABLE, schema=_schema(hidden))
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
        """The ``top`` items nearest to a vector, best first; of the given skills only, if any are given."""
        query = self._table.search(vector.numpy(), vector_column_name="vector").distance_type("dot")
        quoted = ["'" + skill.replace("'", "''") + "'" for skill in skills]
        if quoted:
            query = query.where(f"skill IN ({', '.join(quoted)})", prefilter=True)
        return [_hit(row) for row in query.limit(top).to_list()]

    def __len__(self) -> int:
        return int(self._table.count_rows())


def _hit(row: dict[str, Any]) -> Hit:
    entry = Entry(**{name: row[name] for name in Entry.__dataclass_fields__})
    return Hit(entry, 1 - row["_distance"])


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        return {"model": facts["model"], "hidden": facts["hidden"]}
    except OSError as error:
        raise UserError(f"{folder} is no collection ({FACTS} is missing): make one with `skillnet embed`") from error
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


@dataclass
class Tally:
    """What became of the candidates: added and reused by skill, refused by skill, damaged by path with the reason."""

    added: Counter[str] = field(default_factory=Counter)
    reused: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    damaged: dict[str, str] = field(default_factory=dict)


@dataclass
class Embedding:
    """Embeds candidates with one model into one collection and keeps the tally.

    ``config`` is the whole model's, which says what its skills were trained for; ``model`` may have only those that the
    candidates need (:func:`skillnet_cli.inference.capabilities.needed_for`).
    """

    model: SkillNet
    readers: Mapping[str, Reader]
    config: SkillNetConfig
    collection: Collection
    tally: Tally = field(default_factory=Tally)

    def add(self, candidates: Iterable[Candidate]) -> Tally:
        """Embed what is not in the collection as it is now. Damaged and refused candidates are counted, not fatal."""
        known = self.collection.stamps()
        waiting = iter(candidates)
        while some := list(islice(waiting, AT_ONCE)):
            fresh = [(candidate, stamp) for candidate, stamp in self._stamped(some, known)]
            for skill in dict.fromkeys(candidate.skill for candidate, _ in fresh):
                self._add(skill, [pair for pair in fresh if pair[0].skill == skill])
        return self.tally

    def _stamped(self, candidates: Sequence[Candidate], known: Mapping[str, str]) -> Iterator[tuple[Candidate, str]]:
        for candidate in candidates:
            if route_of(self.config, candidate.skill) is None:
                self.tally.refused[candidate.skill] += 1
                continue
            try:
                stamp = candidate.stamp()
            except OSError as error:
                self.tally.damaged[candidate.path] = str(error)
                continue
            if known.get(candidate.path) == stamp:
                self.tally.reused[candidate.skill] += 1
            else:
                yield candidate, stamp

    def _add(self, skill: str, fresh: Sequence[tuple[Candidate, str]]) -> None:
        by = route_of(self.config, skill)
        texts = [candidate.text for candidate, _ in fresh]
        if by == "transcript":
            fresh, texts = self._transcribe(fresh)
            encoded = encode_sources(self.model, self.readers, query_skill(self.config), texts)
        else:
            sources = (candidate.source() for candidate, _ in fresh)
            encoded = encode_sources(self.model, self.readers, skill, sources)
        self._put(fresh, texts, encoded, by or "")

    def _transcribe(self, fresh: Sequence[tuple[Candidate, str]]) -> tuple[list[tuple[Candidate, str]], list[str]]:
        """The candidates in which something was heard, and what."""
        transcriber = Transcriber(self.model, self.readers, transcribing_task(self.config))
        heard = []
        for candidate, stamp in fresh:
            try:
                text = _hear(transcriber, candidate.source())
                if not text:
                    raise DamagedItem("nothing was heard in it")
                heard.append(((candidate, stamp), text))
            except DamagedItem as error:
                self.tally.damaged[candidate.path] = str(error)
        return [pair for pair, _ in heard], [text for _, text in heard]

    def _put(self, fresh: Sequence[tuple[Candidate, str]], texts: Sequence[str], encoded: Encoded, by: str) -> None:
        entries = []
        for place in encoded.kept:
            candidate, stamp = fresh[place]
            entries.append(Entry(candidate.path, candidate.skill, stamp, texts[place], by))
            self.tally.added[candidate.skill] += 1
        self.tally.damaged.update((fresh[place][0].path, reason) for place, reason in encoded.damaged)
        self.collection.put(entries, encoded.vectors)


def _hear(transcriber: Transcriber, source: Source) -> str:
    if isinstance(source, Path):
        return transcriber.transcribe(source).text
    return transcriber.hear(transcriber.reader.read(source))

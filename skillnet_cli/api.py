"""What plugin authors import: the objects their hooks return and the protocols their classes follow.

Light on purpose: importing this module, and a plugin's top module, must not import torch. Everything heavy is
named as ``"module:attribute"`` and imported when it is first used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import pluggy

if TYPE_CHECKING:
    import numpy as np
    import torch

API_VERSION = 2
"""The version of all that plugins import; a plugin's top module states the one it was written for."""

hookimpl = pluggy.HookimplMarker("skillnet")

Source: TypeAlias = bytes | str | Path
"""What a reader opens: the bytes of a media file, a text itself, or the path of a file of either kind.

A ``str`` is never a path: it may come from a prepared set, which anyone may have made.
"""

Features: TypeAlias = "torch.Tensor"
"""One item as its reader returns it: token ids (tokens,), samples (samples,), pixels (3, height, width), …"""

Batch: TypeAlias = "dict[str, torch.Tensor]"
"""Several items of one modality. The key ``mask`` is the objectives': True where an embedded token is hidden."""


class UserError(Exception):
    """A mistake of the user: one clear line (what, where, what to do), exit code 2."""


class DamagedItem(Exception):
    """One item that cannot be read, with the reason: it is counted and written down, and the job continues."""


class FailedJob(Exception):
    """Damaged data or a failing machine stopped a whole job: one clear line, exit code 1."""


_remarks: ContextVar[list[str] | None] = ContextVar("remarks", default=None)


def add_remark(text: str) -> None:
    """Say what is to be known of the item that is being read although it is read: that its end is missing, say.

    For readers. ``text`` is the end of a line that begins with the item's name. Where nobody asks for remarks, as in
    training, nothing becomes of them.
    """
    remarks = _remarks.get()
    if remarks is not None and text not in remarks:
        remarks.append(text)


@contextmanager
def collect_remarks() -> Iterator[list[str]]:
    """The remarks that readers make within the ``with``, for whoever reads an item and can tell its user."""
    remarks: list[str] = []
    token = _remarks.set(remarks)
    try:
        yield remarks
    finally:
        _remarks.reset(token)


@dataclass(frozen=True)
class Modality:
    """How one skill's inputs are read, augmented, embedded and shown.

    ``config``, ``reader``, ``embedder``, ``augment``, ``preview`` and ``init`` are ``"module:attribute"`` strings:

    * ``config``: a pydantic model, the keys of ``[model.embedders.SKILL]``;
    * ``reader``: a class that follows :class:`Reader`;
    * ``embedder``: an ``nn.Module`` class ``(config, hidden) -> module``; the module maps a batch to
      ``(tokens (sum of lengths, hidden), lengths (items,))`` with the item's ``[CLS]`` first;
    * ``augment``: ``(features, rng) -> features``, in training only;
    * ``preview``: ``(source) -> str``, an HTML fragment for galleries, all that comes from the item in it escaped;
    * ``init``: ``(config, embedder) -> SourceCheckpoint``: how the ``config.json`` of a pretrained model and the
      skill's own configuration say which of that model's tensors start which of ours (``[init]`` of a recipe);
      raises :class:`UserError` for a model that it cannot read. Must not import torch;
    * ``vocabularies``: for ``skillnet prepare vocab``, a builder for each kind of vocabulary:
      ``(texts: Iterable[str], size: int, out: Path) -> str | None``: how many entries it has and what was left out.
    """

    skill: str
    suffixes: tuple[str, ...]
    config: str
    reader: str
    embedder: str
    augment: str | None = None
    preview: str | None = None
    init: str | None = None
    vocabularies: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MappedWeight:
    """One parameter of ours and the tensors of a pretrained model that start it.

    ``to`` is ``embedder.NAME`` for the skill's embedder, else the name of a parameter of the model without the skill
    in it: ``encoder.blocks.0.attention.weight`` is the skill's fused query, key and value projection, and
    ``encoder.blocks.0.attention.out.weight`` a shared one. Several ``sources`` are put one below the other. ``fit``
    is a ``"module:attribute"`` ``(tensor, wanted shape) -> tensor`` for a tensor that comes in another shape; it raises
    :class:`UserError` where it cannot be fitted.
    """

    to: str
    sources: tuple[str, ...]
    fit: str | None = None


@dataclass(frozen=True)
class SourceCheckpoint:
    """What a pretrained model can start, read from its ``config.json`` by a plugin.

    ``weight_map`` says which of its tensors start which of our parameters. ``encoder`` holds the keys of ``[model]``
    that its Transformer has (``layers``, ``hidden``, ``heads``, ``ffn``, ``norm``, ``activation``): the recipe's must
    be the same; it is empty where only the embedder starts from it. ``prefixes`` are what may stand before all the
    names in its files.
    """

    weight_map: tuple[MappedWeight, ...]
    encoder: Mapping[str, Any] = field(default_factory=dict)
    prefixes: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Task:
    """Named work: the towers it encodes, its objective, the field it is trained towards, its metrics.

    A tower is a sequence of segments, each named by its skill; the last segment's ``[CLS]`` stands for the
    sequence. ``objective`` and each metric is a name or ``"module:attribute"``. ``pairs`` are the skills of which two
    sources are read as one segment (:class:`PairReader`), the second from the field :func:`second_field`; only a task
    of one tower may have any.

    Raises:
        UserError: ``pairs`` names a skill that the task does not have, or there are several towers.
    """

    name: str
    towers: tuple[tuple[str, ...], ...]
    objective: str
    target: str | None = None
    metrics: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if wrong := wrong_pairs(self.towers, self.pairs):
            raise UserError(f"task '{self.name}': {wrong}")

    @property
    def skills(self) -> tuple[str, ...]:
        """The skills that the task activates, each once, in the order of its towers."""
        return tuple(dict.fromkeys(skill for tower in self.towers for skill in tower))

    @property
    def inputs(self) -> dict[str, str]:
        """The fields of a sample that are read, each with the skill that reads it."""
        return {field: skill for skill in self.skills for field in self.fields_of(skill)}

    def fields_of(self, skill: str) -> tuple[str, ...]:
        """The fields that one segment of a skill is made of: the skill's own, and of a pair the second."""
        return (skill, second_field(skill)) if skill in self.pairs else (skill,)


def second_field(skill: str) -> str:
    """The field of the second source of a pair: ``text2`` beside ``text``."""
    return f"{skill}2"


def wrong_pairs(towers: Sequence[Sequence[str]], pairs: Sequence[str]) -> str:
    """What is wrong with a task's ``pairs``, empty where nothing is."""
    strange = [skill for skill in pairs if not any(skill in tower for tower in towers)]
    if strange:
        return f"pairs: '{strange[0]}' is no skill of the task"
    return "pairs: only a task of one tower reads pairs" if pairs and len(towers) > 1 else ""


@dataclass(frozen=True)
class Published:
    """A file that a data set's publisher offers for download, and its sha256, or its md5, where one is known."""

    url: str
    sha256: str | None = None
    md5: str | None = None


@dataclass(frozen=True)
class DatasetOption:
    """An option of ``skillnet prepare NAME`` that belongs to one data set; ``job.options[name]`` has its value.

    ``type`` is ``str``, ``int``, ``float``, ``bool`` (a flag) or ``Path``; a repeatable one gives a tuple. What is
    ``recorded`` stands in the manifest, and other values of it make another set; a rate limit or a file of cookies
    changes nothing about the result, and is not.
    """

    name: str
    help: str
    type: type = str
    default: Any = None
    repeatable: bool = False
    metavar: str | None = None
    recorded: bool = True

    @property
    def absent(self) -> Any:
        """Its value where it is not given."""
        if self.repeatable:
            return tuple(self.default or ())
        return bool(self.default) if self.type is bool else self.default


@dataclass(frozen=True)
class Dataset:
    """A data set that ``skillnet prepare NAME`` knows.

    ``prepare`` names a :class:`skillnet_cli.prepare.preparer.Preparer`, or, for a small set that is made at one go, a
    function that takes one :class:`skillnet_cli.prepare.preparer.Preparation`. Sets that share ``part_of`` are prepared
    together by that name.

    ``feeds`` are the tasks that it is prepared for; it may feed any other whose fields it has.

    Without ``--source`` the ``published`` files are fetched; where there are none, ``obtain`` says in a line what to
    get and where. ``protocols`` are the values of ``--split``: ``"paper"``, ``"official"``, both or none.
    """

    name: str
    prepare: str
    feeds: tuple[str, ...]
    licence: str
    size: str
    url: str | None = None
    part_of: str | None = None
    published: tuple[Published, ...] = ()
    obtain: str = ""
    protocols: tuple[str, ...] = ()
    options: tuple[DatasetOption, ...] = ()


TRANSLATOR = DatasetOption(
    "translator",
    "What translates texts that are not Chinese, such as marian, or marian=FOLDER for a model of one's own.",
    default="none",
    metavar="NAME[=MODEL]",
)
"""The option of every data set that calls :func:`skillnet_cli.prepare.translation.translation_of`."""

FETCH_OPTIONS = (
    DatasetOption("connections", "Files fetched at a time, in each process.", int, 64, recorded=False),
    DatasetOption("per-host", "Files fetched at a time from one server, in each process.", int, 8, recorded=False),
    DatasetOption("timeout", "Seconds for a file, all tries together.", float, 30.0, recorded=False),
    DatasetOption("retries", "Further tries where a server fails for the moment.", int, 2, recorded=False),
    DatasetOption(
        "private-host",
        "A host of a private network that may be asked all the same, a mirror of your own; may be repeated.",
        repeatable=True,
        metavar="HOST",
        recorded=False,
    ),
)
"""The options of every data set that fetches many files by their addresses."""


@dataclass(frozen=True)
class Translator:
    """What ``--translator NAME`` or ``NAME=MODEL`` stands for.

    ``engine`` names a class that follows :class:`TranslationEngine`; it is called as ``engine(model, folder)``.
    """

    name: str
    engine: str


@dataclass(frozen=True)
class Metric:
    """A figure of merit: ``compute`` names a function ``(predictions, references) -> float``."""

    name: str
    compute: str
    higher_is_better: bool = True


def frames_needed(transcript: str) -> int:
    """The fewest frames by which CTC can spell a transcript: one a character, and a blank between equal neighbours."""
    return len(transcript) + sum(one == other for one, other in pairwise(transcript))


@dataclass(frozen=True)
class Window:
    """A part of a file too long to be read at once: ``start`` and ``end`` in seconds.

    ``features`` is None where there is nothing in it to read, such as silence.
    """

    start: float
    end: float
    features: Features | None


@runtime_checkable
class TranslationEngine(Protocol):
    """Translates; the cache, the batches and the account of what came out are the caller's.

    ``TranslationEngine(model, folder)``: what followed ``=`` in ``--translator NAME=MODEL``, None where nothing did,
    and a folder for what it makes for itself. Heavy things are loaded by the first :meth:`translate`: where everything
    is in the cache, there is none. ``identity`` tells models apart: one's translations never stand for another's.

    Raises:
        UserError: it cannot work (no model, no key, not installed).
    """

    identity: str

    def __init__(self, model: str | None, folder: Path) -> None: ...

    def translate(self, texts: Sequence[str], source: str, target: str) -> Sequence[str | None]:
        """Translate a batch of texts of similar length; None for one that it cannot translate.

        Args:
            texts: never empty, none of them blank.
            source: ISO 639-1 code of their language, ``"en"``.
            target: of the wanted one, ``"zh"``.

        Raises:
            FailedJob: it does not work now; what was translated before is kept, and running again resumes.
        """


@runtime_checkable
class Vocabulary(Protocol):
    """What the masked-token objective must know of a reader's tokens."""

    size: int
    mask_id: int
    special_ids: frozenset[int]


@runtime_checkable
class Reader(Protocol):
    """Turns files, bytes and texts of one modality into features, and features into batches.

    ``Reader(config, assets)``: assets such as a vocabulary come from the folder ``assets`` of a saved model if one is
    given, else from the paths that ``config`` names. ``reader.config`` is the configuration completed by what the
    assets say (a vocabulary's size, say): the embedder is built from it.
    """

    config: Any

    def __init__(self, config: Any, assets: Path | None = None) -> None: ...

    def read(self, source: Source, rng: np.random.Generator | None = None) -> Features:
        """Read one item. With ``rng`` (training) a reader may choose at random, of a clip's frames for instance.

        What is to be said of an item that is read all the same goes through :func:`add_remark`.

        Raises:
            DamagedItem: the item cannot be decoded, or holds nothing.
        """

    def split(self, source: Source) -> Iterator[Window]:
        """Read one item of any length as a run of windows, each short enough for the model.

        Whatever is transcribed is read so, and a window without features has no text.
        """

    def length(self, features: Features) -> int:
        """How many tokens the embedder will make of these features, ``[CLS]`` included."""

    def collate(self, features: Sequence[Features]) -> Batch:
        """Put several items into one batch."""

    def save(self, folder: Path) -> None:
        """Write the assets that :meth:`__init__` reads back into ``folder``."""


@runtime_checkable
class PairReader(Reader, Protocol):
    """A reader that can also read two sources as one item, for the tasks whose :attr:`Task.pairs` name its skill."""

    def read_pair(self, first: Source, second: Source, rng: np.random.Generator | None = None) -> Features:
        """Read two sources as one item, as :meth:`Reader.read` reads one.

        Raises:
            DamagedItem: one of them cannot be decoded, or holds nothing.
        """

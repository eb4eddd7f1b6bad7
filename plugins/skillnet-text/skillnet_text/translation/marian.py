"""``marian``: a Marian model on this machine, int8 in ctranslate2, or as it is in transformers where that is missing.

The default is the University of Helsinki's opus-mt-en-zh (CC BY 4.0).
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, Field, RootModel

from skillnet_cli.api import UserError
from skillnet_cli.files import PARTIAL, file_lock, make_folder, replace_path, sha256_of
from skillnet_cli.untrusted import Untrusted, read_bytes, read_json, validate

MODEL = "Helsinki-NLP/opus-mt-en-zh"
BEAMS = 4
POSITIONS = 512
"""The most pieces of a text, and of its translation, if the model's configuration does not give their number."""

END = "</s>"
SPECIAL = frozenset((END, "<pad>", "<unk>", "<s>"))
WANTED = {"zh": (">>cmn_Hans<<", ">>zho_Hans<<", ">>cmn<<", ">>zho<<", ">>zh<<")}
"""Language -> the tokens by which models call it, the best first."""

_VOCABULARIES = ("vocab.json", "shared_vocabulary.json", "source_vocabulary.json")

EXTRA = "pip install 'skillnet-text[translate]'"

Decode: TypeAlias = Callable[[list[list[str]], int], list[list[str]]]
"""Pieces of a batch of texts, and the most of a translation -> pieces of their translations."""


class Marian:
    """A model of Marian's, as a folder in the layout of transformers or of ctranslate2, or by its name on the hub."""

    def __init__(self, model: str | None, folder: Path) -> None:
        self._model = _find_model(model or MODEL)
        self._folder = folder
        self._digest = _fingerprint(self._model)
        self._fast = importlib.util.find_spec("ctranslate2") is not None
        if self._is_converted and not self._fast:
            raise UserError(f"{self._model} is a ctranslate2 model, but ctranslate2 is not installed: {EXTRA}")
        self.identity = f"{'int8' if self._fast else 'transformers'}, {BEAMS} beams, {self._digest}"

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """Translate a batch, see :class:`skillnet_cli.api.TranslationEngine`."""
        longest = self._longest
        batch = [self._pieces.encode(text, target, longest) for text in texts]
        with _damage(self._model):
            return [self._pieces.decode(pieces) or None for pieces in self._decode(batch, longest)]

    @property
    def _longest(self) -> int:
        return (self._config.max_position_embeddings or POSITIONS) - 2

    @cached_property
    def _config(self) -> _Config:
        return _read(_Config, self._model / "config.json")

    @property
    def _is_converted(self) -> bool:
        return (self._model / "model.bin").is_file()

    @cached_property
    def _pieces(self) -> _MarianPieces:
        return _MarianPieces(self._model)

    @cached_property
    def _decode(self) -> Decode:
        if not self._fast:
            _check_unpickled(self._model, self._config)
            return _transformers_decoder(self._model, self._pieces)
        return _ctranslate2_decoder(self._model if self._is_converted else self._converted())

    def _converted(self) -> Path:
        """The model in int8, converted once."""
        made = self._folder / f"marian-{self._digest}-int8"
        make_folder(self._folder, "name another with SKILLNET_CACHE")
        with file_lock(self._folder / "marian.lock"):
            if not made.is_dir():
                from ctranslate2.converters import TransformersConverter

                _quiet()
                _check_unpickled(self._model, self._config)
                partial = made.with_name(made.name + PARTIAL)
                shutil.rmtree(partial, ignore_errors=True)
                with _damage(self._model):
                    TransformersConverter(str(self._model)).convert(str(partial), quantization="int8")
                replace_path(made, partial)
        return made


class _Config(BaseModel):
    """What is read of a model's ``config.json``, here and by transformers, within bounds that no model reaches."""

    model_type: str | None = None
    max_position_embeddings: Annotated[int, Field(ge=8, le=100_000)] | None = None
    d_model: Annotated[int, Field(ge=1, le=16_384)] = 512
    vocab_size: Annotated[int, Field(ge=1, le=10_000_000)] = 1
    encoder_layers: Annotated[int, Field(ge=1, le=256)] = 1
    decoder_layers: Annotated[int, Field(ge=1, le=256)] = 1
    encoder_ffn_dim: Annotated[int, Field(ge=1, le=131_072)] = 1
    decoder_ffn_dim: Annotated[int, Field(ge=1, le=131_072)] = 1


class _Ids(RootModel[dict[str, Annotated[int, Field(ge=0, lt=10_000_000)]] | list[str]]):
    """Pieces and their numbers, or pieces in their order."""


def _read(schema: type[Any], path: Path) -> Any:
    """A JSON file of a model as its schema has it. Raises UserError where it is missing or is none."""
    try:
        return validate(schema, read_json(path))
    except OSError as error:
        raise UserError(f"translator 'marian': {path}: {error.strerror}") from error
    except Untrusted as error:
        raise UserError(f"translator 'marian': {path} is damaged: {error}") from error


def _check_unpickled(model: Path, config: _Config) -> None:
    """Raises UserError where transformers would take another kind of model for one, or read pickled weights."""
    if config.model_type != "marian":
        raise UserError(f"translator 'marian': {model} is not a Marian model: its model_type is {config.model_type!r}")
    if not any((model / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")):
        raise UserError(
            f"translator 'marian': {model} has no model.safetensors, and pickled weights are never read. If you trust "
            f"them, convert them: MarianMTModel.from_pretrained(FOLDER).save_pretrained(FOLDER) of transformers"
        )


@contextmanager
def _damage(model: Path) -> Iterator[None]:
    """Raises UserError, naming the model, where the libraries stumble over a file of it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # transformers, ctranslate2 and sentencepiece raise whatever they stumble over
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise UserError(f"translator 'marian': {model} is damaged ({reason})") from error


def _find_model(model: str) -> Path:
    """The folder of a model: a local one, or one fetched from the hub. Raises UserError if there is none."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(model, allow_patterns=["*.json", "*.spm", "*.safetensors"]))
    except (OSError, HFValidationError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"translator 'marian': no model '{model}' ({first}): name a folder, marian=FOLDER") from error


def _fingerprint(model: Path) -> str:
    """Identify a model by the checksum of its files' checksums."""
    found = sorted(each for each in model.iterdir() if each.suffix in (".json", ".spm", ".safetensors", ".bin"))
    sums = "".join(f"{each.name} {sha256_of(each)}\n" for each in found)
    return hashlib.sha256(sums.encode()).hexdigest()[:16]


def _quiet() -> None:
    """Turn off transformers' progress bars and advice while a model is loaded."""
    import warnings

    from transformers.utils import logging

    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message="Recommended: pip install sacremoses")


def _ctranslate2_decoder(converted: Path) -> Decode:
    """Beam search with a model of ctranslate2 on the CPU."""
    from ctranslate2 import Translator

    try:
        translator = Translator(str(converted), device="cpu", compute_type="int8")
    except (RuntimeError, ValueError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"translator 'marian': {converted} cannot be loaded ({reason}): delete it") from error

    def decode(batch: list[list[str]], longest: int) -> list[list[str]]:
        found = translator.translate_batch(batch, beam_size=BEAMS, max_decoding_length=longest, disable_unk=True)
        return [each.hypotheses[0] for each in found]

    return decode


def _transformers_decoder(model: Path, pieces: _MarianPieces) -> Decode:
    """Beam search with the model as it is, several times slower."""
    import torch
    from transformers import MarianMTModel

    _quiet()
    loaded = MarianMTModel.from_pretrained(model, use_safetensors=True, trust_remote_code=False).eval()
    pad, unknown = pieces.ids["<pad>"], pieces.ids["<unk>"]

    def decode(batch: list[list[str]], longest: int) -> list[list[str]]:
        rows = [torch.tensor([pieces.ids.get(piece, unknown) for piece in text]) for text in batch]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
        with torch.inference_mode():
            found = loaded.generate(
                input_ids=ids, attention_mask=(ids != pad).long(), num_beams=BEAMS, max_length=longest,
                bad_words_ids=[[pad], [unknown]],
            )  # fmt: skip
        return [[pieces.names[number] for number in row] for row in found.tolist()]

    return decode


class _MarianPieces:
    """Cuts texts for a model and puts its answers together. Raises UserError where the folder is no such model."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self.ids: Mapping[str, int] = self._read_ids()
        self._source = self._load("source.spm")
        self._target = self._load("target.spm")

    def encode(self, text: str, target: str, longest: int) -> list[str]:
        """The pieces of a text, at most ``longest``, for a translation into the language ``target``."""
        wanted = [token for token in WANTED.get(target, (f">>{target}<<",)) if token in self.ids]
        return [*wanted[:1], *self._source.encode(text, out_type=str)[: longest - 2], END]

    def decode(self, pieces: Sequence[str]) -> str:
        """The text that pieces make."""
        return str(self._target.decode([piece for piece in pieces if piece not in SPECIAL])).strip()

    @cached_property
    def names(self) -> Mapping[int, str]:
        """Id -> piece."""
        return {number: piece for piece, number in self.ids.items()}

    def _read_ids(self) -> dict[str, int]:
        for path in (self._model / name for name in _VOCABULARIES):
            if path.is_file():
                found = _read(_Ids, path).root
                ids = found if isinstance(found, dict) else {piece: number for number, piece in enumerate(found)}
                for wanted in (END, "<pad>", "<unk>") if isinstance(found, dict) else ():
                    if wanted not in ids:
                        raise UserError(f"translator 'marian': {path} is damaged: it lacks {wanted}")
                return ids
        raise UserError(f"translator 'marian': {self._model} has no {' or '.join(_VOCABULARIES)}: not a Marian model")

    def _load(self, name: str) -> Any:
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as error:
            raise UserError(f"translator 'marian' needs sentencepiece: {EXTRA}") from error
        path = self._model / name
        if not path.is_file():
            raise UserError(f"translator 'marian': {self._model} has no {name}: copy the model's file there")
        with _damage(path):
            return SentencePieceProcessor(model_proto=read_bytes(path))

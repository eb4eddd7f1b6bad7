"""A Marian model's sentence pieces, and the token that tells a model of many languages which one is wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from skillnet_cli.api import UserError

END = "</s>"
SPECIAL = frozenset((END, "<pad>", "<unk>", "<s>"))
WANTED = {"zh": (">>cmn_Hans<<", ">>zho_Hans<<", ">>cmn<<", ">>zho<<", ">>zh<<")}
"""Language -> the tokens by which models call it, the best first."""

_VOCABULARIES = ("vocab.json", "shared_vocabulary.json", "source_vocabulary.json")


class MarianPieces:
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
                found: Any = json.loads(path.read_text(encoding="utf-8"))
                return found if isinstance(found, dict) else {piece: number for number, piece in enumerate(found)}
        raise UserError(f"translator 'marian': {self._model} has no {' or '.join(_VOCABULARIES)}: not a Marian model")

    def _load(self, name: str) -> Any:
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as error:
            install = "pip install 'skillnet-text[translate]'"
            raise UserError(f"translator 'marian' needs sentencepiece: {install}") from error
        path = self._model / name
        if not path.is_file():
            raise UserError(f"translator 'marian': {self._model} has no {name}: copy the model's file there")
        return SentencePieceProcessor(model_file=str(path))

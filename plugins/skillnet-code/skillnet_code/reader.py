"""Reads source code without losing any of it: ``reader.text(reader.pieces(code)) == code``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from skillnet_cli.api import DamagedItem, Source
from skillnet_code.config import CodeConfig
from skillnet_code.datasets.functions import decode_code
from skillnet_code.pieces import code_tokenizer
from skillnet_code.spelling import Spelling
from skillnet_text.files import open_text
from skillnet_text.tokens import TokenReader
from skillnet_text.vocabulary import CONTINUES


class CodeReader(TokenReader[CodeConfig]):
    """Code as ``[CLS] tokens [SEP]`` (paper §3.3, after CodeBERT)."""

    skill = "code"

    def __init__(self, config: CodeConfig, assets: Path | None = None) -> None:
        super().__init__(config, assets)
        self._spelling = Spelling([piece for piece in self.vocabulary.pieces if len(piece) == 1])
        self._tokenizer = code_tokenizer(self.vocabulary.ids)

    def open(self, source: Source) -> str:
        """The code of a source; bytes and files are in the encoding that their first lines declare, else UTF-8."""
        return open_text(source, decode_code)

    def pieces(self, text: str) -> list[int]:
        """The ids of a code's pieces, without special tokens. Raises DamagedItem at lone surrogates."""
        try:
            spelt = self._spelling.spell(text)
        except UnicodeEncodeError as error:
            raise DamagedItem(f"character {error.start} of the code is half a surrogate pair") from error
        return self._tokenizer.encode(spelt, add_special_tokens=False).ids

    def frame(self, pieces: list[int]) -> list[int]:
        """``[CLS] pieces [SEP]``."""
        return [self.vocabulary.cls_id, *pieces, self.vocabulary.sep_id]

    def text(self, ids: Iterable[int]) -> str:
        """The code that ids stand for; special tokens stand for nothing."""
        special = self.vocabulary.special_ids
        pieces = (self.vocabulary.pieces[number] for number in ids if number not in special)
        return self._spelling.unspell("".join(piece.removeprefix(CONTINUES) for piece in pieces))

"""A vocabulary of pieces: one piece a line, the number of the line is its id, as BERT's ``vocab.txt``.

One of sentence pieces has the logarithm of each piece's probability behind a tab.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from skillnet_cli.api import UserError
from skillnet_cli.files import write_whole
from skillnet_cli.untrusted import Untrusted, read_bytes

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MOST_BYTES = 256 << 20
"""The largest vocabulary that is read: a piece takes some ten bytes, and no model has a hundred million."""
CONTINUES = "##"
"""The prefix of a piece that continues the word of the piece before it."""


class Vocabulary:
    """Pieces and their ids; ``scores`` are the logarithms of the probabilities of sentence pieces, else None.

    Raises:
        UserError: a special token is missing, or a piece occurs twice.
    """

    def __init__(
        self, pieces: Sequence[str], origin: str = "the vocabulary", scores: Sequence[float] | None = None
    ) -> None:
        self.pieces = tuple(pieces)
        self.scores = None if scores is None else tuple(scores)
        self._check(origin)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read a vocabulary file; a byte order mark and line ends of Windows are not part of it.

        Raises:
            UserError: it is missing, too large, not UTF-8 or not a vocabulary.
        """
        try:
            text = read_bytes(path, MOST_BYTES).decode("utf-8-sig")
        except OSError as error:
            raise UserError(f"cannot read the vocabulary {path}: {error.strerror}") from error
        except Untrusted as error:
            raise UserError(f"the vocabulary {path} {error}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"the vocabulary {path} is not UTF-8 (byte {error.start})") from error
        # Only line feeds end a line: BERT's Chinese vocabulary has pieces that str.splitlines would cut at.
        lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
        if all("\t" in line for line in lines):
            pieces, scores = zip(*(line.split("\t", 1) for line in lines), strict=True)
            return cls(pieces, str(path), _numbers(scores, path))
        return cls(lines, origin=str(path))

    def save(self, path: Path) -> None:
        """Write the pieces to ``path``, whole or not at all."""
        behind = [""] * self.size if self.scores is None else [f"\t{score!r}" for score in self.scores]
        lines = (f"{piece}{score}\n" for piece, score in zip(self.pieces, behind, strict=True))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, "".join(lines).encode("utf-8"))

    @property
    def size(self) -> int:
        """The number of pieces."""
        return len(self.pieces)

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """Piece -> id."""
        return {piece: number for number, piece in enumerate(self.pieces)}

    @property
    def cls_id(self) -> int:
        """The id of ``[CLS]``."""
        return self.ids[CLS]

    @property
    def sep_id(self) -> int:
        """The id of ``[SEP]``."""
        return self.ids[SEP]

    @property
    def mask_id(self) -> int:
        """The id of ``[MASK]``."""
        return self.ids[MASK]

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The ids that masking neither hides nor inserts."""
        return frozenset(self.ids[token] for token in SPECIAL_TOKENS)

    def _check(self, origin: str) -> None:
        missing = [token for token in SPECIAL_TOKENS if token not in self.ids]
        if missing:
            raise UserError(f"{origin} is not a vocabulary of word-pieces: it lacks {', '.join(missing)}")
        if len(self.ids) < self.size:
            twice = next(piece for number, piece in enumerate(self.pieces) if self.ids[piece] != number)
            raise UserError(f"{origin} has the piece '{twice}' twice")


def _numbers(scores: Sequence[str], path: Path) -> list[float]:
    try:
        numbers = [float(score) for score in scores]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise UserError(f"the vocabulary {path} has a tab in every line, but not always a number after it")
    return numbers

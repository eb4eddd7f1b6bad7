"""Learns a vocabulary of word-pieces from texts: the same texts give the same file, byte for byte."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path

from tokenizers import Tokenizer, trainers
from tokenizers.pre_tokenizers import BertPreTokenizer

from skillnet_cli.api import UserError
from skillnet_text.tokenizer import text_tokenizer
from skillnet_text.vocabulary import CONTINUES, SPECIAL_TOKENS, UNK, Vocabulary

MOST_BEFORE_SPECIAL = 200
"""Special tokens are looked for in so many first lines; BERT's vocabulary has a hundred unused entries before them."""

CHARACTER_SHARE = 0.8
"""At most this share of a vocabulary goes to single characters; the rest is for pieces of several."""


def learn_vocabulary(texts: Iterable[str], size: int, out: Path) -> str:
    """Learn ``size`` lower-case word-pieces (fewer where the texts yield fewer) and write them to ``out``.

    If the texts are the lines of a vocabulary, such as BERT's ``vocab.txt``, they are written unchanged.

    Returns:
        How many entries it has, and what was left out.

    Raises:
        UserError: there is no text, or ``size`` has no room for anything but special tokens.
    """
    first, texts = _beginning(texts)
    if set(SPECIAL_TOKENS) <= set(first):
        lines = list(texts)
        Vocabulary(lines).save(out)
        return f"{len(lines):,} entries, unchanged"
    blank = partial(text_tokenizer, {UNK: 0}, lowercase=True)
    normalizer = blank().normalizer
    clean = [normalizer.normalize_str(text) for text in texts]
    kept = frequent_characters(clean, int(size * CHARACTER_SHARE))
    # Rare characters become blanks: they stay out of the vocabulary and out of its pieces.
    legible = ["".join(character if character in kept else " " for character in text) for text in clean]
    pieces = learn_pieces(blank, legible, size)
    Vocabulary(pieces).save(out)
    return described(len(pieces), size, left_out(clean, kept))


def learn_characters(texts: Iterable[str], size: int, out: Path) -> str:
    """Write the ``size`` most frequent characters in lower case; letters and digits also as continuations of a word.

    Returns:
        How many entries it has, and what was left out.

    Raises:
        UserError: there is no text.
    """
    clean = (text_tokenizer({UNK: 0}, lowercase=True).normalizer.normalize_str(text) for text in texts)
    counts: Counter[str] = Counter()
    for text in clean:
        for word, _ in BertPreTokenizer().pre_tokenize_str(text):
            counts.update([word[0], *(CONTINUES + character for character in word[1:])])
    if not counts:
        raise UserError("there is no text to learn characters from")
    room = max(0, size - len(SPECIAL_TOKENS))
    frequent = sorted(counts, key=lambda piece: (-counts[piece], piece))[:room]
    Vocabulary([*SPECIAL_TOKENS, *frequent]).save(out)
    return described(len(SPECIAL_TOKENS) + len(frequent), size, len(counts) - len(frequent))


def described(entries: int, size: int, rare: int) -> str:
    """A vocabulary in words.

    Args:
        entries: that it has.
        size: that were asked for.
        rare: characters that were left out.
    """
    fewer = "" if entries >= size else f" of {size:,} asked for, since the texts yield no more"
    dropped = f"; {rare:,} rare character{'s are' if rare > 1 else ' is'} left out" if rare else ""
    return f"{entries:,} entries{fewer}{dropped}"


def left_out(texts: Iterable[str], kept: Collection[str]) -> int:
    """How many different characters of some texts are not among those that are kept."""
    return len({each for text in texts for each in set(text) if not each.isspace()} - set(kept))


def _beginning(texts: Iterable[str]) -> tuple[list[str], Iterable[str]]:
    """The first of some texts, where a vocabulary has its special tokens, and all of them."""
    rest = iter(texts)
    first = list(itertools.islice(rest, MOST_BEFORE_SPECIAL))
    return first, itertools.chain(first, rest)


def frequent_characters(texts: Iterable[str], most: int) -> frozenset[str]:
    """The characters that occur twice or more, at most ``most`` of them, the most frequent first."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    known = [character for character in counts if counts[character] > 1 and not character.isspace()]
    return frozenset(sorted(known, key=lambda character: (-counts[character], character))[:most])


def learn_pieces(
    blank: Callable[[], Tokenizer], texts: Sequence[str], size: int, base: Sequence[str] = ()
) -> list[str]:
    """Special tokens, ``base``, the characters of ``texts``, and pieces learnt from them, ``size`` in all.

    Args:
        blank: makes an untrained tokenizer (one that was trained would split texts at its special tokens).
        texts: what to learn from.
        size: entries of the vocabulary, special tokens and ``base`` included.
        base: entries that the vocabulary has whatever the texts are, in front.

    Raises:
        UserError: there is no text, or ``size`` is too small for the single characters.
    """
    if not any(texts):
        raise UserError("there is no text to learn a vocabulary from")
    fixed = [*SPECIAL_TOKENS, *base]
    singles = _train(blank(), texts, 0, fixed)
    if size <= len(singles):
        raise UserError(f"a vocabulary of {size} is too small: its single characters alone take {len(singles)} entries")
    # The trainer numbers the characters inside words in the order of a hash table, and breaks ties by number:
    # given beforehand in a fixed order, they make its result repeatable.
    inside = sorted(piece for piece in singles if piece.startswith(CONTINUES) and piece not in fixed)
    return _train(blank(), texts, size, [*fixed, *inside])


def _train(tokenizer: Tokenizer, texts: Sequence[str], size: int, fixed: list[str]) -> list[str]:
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=fixed, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    ids = tokenizer.get_vocab()
    return sorted(ids, key=lambda piece: ids[piece])

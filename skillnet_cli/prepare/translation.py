"""Translates texts while a data set is prepared, each one once: what was translated before comes from a cache."""

from __future__ import annotations

import hashlib
import itertools
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from skillnet_cli.api import FailedJob, TranslationEngine, UserError
from skillnet_cli.files import file_lock, make_folder
from skillnet_cli.plugins import Registry, resolve
from skillnet_cli.prepare.preparer import Preparation

_LOCK_SECONDS = 120.0
"""Seconds to wait for another process that writes."""

_KEYS_AT_ONCE = 500
"""Keys of one query; SQLite before 3.32 takes at most 999 parameters."""


class TranslationCache:
    """Key -> translation in SQLite, with a write-ahead log: many may read while one writes.

    Raises (every method):
        FailedJob: the file is damaged or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        make_folder(path.parent, "name another with SKILLNET_CACHE")
        with self._guarded(), file_lock(path.with_name(f"{path.name}.lock")):
            self._base = sqlite3.connect(path, timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
            self._base.execute(
                "CREATE TABLE IF NOT EXISTS translations (key BLOB PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID"
            )

    @staticmethod
    def key(*parts: str) -> bytes:
        """What a translation is found by: the sha256 of engine, model, languages and text, none of which runs over."""
        digest = hashlib.sha256()
        for part in parts:
            content = part.encode("utf-8", errors="surrogatepass")
            digest.update(len(content).to_bytes(8, "little") + content)
        return digest.digest()

    def find(self, keys: Iterable[bytes]) -> dict[bytes, str]:
        """Those of the translations that are there."""
        found: dict[bytes, str] = {}
        wanted = iter(keys)
        with self._guarded():
            while some := list(itertools.islice(wanted, _KEYS_AT_ONCE)):
                marks = ",".join("?" * len(some))
                found.update(self._base.execute(f"SELECT key, text FROM translations WHERE key IN ({marks})", some))
        return found

    def add(self, translations: Mapping[bytes, str]) -> dict[bytes, str]:
        """Keep translations; returns those that count: what another process kept first stays."""
        with self._guarded():
            self._base.execute("BEGIN IMMEDIATE")
            self._base.executemany("INSERT OR IGNORE INTO translations VALUES (?, ?)", translations.items())
            self._base.execute("COMMIT")
        return self.find(translations)

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise FailedJob(
                f"{self._path}: the cache of translations cannot be used ({error}): "
                "make room, or, where it is damaged, delete it"
            ) from error


_LEAST_CHINESE = 0.3
"""Share of a translation's letters that must be Chinese characters; names and identifiers stay as they are."""

_SHORTEST, _LONGEST = 0.1, 3.0
"""Characters of the translation for each of the original; English into Chinese is about 0.3."""

_RUN = 4
"""Characters of a run that must not fill half of the translation by repetition."""

_CHINESE = re.compile("[\u3400-\u9fff\U00020000-\U0003ffff]")
_LETTER = re.compile(r"[^\W\d_]")
_UNKNOWN = re.compile(r"<unk>|\[UNK\]|⁇|\ufffd", re.IGNORECASE)


def why_poor(original: str, translated: str | None) -> str | None:
    """The rule that a translation breaks, None where it is good enough.

    It must be there, have no character that its model did not know, be Chinese for the greater part, be neither far
    shorter nor far longer than the original, and not repeat itself.
    """
    if not translated or not translated.strip():
        return "it could not be translated"
    if _UNKNOWN.search(translated):
        return "the translation has unknown characters"
    if _chinese_share(translated) < _LEAST_CHINESE:
        return f"less than {_LEAST_CHINESE:.0%} of the translation is Chinese"
    if not _SHORTEST <= len(translated) / len(original) <= _LONGEST + 10 / len(original):
        return "the translation is far shorter or longer than the original"
    if _repeats(translated):
        return "the translation repeats itself"
    return None


def _chinese_share(text: str) -> float:
    """The share of a text's letters that are Chinese characters; 0 where it has none."""
    return len(_CHINESE.findall(text)) / max(1, len(_LETTER.findall(text)))


def _repeats(text: str) -> bool:
    letters = "".join(_LETTER.findall(text))
    runs = Counter(letters[place : place + _RUN] for place in range(len(letters) - _RUN + 1))
    most = max(runs.values(), default=0)
    return most > 2 and most * _RUN > len(letters) / 2


_NONE = "none"
BATCH_TEXTS = 64
BATCH_CHARACTERS = 8_192
"""Bounds of a batch: texts, and characters with every text as long as the longest."""


class Translation:
    """Translates by one engine, between one pair of languages, with the cache.

    Args:
        name: of the translator.
        engine: translates what is not in the cache.
        cache: of all translations.
        source: ISO 639-1 code of the texts' language.
        target: of the wanted language.
    """

    def __init__(
        self, name: str, engine: TranslationEngine, cache: TranslationCache, source: str = "en", target: str = "zh"
    ) -> None:
        self._engine = engine
        self._cache = cache
        self._source = source
        self._target = target
        self.identity = (name, engine.identity, source, target)

    def translate(self, texts: Sequence[str]) -> list[str | None]:
        """The translations of texts in their order; None for a blank one, and for one that cannot be translated.

        Equal texts are translated once. Those that are not in the cache go to the engine in batches of similar length,
        and every batch is in the cache as soon as it is done.

        Raises:
            UserError, FailedJob: the engine does not work.
        """
        keys = {text: self._cache.key(*self.identity, text) for text in texts if text.strip()}
        found = self._cache.find(keys.values())
        for batch in _batches(text for text, key in keys.items() if key not in found):
            done = zip(batch, self._translate_batch(batch), strict=True)
            found |= self._cache.add({keys[text]: translated for text, translated in done if translated})
        return [found.get(keys[text]) if text in keys else None for text in texts]

    def _translate_batch(self, batch: Sequence[str]) -> Sequence[str | None]:
        legible = [text.encode("utf-8", errors="replace").decode() for text in batch]
        done = self._engine.translate(legible, self._source, self._target)
        if len(done) != len(batch):
            raise FailedJob(f"translator '{self.identity[0]}': {len(done)} translations of {len(batch)} texts")
        return [text.strip() if text else None for text in done]


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts sorted by length, at most :data:`BATCH_TEXTS` and :data:`BATCH_CHARACTERS` of them at a time."""
    batch: list[str] = []
    for text in sorted(texts, key=lambda text: (len(text), text)):
        if batch and (len(batch) == BATCH_TEXTS or (len(batch) + 1) * len(text) > BATCH_CHARACTERS):
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch


def open_translation(
    named: str | None,
    folder: Path,
    registry: Registry,
    source: str = "en",
    target: str = "zh",
) -> Translation | None:
    """The translator that ``NAME`` or ``NAME=MODEL`` stands for; None for ``none`` and for nothing.

    Args:
        named: what the user gave.
        folder: where the cache and what engines make for themselves lie.
        registry: where translators are looked up.
        source: ISO 639-1 code of the texts' language.
        target: of the language wanted.

    Raises:
        UserError: no installed plugin brings it, or it cannot work.
    """
    name, _, model = (named or _NONE).partition("=")
    if name == _NONE:
        return None
    if not name:
        raise UserError(f"--translator: '{named}' is not NAME or NAME=MODEL")
    translator = registry.translator(name)
    engine: TranslationEngine = resolve(translator.engine)(model or None, folder / "translators")
    return Translation(name, engine, TranslationCache(folder / "translations.sqlite"), source, target)


def translation_of(job: Preparation) -> Translation | None:
    """The translator that a preparation was asked to use, see :func:`open_translation`."""
    return open_translation(job.options.get("translator"), job.cache, job.registry)

"""A translator with its cache: what preparers call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from skillnet_cli.api import FailedJob, TranslationEngine, UserError
from skillnet_cli.data.prepare import Preparation, default_cache
from skillnet_cli.data.translation.cache import TranslationCache, key_of
from skillnet_cli.plugins import Registry, load_registry, resolve

NOBODY = "none"
BATCH_TEXTS = 64
BATCH_CHARACTERS = 8_192
"""Bounds of a batch: texts, and characters with every text as long as the longest."""


class Translation:
    """One engine, one pair of languages, and the cache.

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
        keys = {text: key_of(self.identity, text) for text in texts if text.strip()}
        found = self._cache.find(keys.values())
        for batch in batches(text for text, key in keys.items() if key not in found):
            done = zip(batch, self._ask(batch), strict=True)
            found |= self._cache.add({keys[text]: translated for text, translated in done if translated})
        return [found.get(keys[text]) if text in keys else None for text in texts]

    def _ask(self, batch: Sequence[str]) -> Sequence[str | None]:
        legible = [text.encode("utf-8", errors="replace").decode() for text in batch]
        done = self._engine.translate(legible, self._source, self._target)
        if len(done) != len(batch):
            raise FailedJob(f"translator '{self.identity[0]}': {len(done)} translations of {len(batch)} texts")
        return [text.strip() if text else None for text in done]


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
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
    folder: Path | None = None,
    registry: Registry | None = None,
    source: str = "en",
    target: str = "zh",
) -> Translation | None:
    """The translator that ``NAME`` or ``NAME=MODEL`` stands for; None for ``none`` and for nothing.

    Args:
        named: what the user gave.
        folder: where the cache and what engines make for themselves lie; without it the folder of fetched files.

    Raises:
        UserError: no installed plugin brings it, or it cannot work.
    """
    name, _, model = (named or NOBODY).partition("=")
    if name == NOBODY:
        return None
    if not name:
        raise UserError(f"--translator: '{named}' is not NAME or NAME=MODEL")
    translator = (registry or load_registry()).translator(name)
    folder = folder or default_cache()
    engine: TranslationEngine = resolve(translator.engine)(model or None, folder / "translators")
    return Translation(name, engine, TranslationCache(folder / "translations.sqlite"), source, target)


def translation_of(job: Preparation) -> Translation | None:
    """The translator that a preparation was asked to use, see :func:`open_translation`."""
    return open_translation(job.options.get("translator"), job.cache)

"""Translates texts while a data set is prepared, each one once: what was translated before comes from a cache.

A data set that can be translated lists ``skillnet_cli.api.TRANSLATOR`` among its options, and its preparer asks for
what the user named, None for nobody::

    translation = translation_of(self.job)                    # in __init__ or read; a model is loaded by the first use
    if translation is not None:
        chinese = translation.translate(["a dog runs", ...])  # list[str | None], in order; hand over many at a time
        why_poor("a dog runs", chinese[0])                    # None, or the rule by which it should be left out

Translators come from plugins (the hook ``skillnet_translators``). The cache is one file for all data sets and
processes on a machine, ``translations.sqlite`` in the folder of fetched files; a kill loses at most the batch at hand.
"""

from __future__ import annotations

from skillnet_cli.data.translation.cache import TranslationCache
from skillnet_cli.data.translation.quality import why_poor
from skillnet_cli.data.translation.translation import Translation, open_translation, translation_of

__all__ = ["Translation", "TranslationCache", "open_translation", "translation_of", "why_poor"]

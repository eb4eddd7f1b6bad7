"""Translations that were made once, in a file that any number of processes share and no kill damages."""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from skillnet_cli.api import FailedJob
from skillnet_cli.data.files import alone, make_folder

PATIENCE = 120.0
"""Seconds to wait for another process that writes."""

AT_ONCE = 500
"""Keys of one question, below SQLite's bound on parameters."""


class TranslationCache:
    """Key -> translation in SQLite, with a write-ahead log: many may read while one writes.

    Raises (every method):
        FailedJob: the file is damaged or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        make_folder(path.parent, "name another with SKILLNET_CACHE")
        with self._guarded(), alone(path.with_name(f"{path.name}.lock")):
            self._base = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
            self._base.execute(
                "CREATE TABLE IF NOT EXISTS translations (key BLOB PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID"
            )

    def find(self, keys: Iterable[bytes]) -> dict[bytes, str]:
        """Those of the translations that are there."""
        found: dict[bytes, str] = {}
        wanted = iter(keys)
        with self._guarded():
            while some := list(itertools.islice(wanted, AT_ONCE)):
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


def key_of(identity: Sequence[str], text: str) -> bytes:
    """What a translation is found by: the sha256 of engine, model, languages and text, none of which can run over."""
    digest = hashlib.sha256()
    for part in (*identity, text):
        content = part.encode("utf-8", errors="surrogatepass")
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.digest()

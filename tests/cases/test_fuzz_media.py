"""Media, texts and code altered by chance, through their readers in every way that a file comes to one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from skillnet_cli.plugins import load_registry, resolve
from tests.cases.altering import GROWTH, altered, counts, failure, peak
from tests.faults.corpus import sound_files

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "一", "句", "话", "a"]


@pytest.mark.parametrize("count", counts(20, 600))
@pytest.mark.parametrize("skill", ["text", "sound", "image", "video", "code"])
def test_s10_altered_media_through_the_readers(skill: str, count: int, tmp_path: Path) -> None:
    modality = load_registry().modality(skill)
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES), encoding="utf-8")
    own = {"vocab": tmp_path / "vocab.txt"} if modality.vocabularies else {}
    reader = resolve(modality.reader)(resolve(modality.config)(**own), None)
    files = sorted(sound_files()[skill].items())
    before, wrong = peak(), {}
    for number in range(count):
        suffix, content = files[number % len(files)]
        path = tmp_path / f"file{suffix}"
        path.write_bytes(altered(content, random.Random(f"{skill} {number}")))
        wrong[f"{skill} {number}, path"] = failure(lambda path=path: reader.read(path))
        wrong[f"{skill} {number}, bytes"] = failure(lambda path=path: reader.read(path.read_bytes()))
        wrong[f"{skill} {number}, windows"] = failure(lambda path=path: list(reader.split(path)))
    assert {name: said for name, said in wrong.items() if said} == {}
    assert peak() - before < GROWTH

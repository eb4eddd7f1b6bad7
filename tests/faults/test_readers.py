"""Every damaged file through every reader: DamagedItem with a line that says why, at once, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skillnet_cli.api import DamagedItem, Reader
from skillnet_cli.plugins import load_registry, resolve
from tests.faults.corpus import broken_streams, damaged_files, sound_files

SKILLS = ("text", "sound", "image", "video", "code")
SECONDS = 10.0
"""No file may take longer: the largest that is sound takes a hundredth."""

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "一", "句", "话", "a"]


@pytest.fixture(params=SKILLS)
def skill(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def reader(skill: str, tmp_path: Path) -> Reader:
    modality = load_registry().modality(skill)
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES), encoding="utf-8")
    own = {"vocab": tmp_path / "vocab.txt"} if modality.vocabularies else {}
    return resolve(modality.reader)(resolve(modality.config)(**own), None)


def ways(reader: Reader, content: bytes, path: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """All ways in which a file comes to a reader."""
    path.write_bytes(content)
    yield "bytes", lambda: reader.read(content)
    yield "path", lambda: reader.read(path)
    yield "windows", lambda: list(reader.split(path))


def complaint(read: Callable[[], Any]) -> str | None:
    """What is wrong with how a damaged file is refused, None where nothing is."""
    start = time.monotonic()
    try:
        read()
    except DamagedItem as error:
        if not str(error).strip() or "\n" in str(error):
            return f"says {str(error)!r}"
        return f"took {time.monotonic() - start:.0f} seconds" if time.monotonic() - start > SECONDS else None
    except Exception as error:
        return f"raised {error!r}"
    return "was read"


def test_every_damaged_file_is_one_damaged_item(skill: str, reader: Reader, tmp_path: Path) -> None:
    wrong = {
        (what, way): said
        for what, (content, suffix) in damaged_files()[skill].items()
        for way, read in ways(reader, content, tmp_path / f"file{suffix}")
        if (said := complaint(read))
    }
    assert wrong == {}


def test_sound_files_are_read_whatever_they_are_called(skill: str, reader: Reader, tmp_path: Path) -> None:
    for suffix, content in sound_files()[skill].items():
        for name in (f"file{suffix}", "file.png", "file"):
            lengths = {
                reader.length(read()) for way, read in ways(reader, content, tmp_path / name) if way != "windows"
            }
            assert len(lengths) == 1 and lengths.pop() > 1


def test_streams_are_read_as_far_as_they_go(skill: str, reader: Reader) -> None:
    for content in broken_streams()[skill].values():
        assert reader.length(reader.read(content)) > 1


def test_the_files_of_other_skills_are_damaged_items_too(skill: str, reader: Reader) -> None:
    shared = {("video", "image"), ("sound", "video"), ("code", "text"), ("text", "code")}
    for other, files in sound_files().items():
        for suffix, content in files.items() if other != skill and (skill, other) not in shared else ():
            if (skill, suffix) == ("image", ".gif"):  # its first frame is a picture
                continue
            said = complaint(lambda content=content: reader.read(content))
            assert said is None, (other, said)


def test_halves_of_surrogates_do_not_pass(skill: str, reader: Reader) -> None:
    if skill == "code":
        with pytest.raises(DamagedItem):
            reader.read("a\ud800b")


def test_the_corpus_is_large_enough() -> None:
    counts = {skill: len(files) for skill, files in damaged_files().items()}
    assert sum(counts.values()) >= 130 and min(counts.values()) >= 10, counts

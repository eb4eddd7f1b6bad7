"""How the publishers of Mandarin speech lay out their recordings and transcripts, and where these are to be had."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from skillnet_cli.api import Published, UserError

OPENSLR = "https://www.openslr.org"
NON_COMMERCIAL = "CC BY-NC-ND 4.0"


@dataclass(frozen=True)
class Layout:
    """Where a corpus keeps its recordings and their transcripts.

    Attributes:
        recordings: patterns of the files that are recordings; without it every file with a suffix of sound is one.
        lists: pattern of a file of transcripts -> its format, see :mod:`skillnet_sound.datasets.transcripts`.
        sidecars: how the file beside a recording that holds its transcript is called: ``{name}`` is the recording's
            name, ``{stem}`` the same without suffix.
        speaker: what names the speaker in an id, where the archives in the archive are called by speakers.
        marks: noises and the like in transcripts, which are left out.
        splits_named: the folders train, dev and test only name the recordings, which lie elsewhere.
        by_folder: recordings are called by their paths, and a list of transcripts is for the folder that it lies in;
            else names are unique in the whole corpus.
    """

    title: str
    licence: str = "unknown"
    size: str = "any"
    url: str | None = None
    published: tuple[Published, ...] = ()
    obtain: str = ""
    recordings: tuple[str, ...] = ()
    lists: Mapping[str, str] = field(default_factory=dict)
    sidecars: tuple[str, ...] = ()
    speaker: str | None = None
    marks: str | None = None
    splits_named: bool = False
    by_folder: bool = False


ANY = Layout(
    "a folder or archive of recordings",
    lists={"transcript.txt": "words", "text": "words"},
    sidecars=("{stem}.txt", "{name}.trn", "{stem}.trn", "{stem}.lab"),
    by_folder=True,
)
"""Anyone's recordings: with ``transcript.txt``, a text beside each or Kaldi's ``text``, or without transcripts."""


def _openslr(number: int, *files: str, md5: str | None = None) -> tuple[Published, ...]:
    return tuple(Published(f"{OPENSLR}/resources/{number}/{name}", md5=md5) for name in files)


AISHELL = Layout(
    "AISHELL-1",
    licence="Apache-2.0",
    size="15 GB to fetch; 178 hours, 141,600 transcripts",
    url=f"{OPENSLR}/33",
    published=_openslr(33, "data_aishell.tgz", md5="2f494334227864a8a8fec932999db9d8"),
    lists={"aishell_transcript_v0.8.txt": "words"},
    speaker=r"S\d{4}(?=W)",
)

LAYOUTS = {
    "thchs-30": Layout(
        "THCHS-30",
        licence="Apache-2.0",
        size="6.4 GB to fetch; 34 hours, 13,388 recordings",
        url=f"{OPENSLR}/18",
        published=_openslr(18, "data_thchs30.tgz", md5="2d2252bde5c8429929e1841d4cb95e90"),
        recordings=("data/*.wav",),
        sidecars=("{name}.trn",),
        splits_named=True,
    ),
    "st-cmds": Layout(
        "ST-CMDS",
        licence=NON_COMMERCIAL,
        size="8.2 GB to fetch; 110 hours, 102,600 recordings",
        url=f"{OPENSLR}/38",
        published=_openslr(38, "ST-CMDS-20170001_1-OS.tar.gz"),
        sidecars=("{stem}.txt",),
    ),
    "aishell-1": AISHELL,
    "primewords": Layout(
        "Primewords Chinese Corpus Set 1",
        licence=NON_COMMERCIAL,
        size="9.1 GB to fetch; 99 hours, 50,384 recordings",
        url=f"{OPENSLR}/47",
        published=_openslr(47, "primewords_md_2018_set1.tar.gz"),
        lists={"set1_transcript.json": "json"},
    ),
    "aidatatang-200zh": Layout(
        "aidatatang_200zh",
        licence=NON_COMMERCIAL,
        size="18 GB; 200 hours, 237,265 recordings",
        url="https://www.datatang.ai",
        obtain="OpenSLR has withdrawn resource 62 at its owner's request: get a copy of aidatatang_200zh.tgz",
        lists={"aidatatang_200_zh_transcript.txt": "words"},
        speaker=r"G\d{4}(?=S)",
    ),
    "magicdata": Layout(
        "MAGICDATA Mandarin Chinese Read Speech Corpus",
        licence=NON_COMMERCIAL,
        size="55 GB to fetch; 755 hours, 609,552 recordings",
        url=f"{OPENSLR}/68",
        published=_openslr(68, "train_set.tar.gz", "dev_set.tar.gz", "test_set.tar.gz"),
        lists={"TRANS.txt": "table"},
        marks=r"\[?(?:FIL|SPK)\]?",
    ),
}
"""The free Chinese corpora of the list that the paper names as its source (appendix, pretraining, sound)."""


def layout_named(preset: str | None) -> Layout:
    """The layout of a preset, whose name may be written in any usual way; without a name :data:`ANY`.

    Raises:
        UserError: there is no such preset.
    """
    if preset is None:
        return ANY
    for name, layout in LAYOUTS.items():
        if _plain(preset) == _plain(name):
            return layout
    raise UserError(f"--preset: '{preset}' is not one of {', '.join(LAYOUTS)}")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())

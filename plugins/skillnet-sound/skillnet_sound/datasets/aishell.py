"""``aishell``: AISHELL-1, 178 hours of read Mandarin by 400 speakers, as its publisher divides it (paper §4.1, sound).

The published ``data_aishell.tgz``, with an archive a speaker inside, and the tree that it unpacks to are read alike.
The split of a recording is the folder above it. Everyone measures on train, dev and test as they are, so nothing is
taken out as a copy. Transcripts keep everything but their blanks.
"""

from __future__ import annotations

from collections.abc import Mapping

from skillnet_cli.prepare.preparer import Preparation
from skillnet_sound.datasets.corpus import SpeechCorpus
from skillnet_sound.datasets.layouts import AISHELL, Layout
from skillnet_sound.datasets.transcripts import spaceless

WHOLE_TEST = 7_000
"""Of 7,176 published utterances; a test set with fewer is not the paper's."""


class Aishell(SpeechCorpus):
    """A range a speaker; see :class:`SpeechCorpus`."""

    compared = False

    @classmethod
    def layout_of(cls, job: Preparation) -> Layout:
        """The publisher's."""
        return AISHELL

    def spell(self, text: str) -> str:
        """A transcript as it is kept: without blanks."""
        return spaceless(text)

    def large_enough(self, sizes: Mapping[str, int]) -> bool:
        """Whether the test set is the published one, as far as it can be read."""
        return sizes.get("test", 0) >= WHOLE_TEST

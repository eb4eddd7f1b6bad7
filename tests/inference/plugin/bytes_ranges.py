"""The plugin's data set that is made in parts: a word a line, some lines a range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from skillnet_cli.prepare.preparer import Kept, Preparer, Range, Rejected
from skillnet_cli.sources.texts import byte_ranges, lines_between


class Parted(Preparer):
    """A word is an item, several times if asked."""

    def ranges(self) -> Sequence[Range]:
        return [Range(f"{start}", [start, end], ("train",)) for start, end in byte_ranges(self.job.paths[0], 16)]

    def read(self, range: Range) -> Iterator[Kept | Rejected]:
        options = self.job.options
        for at, line in lines_between(self.job.paths[0], *range.payload):
            word = line.text.upper() if options["shout"] else line.text
            if line.text in options["skip"]:
                yield Rejected("train", str(at), "filtered", f"'{line.text}' is skipped")
            else:
                yield Kept("train", str(at), {"word": [word] * options["repeat"], "label": word[:1]})

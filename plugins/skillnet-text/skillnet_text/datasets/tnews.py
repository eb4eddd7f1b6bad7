"""``tnews``: headlines of Chinese news in 15 classes (CLUE), as its publisher divides them.

``train`` and ``dev`` have labels. The published test set has none and is kept as the split ``test``, whose items have
no ``label``. Nothing is taken out: sentences that stand in train twice, or in train and dev both, are part of what
everyone measures on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.prepare.preparer import Items, Kept, Preparer, Range, Rejected, Summary
from skillnet_cli.sources.rows import EMPTY
from skillnet_cli.sources.texts import Line, read_lines

FILES = {"train": ("train.json",), "dev": ("dev.json",), "test": ("test.json", "test1.1.json", "test1.0.json")}
"""Split -> what its file may be called, the current one first: CLUE has published several test sets."""
UNLABELLED = "test"
PAPER_DEV = 10_000
CLASSES = {
    "100": "news_story",
    "101": "news_culture",
    "102": "news_entertainment",
    "103": "news_sports",
    "104": "news_finance",
    "106": "news_house",
    "107": "news_car",
    "108": "news_edu",
    "109": "news_tech",
    "110": "news_military",
    "112": "news_travel",
    "113": "news_world",
    "114": "news_stock",
    "115": "news_agriculture",
    "116": "news_game",
}
"""The publisher's number of each class -> its name, which is the label here."""


class Tnews(Preparer):
    """One range a file; a line is an item."""

    def ranges(self) -> Sequence[Range]:
        """A range for each split whose file exists; which of train and dev does not is said."""
        self.files.one(*itertools.chain.from_iterable(FILES.values()))
        found = {split: names for split in FILES if (names := self._files_of(split))}
        missing = [FILES[split][0] for split in FILES if split not in found and split != UNLABELLED]
        if missing:
            self.job.say(f"tnews: there is no {' and no '.join(missing)}: prepared is {', '.join(found)}")
        return [Range(split, names, splits=(split,)) for split, names in found.items()]

    def _files_of(self, split: str) -> list[str]:
        """The files that could be a split; the first is. Raises UserError where two are called alike."""
        found = [[each.name for each in self.files.named(name)] for name in FILES[split]]
        for names in found:
            if len(names) > 1:
                raise UserError(f"{' and '.join(names)}: either could be the split '{split}': leave one in --source")
        return [name for names in found for name in names]

    def read(self, range: Range) -> Iterator[Kept | Rejected]:
        """An item for every line."""
        name, *others = range.payload
        for other in others:
            yield Rejected(range.name, other, "filtered", f"a former test set: {name} is read")
        for line in read_lines(self.files[name]):
            id = f"{range.name}-{line.number:06d}"
            if not line.damage and not line.text.strip():
                yield Rejected(range.name, id, "filtered", EMPTY)
                continue
            try:
                yield Kept(range.name, id, _fields_of(line, labelled=range.name != UNLABELLED))
            except DamagedItem as error:
                yield Rejected(range.name, id, "damaged", str(error))

    def large_enough(self, sizes: Mapping[str, int]) -> bool:
        """Whether dev is complete, as the paper measures on it."""
        return sizes.get("dev", 0) >= PAPER_DEV

    def finish(self, items: Items, protocol: str | None) -> Summary:
        """The classes in the publisher's order."""
        return Summary(targets={"label": list(CLASSES.values())})


def _fields_of(line: Line, labelled: bool) -> dict[str, object]:
    """The fields of a line. Raises DamagedItem if it has no sentence, or a label not in the list of 15."""
    record = line.json()
    sentence = record.get("sentence")
    if not isinstance(sentence, str) or not sentence.strip():
        raise DamagedItem("it has no sentence")
    if not labelled:
        return {"text": [sentence]}
    label = CLASSES.get(str(record.get("label")))
    if label is None:
        raise DamagedItem(f"'{record.get('label')}' is not in the list of {len(CLASSES)} labels")
    return {"text": [sentence], "label": label}

"""``tnews``: headlines of Chinese news in 15 classes (CLUE), as its publisher divides them.

``train`` and ``dev`` have labels. The published test set has none and is kept as the split ``test``, whose items have
no ``label``. Nothing is taken out: sentences that stand in train twice, or in train and dev both, are part of what
everyone measures on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from skillnet_cli.api import DamagedItem
from skillnet_cli.prepare.preparer import Items, Kept, Preparer, Range, Rejected, Summary
from skillnet_cli.sources.texts import Line, read_lines

FILES = {"train": "train.json", "dev": "dev.json", "test": "test.json"}
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
        """A range for each file that exists; which of train and dev does not is said."""
        self.files.one(*FILES.values())
        found = {split: there[0].name for split, name in FILES.items() if (there := self.files.named(name))}
        missing = [FILES[split] for split in FILES if split not in found and split != UNLABELLED]
        if missing:
            self.job.say(f"tnews: there is no {' and no '.join(missing)}: prepared is {', '.join(found)}")
        return [Range(split, name, splits=(split,)) for split, name in found.items()]

    def read(self, range: Range) -> Iterator[Kept | Rejected]:
        """An item for every line."""
        for line in read_lines(self.files[range.payload]):
            id = f"{range.name}-{line.number:06d}"
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

"""Sources to the probabilities of a task's labels."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from skillnet_cli.api import DamagedItem, Features, Reader, Source
from skillnet_cli.data.pipeline import pair_reader, to_device
from skillnet_cli.inference.encoder import by_length, inferring, read_each
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives import TaskConfig

PAIR = "a pair is two texts with one tab between them"
MOST_AT_ONCE = 512
SECONDS_AT_ONCE = 1.0
"""Sources between two answers: as many as take about so long, and no more than so many."""


@dataclass(frozen=True)
class Classified:
    """What became of one source.

    Attributes:
        probabilities: label -> probability, the largest first; empty where the source could not be read.
        damage: why it could not be read.
        remarks: what is to be said of it although it was read.
    """

    probabilities: Mapping[str, float]
    damage: str | None = None
    remarks: tuple[str, ...] = ()


class Classifier:
    """Classifies with one of a model's tasks, whose objective classifies and which reads one item of one skill."""

    def __init__(
        self,
        model: SkillNet,
        readers: Mapping[str, Reader],
        task: TaskConfig,
        precision: str = "auto",
        batch_size: int | None = None,
    ) -> None:
        """Nothing is read yet.

        Args:
            model: it has the task.
            readers: the model's, by skill.
            task: its objective classifies.
            precision: that of :func:`~skillnet_cli.inference.encoder.inferring`.
            batch_size: items at a time; None leaves it to their tokens.
        """
        self.model = model
        self.task = task
        self.precision = precision
        self.batch_size = batch_size
        skill = task.skills[0]
        self.reader = readers[skill]
        self._pairs = pair_reader(self.reader, skill) if skill in task.pairs else None

    def _read(self, source: Source) -> Features:
        """Read a source; for a task of pairs two texts with a tab between them."""
        if self._pairs is None:
            return self.reader.read(source)
        if isinstance(source, Path):
            raise DamagedItem(f"it is a file, and {PAIR}")
        texts = source.split(b"\t") if isinstance(source, bytes) else source.split("\t")
        if len(texts) != 2:
            raise DamagedItem(f"it has {len(texts) - 1} tabs, and {PAIR}")
        return self._pairs.read_pair(texts[0], texts[1])

    def classify(self, sources: Iterable[Source]) -> Iterator[Classified]:
        """What becomes of each source, in order; of an endless stream, the answers come some at a time."""
        waiting = iter(sources)
        count = MOST_AT_ONCE // 32
        while some := list(islice(waiting, count)):
            begin = time.monotonic()
            yield from self._block(some)
            if time.monotonic() - begin < SECONDS_AT_ONCE:
                count = min(2 * count, MOST_AT_ONCE)

    def _block(self, sources: list[Source]) -> list[Classified]:
        done: dict[int, Classified] = {}
        damaged: dict[int, str] = {}
        remarks: dict[int, list[str]] = {}
        read = read_each(self._read, sources, damaged, remarks)
        objective = self.model.objectives[self.task.name]
        with inferring(self.model, self.precision):
            for batch in by_length(read, lambda item: self.reader.length(item[1]), size=self.batch_size):
                collated = to_device(self.reader.collate([features for _, features in batch]), self.model.device)
                probabilities = objective.probabilities(self.model.predict(self.task.name, [[collated]]))
                for (place, _), row in zip(batch, probabilities.cpu().tolist(), strict=True):
                    ranked = sorted(zip(self.task.labels, row, strict=True), key=lambda pair: -pair[1])
                    done[place] = Classified(dict(ranked), remarks=tuple(remarks.get(place, ())))
        done |= {place: Classified({}, reason) for place, reason in damaged.items()}
        return [done[place] for place in range(len(sources))]

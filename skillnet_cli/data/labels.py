"""What a task's target can be, gathered from the values that a set's items have."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from skillnet_cli.api import DamagedItem, Task


class TargetSpace:
    """Reads target values from a table's cells and lists what they can be.

    A transcript is spelt in characters, units are numbers from 0 up, anything else is a class of its own.
    """

    def __init__(self, task: Task) -> None:
        self._field = task.target
        self._objective = task.objective
        self._seen: set[Any] = set()

    def parse(self, value: Any) -> Any:
        """A cell's value as the sample's field has it. Raises DamagedItem where it is none."""
        if self._objective != "masked-units":
            if isinstance(value, (list, dict)) or value != value:  # not a number is not equal to itself
                raise DamagedItem(f"the {self._field} must be a text or a number, not {value!r}"[:200])
            return str(value).strip()
        parts = value if isinstance(value, list) else str(value).split()
        try:
            units = [int(part) for part in parts]
        except (TypeError, ValueError) as error:
            raise DamagedItem(f"units must be whole numbers, not {value!r}") from error
        if min(units) < 0:
            raise DamagedItem(f"units must be numbers from 0 up, not {min(units)}")
        return units

    def add(self, value: Any) -> None:
        """Take note of a parsed value: a class as a whole, a transcript by its characters, units one by one."""
        self._seen.update(value if self._objective in ("ctc", "masked-units") else [value])

    def targets(self) -> dict[str, list[str]]:
        """The target's field and, in order, what it can be; nothing for a task without a target."""
        if self._field is None:
            return {}
        if self._objective == "masked-units":
            return {self._field: [str(unit) for unit in range(max(self._seen, default=-1) + 1)]}
        return {self._field: sorted(self._seen)}


def frames_needed(transcript: str) -> int:
    """The fewest frames that can spell a transcript: one a character, and a blank between equal neighbours."""
    return len(transcript) + sum(one == other for one, other in pairwise(transcript))

"""What a look ahead at a stage finds: the words of ``--plan``, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from skillnet_cli.engine.forecasting.hardware import Fleet


@dataclass(frozen=True)
class Crew:
    """Who trains: so many processes on so many machines like this one, or named hardware."""

    processes: int = 1
    machines: int = 1
    fleet: Fleet | None = None

    @property
    def ranks(self) -> int:
        """All processes together."""
        return self.fleet.count if self.fleet else self.processes * self.machines


@dataclass(frozen=True)
class TaskForecast:
    """One task of a stage.

    ``sets`` has the training items of each set, None where it is not prepared; ``items`` their sum, None if one is not.
    ``tokens`` are those of a longest item in all towers, ``mean_tokens`` of the items that were looked at. ``memory``
    has the bytes a rank needs by strategy; ``suggested`` the micro-batch that fits. None is what is not known.
    """

    objective: str
    ratio: int
    updates: float
    batch: int
    micro_batch: int | None
    negatives: int | None
    chance: float | None
    sets: dict[str, int | None]
    shards: int
    items: int | None
    epochs: float | None
    activated: int
    flops: float | None
    flops_an_update: float | None
    tokens: int | None
    mean_tokens: float | None
    item_bytes: float | None
    memory: dict[str, float]
    suggested: dict[str, int]
    seconds: float | None


@dataclass(frozen=True)
class Forecast:
    """A stage. ``missing`` is what has to be made before it can start, ``problems`` what would then stop it."""

    recipe: str
    stage: str
    steps: int
    lr: float
    warmup: int
    schedule: str
    precision: str
    strategy: str
    ranks: int
    place: str
    memory: float
    parameters: int
    trained: int
    tasks: dict[str, TaskForecast]
    flops: float | None
    seconds: float | None
    checkpoint_bytes: float
    checkpoints: int
    assumptions: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def updates_a_second(self) -> float | None:
        """Of the tasks' mix."""
        return self.steps / self.seconds if self.seconds else None

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON holds it."""
        return asdict(self) | {"updates_a_second": self.updates_a_second}

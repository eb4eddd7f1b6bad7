"""What a stage will do and take, computed before it starts: with its data, or without any."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from skillnet_cli import objectives
from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.data.prepared import PreparedSet, find_set
from skillnet_cli.data.progress import Progress, Silent
from skillnet_cli.engine.distributed.mesh import fitting_strategy, memory_of
from skillnet_cli.engine.estimate.cost import (
    UTILISATION,
    Accelerators,
    Backend,
    Load,
    Sizes,
    checkpoint_bytes,
    dry_run,
    kept_beside,
)
from skillnet_cli.engine.loader import task_pipeline
from skillnet_cli.engine.machine import disk_problem
from skillnet_cli.engine.plan import (
    TRAIN,
    StagePlan,
    TaskPlan,
    checkpoint_problems,
    open_sets,
    plan_stage,
    task_config,
)
from skillnet_cli.evaluation.evaluate import spread
from skillnet_cli.model.analysis import Flops, summarise, without_storage
from skillnet_cli.model.build import build_readers, config_of, embedder_config
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.device import default_precision, on_meta
from skillnet_cli.plugins import Registry, resolve
from skillnet_cli.recipe.schema import Recipe, StageTask
from skillnet_cli.runs import RunFolder


@dataclass(frozen=True)
class Cluster:
    """What trains: processes on each of some machines like this one, or named accelerators."""

    processes: int = 1
    machines: int = 1
    accelerators: Accelerators | None = None

    @property
    def ranks(self) -> int:
        """All processes together."""
        return self.accelerators.count if self.accelerators else self.processes * self.machines


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


def sketch_model(recipe: Recipe, registry: Registry, roots: Sequence[Path]) -> tuple[SkillNetConfig, dict[str, str]]:
    """The configuration of the model that a recipe trains.

    Returns:
        The configuration, and the tasks whose labels are not known yet, each with the reason.

    Raises:
        UserError: a vocabulary is missing, and the recipe does not say its size.
    """
    tasks, unknown = [], {}
    for name in recipe.task_names():
        task, sets = registry.task(name), dict[str, PreparedSet]()
        if task.target is not None:
            try:
                sets = open_sets(recipe, None, task, roots)
            except UserError as error:
                unknown[name] = str(error)
        tasks.append(task_config(task, sets))
    hidden = recipe.model.hidden
    embedders = {skill: _embedder(skill, keys, hidden, registry) for skill, keys in recipe.model.embedders.items()}
    return config_of(recipe.model.model_dump(exclude={"embedders"}), embedders, tasks, registry), unknown


def _embedder(skill: str, keys: Mapping[str, Any], hidden: int, registry: Registry) -> Any:
    """A skill's configuration, from its reader where that has all it needs, else as the recipe says it."""
    try:
        return build_readers({skill: keys}, registry)[skill].config
    except UserError as error:
        config = embedder_config(skill, keys, registry)
        try:
            with on_meta():  # a vocabulary that is not there yet: the embedder says whether its size is enough
                resolve(registry.modality(skill).embedder)(config, hidden)
        except ValueError:
            raise error from None
        return config


DUMMY_LABELS = 5_000
"""Labels of a task whose sets are not prepared, while its memory is measured: a Chinese recogniser's characters."""
SAMPLED = 32
"""Items of each task whose lengths stand for those of its sets."""


def forecast(
    recipe: Recipe,
    stage: str,
    registry: Registry,
    roots: Sequence[Path],
    cluster: Cluster,
    run: Path | None = None,
    progress: Progress | None = None,
) -> Forecast:
    """Estimate what a stage will do and take. What is missing is listed, and the rest is computed all the same.

    Args:
        recipe: with the stage.
        stage: ``"pretrain"`` or ``"finetune"``.
        registry: of plugins.
        roots: where prepared sets are looked for.
        cluster: what trains.
        run: the folder that it will write, whose disk is looked at.
        progress: shows how many tasks have been looked at; each is trained on for a moment.

    Raises:
        UserError: a vocabulary is missing, and the recipe does not say its size.
    """
    return _Forecaster(recipe, stage, registry, roots, cluster, run).forecast(progress or Silent())


class _Forecaster:
    """The parts of one forecast: what is prepared, the model on shapes alone, and each task in turn."""

    def __init__(
        self,
        recipe: Recipe,
        stage: str,
        registry: Registry,
        roots: Sequence[Path],
        cluster: Cluster,
        run: Path | None,
    ) -> None:
        self.run = run
        self.recipe, self.name, self.registry, self.roots, self.cluster = recipe, stage, registry, roots, cluster
        self.stage = recipe.stages()[stage]
        self.missing: list[str] = []
        self.sets = {name: self._open(name) for task in self.stage.tasks.values() for name in task.datasets}
        self.plan = self._plan()
        self.config, self.unknown = self._model()
        shapes = without_storage(self.config, self.unknown, self.registry)
        self.flops = Flops(shapes)
        self.facts = summarise(shapes, self.unknown, flops=self.flops)
        self.backend = self._backend()

    def forecast(self, progress: Progress) -> Forecast:
        every = self.stage.tasks
        tasks = {name: self._task(name, every[name]) for name in progress.track(every, len(every), "tasks looked at")}
        sizes, stage = self._sizes(next(iter(tasks))), self.stage
        return Forecast(
            recipe=self.recipe.name,
            stage=self.name,
            steps=stage.steps,
            lr=stage.lr,
            warmup=stage.warmup,
            schedule=stage.schedule,
            precision=self.backend.precision,
            strategy=fitting_strategy(stage.strategy, sizes.total, self._memory()),
            ranks=self.cluster.ranks,
            place=self._place(),
            memory=self._memory(),
            parameters=sizes.total,
            trained=sizes.trained,
            tasks=tasks,
            flops=_sum((each.updates, each.flops_an_update) for each in tasks.values()),
            seconds=_sum((each.updates, each.seconds) for each in tasks.values()),
            checkpoint_bytes=checkpoint_bytes(sizes.total, sizes.trained, sizes.beside),
            checkpoints=stage.checkpoints.keep,
            assumptions=list(self._assumptions(tasks)),
            missing=self.missing,
            problems=[*self._problems(), *self._disk(sizes)],
        )

    def _disk(self, sizes: Sizes) -> Iterator[str]:
        """That the disk of the run has not the room, where this machine is the one that trains."""
        if self.run is not None and self.cluster.accelerators is None:
            folder = RunFolder(self.run).stage(self.name)
            problem = disk_problem(folder, self.stage, sizes.total, sizes.trained)
            if problem:
                yield problem

    def _open(self, name: str) -> PreparedSet | None:
        try:
            return PreparedSet.open(find_set(name, self.roots), self.roots)
        except UserError as error:
            self.missing.append(str(error))
            return None

    def _plan(self) -> StagePlan | None:
        """The stage as it will be trained, where all that it needs is there."""
        try:
            return plan_stage(self.recipe, self.name, self.registry, self.roots)
        except UserError as error:
            self.missing += [line for line in str(error).splitlines() if line not in self.missing]
            return None

    def _model(self) -> tuple[SkillNetConfig, dict[str, str]]:
        if self.plan is not None:
            return self.plan.config, {}
        return sketch_model(self.recipe, self.registry, self.roots)

    def _backend(self) -> Backend:
        if self.cluster.accelerators is not None:
            precision = "fp32" if self.stage.precision == "fp32" else "bf16"
            return Backend(torch.device("cpu"), precision, timed=False)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        chosen = default_precision(device) if self.stage.precision == "auto" else self.stage.precision
        return Backend(device, chosen, timed=True)

    def _task(self, name: str, settings: StageTask) -> TaskForecast:
        task, own, tokens = self.registry.task(name), self.facts["tasks"][name], self.flops.tokens_of(name)
        contrastive = objectives.load(task.objective, self.registry).compares
        updates = self.stage.steps * settings.ratio / sum(each.ratio for each in self.stage.tasks.values())
        longest, mean = None if tokens is None else sum(map(sum, tokens)), self._mean_tokens(name)
        share = min(1.0, mean / longest) if mean and longest else 1.0
        load = None if longest is None else self._load(name, settings, contrastive, share)
        memory, suggested = self._needs(name, load)
        counts, shards = self._counts(settings)
        items = None if None in counts.values() else sum(count or 0 for count in counts.values())
        return TaskForecast(
            objective=task.objective,
            ratio=settings.ratio,
            updates=updates,
            batch=settings.batch,
            micro_batch=settings.micro_batch,
            negatives=settings.batch - 1 if contrastive else None,
            chance=math.log(settings.batch) if contrastive else None,
            sets=counts,
            shards=shards,
            items=items,
            epochs=updates * settings.batch / items if items else None,
            activated=own["activated"],
            flops=load.flops if load else None,
            flops_an_update=load.flops_an_update if load else None,
            tokens=longest,
            mean_tokens=mean,
            item_bytes=load.cost.item_bytes if load and load.cost else None,
            memory=memory,
            suggested=suggested,
            seconds=self._seconds(name, load),
        )

    def _counts(self, settings: StageTask) -> tuple[dict[str, int | None], int]:
        """The training items of each of a task's sets, None where it is not prepared, and the shards of all."""
        counts: dict[str, int | None] = {}
        shards = 0
        for name in settings.datasets:
            found = self.sets[name]
            split = found.manifest.splits.get(TRAIN) if found else None
            counts[name] = split.items if split else None
            shards += len(split.shards) if split else 0
        return counts, shards

    def _load(self, name: str, settings: StageTask, contrastive: bool, share: float) -> Load:
        here = max(1, settings.batch // self.cluster.ranks)
        micro = min(here, settings.micro_batch or here)
        flops, tokens = float(self.facts["tasks"][name]["flops"]), self.flops.tokens_of(name) or []
        cost = dry_run(self._labelled(name), name, tokens, flops, micro, self.backend, self.registry)
        twice = settings.recompute or (contrastive and micro < here)
        return Load(settings.batch, micro, flops, cost, contrastive, share, twice)

    def _labelled(self, name: str) -> SkillNetConfig:
        """The model's configuration with dummy labels for those that are not known yet."""
        if name not in self.unknown:
            return self.config
        labelled: SkillNetConfig = copy.deepcopy(self.config)
        labels = tuple(map(str, range(DUMMY_LABELS)))
        labelled.tasks = {**labelled.tasks, name: {**labelled.tasks[name], "labels": labels}}
        return labelled

    def _sizes(self, name: str) -> Sizes:
        parts: Mapping[str, int] = self.facts["parameters"]["parts"]
        total, frozen = sum(parts.values()), sum(parts.get(part, 0) for part in self.stage.freeze)
        layers = self.recipe.model.layers
        layer = sum(count for part, count in parts.items() if part.split(":")[0] in ("shared", "skill")) // layers
        own = self.facts["tasks"][name]
        outside = [
            each["parameters"] for part, each in own["parts"].items() if part.split(":")[0] in ("embedder", "task")
        ]
        return Sizes(total, total - frozen, own["activated"], max([layer, *outside]), kept_beside(self.stage))

    def _needs(self, name: str, load: Load | None) -> tuple[dict[str, float], dict[str, int]]:
        """Bytes a rank by strategy, and the micro-batches that fit."""
        if load is None or load.cost is None:
            return {}, {}
        sizes, ranks = self._sizes(name), self.cluster.ranks
        transient = load.transient_bytes(load.micro_batch, ranks) or 0.0
        needed, fitting = {}, {}
        for strategy in ("replicate", "fsdp") if ranks > 1 else ("replicate",):
            state = sizes.state_bytes(ranks, strategy)
            needed[strategy] = state + transient
            fitting[strategy] = load.largest_micro_batch(state, self._memory(), ranks) or 0
        return needed, fitting

    def _seconds(self, name: str, load: Load | None) -> float | None:
        if load is None:
            return None
        if self.cluster.accelerators is not None:
            return load.seconds_on(self.cluster.accelerators, self._sizes(name))
        machines = self.cluster.machines if self.backend.device.type == "cpu" else self.cluster.ranks
        return load.seconds_here(self._sizes(name), machines)

    def _memory(self) -> float:
        """Bytes that a rank may take."""
        if self.cluster.accelerators is not None:
            return self.cluster.accelerators.hardware.usable_bytes
        return memory_of(self.backend.device, self.cluster.processes)

    def _mean_tokens(self, name: str) -> float | None:
        """Tokens of an item, of some evenly spread over the task's sets; None without its data."""
        if self.plan is None:
            return None
        task = self.plan.tasks[name]
        pipeline = task_pipeline(self.plan, task, self.registry)
        each, lengths = -(-SAMPLED // len(task.splits)), []
        for sample in (split[place] for split in task.splits for place in spread(len(split), each)):
            with suppress(DamagedItem):
                lengths.append(pipeline.example(sample, 0).length)
        return sum(lengths) / len(lengths) if lengths else None

    def _place(self) -> str:
        if self.cluster.accelerators is not None:
            return f"{self.cluster.accelerators.count} × {self.cluster.accelerators.hardware.name}"
        kind = self.backend.device.type
        threads = f", {torch.get_num_threads()} threads" if kind == "cpu" else ""
        return f"{self.cluster.ranks} {kind} process{'es' if self.cluster.ranks > 1 else ''} here{threads}"

    def _assumptions(self, tasks: Mapping[str, TaskForecast]) -> Iterator[str]:
        yield "FLOPs: two a multiplication with its addition, backward twice forward, heads left out"
        if None in [each.mean_tokens for each in tasks.values()]:
            yield "items as long as the model takes where their sets are not prepared here: real ones cost less"
        else:
            yield f"memory: items as long as the model takes; time: as long as {SAMPLED} of each task are on average"
        if self.cluster.accelerators is not None:
            hardware = self.cluster.accelerators.hardware
            yield (
                f"time: products at {UTILISATION:.0%} of {hardware.peak:g} TFLOP/s (bf16), "
                f"then gradients over a link of {hardware.link:g} GB/s a rank"
            )
            yield f"memory: {hardware.memory} GiB, of which tensors take at most {hardware.usable_bytes / 2**30:.1f}"
        yield "time: reading data, saving and measuring take none"
        if self.unknown:
            unknown = ", ".join(self.unknown)
            yield f"labels of {unknown} not known yet: heads not counted, memory measured with {DUMMY_LABELS:,}"
        if self.plan is not None and self.stage.eval is not None:
            for name, task in self.plan.tasks.items():
                yield from (f"{name} is not measured as it trains: {line}" for line in task.unmeasured())

    def _problems(self) -> Iterator[str]:
        """What would stop the stage, of all that can be looked at."""
        yield from (f"{self.name}.{problem}" for problem in checkpoint_problems(self.stage))
        for name, settings in self.stage.tasks.items():
            task = self.registry.task(name)
            opened = {each: found for each in settings.datasets if (found := self.sets[each]) is not None}
            objective = objectives.load(task.objective, self.registry)
            plan = TaskPlan(task_config(task, opened), objective, settings, opened)
            whole = len(opened) == len(settings.datasets)
            measured = self.stage.eval is not None
            for problem in plan.problems(self.cluster.ranks, self.registry, prepared=whole, measured=measured):
                yield f"{self.name}.tasks.{name}: {problem}"


def _sum(products: Iterable[tuple[float, float | None]]) -> float | None:
    """The sum of products, None where one of them is not known."""
    known = [None if other is None else one * other for one, other in products]
    return None if None in known else math.fsum(each or 0.0 for each in known)

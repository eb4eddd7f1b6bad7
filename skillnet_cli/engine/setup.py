"""How a stage starts or resumes: the model's first parameters, frozen parts, the optimizer, the saved state."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from skillnet_cli.api import UserError
from skillnet_cli.engine.checkpoint.format import AVERAGE, MODEL, OPTIMIZER, Checkpoint
from skillnet_cli.engine.checkpoint.state import (
    load_full_tensors,
    optimizer_tensors,
    restore_optimizer,
    restore_tensors,
)
from skillnet_cli.engine.checkpoint.writer import CheckpointWriter, Saved
from skillnet_cli.engine.consistency import trained_by
from skillnet_cli.engine.distributed.mesh import Ranks, distribute, settle_strategy
from skillnet_cli.engine.plan import StagePlan
from skillnet_cli.engine.step import MovingAverage, Progress, Updater, build_optimizer
from skillnet_cli.files import write_json
from skillnet_cli.model.device import default_precision
from skillnet_cli.model.init import initialise
from skillnet_cli.model.parts import parameters_by_part, part_of
from skillnet_cli.model.persistence import write_description
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives import TaskConfig
from skillnet_cli.plugins import Registry, suggest
from skillnet_cli.recipe.schema import EmaSection
from skillnet_cli.runs import RunFolder, StageFolder


def weight_inheritance(plan: StagePlan) -> dict[str, str]:
    """For each fine-tuning task of a separate model, the pretraining task whose Transformers it starts from.

    That is the first in the recipe that has the same skills, and for every tower of the task a tower that reads the
    tower's skills: ``code-mlm``, which reads text and code in one tower, for both towers of ``t2c``. A task that is
    pretrained itself goes on from itself; one without such a task starts fresh. No other model needs any of this: its
    tasks share what was pretrained.
    """
    pretrain = plan.recipe.pretrain
    if plan.config.routing != "separate" or pretrain is None or getattr(plan.stage, "start_from", None) != "pretrain":
        return {}
    earlier = [plan.config.task(name) for name in pretrain.tasks]
    found = {}
    for name in (name for name in plan.tasks if name not in pretrain.tasks):
        fitting = [other.name for other in earlier if _fits(plan.config.task(name), other)]
        found.update({name: fitting[0]} if fitting else {})
    return found


def _fits(task: TaskConfig, other: TaskConfig) -> bool:
    places = [_tower_for(skills, other) for skills in task.towers]
    return set(task.skills) == set(other.skills) and None not in places


def _tower_for(skills: Sequence[str], task: TaskConfig) -> int | None:
    """The place of a task's first tower that reads all of ``skills``, or None."""
    return next((place for place, tower in enumerate(task.towers) if set(skills) <= set(tower)), None)


def _inherit_weights(model: SkillNet, ancestors_: Mapping[str, str]) -> None:
    """Copy the Transformers of pretraining tasks, embedders included, to the tasks that start from them."""
    for name, ancestor in ancestors_.items():
        theirs = model.towers_of(ancestor)
        for skills, tower in zip(model.task(name).towers, model.towers_of(name), strict=True):
            source = theirs[_tower_for(skills, model.task(ancestor)) or 0]
            tower.encoder.load_state_dict(source.encoder.state_dict())
            for skill in skills:
                tower.embedders[skill].load_state_dict(source.embedders[skill].state_dict())


def freeze(model: SkillNet, parts: Iterable[str], tasks: Iterable[str]) -> None:
    """Make constants of the parameters of ``parts``: no gradient is computed, kept or communicated for them.

    ``task:T`` means all heads that the task T uses, and with them those of tasks that use the same ones.

    Raises:
        UserError: the model has no such part, or one of ``tasks``, which shall be trained, has nothing left to train.
    """
    frozen = {part for name in parts for part in _meant(model, name)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) not in frozen)
    for task in tasks:
        _check_trainable(model, task, frozen)


def _meant(model: SkillNet, name: str) -> Iterator[str]:
    known = [*parameters_by_part(model), *(f"task:{task}" for task in model.objectives)]
    if name not in known:
        raise UserError(f"freeze: the model has no part '{name}'{suggest(name, known)}")
    kind, _, task = name.partition(":")
    yield from model.head_parts(task) if kind == "task" and task in model.objectives else (name,)


def _check_trainable(model: SkillNet, task: str, frozen: Collection[str]) -> None:
    sizes = parameters_by_part(model)
    if not any(sizes.get(part) and part not in frozen for part in model.activated_parts(task)):
        raise UserError(f"freeze: nothing is left to train for task '{task}': leave one of its parts out of freeze")


def start_from_pretrained(
    plan: StagePlan, model: SkillNet, folder: StageFolder, ranks: Ranks, registry: Registry
) -> list[str]:
    """Start what the recipe's ``[init]`` names, write ``init.json``, and return the report in a few lines.

    Raises:
        UserError: as :func:`skillnet_cli.model.init.initialise`.
    """
    report = initialise(model, plan.recipe.init, registry)
    if ranks.is_main:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(folder.init, report.document())
    return [*report.lines(), f"  all of them by name: {folder.init}"]


def origin(plan: StagePlan, run: RunFolder) -> Path | None:
    """The model that ``finetune.start_from`` means for this run, None for fresh parameters; pretraining starts fresh.

    Raises:
        UserError: the recipe has a pretraining that this run has not finished.
    """
    wanted = getattr(plan.stage, "start_from", "fresh")
    if wanted == "fresh" or (wanted == "pretrain" and plan.recipe.pretrain is None):
        return None
    if wanted != "pretrain":
        return Path(wanted)
    folder = run.stage("pretrain").model
    if not folder.exists():
        raise UserError(
            f"finetune.start_from = 'pretrain', and {run.path} has no finished pretraining: "
            "run skillnet pretrain first, or add --set finetune.start_from=fresh"
        )
    return folder


def build_model(plan: StagePlan, start: Path | None, registry: Registry) -> tuple[SkillNet, list[str]]:
    """The model with its first parameters, and the names of those that ``start`` does not have (they are fresh).

    Raises:
        UserError: ``start`` holds no model, or one of another size.
    """
    torch.manual_seed(plan.recipe.seed)
    model = SkillNet(plan.config)
    if start is None:
        return model, []
    saved = SkillNet.from_pretrained(start, registry=registry)
    fresh = load_full_tensors(model, saved.state_dict(), str(start))
    _inherit_weights(model, weight_inheritance(plan))
    return model, fresh


def precision_of(plan: StagePlan, ranks: Ranks, checkpoint: Checkpoint | None) -> str:
    """What a stage computes in. ``auto`` is settled by the main process at its start, and kept by its checkpoints."""
    if plan.stage.precision != "auto":
        return plan.stage.precision
    if checkpoint:
        return str(checkpoint.state()["precision"])
    wants_bf16 = ranks.is_main and default_precision(ranks.device) == "bf16"
    return "bf16" if ranks.sum(torch.tensor([float(wants_bf16)], device=ranks.device)) else "fp32"


def strategy_of(plan: StagePlan, model: SkillNet, ranks: Ranks, checkpoint: Checkpoint | None) -> str:
    """How the model is laid out over the ranks. ``auto`` is settled at the start, and kept while they are as many."""
    state = checkpoint.state() if checkpoint else {}
    if plan.stage.strategy == "auto" and state.get("world") == ranks.world:
        return str(state["strategy"])
    return settle_strategy(plan.stage.strategy, sum(each.numel() for each in model.parameters()), ranks)


def setup_training(plan: StagePlan, model: SkillNet, ranks: Ranks, precision: str, strategy: str) -> Updater:
    """Lay the model out over the ranks and give it an optimizer."""
    model.to(ranks.device).train()
    distribute(model, ranks, strategy)
    optimizer, wanted = build_optimizer(model, plan.stage.optimizer), plan.stage.average
    average = MovingAverage(model, wanted.decay) if isinstance(wanted, EmaSection) else None
    return Updater(model, optimizer, plan.stage, precision, plan.recipe.seed, ranks, average=average, strategy=strategy)


def open_writer(updater: Updater, plan: StagePlan, folder: StageFolder) -> CheckpointWriter:
    """What saves this stage's state into its folder. All ranks must call this together."""
    return CheckpointWriter(
        folder.checkpoints,
        updater.ranks,
        plan.stage.checkpoints,
        sharded=updater.strategy == "fsdp" and updater.ranks.world > 1,
        describe=partial(write_description, copy.deepcopy(plan.config), plan.readers),
    )


def save_checkpoint(saver: CheckpointWriter, updater: Updater, plan: StagePlan) -> Saved | None:
    """Begin a checkpoint of this step. All ranks must call this together. Raises and returns as Saver.save."""
    state = {
        "progress": asdict(updater.progress),
        "precision": updater.precision,
        "strategy": updater.strategy,
        "world": updater.ranks.world,
        "data": plan.data,
        "trained_by": trained_by(plan.recipe, plan.name),
    }
    return saver.save(updater.progress.step, saved_tensors(updater), state)


def saved_tensors(updater: Updater) -> dict[str, dict[str, Tensor]]:
    """All tensors of a training, as this rank holds them."""
    tensors = {
        MODEL: updater.model.state_dict(),
        OPTIMIZER: optimizer_tensors(updater.model, updater.optimizer),
    }
    return tensors if updater.average is None else {**tensors, AVERAGE: updater.average.tensors}


def resume(updater: Updater, checkpoint: Checkpoint) -> None:
    """Put the state of a checkpoint in place, to the bit, however many processes it was saved by.

    Raises:
        FailedJob: a file of it was altered or a tensor is not finite.
    """
    checkpoint.verify(updater.ranks.rank, updater.ranks.world)
    source = str(checkpoint.folder)
    restore_tensors(updater.model.state_dict(), checkpoint.sharded(MODEL), source)
    restore_optimizer(updater.model, updater.optimizer, checkpoint.sharded(OPTIMIZER), source)
    if updater.average is not None:
        restore_tensors(updater.average.tensors, checkpoint.sharded(AVERAGE), source)
    updater.progress = Progress(**checkpoint.state()["progress"])

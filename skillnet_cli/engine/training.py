"""A stage under way: the model, the optimizer and the position, and how they start, are saved and go on."""

from __future__ import annotations

import copy
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from skillnet_cli.api import UserError
from skillnet_cli.engine.averaging import MovingAverage
from skillnet_cli.engine.folders import RunFolder, StageFolder
from skillnet_cli.engine.lineage import ancestors, inherit
from skillnet_cli.engine.optimizer import build_optimizer
from skillnet_cli.engine.plan import StagePlan
from skillnet_cli.engine.ranks.distribution import Ranks, distribute, settle_strategy
from skillnet_cli.engine.resuming import trained_by
from skillnet_cli.engine.saving.checkpoints import AVERAGE, MODEL, OPTIMIZER, Checkpoint
from skillnet_cli.engine.saving.saver import Saved, Saver
from skillnet_cli.engine.saving.slices import is_divided
from skillnet_cli.engine.saving.state import (
    load_model_tensors,
    model_tensors,
    optimizer_tensors,
    restore_optimizer,
    restore_tensors,
)
from skillnet_cli.engine.update import Progress, Updater
from skillnet_cli.model.folder import load_model, write_description
from skillnet_cli.model.precision import default_precision
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import Registry
from skillnet_cli.recipe.schema import EmaSection


def origin(plan: StagePlan, run: RunFolder) -> Path | None:
    """The model that ``finetune.init`` means for this run, None for fresh parameters; pretraining starts fresh.

    Raises:
        UserError: the recipe has a pretraining that this run has not finished.
    """
    wanted = getattr(plan.stage, "init", "fresh")
    if wanted == "fresh" or (wanted == "pretrain" and plan.recipe.pretrain is None):
        return None
    if wanted != "pretrain":
        return Path(wanted)
    folder = run.stage("pretrain").model
    if not folder.exists():
        raise UserError(
            f"finetune.init = 'pretrain', and {run.path} has no finished pretraining: "
            "run skillnet pretrain first, or add --set finetune.init=fresh"
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
    saved, _ = load_model(start, registry)
    fresh = load_model_tensors(model, saved.state_dict(), str(start))
    inherit(model, ancestors(plan))
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


def begin(plan: StagePlan, model: SkillNet, ranks: Ranks, precision: str, strategy: str) -> Updater:
    """Lay the model out over the ranks and give it an optimizer."""
    model.to(ranks.device).train()
    distribute(model, ranks, strategy)
    optimizer, wanted = build_optimizer(model, plan.stage.optimizer), plan.stage.average
    average = MovingAverage(model, wanted.decay) if isinstance(wanted, EmaSection) else None
    return Updater(model, optimizer, plan.stage, precision, plan.recipe.seed, ranks, average=average, strategy=strategy)


def open_saver(updater: Updater, plan: StagePlan, folder: StageFolder) -> Saver:
    """What saves this stage's state into its folder. All ranks must call this together."""
    return Saver(
        folder.checkpoints,
        updater.ranks,
        plan.stage.checkpoints,
        divided=any(map(is_divided, updater.model.parameters())),
        describe=partial(write_description, copy.deepcopy(plan.config), plan.readers),
    )


def begin_save(saver: Saver, updater: Updater, plan: StagePlan) -> Saved | None:
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
        MODEL: model_tensors(updater.model),
        OPTIMIZER: optimizer_tensors(updater.model, updater.optimizer),
    }
    return tensors if updater.average is None else {**tensors, AVERAGE: updater.average.tensors}


def go_on(updater: Updater, checkpoint: Checkpoint) -> None:
    """Put the state of a checkpoint in place, to the bit, however many processes it was saved by.

    Raises:
        FailedJob: a file of it was altered or a tensor is not finite.
    """
    checkpoint.verify(updater.ranks.rank, updater.ranks.world)
    source = str(checkpoint.folder)
    restore_tensors(model_tensors(updater.model), checkpoint.slices(MODEL), source)
    restore_optimizer(updater.model, updater.optimizer, checkpoint.slices(OPTIMIZER), source)
    if updater.average is not None:
        restore_tensors(updater.average.tensors, checkpoint.slices(AVERAGE), source)
    updater.progress = Progress(**checkpoint.state()["progress"])

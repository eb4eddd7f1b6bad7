"""How a stage starts or resumes: the model's first parameters, frozen parts, precision and layout, the saved state."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.engine.checkpoint.format import Checkpoint, Checkpoints, skipping
from skillnet_cli.engine.checkpoint.state import load_full_tensors, saved_state
from skillnet_cli.engine.checkpoint.writer import CheckpointWriter, Saved
from skillnet_cli.engine.consistency import trained_by
from skillnet_cli.engine.distributed.mesh import Ranks, distribute, fitting_strategy, memory_of
from skillnet_cli.engine.plan import StagePlan
from skillnet_cli.engine.step import MovingAverage, Updater, build_optimizer
from skillnet_cli.engine.telemetry import banner, log_lines
from skillnet_cli.files import write_json
from skillnet_cli.model.device import default_precision
from skillnet_cli.model.init import initialise
from skillnet_cli.model.parts import parameters_by_part, part_of
from skillnet_cli.model.persistence import write_description
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import Registry, suggest
from skillnet_cli.recipe.schema import EmaSection
from skillnet_cli.runs import RunFolder, StageFolder


def newest_sound(checkpoints: Checkpoints, ranks: Ranks) -> Checkpoint | None:
    """The newest checkpoint that is as it was written, to the last byte; None where there has never been one.

    Damaged ones that are newer are said. The ranks share the reading, and must call this together.

    Raises:
        FailedJob: there were some, and all of them are damaged; or one may hold pickled objects.
    """
    log_lines(ranks, checkpoints.damaged())
    newest_first = sorted(checkpoints.complete(), key=lambda checkpoint: -checkpoint.step)
    for checkpoint in newest_first:
        checkpoint.refuse_pickles()
        wrong = next(filter(None, ranks.gather(checkpoint.mismatch(ranks.rank, ranks.world))), None)
        if wrong is None:
            return checkpoint
        log_lines(ranks, [skipping(checkpoint, wrong)])
    if newest_first or any(checkpoints.damaged()):
        raise FailedJob(f"no checkpoint in {checkpoints.root} is sound: delete that folder to start again")
    return None


def start_or_resume(
    plan: StagePlan, run: RunFolder, ranks: Ranks, checkpoint: Checkpoint | None, registry: Registry
) -> Updater:
    """Build all that a stage trains, in the state of its newest checkpoint if there is one, and print the banner.

    Args:
        plan: of the stage.
        run: the run's folder; what ``[init]`` did is written there.
        ranks: all of them must call this together.
        checkpoint: to resume from, None to start.
        registry: the installed plugins.

    Raises:
        UserError: the model to start from is missing or does not fit, or a part to freeze does not exist.
        FailedJob: the checkpoint is damaged.
    """
    start = None if checkpoint else _model_to_start_from(plan, run)
    model, missing = build_model(plan, start, registry)
    freeze(model, plan.stage.freeze, plan.tasks)
    precision, strategy = choose_precision(plan, ranks, checkpoint), choose_strategy(plan, model, ranks, checkpoint)
    layout = f"{precision}, {strategy}" if ranks.world > 1 else precision
    log_lines(ranks, banner(plan, model, ranks, layout, checkpoint.folder if checkpoint else start, missing))
    if plan.recipe.init and not checkpoint and not start:
        folder = run.stage(plan.name)
        report = initialise(model, plan.recipe.init, registry)
        if ranks.is_main:
            folder.path.mkdir(parents=True, exist_ok=True)
            write_json(folder.init, report.document())
        log_lines(ranks, [*report.lines(), f"  all of them by name: {folder.init}"])
    updater = setup_training(plan, model, ranks, precision, strategy)
    if checkpoint:
        updater.restore(checkpoint)
    return updater


def _model_to_start_from(plan: StagePlan, run: RunFolder) -> Path | None:
    """The model that ``finetune.start_from`` names, None for newly initialised parameters, as pretraining has them."""
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
    """The model with its first parameters, and the names of those that ``start`` does not have.

    Args:
        plan: of the stage.
        start: the folder of a model, None for newly initialised parameters.
        registry: the installed plugins.

    Raises:
        UserError: ``start`` holds no model, or one of another size.
    """
    torch.manual_seed(plan.recipe.seed)
    model = SkillNet(plan.config, registry)
    if start is None:
        return model, []
    saved = SkillNet.from_pretrained(start, registry=registry)
    missing = load_full_tensors(model, saved.state_dict(), str(start))
    for task, (source, places) in plan.weight_inheritance().items():
        theirs = model.towers_of(source)
        for skills, tower, place in zip(model.task(task).towers, model.towers_of(task), places, strict=True):
            tower.encoder.load_state_dict(theirs[place].encoder.state_dict())
            for skill in skills:
                tower.embedders[skill].load_state_dict(theirs[place].embedders[skill].state_dict())
    return model, missing


def freeze(model: SkillNet, parts: Iterable[str], tasks: Iterable[str]) -> None:
    """Make constants of the parameters of some parts: no gradient is computed, kept or communicated for them.

    Args:
        model: whose parts they are.
        parts: as in a recipe; ``task:T`` means all heads that the task T uses, and with them those of tasks that use
            the same ones.
        tasks: those that shall be trained.

    Raises:
        UserError: the model has no such part, or one of ``tasks`` has nothing left to train.
    """
    frozen = {part for name in parts for part in _parts_named(model, name)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) not in frozen)
    for task in tasks:
        _check_trainable(model, task, frozen)


def _parts_named(model: SkillNet, name: str) -> Iterator[str]:
    known = [*parameters_by_part(model), *(f"task:{task}" for task in model.objectives)]
    if name not in known:
        raise UserError(f"freeze: the model has no part '{name}'{suggest(name, known)}")
    kind, _, task = name.partition(":")
    yield from model.head_parts(task) if kind == "task" and task in model.objectives else (name,)


def _check_trainable(model: SkillNet, task: str, frozen: Collection[str]) -> None:
    sizes = parameters_by_part(model)
    if not any(sizes.get(part) and part not in frozen for part in model.activated_parts(task)):
        raise UserError(f"freeze: nothing is left to train for task '{task}': leave one of its parts out of freeze")


def choose_precision(plan: StagePlan, ranks: Ranks, checkpoint: Checkpoint | None) -> str:
    """What a stage computes in. ``auto`` is settled by the main rank at the start, and kept by its checkpoints.

    Args:
        plan: of the stage.
        ranks: all of them must call this together.
        checkpoint: that the stage resumes from.
    """
    if plan.stage.precision != "auto":
        return plan.stage.precision
    if checkpoint:
        return str(saved_state(checkpoint)["precision"])
    wants_bf16 = ranks.is_main and default_precision(ranks.device) == "bf16"
    return "bf16" if ranks.sum(torch.tensor([float(wants_bf16)], device=ranks.device)) else "fp32"


def choose_strategy(plan: StagePlan, model: SkillNet, ranks: Ranks, checkpoint: Checkpoint | None) -> str:
    """How the model is laid out over the ranks. ``auto`` is settled at the start, and kept while they are as many.

    Args:
        plan: of the stage.
        model: in one piece.
        ranks: all of them must call this together.
        checkpoint: that the stage resumes from.
    """
    state = saved_state(checkpoint) if checkpoint else {}
    if plan.stage.strategy == "auto" and state.get("world") == ranks.world:
        return str(state["strategy"])
    if plan.stage.strategy != "auto":
        return plan.stage.strategy
    memory = min(ranks.gather(memory_of(ranks.device)))  # all ranks must choose the same, and each must have the room
    return fitting_strategy("auto", sum(each.numel() for each in model.parameters()), memory)


def setup_training(plan: StagePlan, model: SkillNet, ranks: Ranks, precision: str, strategy: str) -> Updater:
    """Lay the model out over the ranks and give it an optimizer.

    Args:
        plan: of the stage.
        model: in one piece, on the CPU; frozen parts are frozen.
        ranks: all of them must call this together.
        precision: ``"bf16"`` or ``"fp32"``.
        strategy: ``"replicate"`` or ``"fsdp"``.
    """
    model.to(ranks.device).train()
    distribute(model, ranks, strategy)
    # Made after the layout: their tensors are laid out as the parameters are.
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


def save_checkpoint(writer: CheckpointWriter, updater: Updater, plan: StagePlan) -> Saved | None:
    """Begin a checkpoint of this step. All ranks must call this together.

    Args:
        writer: of the stage's folder.
        updater: what is saved.
        plan: what it was trained by.

    Returns:
        The checkpoint before, if that is complete now.

    Raises:
        FailedJob: the checkpoint before could not be written.
    """
    state = {
        "progress": asdict(updater.progress),
        "precision": updater.precision,
        "strategy": updater.strategy,
        "world": updater.ranks.world,
        "data": plan.data or None,
        "trained_by": trained_by(plan.recipe, plan.name),
    }
    return writer.save(updater.progress.step, updater.tensors(), state)


_REFUSED = re.compile(r"^(.+?) does not have a deterministic implementation")
"""How the error of torch.use_deterministic_algorithms begins (seen with torch 2.11)."""


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Use only operations that give the same bits every time (``train.deterministic``); a CPU does so in any case.

    Raises:
        UserError: an operation has no such form on this device.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses to be deterministic
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        refused = _REFUSED.match(str(error))
        if not refused:
            raise
        raise UserError(
            f"train.deterministic: {refused[1]} cannot be computed to the same bits on this device; leave out the "
            "task that needs it, or continue with --set train.deterministic=false"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]

"""A stage of training from its recipe to its model: the one loop of the project."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from skillnet_cli.api import FailedJob
from skillnet_cli.data.pipeline import TaskBatch
from skillnet_cli.engine.checkpoint.best import Best
from skillnet_cli.engine.checkpoint.format import Checkpoint, Checkpoints
from skillnet_cli.engine.checkpoint.state import full_tensors, load_full_tensors
from skillnet_cli.engine.checkpoint.writer import Saved
from skillnet_cli.engine.consistency import check_same, checked_plan, shard_digests
from skillnet_cli.engine.distributed.mesh import Ranks, process_group
from skillnet_cli.engine.loader import step_dataset, steps, worker_errors
from skillnet_cli.engine.meter import Meter
from skillnet_cli.engine.plan import StagePlan
from skillnet_cli.engine.setup import (
    build_model,
    freeze,
    open_writer,
    origin,
    precision_of,
    resume,
    save_checkpoint,
    setup_training,
    start_from_pretrained,
    strategy_of,
)
from skillnet_cli.engine.signals import Stopped, StopSignals
from skillnet_cli.engine.step import Outcome, Updater, averaged_checkpoints, deterministic, take_mean
from skillnet_cli.engine.telemetry import Silence, Telemetry, banner, log_lines, mix_lines, realised_mix
from skillnet_cli.evaluation.evaluate import evaluate
from skillnet_cli.files import disk_errors
from skillnet_cli.model.card import write_card
from skillnet_cli.model.persistence import fingerprint, save_model
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import Registry, load_registry
from skillnet_cli.recipe import Recipe, dump_toml
from skillnet_cli.recipe.schema import LastSection
from skillnet_cli.runs import Result, RunFolder, read_metrics, record_results


def measure(model: SkillNet, plan: StagePlan, limit: int | None, precision: str) -> list[Result]:
    """Every task of the stage on every dev split that its sets have, on at most ``limit`` items of each.

    Those are drawn by the recipe's seed, the same each time. No random number that training uses is drawn: every step
    seeds its own. ``precision`` is the one that the stage trains in, so that figures of one run can be compared
    wherever it goes on.
    """
    return [
        evaluate(model, plan.readers, task.config, split, limit=limit, seed=plan.recipe.seed, precision=precision)
        for task in plan.tasks.values()
        for split in task.dev_splits()
    ]


@contextmanager
def _shown(updater: Updater, plan: StagePlan) -> Iterator[SkillNet | None]:
    """The model that is measured and exported: with averaged parameters where updates are averaged.

    It is in one piece on the main rank, None on the others. All ranks must enter and leave together.
    """
    with updater.average.in_place() if updater.average is not None else nullcontext():
        yield _gathered(updater.model, plan, updater.ranks)


def _gathered(model: SkillNet, plan: StagePlan, ranks: Ranks) -> SkillNet | None:
    """The model in one piece on the main rank, None on the others. All ranks must call this together.

    Alone, it is the very model that trains.
    """
    if ranks.world == 1:
        return model
    tensors = full_tensors(model, ranks.is_main)
    if not ranks.is_main:
        return None
    copy = SkillNet(plan.config)
    copy.to(ranks.device)
    load_full_tensors(copy, tensors, "the trained model")
    return copy


def run_stage(recipe: Recipe, stage: str, run: Path, roots: Sequence[Path], allow_data_change: bool = False) -> None:
    """Train ``stage`` (``"pretrain"`` or ``"finetune"``) of a recipe in the folder ``run``, or go on with it.

    Every process of a torch elastic launch makes this same call. A stage that has finished says so and returns.

    Raises:
        UserError: the stage cannot work, or the folder holds one trained by another recipe or on other data.
        FailedJob: too many updates in a row were not finite, a checkpoint cannot be written, or a process is lost.
        Stopped: SIGTERM or SIGINT came; the state is saved.
    """
    logging.disable_progress_bar()
    folder, registry = RunFolder(run), load_registry()
    checkpoints = Checkpoints(folder.stage(stage).checkpoints)
    checkpoint = checkpoints.latest()
    if checkpoint:
        check_same(recipe, stage, checkpoint.state()["trained_by"], folder.stage(stage).path)
    settings = recipe.stages()[stage]
    with StopSignals() as signals, process_group(settings.timeout) as ranks, deterministic(settings.deterministic):
        log_lines(ranks, list(checkpoints.damaged()))
        ranks.check_same({f"the newest checkpoint in {folder.path}": checkpoint.step if checkpoint else None})
        if checkpoint and folder.stage(stage).model.exists():
            return log_lines(ranks, [f"{stage} has finished already: {folder.stage(stage).model}"])
        plan, changes = checked_plan(recipe, stage, registry, roots, ranks.world, checkpoint, allow_data_change)
        ranks.check_same({f"the shards of '{name}'": digest for name, digest in shard_digests(plan).items()})
        updater = _start(plan, folder, ranks, checkpoint, registry)
        with _telemetry(plan, folder, updater) as telemetry, worker_errors():
            for change in changes:
                telemetry.noted("data", updater.progress.step, f"the data has changed: {change}", change=change)
            _train(plan, updater, folder, registry, signals, telemetry)
            _finish(plan, updater, folder, registry, telemetry)


def _start(
    plan: StagePlan, folder: RunFolder, ranks: Ranks, checkpoint: Checkpoint | None, registry: Registry
) -> Updater:
    start = None if checkpoint else origin(plan, folder)
    model, fresh = build_model(plan, start, registry)
    freeze(model, plan.stage.freeze, plan.tasks)
    precision, strategy = precision_of(plan, ranks, checkpoint), strategy_of(plan, model, ranks, checkpoint)
    source = checkpoint.folder if checkpoint else start
    how = f"{precision}, {strategy}" if ranks.world > 1 else precision
    log_lines(ranks, banner(plan, model, ranks, how, source, fresh))
    if plan.recipe.init and not checkpoint and not start:
        log_lines(ranks, start_from_pretrained(plan, model, folder.stage(plan.name), ranks, registry))
    updater = setup_training(plan, model, ranks, precision, strategy)
    if checkpoint:
        resume(updater, checkpoint)
    if ranks.is_main:
        folder.keep_recipe(dump_toml(plan.recipe.model_dump(mode="json", exclude_none=True)))
    return updater


def _train(
    plan: StagePlan,
    updater: Updater,
    folder: RunFolder,
    registry: Registry,
    signals: StopSignals,
    telemetry: Telemetry | Silence,
) -> None:
    """All steps from the updater's position to the stage's last: read, update, write down, measure, save."""
    stage = plan.stage
    dataset = step_dataset(plan, registry, updater.ranks)
    clock, meter = _Clock(), Meter(updater.model, plan.config, updater.ranks, updater.precision)
    telemetry.began(updater.progress.step, world=updater.ranks.world, precision=updater.precision, peak=meter.peak)
    with open_writer(updater, plan, folder.stage(plan.name)) as saver:
        for step, batches in steps(dataset, updater.progress.step, stage.steps, stage.workers):
            waited = clock.lap()
            updater.ranks.reached(step + 1)
            if stage.debug:
                _audit(updater, batches[0].task, dataset.places(step)[1], sum(len(batch.ids) for batch in batches))
            outcome = updater.update(batches, signals.received)
            done = step + 1
            seconds = waited + clock.lap()
            work = meter.lap(seconds, plan.tasks[outcome.task].settings.batch)
            skipped = updater.progress.skipped
            _write_down(telemetry, done, outcome, batches, data_wait=waited, seconds=seconds, skipped=skipped, **work)
            _tell(telemetry, saver.check())
            if updater.progress.skipped_in_row >= stage.max_skipped_updates:
                _tell(telemetry, saver.wait())
                limit = stage.max_skipped_updates
                raise FailedJob(f"step {done}: the last {limit} updates were not finite: lower the lr")
            if stage.eval and done % stage.eval.every == 0 and done < stage.steps:
                _measure(plan, updater, folder, registry, telemetry)
            if done % stage.checkpoints.every == 0 or done == stage.steps or outcome.stop:
                _tell(telemetry, save_checkpoint(saver, updater, plan))
            if outcome.stop:
                _tell(telemetry, saver.wait())
                raise Stopped(outcome.stop, f"stopped after step {done} of {stage.steps}: run it again to go on")
            clock.lap()
        _tell(telemetry, saver.wait())


def _finish(
    plan: StagePlan, updater: Updater, folder: RunFolder, registry: Registry, telemetry: Telemetry | Silence
) -> None:
    """Measure the result, write it as a model, and make it the run's."""
    stage = plan.stage
    if isinstance(stage.average, LastSection):
        found = list(Checkpoints(folder.stage(plan.name).checkpoints).complete())
        take_mean(updater.model, averaged_checkpoints(found, stage.checkpoints.every, stage.average.count, stage.steps))
    results = _measure(plan, updater, folder, registry, telemetry)
    with _shown(updater, plan) as model:
        if model is not None:
            target = folder.stage(plan.name).model
            with disk_errors(target):
                save_model(model, plan.readers, target)
                folder.publish(target)
            write_card(folder.model, record_results(folder.path, results, fingerprint(folder.model)))
            mix = realised_mix(plan, read_metrics(folder.stage(plan.name).metrics))
            telemetry.noted("mix", updater.progress.step, "\n".join(["trained", *mix_lines(mix)]), tasks=mix)
            telemetry.note(f"{plan.name} has finished: {folder.model}")
        updater.ranks.wait()


def _measure(
    plan: StagePlan, updater: Updater, folder: RunFolder, registry: Registry, telemetry: Telemetry | Silence
) -> list[Result]:
    """Measure all tasks, write the figures down, and keep the model where it is the best so far."""
    stage, step = plan.stage, updater.progress.step
    if stage.eval is None:
        return []
    best = Best(folder.stage(plan.name), stage.checkpoints.best, plan.readers, registry)
    with _shown(updater, plan) as model:
        results = measure(model, plan, stage.eval.items, updater.precision) if model is not None else []
        for result in results:
            telemetry.measured(step, result.task, result.set, result.metrics, result.items)
        for line in best.consider(step, results, model) if model is not None else ():
            telemetry.note(line)
        updater.ranks.wait()
    return results


def _tell(telemetry: Telemetry | Silence, saved: Saved | None) -> None:
    if saved is not None:
        telemetry.saved(saved.step, held=saved.held, seconds=saved.seconds)


def _write_down(
    telemetry: Telemetry | Silence, step: int, outcome: Outcome, batches: Sequence[TaskBatch], **numbers: Any
) -> None:
    facts = {"lr": outcome.lr, "grad_norm": outcome.grad_norm, "count": outcome.count, **numbers}
    if outcome.duplicates is not None:
        facts["duplicates"] = outcome.duplicates
    telemetry.trained(step, outcome.task, outcome.loss, **facts)
    if not outcome.applied:
        text = f"step {step}: {outcome.task} had no finite loss or gradient; the update is left out"
        telemetry.noted("skipped", step, text, task=outcome.task)
    for item, reason in (each for batch in batches for each in batch.damaged):
        text = f"step {step}: {outcome.task}: item {item} is replaced: {reason}"
        telemetry.noted("damaged", step, text, task=outcome.task, id=item, reason=reason)


def _telemetry(plan: StagePlan, folder: RunFolder, updater: Updater) -> AbstractContextManager[Telemetry | Silence]:
    if not updater.ranks.is_main:
        return Silence()
    return Telemetry(folder.stage(plan.name), plan.name, updater.progress.step, plan.stage.steps)


class _Clock:
    """Seconds since the last lap."""

    def __init__(self) -> None:
        self.last = time.perf_counter()

    def lap(self) -> float:
        """Begin a new lap; returns the length of the last one in seconds."""
        last, self.last = self.last, time.perf_counter()
        return self.last - last


AUDIT_EVERY = 10
"""Steps from one comparison of the copies' parameters to the next."""


def _audit(updater: Updater, task: str, places: Sequence[Any], items: int) -> None:
    """Before an update (``train.debug``): the same step and task, the same global batch, the same parameters.

    Args:
        updater: about to make the update.
        task: of this rank's batches.
        places: of the step's global batch in the task's stream.
        items: how many of them are this rank's.
    """
    step, when = updater.progress.step, f"before step {updater.progress.step + 1}"
    if updater.ranks.world == 1:
        return
    facts = {"step": step + 1, "task": task, "global batch": hash(tuple(places)), "items": items}
    updater.ranks.check_same(facts, when)
    if step % AUDIT_EVERY == 0 and updater.strategy == "replicate":
        updater.ranks.check_same({f"parameter {name}": total for name, total in _checksums(updater)}, when)


def _checksums(updater: Updater) -> Iterator[tuple[str, int]]:
    """The sum of each parameter's bits on this rank."""
    for name, parameter in updater.model.named_parameters():
        held = parameter.to_local() if hasattr(parameter, "to_local") else parameter
        yield name, int(held.detach().view(torch.int32).sum(dtype=torch.int64))

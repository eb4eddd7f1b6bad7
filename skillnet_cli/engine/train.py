"""A stage of training from its recipe to its model: the one loop of the project."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from transformers.utils import logging

from skillnet_cli.api import FailedJob
from skillnet_cli.data.pipeline import TaskBatch
from skillnet_cli.engine import checkpoints
from skillnet_cli.engine.allocator import keep_freed_memory
from skillnet_cli.engine.checks import check_plan
from skillnet_cli.engine.distribution import Ranks, process_group
from skillnet_cli.engine.folders import RunFolder
from skillnet_cli.engine.freezing import freeze
from skillnet_cli.engine.initialising import start_from_pretrained
from skillnet_cli.engine.measuring import gathered, measure
from skillnet_cli.engine.meter import Meter
from skillnet_cli.engine.plan import StagePlan, plan_stage
from skillnet_cli.engine.reading import deaths_told, step_dataset, steps
from skillnet_cli.engine.resuming import check_same
from skillnet_cli.engine.startline import say, start_lines
from skillnet_cli.engine.stopping import Stopped, StopSignals
from skillnet_cli.engine.telemetry import Silence, Telemetry
from skillnet_cli.engine.training import begin, build_model, go_on, origin, precision_of, save
from skillnet_cli.engine.update import Outcome, Updater
from skillnet_cli.evaluation.result import Result, record_results
from skillnet_cli.model.folder import fingerprint, save_model, write_card
from skillnet_cli.plugins import Registry, load_registry
from skillnet_cli.recipe import Recipe


def run_stage(recipe: Recipe, stage: str, run: Path, roots: Sequence[Path]) -> None:
    """Train ``stage`` (``"pretrain"`` or ``"finetune"``) of a recipe in the folder ``run``, or go on with it.

    Every process of a torch elastic launch makes this same call. A stage that has finished says so and returns.

    Raises:
        UserError: the stage cannot work, or the folder holds one trained by another recipe.
        FailedJob: too many updates in a row were not finite, or a checkpoint cannot be written.
        Stopped: SIGTERM or SIGINT came; the state is saved.
    """
    logging.disable_progress_bar()
    folder, registry = RunFolder(run), load_registry()
    checkpoint = checkpoints.latest(folder.stage(stage).checkpoints)
    if checkpoint:
        check_same(recipe, stage, checkpoint.state()["trained_by"], folder.stage(stage).path)
    with StopSignals() as signals, process_group() as ranks:
        if checkpoint and folder.stage(stage).model.exists():
            return say(ranks, [f"{stage} has finished already: {folder.stage(stage).model}"])
        plan = plan_stage(recipe, stage, registry, roots)
        check_plan(plan, ranks.world)
        if ranks.device.type == "cpu":
            keep_freed_memory()
        updater = _start(plan, folder, ranks, checkpoint, registry)
        with _telemetry(plan, folder, updater) as telemetry, deaths_told():
            train(plan, updater, folder, registry, signals, telemetry)
            finish(plan, updater, folder, telemetry)


def _start(
    plan: StagePlan, folder: RunFolder, ranks: Ranks, checkpoint: checkpoints.Checkpoint | None, registry: Registry
) -> Updater:
    start = None if checkpoint else origin(plan, folder)
    model, fresh = build_model(plan, start, registry)
    freeze(model, plan.stage.freeze, plan.tasks)
    precision = precision_of(plan, ranks, checkpoint)
    say(ranks, start_lines(plan, model, ranks, precision, checkpoint.folder if checkpoint else start, fresh))
    if plan.recipe.init and not checkpoint and not start:
        say(ranks, start_from_pretrained(plan, model, folder.stage(plan.name), ranks, registry))
    updater = begin(plan, model, ranks, precision)
    if checkpoint:
        go_on(updater, checkpoint)
    if ranks.is_main:
        folder.keep_recipe(plan.recipe)
    return updater


def train(
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
    clock, meter = Clock(), Meter(updater.model, plan.config, updater.ranks, updater.precision)
    telemetry.began(updater.progress.step, world=updater.ranks.world, precision=updater.precision, peak=meter.peak)
    for step, batches in steps(dataset, updater.progress.step, stage.steps, stage.workers):
        waited = clock.lap()
        outcome = updater.update(batches, signals.received)
        done = step + 1
        seconds = waited + clock.lap()
        work = meter.lap(seconds, plan.tasks[outcome.task].settings.batch)
        skipped = updater.progress.skipped
        _write_down(telemetry, done, outcome, batches, data_wait=waited, seconds=seconds, skipped=skipped, **work)
        if updater.progress.skipped_in_row >= stage.patience:
            raise FailedJob(f"step {done}: the last {stage.patience} updates were not finite: lower the lr")
        if stage.eval and done % stage.eval.every == 0 and done < stage.steps:
            _measure(plan, updater, telemetry)
        if done % stage.checkpoints.every == 0 or done == stage.steps or outcome.stop:
            save(updater, plan, folder.stage(plan.name).checkpoints)
        if outcome.stop:
            raise Stopped(outcome.stop, f"stopped after step {done} of {stage.steps}: run it again to go on")
        clock.lap()


def finish(plan: StagePlan, updater: Updater, folder: RunFolder, telemetry: Telemetry | Silence) -> None:
    """Measure the result, write it as a model, and make it the run's."""
    results = _measure(plan, updater, telemetry)
    model = gathered(updater.model, plan, updater.ranks)
    if model is not None:
        target = folder.stage(plan.name).model
        save_model(model, plan.readers, target)
        folder.publish(target)
        write_card(folder.model, record_results(folder.path, results, fingerprint(folder.model)))
        telemetry.note(f"{plan.name} has finished: {folder.model}")
    updater.ranks.wait()


def _measure(plan: StagePlan, updater: Updater, telemetry: Telemetry | Silence) -> list[Result]:
    if plan.stage.eval is None:
        return []
    model = gathered(updater.model, plan, updater.ranks)
    results = measure(model, plan, plan.stage.eval.items) if model is not None else []
    for result in results:
        telemetry.measured(updater.progress.step, result.task, result.set, result.metrics, result.items)
    updater.ranks.wait()
    return results


def _write_down(
    telemetry: Telemetry | Silence, step: int, outcome: Outcome, batches: Sequence[TaskBatch], **numbers: Any
) -> None:
    facts = {"lr": outcome.lr, "grad_norm": outcome.grad_norm, "count": outcome.count, **numbers}
    telemetry.trained(step, outcome.task, outcome.loss, **facts)
    if not outcome.applied:
        text = f"step {step}: {outcome.task} had no finite loss or gradient; the update is left out"
        telemetry.noted("skipped", step, text, task=outcome.task)
    for item, reason in (damaged for batch in batches for damaged in batch.damaged):
        text = f"step {step}: {outcome.task}: item {item} is replaced: {reason}"
        telemetry.noted("damaged", step, text, task=outcome.task, id=item, reason=reason)


def _telemetry(plan: StagePlan, folder: RunFolder, updater: Updater) -> AbstractContextManager[Telemetry | Silence]:
    if not updater.ranks.is_main:
        return Silence()
    return Telemetry(folder.stage(plan.name), plan.name, updater.progress.step, plan.stage.steps)


class Clock:
    """Seconds since the last lap."""

    def __init__(self) -> None:
        self.last = time.perf_counter()

    def lap(self) -> float:
        """Begin a new lap; returns the length of the last one in seconds."""
        last, self.last = self.last, time.perf_counter()
        return self.last - last

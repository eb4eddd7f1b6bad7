"""A stage of training: :func:`run_stage` opens all that it takes, :class:`Trainer` has the one loop of the project."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

import tomli_w
import torch
from transformers.utils import logging

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.data.pipeline import TaskBatch
from skillnet_cli.data.sampler import Place
from skillnet_cli.engine.checkpoint.best import Best
from skillnet_cli.engine.checkpoint.format import Checkpoints, local_shard
from skillnet_cli.engine.checkpoint.state import full_tensors, load_full_tensors, saved_state
from skillnet_cli.engine.consistency import check_same, checked_plan, shard_digests
from skillnet_cli.engine.distributed.mesh import is_first_rank, process_group
from skillnet_cli.engine.loader import StepDataset, worker_errors
from skillnet_cli.engine.machine import clear_partials, disk_problem, machine_errors, only_trainer
from skillnet_cli.engine.meter import Meter
from skillnet_cli.engine.plan import StagePlan
from skillnet_cli.engine.setup import deterministic, newest_sound, open_writer, save_checkpoint, start_or_resume
from skillnet_cli.engine.signals import Stopped, StopSignals
from skillnet_cli.engine.step import Updater, average_checkpoints
from skillnet_cli.engine.telemetry import Telemetry, log_lines
from skillnet_cli.evaluation.evaluate import evaluate
from skillnet_cli.files import disk_errors
from skillnet_cli.model.card import write_card
from skillnet_cli.model.checkpoint import fingerprint
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import Registry
from skillnet_cli.recipe import Recipe
from skillnet_cli.recipe.schema import LastSection, Stage
from skillnet_cli.runs import Result, RunFolder, StageFolder, record_results

_AUDIT_EVERY = 10
"""Steps from one comparison of all parameters to the next (``train.debug``): it reads all of them."""


def run_stage(
    recipe: Recipe,
    stage: str,
    registry: Registry,
    run: Path,
    roots: Sequence[Path],
    allow_data_change: bool = False,
) -> None:
    """Train ``stage`` (``"pretrain"`` or ``"finetune"``) of a recipe in the folder ``run``, or resume it there.

    Every process of a torch elastic launch makes this same call. A stage that has finished prints so and returns.

    Args:
        recipe: as loaded.
        stage: one that the recipe has.
        registry: the installed plugins.
        run: the run's folder, which may not exist yet.
        roots: folders of prepared sets.
        allow_data_change: resume although the data has changed, with what there is.

    Raises:
        UserError: the stage cannot work, the folder holds one trained by another recipe or on other data, another
            process trains there, or its disk has not the room.
        FailedJob: too many updates in a row were not finite, a checkpoint cannot be written, a process is lost, the
            memory does not suffice, or all checkpoints are damaged.
        Stopped: SIGTERM or SIGINT came; the state is saved.
    """
    logging.disable_progress_bar()
    folder, settings = RunFolder(run), recipe.stages()[stage]
    checkpoints, model = Checkpoints(folder.stage(stage).checkpoints), folder.stage(stage).model
    checkpoint = checkpoints.latest()
    if checkpoint:
        with suppress(FailedJob):  # a damaged one is passed over below
            check_same(recipe, stage, saved_state(checkpoint)["trained_by"], folder.stage(stage).path)
    with ExitStack() as stack:
        if is_first_rank():
            stack.enter_context(only_trainer(run))
            clear_partials(run)
        signals = stack.enter_context(StopSignals(partial(clear_partials, run)))
        ranks = stack.enter_context(process_group(settings.timeout))
        stack.enter_context(machine_errors(run))
        stack.enter_context(deterministic(settings.deterministic))
        ranks.check_same({f"the newest checkpoint in {run}": checkpoint.step if checkpoint else None})
        if checkpoint and model.exists():
            return log_lines(ranks, [f"{stage} has finished already: {model}"])
        checkpoint = newest_sound(checkpoints, ranks)
        if checkpoint:
            check_same(recipe, stage, saved_state(checkpoint)["trained_by"], folder.stage(stage).path)
        plan, changes = checked_plan(recipe, stage, registry, roots, ranks.world, checkpoint, allow_data_change)
        ranks.check_same({f"the shards of '{name}'": digest for name, digest in shard_digests(plan).items()})
        updater = start_or_resume(plan, folder, ranks, checkpoint, registry)
        _check_disk(updater, folder.stage(stage), settings)
        if ranks.is_main:
            folder.keep_recipe(tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True)))
        start = updater.progress.step
        with Telemetry(plan, folder.stage(stage), start, ranks.is_main) as telemetry, worker_errors():
            for change in changes:
                telemetry.event("data", start, f"the data has changed: {change}", change=change)
            trainer = Trainer(plan, updater, folder, registry, telemetry)
            trainer.train(signals)
            trainer.finish()


def _check_disk(updater: Updater, folder: StageFolder, stage: Stage) -> None:
    """Raises UserError, on all ranks, where the disk has not the room that the stage needs."""
    sizes = [(each.numel(), each.requires_grad) for each in updater.model.parameters()]
    total, trained = sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains)
    problem = updater.ranks.gather(disk_problem(folder, stage, total, trained))[0]
    if problem:
        raise UserError(problem)


class Trainer:
    """Takes a stage from its updater's step to its last one, and its model into the run's folder.

    Every rank has one; all call the same methods at the same steps. Files and messages come from the main rank.
    """

    def __init__(
        self, plan: StagePlan, updater: Updater, run: RunFolder, registry: Registry, telemetry: Telemetry
    ) -> None:
        self.plan = plan
        self.updater = updater
        self.run = run
        self.registry = registry
        self.telemetry = telemetry
        self.stage = plan.stage
        self.folder = run.stage(plan.name)
        self.ranks = updater.ranks

    def train(self, signals: StopSignals) -> None:
        """All steps: get batches, update, record, evaluate, save. A signal stops it behind a step, once that is saved.

        Raises:
            FailedJob: too many updates in a row were not finite, or a checkpoint cannot be written.
            Stopped: some rank has received a signal; the state is saved.
        """
        plan, stage, updater, telemetry = self.plan, self.stage, self.updater, self.telemetry
        dataset = StepDataset.of(plan, self.registry, self.ranks)
        meter = Meter(updater.model, self.ranks, updater.precision)
        telemetry.started(updater.progress.step, world=self.ranks.world, precision=updater.precision, peak=meter.peak)
        with meter, open_writer(updater, plan, self.folder) as writer:
            asked = time.perf_counter()
            for index, batches in dataset.read_ahead(updater.progress.step, stage.steps, stage.workers):
                step = index + 1  # all that is reported counts from 1
                arrived = time.perf_counter()
                self.ranks.reached(step)
                if stage.debug:
                    self._audit(step, dataset.places(index)[1], batches)

                result = updater.update(batches, signals.received)

                now = time.perf_counter()
                timing = {"data_wait": arrived - asked, "seconds": now - asked, "skipped": updater.progress.skipped}
                timing |= meter.rates(now - asked, plan.tasks[result.task].settings.batch)
                telemetry.updated(step, result, batches, **timing)
                telemetry.saved(writer.check())
                if updater.progress.skipped_in_row >= stage.max_skipped_updates:
                    telemetry.saved(writer.wait())
                    limit = stage.max_skipped_updates
                    raise FailedJob(f"step {step}: the last {limit} updates were not finite: lower the lr")

                if stage.eval and step % stage.eval.every == 0 and step < stage.steps:
                    self.evaluate()
                if step % stage.checkpoints.every == 0 or step == stage.steps or result.stop:
                    telemetry.saved(save_checkpoint(writer, updater, plan))
                if result.stop:
                    telemetry.saved(writer.wait())
                    raise Stopped(result.stop, f"stopped after step {step} of {stage.steps}: run it again to resume")
                asked = time.perf_counter()  # evaluating and saving are no waiting for data
            telemetry.saved(writer.wait())

    def evaluate(self) -> list[Result]:
        """Evaluate every task on every dev split of its sets, and keep the model where it is the best so far.

        The ranks share the items. At most ``eval.items`` of each split are drawn by the recipe's seed, the same each
        time. No random number that
        training uses is drawn: every step seeds its own. The precision is the training's, so that figures of one run
        can be compared on whatever machine it is resumed.

        Returns:
            The results, the same on all ranks; none where the recipe wants no evaluation.
        """
        if self.stage.eval is None:
            return []
        step = self.updater.progress.step
        best = Best(self.folder, self.stage.checkpoints.best, self.plan.readers, self.registry)
        with self._result(everywhere=True) as model:
            assert model is not None
            results = [
                evaluate(
                    model, self.plan.readers, task.config, split, self.registry,
                    limit=self.stage.eval.items, seed=self.plan.recipe.seed, whole_pool=False,
                    precision=self.updater.precision, ranks=self.ranks,
                )
                for task in self.plan.tasks.values()
                for split in task.dev_splits()
            ]  # fmt: skip
            if self.ranks.is_main:
                for result in results:
                    self.telemetry.evaluated(step, result)
                for line in best.consider(step, results, model):
                    self.telemetry.message(line)
            self.ranks.wait()
        return results

    def finish(self) -> None:
        """Evaluate the result, write it as a model, and make it the run's.

        Figures on a part of a split, which ``eval.items`` may have chosen, are no results of the run: they stay in
        metrics.jsonl, as points of a curve.
        """
        stage = self.stage
        if isinstance(stage.average, LastSection):
            found, every = Checkpoints(self.folder.checkpoints).complete(), stage.checkpoints.every
            average_checkpoints(self.updater.model, found, every=every, count=stage.average.count, last=stage.steps)
        results = self.evaluate()
        with self._result(everywhere=False) as model:
            if model is not None:
                with disk_errors(self.folder.model):
                    model.save(self.folder.model, self.plan.readers)
                    self.run.publish(self.folder.model)
                whole = [result for result in results if self._is_whole(result)]
                write_card(self.run.model, record_results(self.run.path, whole, fingerprint(self.run.model)))
                self.telemetry.finished(self.updater.progress.step, self.run.model)
            self.ranks.wait()

    def _is_whole(self, result: Result) -> bool:
        """Whether a result is of all items of its split; a line says so where it is not."""
        most = self.stage.eval.items if self.stage.eval else 0
        task = self.plan.tasks[result.task]
        size = next(len(each) for each in task.dev_splits() if each.checksum == result.checksum)
        if size > most:
            place = f"{result.set}:{result.split}"
            self.telemetry.message(
                f"{result.task} was measured on {most:,} of the {size:,} items of {place} (eval.items), which is no "
                f"result yet: 'skillnet eval --task {result.task} --split {place}' measures all"
            )
        return size <= most

    @contextmanager
    def _result(self, everywhere: bool) -> Iterator[SkillNet | None]:
        """The model that is evaluated and exported: with averaged parameters where updates are averaged.

        It is in one piece, on every rank or on the main rank alone, None on the others. All ranks must enter and
        leave together. A single process has the very model that trains.
        """
        average, trained = self.updater.average, self.updater.model
        with average.swapped_in() if average is not None else nullcontext():
            if self.ranks.world == 1:
                yield trained
                return
            wanted = everywhere or self.ranks.is_main
            tensors = full_tensors(trained, wanted)
            if not wanted:
                yield None
                return
            model = SkillNet(self.plan.config, self.registry)
            model.to(self.ranks.device)
            load_full_tensors(model, tensors, "the trained model")
            yield model

    def _audit(self, step: int, places: Sequence[Place], batches: Sequence[TaskBatch]) -> None:
        """Before an update (``train.debug``): the same step and task, the same global batch, the same parameters.

        Args:
            step: counted from 1.
            places: of the step's global batch in the task's stream.
            batches: this rank's.
        """
        if self.ranks.world == 1:
            return
        items = sum(len(batch.ids) for batch in batches)
        facts = {"step": step, "task": batches[0].task, "global batch": hash(tuple(places)), "items": items}
        self.ranks.check_same(facts, f"before step {step}")
        if (step - 1) % _AUDIT_EVERY == 0 and self.updater.strategy == "replicate":
            sums = {  # of each parameter's bits
                f"parameter {name}": int(local_shard(parameter).view(torch.int32).sum(dtype=torch.int64))
                for name, parameter in self.updater.model.named_parameters()
            }
            self.ranks.check_same(sums, f"before step {step}")

"""Whether a checkpoint fits the recipe and the data at hand, and what differs if not."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from skillnet_cli.api import UserError
from skillnet_cli.data.format import ShardFacts, tables_of
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.engine.checkpoint.format import Checkpoint
from skillnet_cli.engine.checkpoint.state import saved_state
from skillnet_cli.engine.plan import TRAIN, StagePlan, plan_stage
from skillnet_cli.files import sha256_of
from skillnet_cli.plugins import Registry
from skillnet_cli.recipe import Recipe
from skillnet_cli.recipe.schema import LastSection

_MAY_CHANGE = frozenset(
    {"workers", "checkpoints", "eval", "strategy", "max_skipped_updates", "deterministic", "timeout", "debug"}
)
"""Keys of a stage that may change when a run is resumed: they do not change what is learnt."""


def trained_by(recipe: Recipe, stage: str) -> dict[str, Any]:
    """The parts of a recipe that decide what a stage learns."""
    document = recipe.model_dump(mode="json", exclude_none=True)
    settings = {key: value for key, value in document[stage].items() if key not in _MAY_CHANGE}
    if isinstance(recipe.stages()[stage].average, LastSection):  # then it matters which checkpoints there are
        settings["checkpoints"] = {"every": document[stage]["checkpoints"]["every"]}
    started = {"init": document["init"]} if recipe.init else {}
    return {"seed": document["seed"], "model": document["model"], **started, stage: settings}


def check_same(recipe: Recipe, stage: str, saved: Mapping[str, Any], folder: Path) -> None:
    """Compare a recipe with the one that wrote a checkpoint.

    Args:
        recipe: as loaded.
        stage: ``"pretrain"`` or ``"finetune"``.
        saved: what :func:`trained_by` once was.
        folder: of the stage, for the message.

    Raises:
        UserError: they differ; every key is named with both values.
    """
    wanted = trained_by(recipe, stage)
    differences = list(_differences(_completed(saved, wanted, stage), wanted))
    if differences:
        raise UserError(
            f"{folder} was trained with another recipe:\n"
            + "\n".join(f"  {line}" for line in differences)
            + f"\nput these back, choose another run with --set name=…, or delete {folder} to start again"
        )


def _completed(saved: Mapping[str, Any], wanted: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """What wrote a checkpoint, with the keys that earlier versions did not keep, as they would have been."""
    settings = dict(saved.get(stage, {}))
    for key, before in _ADDED.items():
        settings.setdefault(key, before)
    if "checkpoints" in wanted[stage]:
        settings.setdefault("checkpoints", wanted[stage]["checkpoints"])  # it was not kept: nobody can tell
    return {**saved, stage: settings}


_ADDED = {"augment": True, "mask_duplicates": True}
"""Keys of a stage that earlier versions did not have, and what these did."""


def _differences(saved: Any, wanted: Any, path: str = "") -> Iterator[str]:
    if isinstance(saved, Mapping) and isinstance(wanted, Mapping):
        for key in dict.fromkeys([*saved, *wanted]):
            yield from _differences(saved.get(key), wanted.get(key), f"{path}.{key}" if path else key)
    elif saved != wanted:
        was, is_now = ("not set" if value is None else repr(value) for value in (saved, wanted))
        yield f"{path}: was {was}, is now {is_now}"


_Broken: TypeAlias = dict[str, dict[str, str]]
"""For each set, its shards that are not as they were written, and what is wrong."""


def checked_plan(
    recipe: Recipe,
    stage: str,
    registry: Registry,
    roots: Sequence[Path],
    world: int,
    checkpoint: Checkpoint | None,
    allow_data_change: bool,
) -> tuple[StagePlan, list[str]]:
    """What the stage is going to do, and how its data has changed since the checkpoint, a line each.

    Args:
        recipe: as loaded.
        stage: ``"pretrain"`` or ``"finetune"``.
        registry: the installed plugins.
        roots: folders of prepared sets.
        world: the number of processes that train together.
        checkpoint: to resume from, None to start.
        allow_data_change: resume although the data has changed, without the shards that are broken.

    Raises:
        UserError: something cannot work, or the data has changed and that is not allowed.
    """
    saved = saved_state(checkpoint).get("data") if checkpoint else None
    plan, changes = _settle_data(plan_stage(recipe, stage, registry, roots), saved, allow_data_change)
    plan.check(world, registry)
    return plan, changes


def _settle_data(plan: StagePlan, saved: Mapping[str, Any] | None, allowed: bool) -> tuple[StagePlan, list[str]]:
    """Compare the data with its manifests and, when a run is resumed, with what the checkpoint was trained on.

    A shard counts as unchanged by its size and its time; where the time differs from the checkpoint's, by its content,
    which takes a while to read. Samples are checked again as they are read.

    Args:
        plan: the stage.
        saved: what :func:`_data_state` once was; None at the start of a run.
        allowed: resume although the data has changed, without the shards that are broken.

    Returns:
        The plan, without broken shards; and the changes, a line each.

    Raises:
        UserError: the data has changed and ``allowed`` is false, or labels have.
    """
    before = saved or _data_state(plan)
    broken = {name: _broken(each, before["shards"].get(name, {})) for name, each in _sets(plan).items()}
    left = _without(plan, broken)
    now = _data_state(left)
    relabelled = [task for task, labels in now["labels"].items() if before["labels"].get(task, labels) != labels]
    if relabelled:
        tasks = "; ".join(f"'{task}' ({', '.join(plan.tasks[task].config.datasets)})" for task in relabelled)
        raise UserError(f"the labels have changed since this run started, of task {tasks}: start another run")
    changes = list(_changes(before["shards"], now["shards"], broken))
    if changes and not allowed:
        raise UserError(
            f"the data is not {'what this run was trained on' if saved else 'as it was prepared'}:\n"
            + "\n".join(f"  {line}" for line in changes)
            + "\nput it back or prepare it again, or add --allow-data-change to train on what there is"
        )
    return dataclasses.replace(left, data=now), changes


def _data_state(plan: StagePlan) -> dict[str, Any]:
    """What a checkpoint keeps of the data: the labels of each task, and of each shard its checksum and time."""
    return {
        "labels": {name: _digest(task.config.labels) for name, task in plan.tasks.items()},
        "shards": {name: dict(_shard_states(each)) for name, each in _sets(plan).items()},
    }


def shard_digests(plan: StagePlan) -> dict[str, str]:
    """For each set a short digest of what its shards hold, to compare among ranks."""
    return {
        name: _digest([[file, state[0]] for file, state in shards.items()])[:12]
        for name, shards in plan.data["shards"].items()
    }


def _sets(plan: StagePlan) -> dict[str, PreparedSet]:
    return {name: each for task in plan.tasks.values() for name, each in task.sets.items()}


def _shards(prepared: PreparedSet) -> tuple[ShardFacts, ...]:
    split = prepared.manifest.splits.get(TRAIN)
    return split.shards if split else ()


def _shard_states(prepared: PreparedSet) -> Iterator[tuple[str, list[Any]]]:
    for shard in _shards(prepared):
        path = prepared.path / shard.file
        yield shard.file, [shard.sha256, path.stat().st_mtime_ns if path.exists() else 0]


def _broken(prepared: PreparedSet, before: Mapping[str, list[Any]]) -> dict[str, str]:
    found = {shard.file: _wrong(prepared, shard, before.get(shard.file)) for shard in _shards(prepared)}
    return {file: wrong for file, wrong in found.items() if wrong}


def _wrong(prepared: PreparedSet, shard: ShardFacts, before: list[Any] | None) -> str | None:
    path = prepared.path / shard.file
    for file in (path, *tables_of(path)):
        if not file.is_file():
            return "is missing" if file == path else f"has no {file.name}"
    facts = path.stat()
    if facts.st_size != shard.bytes:
        return f"was altered: it has {facts.st_size} bytes instead of {shard.bytes}"
    touched = before is not None and before[1] != facts.st_mtime_ns
    return "was altered: checksum mismatch" if touched and sha256_of(path) != shard.sha256 else None


def _without(plan: StagePlan, broken: _Broken) -> StagePlan:
    """The plan without the broken shards, as if they had never been prepared."""
    if not any(broken.values()):
        return plan
    left = {name: _set_without(each, broken[name]) for name, each in _sets(plan).items()}
    tasks = {
        name: dataclasses.replace(task, sets={each: left[each] for each in task.sets})
        for name, task in plan.tasks.items()
    }
    return dataclasses.replace(plan, tasks=tasks)


def _set_without(prepared: PreparedSet, broken: Mapping[str, str]) -> PreparedSet:
    if not broken:
        return prepared
    shards = tuple(shard for shard in _shards(prepared) if shard.file not in broken)
    items = sum(shard.items for shard in shards)
    split = prepared.manifest.splits[TRAIN].model_copy(update={"shards": shards, "items": items})
    splits = {**prepared.manifest.splits, TRAIN: split}
    return PreparedSet(prepared.path, prepared.manifest.model_copy(update={"splits": splits}), prepared.name)


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], broken: _Broken) -> Iterator[str]:
    for name in now:
        old, new = before.get(name, {}), now[name]
        for file in dict.fromkeys([*old, *new]):
            if file not in new:
                yield f"{name}: {file} {broken[name].get(file, 'is no longer part of the set')}"
            elif file not in old:
                yield f"{name}: {file} is new"
            elif old[file][0] != new[file][0]:
                yield f"{name}: {file} was prepared again with other content"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()

"""What only the installed plugins can say about a recipe: tasks, skills, parts, each plugin's table, ``[init]``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from skillnet_cli.api import SourceCheckpoint, Task, UserError
from skillnet_cli.plugins import Registry, resolve, suggest
from skillnet_cli.recipe.errors import Mistake, check_table, parse_table
from skillnet_cli.recipe.schema import InitSection, ModelSection
from skillnet_cli.untrusted import Untrusted, read_json

CONFIG = "config.json"
OF_PROJECTIONS = frozenset({"layers", "hidden", "heads"})
"""Sizes that matter even where the shared parts are not started from the model."""

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")


def local_folder(source: str) -> Path | None:
    """The folder that ``source`` names, or None where it is a hub's name. Raises UserError where it is neither."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if _HUB_NAME.fullmatch(source):
        return None
    raise UserError(f"'{source}' is neither a folder nor a repository on the hub (OWNER/NAME)")


def _reads_pretrained(skill: str, registry: Registry) -> str:
    """The plugin's function for pretrained models. Raises UserError where the skill's plugin has none."""
    init = registry.modality(skill).init
    if init is None:
        raise UserError(f"the plugin of skill '{skill}' reads no pretrained models")
    return init


def read_source_checkpoint(folder: Path, skill: str, embedder: Any, registry: Registry) -> SourceCheckpoint:
    """What the pretrained model in a folder can start of a skill, as the skill's plugin says.

    Args:
        folder: the model's folder, with its ``config.json``.
        skill: the skill that starts from it.
        embedder: the skill's own configuration.
        registry: the plugins.

    Raises:
        UserError: there is none, its plugin cannot read it, or the skill's plugin reads no pretrained models at all.
    """
    init = _reads_pretrained(skill, registry)
    path = folder / CONFIG
    try:
        config = read_json(path)
        if not isinstance(config, dict):
            raise Untrusted("not the configuration of a model")
        checkpoint: SourceCheckpoint = resolve(init)(config, embedder)
    except FileNotFoundError:
        raise UserError(f"not a pretrained model: {folder} has no {CONFIG}") from None
    except (OSError, Untrusted) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}") from error
    return checkpoint


def both_start_shared(other: str) -> str:
    """The message for a second source checkpoint that would start the shared parts."""
    return f'would start the shared parts, as init.{other} does: write {{ from = "…", shared = false }} for one'


STAGES = ("pretrain", "finetune")
SchemaT = TypeVar("SchemaT", bound=BaseModel)


def check_plugins(document: Mapping[str, Any], registry: Registry) -> list[Mistake]:
    """Every task, skill, data set, frozen part, embedder table and pretrained model that the plugins object to.

    The document may be wrong in every other way too: what is not a table is passed over here.
    """
    return [
        *_check_tasks(document, registry),
        *_check_freeze(document, registry),
        *_check_embedders(document, registry),
        *_check_inits(document, registry),
    ]


def needed_skills(document: Mapping[str, Any], registry: Registry) -> tuple[str, ...]:
    """The skills of a recipe's tasks and embedder tables, each once."""
    skills = [skill for _, _, task in _known_tasks(document, registry) for skill in task.skills]
    return tuple(dict.fromkeys([*skills, *_embedders(document)]))


def _check_tasks(document: Mapping[str, Any], registry: Registry) -> Iterator[Mistake]:
    for stage in STAGES:
        for name in _table(_table(document, stage), "tasks"):
            try:
                registry.task(name)
            except UserError as error:
                yield Mistake((stage, "tasks", name), str(error))
    for stage, settings, task in _known_tasks(document, registry):
        yield from _check_feeds(stage, settings, task, registry)


def _check_feeds(stage: str, settings: Any, task: Task, registry: Registry) -> Iterator[Mistake]:
    """A data set of a plugin's name that holds nothing for a skill of the task.

    A set may feed any task whose fields it has. Which it has is known once it is prepared, and looked at before the
    first step; until then the tasks that its plugin prepares it for say which skills there is something for.
    """
    names = settings.get("datasets", ()) if isinstance(settings, Mapping) else ()
    for name in names if isinstance(names, (list, Mapping)) else ():
        owned = registry.datasets.get(name) if isinstance(name, str) else None
        fed = [registry.tasks[each].value for each in owned.value.feeds if each in registry.tasks] if owned else []
        missing = [skill for skill in task.skills if not any(skill in each.skills for each in fed)]
        if owned and fed and missing:
            what = f"this data set feeds {' and '.join(owned.value.feeds)}, and has no {' and no '.join(missing)}"
            yield Mistake((stage, "tasks", task.name, "datasets", name), what)


def _check_embedders(document: Mapping[str, Any], registry: Registry) -> Iterator[Mistake]:
    tables = _embedders(document)
    for skill in needed_skills(document, registry):
        path = ("model", "embedders", skill)
        try:
            schema = resolve(registry.modality(skill).config)
        except UserError as error:
            if skill in tables:
                yield Mistake(path, str(error))
        else:
            yield from check_table(schema, tables.get(skill, {}), path)


def _check_inits(document: Mapping[str, Any], registry: Registry) -> Iterator[Mistake]:
    """Pretrained models that are not there or do not fit; a hub's are looked at once they have been fetched."""
    model = _valid(ModelSection, _table(document, "model"))
    sharing: list[str] = []
    for skill, written in _table(document, "init").items():
        section = _valid(InitSection, written)
        if section is None or model is None:
            continue
        try:
            checkpoint = _local_checkpoint(document, skill, section, registry)
        except UserError as error:
            yield Mistake(("init", skill), str(error))
            continue
        if checkpoint is not None:
            yield from (Mistake(("init", skill), text) for text in section.mismatches(checkpoint, vars(model)))
            if section.starts_shared(checkpoint):
                sharing.append(skill)
    yield from (Mistake(("init", skill), both_start_shared(sharing[0])) for skill in sharing[1:])


def _local_checkpoint(
    document: Mapping[str, Any], skill: str, section: InitSection, registry: Registry
) -> SourceCheckpoint | None:
    """What the folder that a skill starts from can start; None for a hub's, and where the skill's own keys are wrong.

    Raises:
        UserError: the recipe does not use the skill, or there is nothing that its plugin can read.
    """
    if skill not in needed_skills(document, registry):
        raise UserError("no task of the recipe uses this skill")
    _reads_pretrained(skill, registry)
    folder = local_folder(section.source)
    embedder = _valid_table(resolve(registry.modality(skill).config), _embedders(document).get(skill, {}))
    return read_source_checkpoint(folder, skill, embedder, registry) if folder and embedder else None


def _valid(schema: type[SchemaT], values: Any) -> SchemaT | None:
    """The section, or None where it is wrong: that has its own mistakes."""
    try:
        return schema.model_validate(values)
    except ValidationError:
        return None


def _valid_table(schema: type[SchemaT], values: Mapping[str, Any]) -> SchemaT | None:
    """The same of a plugin's table."""
    try:
        return parse_table(schema, values)
    except ValidationError:
        return None


def _check_freeze(document: Mapping[str, Any], registry: Registry) -> Iterator[Mistake]:
    """Parts to freeze that the model will not have."""
    known = _parts(document, registry)
    for section in ("train", *STAGES):
        names = _table(document, section).get("freeze", ())
        for index, name in enumerate(names if isinstance(names, list) else ()):
            if isinstance(name, str) and name not in known:
                hint = suggest(name, known, f"it has {', '.join(known)}")
                yield Mistake((section, "freeze", index), f"the model has no part '{name}'{hint}")


def _parts(document: Mapping[str, Any], registry: Registry) -> list[str]:
    """The parts of the model that a recipe describes; a task's are its heads, or all of it where tasks are separate."""
    skills, routing = needed_skills(document, registry), _table(document, "model").get("routing", "skill")
    tasks = [f"task:{task}" for stage in STAGES for task in _table(_table(document, stage), "tasks")]
    shared = [] if routing == "separate" else ["shared", *(f"embedder:{skill}" for skill in skills)]
    routed = [f"skill:{skill}" for skill in skills] if routing == "skill" else []
    return list(dict.fromkeys([*shared, *routed, *tasks]))


def _known_tasks(document: Mapping[str, Any], registry: Registry) -> Iterator[tuple[str, Any, Task]]:
    """(stage, settings, task) of each task of the recipe that some plugin defines."""
    for stage in STAGES:
        for name, settings in _table(_table(document, stage), "tasks").items():
            if name in registry.tasks:
                yield stage, settings, registry.tasks[name].value


def _embedders(document: Mapping[str, Any]) -> Mapping[str, Any]:
    tables = _table(_table(document, "model"), "embedders")
    return {skill: table for skill, table in tables.items() if isinstance(table, Mapping)}


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}

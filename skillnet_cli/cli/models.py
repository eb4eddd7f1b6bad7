"""``skillnet inspect``, ``skillnet export`` and ``skillnet skills``: models in figures, cut and grafted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skillnet_cli.api import UserError
from skillnet_cli.cli.checkpoint import check_stated, choose_checkpoint, hush_transformers
from skillnet_cli.cli.common import (
    AsJson,
    Checkpoint,
    Data,
    Group,
    NewModel,
    Overrides,
    complete,
    print_json,
    print_line,
    print_table,
    remark,
)
from skillnet_cli.plugins import load_registry, require

if TYPE_CHECKING:
    from skillnet_cli.model.surgery import Difference


app = typer.Typer(cls=Group, help="List, add and compare the skills of models.")


def inspect(
    checkpoint: Checkpoint = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="Inspect the model that this recipe would train: a file, or the name of a shipped one.",
            show_default=False,
            autocompletion=complete("recipes"),
        ),
    ] = None,
    set_: Overrides = None,
    task: Annotated[
        str | None,
        typer.Option(help="Only what this task activates.", show_default=False, autocompletion=complete("tasks")),
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Count a model's parameters and the FLOPs of a forward pass.

    By part, in total, and as each task activates them. A recipe that gives vocab_size needs neither sets nor
    vocabularies; the heads of tasks whose labels are not known yet are listed instead of counted.

    A multiplication and its addition are two FLOPs. They are counted for one item of the longest length that the model
    accepts in each of a task's towers, without heads; in total, for one such item of every skill.

    \b
    Examples:
      skillnet inspect
      skillnet inspect --recipe recipes/paper.toml
      skillnet inspect --recipe recipes/paper.toml --task t2i --json
      skillnet inspect --recipe recipes/paper.toml --set model.routing=moe
    """
    if recipe is None:
        if set_:
            raise UserError("--set changes a recipe: name one with --recipe")
        check_stated(checkpoint, tasks=[task] if task else ())
    else:
        from skillnet_cli.recipe.load import find_recipe

        file = find_recipe(recipe)

    from skillnet_cli.model.analysis import summarise, without_storage
    from skillnet_cli.model.config import read_config
    from skillnet_cli.model.persistence import check_shapes

    if recipe is not None:
        where, (config, unknown) = {"recipe": str(recipe)}, _sketch(file, set_ or [], data or [])
    else:
        folder = choose_checkpoint(checkpoint)
        where, (config, unknown) = {"checkpoint": str(folder)}, (read_config(folder, load_registry()), {})
    if task is not None:
        require("task", task, config.tasks, str(recipe or folder), load_registry())
    model = without_storage(config, unknown, load_registry())
    if recipe is None:
        check_shapes(folder, model)
    facts = where | summarise(model, unknown, task)
    if as_json:
        return print_json(facts)
    _print_facts(facts)


def _sketch(path: Path, changes: list[str], data: list[Path]) -> tuple[Any, dict[str, str]]:
    """The configuration of the model that a recipe trains, and the tasks whose labels are not known yet."""
    from skillnet_cli.data.prepared import data_roots
    from skillnet_cli.engine.estimate.forecast import sketch_model
    from skillnet_cli.recipe import load_recipe

    registry = load_registry()
    return sketch_model(load_recipe(path, changes, registry), registry, data_roots(data))


def _print_facts(facts: dict[str, Any]) -> None:
    """Print what a model consists of."""
    print_line(facts.get("recipe") or facts["checkpoint"])
    print_line(", ".join(f"{key} {value}" for key, value in facts["encoder"].items()))
    parameters, flops = facts["parameters"], facts["flops"]
    rows = [("", "parameters", "forward FLOPs", "")]
    if "task" not in facts:
        rows.append(_row("total", parameters["total"], flops["total"], "one longest item of every skill"))
        parts = parameters["parts"].items()
        rows += [_row(part, count, flops["parts"].get(part, 0)) for part, count in parts]
    for name, each in facts["tasks"].items():
        rows.append(_row(f"task {name}", each["activated"], each["flops"], f"activates {', '.join(each['skills'])}"))
        if "task" in facts:
            rows += [_row(part, own["parameters"], own["flops"]) for part, own in each["parts"].items()]
    print_table(rows)
    for name, reason in facts["unknown_heads"].items():
        print_line(f"the head of {name} is not counted: {reason}")


def _row(what: str, parameters: int, flops: int | None, remark: str = "") -> tuple[str, str, str, str]:
    done = "not known" if flops is None else f"{flops / 1e9:9.2f} G" if flops else "        -"
    return what, f"{parameters / 1e6:9.3f} M", done, remark


def export(
    to: NewModel,
    skills: Annotated[
        str | None,
        typer.Option(
            metavar="SKILL,...",
            help="The skills to keep.",
            show_default="those of --tasks",
            autocompletion=complete("skills"),
        ),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="TASK,...",
            help="The tasks to keep.",
            show_default="all that need no other skills",
            autocompletion=complete("tasks"),
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    as_json: AsJson = False,
) -> None:
    """Save some skills and tasks of a model as a model of its own.

    Its outputs are the same to the bit; the model that it is taken from is not changed. A training checkpoint becomes a
    model, a complete one without --skills and --tasks.

    \b
    Examples:
      skillnet export --tasks asr --to listener
      skillnet export --skills text,image --tasks t2i --to pictures --json
      skillnet export --checkpoint runs/demo/pretrain/checkpoints/step-1000 --to early
    """
    of_training = checkpoint is not None and (checkpoint / "complete.json").is_file()
    if skills is None and tasks is None and not of_training:
        raise UserError("choose what to keep with --skills, --tasks or both")
    if not of_training:
        check_stated(checkpoint, tasks=_names_in(tasks) or (), skills=_names_in(skills) or ())
    model = choose_checkpoint(checkpoint)

    from skillnet_cli.engine.checkpoint.export import export_training
    from skillnet_cli.model.surgery import export as export_model

    hush_transformers()
    save = export_training if of_training else export_model
    part = save(model, to, load_registry(), _names_in(skills), _names_in(tasks))
    has = {"skills": list(part.config.skills), "tasks": list(part.config.tasks)}
    if as_json:
        return print_json({"from": str(model), "to": str(to), **has})
    remark(f"{to}: skills {', '.join(has['skills'])}; tasks {', '.join(has['tasks']) or 'none'}")


def _names_in(text: str | None) -> list[str] | None:
    """The names in a comma-separated list."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


@app.command("list")
def list_skills(checkpoint: Checkpoint = None, as_json: AsJson = False) -> None:
    """List a model's skills.

    With the plugin that each needs, its parameters, and the tasks that activate it.

    \b
    Examples:
      skillnet skills list
      skillnet skills list --checkpoint runs/demo/model --json
    """
    model = choose_checkpoint(checkpoint)

    from skillnet_cli.model.surgery import describe_skills

    hush_transformers()
    skills = describe_skills(model, load_registry())
    if as_json:
        return print_json({"checkpoint": str(model), "skills": skills})
    print_table([("skill", "plugin", "projections", "embedder", "tasks"), *map(_row_of, skills)])


def _row_of(skill: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table; parameters in millions."""
    plugin = f"{skill['plugin']} {skill['version']}"
    if skill["installed"] is None:
        plugin += " (not installed)"
    elif skill["installed"] != skill["version"]:
        plugin += f" (installed: {skill['installed']})"
    sizes = (f"{skill[part] / 1e6:.3f} M" for part in ("projections", "embedder"))
    return (skill["skill"], plugin, *sizes, ", ".join(skill["tasks"]))


@app.command("graft")
def graft(
    skill: Annotated[str, typer.Argument(help="The skill to add.", autocompletion=complete("skills"))],
    to: NewModel,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="MODEL", help="Take the skill from this model, which was trained on the same shared part."
        ),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="TASK,...",
            help="With --from: the tasks to take along.",
            show_default="all that activate the skill",
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            help="Initialise the new skill's projections from this skill's.", autocompletion=complete("skills")
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A key of [model.embedders.SKILL]; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=(1 << 63) - 1, help="Seed of newly initialised parameters.")] = 1,
    checkpoint: Checkpoint = None,
    as_json: AsJson = False,
) -> None:
    """Give a model one more skill.

    Either a new one, for a plugin that has been installed since, newly initialised or from another skill's projections,
    to be fine-tuned with finetune.start_from; or one that was trained elsewhere on the same shared part. The model
    that it starts from is not changed.

    \b
    Examples:
      skillnet skills graft series --like sound --set channels=8 --to grafted
      skillnet skills graft sound --from runs/other/model --tasks asr --to merged --json
    """
    if from_ is not None and (like is not None or set_):
        raise UserError("--from takes the skill as it is: --like and --set are for a new skill")
    if from_ is None and tasks is not None:
        raise UserError("--tasks are taken from another model: name that with --from")
    if from_ is not None:
        check_stated(from_, skills=[skill], tasks=_names_in(tasks) or ())
    else:
        load_registry().modality(skill)
    model = choose_checkpoint(checkpoint)

    from skillnet_cli.model.surgery import graft_from, graft_new

    hush_transformers()
    registry = load_registry()
    if from_ is not None:
        grown = graft_from(model, skill, from_, to, registry, _names_in(tasks))
    else:
        grown = graft_new(model, skill, to, registry, like=like, keys=_keys_of(set_ or []), seed=seed)
    has = {"skills": list(grown.config.skills), "tasks": list(grown.config.tasks)}
    if as_json:
        return print_json({"checkpoint": str(model), "to": str(to), **has})
    remark(f"{to}: skills {', '.join(has['skills'])}; tasks {', '.join(has['tasks']) or 'none'}")


def _keys_of(pairs: list[str]) -> dict[str, Any]:
    """The keys of an embedder that ``--set`` gives."""
    from skillnet_cli.recipe.load import apply_override

    keys: dict[str, Any] = {}
    for pair in pairs:
        apply_override(keys, pair)
    return keys


@app.command("diff")
def diff(
    first: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a model.")],
    second: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of another model.")],
    as_json: AsJson = False,
) -> None:
    """Compare two models part by part.

    The parts are the shared one, each skill's projections, each embedder and each task's head. No plugin is needed.

    \b
    Examples:
      skillnet skills diff runs/one/model runs/two/model
      skillnet skills diff model merged --json
    """
    first, second = choose_checkpoint(first), choose_checkpoint(second)

    from skillnet_cli.model.surgery import diff

    hush_transformers()
    found = diff(first, second)
    if as_json:
        return print_json({"first": str(first), "second": str(second), "parts": [asdict(each) for each in found]})
    print_table([(each.part, f"{each.equal} of {each.tensors} tensors equal", _described(each)) for each in found])


def _described(difference: Difference) -> str:
    """What differs in a part, in one line."""
    notes = [f"largest difference {difference.largest:.3g}"] if difference.largest else []
    notes += [f"{name} has shape {one} and {two}" for name, (one, two) in list(difference.shapes.items())[:1]]
    notes += [f"{len(difference.shapes)} tensors of other shapes"] if len(difference.shapes) > 1 else []
    for side in ("first", "second"):
        count = list(difference.only.values()).count(side)
        notes += [f"{count} only in the {side}"] if count else []
    return "; ".join(notes)

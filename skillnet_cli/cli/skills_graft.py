"""``skillnet skills graft``: a model with a skill more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from skillnet_cli.api import UserError
from skillnet_cli.cli.checkpoint import choose_checkpoint, hush_transformers
from skillnet_cli.cli.completion import skill_names
from skillnet_cli.cli.export import names_in
from skillnet_cli.cli.options import AsJson, Checkpoint, NewModel
from skillnet_cli.cli.output import print_json, remark
from skillnet_cli.plugins import load_registry


def skills_graft(
    skill: Annotated[str, typer.Argument(help="The skill that the model gets.", autocompletion=skill_names)],
    to: NewModel,
    from_: Annotated[
        Path | None,
        typer.Option("--from", metavar="MODEL", help="Take the skill of this model, trained on the same shared part."),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="TASK,...",
            help="With --from: the tasks to take as well.",
            show_default="all that activate the skill",
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(help="Start the new skill's projections from this skill's.", autocompletion=skill_names),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A key of [model.embedders.SKILL]; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what starts fresh.")] = 1,
    checkpoint: Checkpoint = None,
    as_json: AsJson = False,
) -> None:
    """Give a model one more skill.

    A new one for a plugin that is installed by now, fresh or from another skill's projections, to be fine-tuned with
    finetune.init; or one that was trained elsewhere on the same shared part. The model that it starts from is not
    changed.

    \b
    Examples:
      skillnet skills graft series --like sound --set channels=8 --to grafted
      skillnet skills graft sound --from runs/other/model --tasks asr --to merged --json
    """
    if from_ is not None and (like is not None or set_):
        raise UserError("--from takes the skill as it is: --like and --set are for a new one")
    if from_ is None and tasks is not None:
        raise UserError("--tasks are taken from another model: name it with --from")
    model = choose_checkpoint(checkpoint)

    from skillnet_cli.model.surgery import graft_from, graft_new

    hush_transformers()
    registry = load_registry()
    if from_ is not None:
        grown = graft_from(model, skill, from_, to, registry, names_in(tasks))
    else:
        grown = graft_new(model, skill, to, registry, like=like, keys=keys_of(set_ or []), seed=seed)
    has = {"skills": list(grown.config.skills or {}), "tasks": list(grown.config.tasks or {})}
    if as_json:
        return print_json({"checkpoint": str(model), "to": str(to), **has})
    remark(f"{to}: skills {', '.join(has['skills'])}; tasks {', '.join(has['tasks']) or 'none'}")


def keys_of(pairs: list[str]) -> dict[str, Any]:
    """The keys of an embedder, as ``--set`` says them."""
    from skillnet_cli.recipe.overrides import apply_override, parse_override

    keys: dict[str, Any] = {}
    for pair in pairs:
        apply_override(keys, parse_override(pair))
    return keys

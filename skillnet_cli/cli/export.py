"""``skillnet export``: some skills and tasks of a model as a model of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from skillnet_cli.api import UserError
from skillnet_cli.cli.checkpoint import choose_checkpoint, hush_transformers
from skillnet_cli.cli.completion import skill_names, task_names
from skillnet_cli.cli.options import AsJson, Checkpoint, NewModel
from skillnet_cli.cli.output import print_json, remark
from skillnet_cli.plugins import load_registry


def export(
    to: NewModel,
    skills: Annotated[
        str | None,
        typer.Option(
            metavar="SKILL,...", help="The skills to keep.", show_default="those of --tasks", autocompletion=skill_names
        ),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="TASK,...",
            help="The tasks to keep.",
            show_default="all that --skills suffice for",
            autocompletion=task_names,
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    as_json: AsJson = False,
) -> None:
    """Save some skills and tasks of a model as a model of its own.

    What it answers stays the same to the bit; the model that it is taken from is not changed. A checkpoint of a
    training is made into a model, whole without --skills and --tasks.

    \b
    Examples:
      skillnet export --tasks asr --to listener
      skillnet export --skills text,image --tasks t2i --to pictures --json
      skillnet export --checkpoint runs/demo/pretrain/checkpoints/step-1000 --to early
    """
    of_training = checkpoint is not None and (checkpoint / "complete.json").is_file()
    if skills is None and tasks is None and not of_training:
        raise UserError("say what to keep, with --skills, --tasks or both")
    model = choose_checkpoint(checkpoint)

    from skillnet_cli.engine.saving.exporting import export_training
    from skillnet_cli.model.surgery import export as export_model

    hush_transformers()
    save = export_training if of_training else export_model
    part = save(model, to, load_registry(), names_in(skills), names_in(tasks))
    has = {"skills": list(part.config.skills or {}), "tasks": list(part.config.tasks or {})}
    if as_json:
        return print_json({"from": str(model), "to": str(to), **has})
    remark(f"{to}: skills {', '.join(has['skills'])}; tasks {', '.join(has['tasks']) or 'none'}")


def names_in(text: str | None) -> list[str] | None:
    """The names in a list with commas."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]

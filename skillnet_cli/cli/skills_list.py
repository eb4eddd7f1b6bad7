"""``skillnet skills list``: the skills of a model."""

from __future__ import annotations

from typing import Any

from skillnet_cli.cli.checkpoint import choose_checkpoint, hush_transformers
from skillnet_cli.cli.options import AsJson, Checkpoint
from skillnet_cli.cli.output import print_json, print_table
from skillnet_cli.plugins import load_registry


def skills_list(checkpoint: Checkpoint = None, as_json: AsJson = False) -> None:
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
    print_table([("skill", "plugin", "projections", "embedder", "tasks"), *map(row_of, skills)])


def row_of(skill: dict[str, Any]) -> tuple[str, ...]:
    """A skill for people; parameters in millions."""
    plugin = f"{skill['plugin']} {skill['version']}"
    if skill["installed"] is None:
        plugin += " (not installed)"
    elif skill["installed"] != skill["version"]:
        plugin += f" (installed: {skill['installed']})"
    sizes = (f"{skill[part] / 1e6:.3f} M" for part in ("projections", "embedder"))
    return (skill["skill"], plugin, *sizes, ", ".join(skill["tasks"]))

"""``skillnet verify resume``: whether a training that is killed and gone on with ends as if it had not been."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.cli.options import AsJson, Data, Overrides, RecipeFile
from skillnet_cli.cli.output import print_json, remark
from skillnet_cli.cli.train import Nproc, open_recipe

if TYPE_CHECKING:
    from skillnet_cli.engine.verifying import Verdict

SHOWN = 5
"""Differences printed before the rest is only counted."""


def verify_resume(
    recipe: RecipeFile,
    set_: Overrides = None,
    data: Data = None,
    steps: Annotated[int, typer.Option(min=3, help="Updates to train.")] = 12,
    stage: Annotated[
        str | None, typer.Option(help="pretrain or finetune; without it the recipe's first.", show_default=False)
    ] = None,
    nproc: Nproc = 1,
    as_json: AsJson = False,
) -> None:
    """Show that a training can be killed and gone on with.

    Trains a few steps of the recipe in a temporary folder, twice: undisturbed, and killed by SIGKILL in the middle and
    gone on with. Then every parameter, every value of the optimizer's state and every row of metrics.jsonl (but what
    clocks say) must be the same to the bit; the exit code is 1 if they are not. On a GPU this needs --set
    train.deterministic=true.

    \b
    Examples:
      skillnet verify resume demo
      skillnet verify resume recipes/demo.toml --stage finetune --steps 26 --nproc 2 --set model.dropout=0.1
    """
    loaded = open_recipe(recipe, set_)
    chosen = stage or next(iter(loaded.stages()))
    if chosen not in loaded.stages():
        raise UserError(f"--stage {chosen}: the recipe has {' and '.join(loaded.stages())}")

    from skillnet_cli.engine.verifying import verify_resume

    verdict = verify_resume(loaded, chosen, steps, nproc, data or (), remark)
    if as_json:
        print_json({"same": not verdict.differences, **asdict(verdict)})
    else:
        for line in lines(verdict):
            print(line)
    if verdict.differences:
        raise FailedJob(f"{len(verdict.differences)} differences: a resumed run is not the undisturbed one")


def lines(verdict: Verdict) -> list[str]:
    """What was compared, and the first differences."""
    many = {name: f"{verdict.tensors[name]:,} tensors ({verdict.values[name]:,} values)" for name in verdict.tensors}
    compared = [
        f"{verdict.stage}: {verdict.steps} steps of {', '.join(verdict.tasks)}; killed after step "
        f"{verdict.killed_after}, gone on from step {verdict.resumed_from}",
        f"compared: {verdict.rows} updates; {', '.join(f'{what} of the {name}' for name, what in many.items())}",
    ]
    if not verdict.differences:
        return [*compared, "the same to the bit"]
    rest = len(verdict.differences) - SHOWN
    more = [f"  and {rest} more"] if rest > 0 else []
    return [*compared, *(f"  {difference}" for difference in verdict.differences[:SHOWN]), *more]

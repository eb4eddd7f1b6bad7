"""The verbs together, and what becomes of errors: one clear line and an exit code, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from skillnet_cli.api import DamagedItem, FailedJob, UserError
from skillnet_cli.cli import plugins
from skillnet_cli.cli.data import data_overlap, data_show, data_verify
from skillnet_cli.cli.evaluate import evaluate, report
from skillnet_cli.cli.models import export, inspect, skills_diff, skills_graft, skills_list
from skillnet_cli.cli.prepare import DatasetCommand, prepare, prepare_merge, prepare_table, prepare_vocab
from skillnet_cli.cli.recipes import recipes_check, recipes_copy, recipes_list, recipes_show
from skillnet_cli.cli.search import embed, search, transcribe
from skillnet_cli.cli.train import finetune, pretrain, verify_resume

USER_MISTAKE = 2
FAILED = 1
INTERRUPTED = 130


class _Verbs(TyperGroup):
    """The verbs; one of two words, as ``prepare table``, is found before its first word alone."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Look for a verb of two words first."""
        if " ".join(args[:2]) in self.commands:
            args = [" ".join(args[:2]), *args[2:]]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="skillnet",
    cls=_Verbs,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="One sparsely activated Transformer for text, sound, image, video and code: train it, measure it, use it.",
    epilog="Each verb has an example: skillnet VERB --help",
)
app.command("prepare", cls=DatasetCommand)(prepare)
app.command("prepare merge")(prepare_merge)
app.command("prepare table")(prepare_table)
app.command("prepare vocab")(prepare_vocab)
app.command("data show")(data_show)
app.command("data verify")(data_verify)
app.command("data overlap")(data_overlap)
app.command("pretrain")(pretrain)
app.command("finetune")(finetune)
app.command("eval")(evaluate)
app.command("report")(report)
app.command("embed")(embed)
app.command("search")(search)
app.command("transcribe")(transcribe)
app.command("inspect")(inspect)
app.command("export")(export)
app.command("recipes list")(recipes_list)
app.command("recipes show")(recipes_show)
app.command("recipes check")(recipes_check)
app.command("recipes copy")(recipes_copy)
app.command("skills list")(skills_list)
app.command("skills graft")(skills_graft)
app.command("skills diff")(skills_diff)
app.command("verify resume")(verify_resume)
app.command("plugins")(plugins.plugins)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(given or ["--help"]))


def run(arguments: Sequence[str]) -> int:
    """Run the command line; returns 0, 2 for a user's mistake, 1 for a job that failed, 130 for an interrupt."""
    try:
        code = app(args=list(arguments), prog_name="skillnet", standalone_mode=False)
    except (UserError, TyperException) as error:
        return _complain(error, USER_MISTAKE)
    except (FailedJob, DamagedItem, OSError) as error:
        return _complain(error, FAILED)
    except typer.Abort:
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _complain(error: Exception, code: int) -> int:
    described = error.format_message() if hasattr(error, "format_message") else str(error)
    # What a damaged file or a server says may hold anything; a terminal must not act on it.
    shown = "".join(each if each.isprintable() or each == "\n" else "?" for each in described)
    print(f"skillnet: error: {shown}", file=sys.stderr)
    return code

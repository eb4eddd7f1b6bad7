"""All commands together, and what becomes of errors: one clear line and an exit code, never a traceback."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from skillnet_cli import __version__
from skillnet_cli.api import DamagedItem, FailedJob, UserError
from skillnet_cli.cli import classify, data, evaluate, models, plugins, prepare, recipes, search, train, transcribe
from skillnet_cli.cli.common import Group
from skillnet_cli.places import expand_home
from skillnet_cli.terminal import VERBOSITY, is_verbose, print_error, print_line, show_logs, tolerate_encodings
from skillnet_cli.untrusted import describe

USER_MISTAKE = 2
FAILED = 1
INTERRUPTED = 130  # 128 + SIGINT

app = typer.Typer(
    name="skillnet",
    cls=Group,
    # Plain text: rich would take as long to import as all the rest that --help needs.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    help="One sparsely activated Transformer for text, sound, image, video and code: train it, measure it, use it.",
    epilog="Every command has examples: skillnet COMMAND --help",
)


def _print_version(wanted: bool) -> bool:
    if wanted:
        print_line(f"skillnet {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print answers and errors only.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print what libraries log, and the traceback of an error.")
    ] = False,
) -> None:
    """How much every command prints. ``--version`` has left by then."""
    if quiet and verbose:
        raise UserError("--quiet and --verbose: choose one")
    if quiet or verbose:
        os.environ[VERBOSITY] = "quiet" if quiet else "verbose"
    show_logs()


# Commands of one word come before groups in the help, whatever the order here; the panels keep both together.
app.add_typer(prepare.app, name="prepare", rich_help_panel="Prepare data")
app.add_typer(data.app, name="data", rich_help_panel="Prepare data")
app.add_typer(recipes.app, name="recipes", rich_help_panel="Train")
for stage, help_ in train.STAGES.items():
    app.command(stage, help=help_, rich_help_panel="Train")(train.stage_command(stage))
app.add_typer(train.app, name="verify", rich_help_panel="Train")
app.command("eval", rich_help_panel="Measure")(evaluate.evaluate)
app.command("report", rich_help_panel="Measure")(evaluate.report)
app.command("embed", rich_help_panel="Use a model")(search.embed)
app.command("search", rich_help_panel="Use a model")(search.search)
app.command("classify", rich_help_panel="Use a model")(classify.classify)
app.command("transcribe", rich_help_panel="Use a model")(transcribe.transcribe)
app.command("inspect", rich_help_panel="Models and plugins")(models.inspect)
app.command("export", rich_help_panel="Models and plugins")(models.export)
app.add_typer(models.app, name="skills", rich_help_panel="Models and plugins")
app.command("plugins", rich_help_panel="Models and plugins")(plugins.plugins)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    tolerate_encodings()
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command line; returns 0, 2 for a user's mistake, 1 for a job that failed, 130 for an interrupt."""
    try:
        expanded = [expand_home(each) for each in arguments]
        code = app(args=_options_first(expanded), prog_name="skillnet", standalone_mode=False)
    except (UserError, TyperException) as error:
        return _complain(error, USER_MISTAKE)
    except (FailedJob, DamagedItem, OSError) as error:
        return _complain(error, FAILED)
    except MemoryError as error:
        return _complain(FailedJob(f"the memory does not suffice ({error or 'of this machine, or its limit'})"), FAILED)
    except typer.Abort:
        return INTERRUPTED
    return code if isinstance(code, int) else 0


_VERBOSITY_OPTIONS = ("-q", "--quiet", "-v", "--verbose")


def _options_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with the options of every command before its name, wherever they were typed."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    found = [word for word in arguments[:end] if word in _VERBOSITY_OPTIONS]
    return [*found, *(word for word in arguments[:end] if word not in found), *arguments[end:]]


def _complain(error: Exception, code: int) -> int:
    errors = getattr(error.__cause__, "errors", None)
    if isinstance(error, TyperException) and errors:  # typer has pydantic check values, whose words are for programmers
        error.message = describe(errors()[0])
    described = error.format_message() if hasattr(error, "format_message") else str(error)
    if is_verbose():
        print_error("".join(traceback.format_exception(error)).rstrip())
    print_error(f"skillnet: error: {described}")
    return code

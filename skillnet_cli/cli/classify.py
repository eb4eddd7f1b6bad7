"""``skillnet classify``: the labels of texts and files, by any of a model's tasks that classifies."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skillnet_cli.api import FailedJob, Source, UserError
from skillnet_cli.cli.checkpoint import Saved, find_checkpoint
from skillnet_cli.cli.common import AsJson, BatchSize, Checkpoint, Device, Precision, PrecisionName, complete
from skillnet_cli.cli.search import tell
from skillnet_cli.plugins import load_registry
from skillnet_cli.terminal import print_json, print_line, remark

if TYPE_CHECKING:
    from skillnet_cli.inference.capabilities import Capabilities
    from skillnet_cli.inference.classifier import Classified
    from skillnet_cli.inference.walk import Found
    from skillnet_cli.objectives import TaskConfig

STANDARD_INPUT = "-"


def classify(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXT|FILE|FOLDER|-...", help="Texts, files, folders of files; - reads a text a line from a pipe."
        ),
    ],
    top: Annotated[int, typer.Option(min=1, help="How many labels to show, the likeliest first.")] = 3,
    task: Annotated[
        str | None,
        typer.Option(
            help="The task that classifies.",
            autocompletion=complete("tasks"),
            show_default="the model's only one that reads what is given",
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    device: Device = None,
    precision: Precision = PrecisionName.auto,
    batch_size: BatchSize = None,
    as_json: AsJson = False,
) -> None:
    """Say what kind texts or files are of, with probabilities.

    The task is one that the model was trained for by classification, of whatever modality: topics of texts, kinds of
    recordings. Every file is one item, and so is every line of standard input. A task of text pairs takes both texts in
    one argument, or in one line, with a tab between them.

    \b
    Examples:
      skillnet classify "这家酒店的服务很好"
      skillnet classify reviews/ --task tc --top 1
      skillnet classify - --json < headlines.txt
      skillnet classify - --task text-pair < pairs.tsv
    """
    from skillnet_cli.inference.capabilities import Capabilities

    def capable(saved: Saved) -> Capabilities:
        return Capabilities(saved.config, load_registry())

    def suits(saved: Saved) -> bool:
        return any(task in (None, each.name) for each in capable(saved).classifying)

    inputs = _gather(what)
    saved = find_checkpoint(checkpoint, suits)
    chosen = capable(saved).classifying_task(task, inputs.skills)
    for text in inputs.remarks(chosen):
        remark(text)
    if inputs.is_empty(chosen.skills[0]):
        raise UserError(f"nothing to classify in {', '.join(what)}: task '{chosen.name}' reads {chosen.skills[0]}")

    from skillnet_cli.inference.classifier import Classifier

    model, readers = saved.open(tasks=[chosen.name], device=device)
    classifier = Classifier(model, readers, chosen, precision.value, batch_size)
    names, sources = _remembered(inputs.items(chosen.skills[0]))
    rows: list[dict[str, Any]] = []
    damaged: dict[str, str] = {}
    remarks: dict[str, list[str]] = {}
    for place, found in enumerate(classifier.classify(sources)):
        if found.damage is not None:
            damaged[names[place]] = found.damage
            continue
        for text in found.remarks:
            remarks.setdefault(text, []).append(names[place])
        rows.append({"item": names[place], "labels": _ranked(found, top)})
        if not as_json:
            _print(rows[-1], inputs.one)
    tell(remarks)
    if as_json:
        document = {"model": saved.fingerprint, "task": chosen.name, "precision": _computed(precision, model.device)}
        left_out = inputs.found.counts()
        print_json({**document, "items": rows, "damaged": damaged, "left_out": left_out, "remarks": remarks})
    _complain(damaged, len(names), inputs, chosen)


def _remembered(items: Iterator[tuple[str, Source]]) -> tuple[list[str], Iterator[Source]]:
    """The names of items, as they are taken, and their sources."""
    names: list[str] = []

    def sources() -> Iterator[Source]:
        for name, source in items:
            names.append(name)
            yield source

    return names, sources()


def _complain(damaged: Mapping[str, str], count: int, inputs: _Inputs, task: TaskConfig) -> None:
    """Raises UserError where the one text given cannot be read, FailedJob where anything else could not."""
    if inputs.one and inputs.texts and damaged:
        (reason,) = damaged.values()
        raise UserError(f"task '{task.name}' reads {task.skills[0]}, and cannot read '{inputs.texts[0]}': {reason}")
    for name, reason in damaged.items():
        remark(f"{name}: {reason}")
    if damaged:
        raise FailedJob(f"{len(damaged)} of {count} items could not be read")


@dataclass(frozen=True)
class _Inputs:
    """What is to be classified.

    Attributes:
        texts: arguments that are no paths.
        found: the files among the arguments and in the folders among them.
        pipe: whether standard input has a text a line.
    """

    texts: tuple[str, ...]
    found: Found
    pipe: bool
    one: bool

    @property
    def skills(self) -> frozenset[str]:
        """The skills of the files."""
        return frozenset(map(_skill_of, self.found.files))

    def items(self, skill: str) -> Iterator[tuple[str, Source]]:
        """The names and sources of what a skill may read: texts, its files, the lines of standard input."""
        yield from ((text, text) for text in self.texts)
        yield from ((str(file), file) for file in self.found.files if _skill_of(file) == skill)
        if self.pipe:
            yield from ((f"line {number}", text) for number, text in enumerate(_lines(), 1))

    def is_empty(self, skill: str) -> bool:
        """Whether there is nothing that a skill may read."""
        return not (self.texts or self.pipe or skill in self.skills)

    def remarks(self, task: TaskConfig) -> Iterator[str]:
        """A line for each kind of files that a task does not read."""
        yield from self.found.remarks()
        for skill, count in Counter(map(_skill_of, self.found.files)).items():
            if skill not in task.skills:
                yield f"left out: {count} of {skill}: task '{task.name}' reads {task.skills[0]}"


def _gather(what: Sequence[str]) -> _Inputs:
    """Raises UserError where an argument is the path of nothing, or cannot be decoded."""
    from skillnet_cli.inference.arguments import decoded, existing_path, names_a_file
    from skillnet_cli.inference.walk import find_files

    texts, paths = [], []
    for each in dict.fromkeys(what):
        path = existing_path(each)
        if each == STANDARD_INPUT:
            continue
        if path is not None:
            paths.append(path)
        elif names_a_file(decoded(each), load_registry()):
            raise UserError(f"{each}: there is no such file")
        else:
            texts.append(decoded(each))
    one = len(what) == 1 and (bool(texts) or any(path.is_file() for path in paths))
    return _Inputs(tuple(texts), find_files(paths, load_registry()), STANDARD_INPUT in what, one)


def _skill_of(file: Path) -> str:
    modality = load_registry().modality_of_suffix(file.suffix)
    assert modality is not None, "files of other kinds are left out"
    return modality.skill


def _lines() -> Iterator[bytes]:
    """The lines of standard input, as their bytes: the reader knows encodings. One that is too long is empty."""
    pipe = sys.stdin.buffer
    while line := pipe.readline(_LONGEST):
        whole = line.endswith(b"\n") or len(line) < _LONGEST
        yield line.rstrip(b"\r\n") if whole else b""
        while not whole:
            rest = pipe.readline(_LONGEST)
            whole = rest.endswith(b"\n") or len(rest) < _LONGEST


_LONGEST = 1 << 20
"""Bytes of a line of standard input."""


def _computed(asked: PrecisionName, device: Any) -> str:
    from skillnet_cli.model.device import steady_precision

    return steady_precision(device) if asked is PrecisionName.auto else asked.value


def _ranked(found: Classified, top: int) -> list[dict[str, Any]]:
    shown = list(found.probabilities.items())[:top]
    return [{"label": label, "probability": round(probability, 6)} for label, probability in shown]


def _print(row: Mapping[str, Any], alone: bool) -> None:
    """A label a line where there is one item; else an item a line, as soon as it is classified."""
    labels = [(f"{each['probability']:.3f}", each["label"]) for each in row["labels"]]
    if alone:
        for probability, label in labels:
            print_line(f"{probability}  {label}")
    else:
        print_line(f"{row['item']}: {', '.join(f'{label} {probability}' for probability, label in labels)}")

"""The demo: five modalities from real files to one model, measured, searched and listened to.

    make demo            (or: python examples/demo.py)

Everything is done by the command line that users have; this file only calls its verbs one after another, watches
what they need, and sets the figures beside those that the demo must reach. What an earlier run has finished is
reused; delete ``runs/demo`` and ``data/demo-*`` to start afresh.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from watching import Watched, run_watched

ROOT = Path(__file__).resolve().parent.parent
SKILLNET = str(Path(sys.executable).with_name("skillnet"))
RECIPE = "recipes/demo.toml"
RUN = Path("runs/demo")
SETS = ["emoji", "emoji-pretrain", "clips", "clips-pretrain", "digits", "speech", "reviews", "text", "functions", "code"]
QUERY = "红色的汽车"
EVALUATIONS = [
    ("t2i", "demo-emoji:test"),
    ("t2i", "demo-emoji:unseen"),
    ("tc", "demo-reviews:test"),
    ("asr", "demo-digits:test"),
    ("t2v", "demo-clips:test"),
    ("t2v", "demo-clips:unseen"),
    ("t2c", "demo-functions:test"),
]
# What is taken out of the prepared sets, as the files that a user would have: set, field, kind of file.
EXHIBITS = [("demo-emoji", "image"), ("demo-clips", "video"), ("demo-functions", "code"), ("demo-digits", "sound")]
FILES = RUN / "files"


@dataclass(frozen=True)
class Step:
    """One command of the demo, and the file whose being there says that it need not run again."""

    name: str
    words: Sequence[str]
    done: Path | None = None


@dataclass(frozen=True)
class Figure:
    """A figure that the demo must reach: at least ``bound``, or at most."""

    name: str
    bound: float
    at_most: bool = False
    unit: str = ""

    def reached(self, value: float) -> bool:
        """Whether a measured value is within the bound."""
        return value <= self.bound if self.at_most else value >= self.bound


FIGURES = [
    Figure("t2i demo-emoji:test recall@10", 0.50),
    Figure("tc demo-reviews:test accuracy", 0.80),
    Figure("asr demo-digits:test cer", 0.35, at_most=True),
    Figure("t2v demo-clips:test recall@10", 0.40),
    Figure("t2c demo-functions:test recall@10", 0.25),
    Figure("time", 20, at_most=True, unit="min"),
    Figure("memory", 6, at_most=True, unit="GB"),
]


@dataclass
class Diary:
    """What each step needed and what came out, kept in ``runs/demo/demo.json`` from one run of the demo to the next."""

    steps: dict[str, dict[str, float]] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    found: list[dict[str, Any]] = field(default_factory=list)
    heard: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls) -> Diary:
        """The diary of an earlier run, or an empty one."""
        path = RUN / "demo.json"
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else cls()

    def write(self) -> None:
        """Keep what is known so far; a reader never sees half of it."""
        RUN.mkdir(parents=True, exist_ok=True)
        partial = RUN / "demo.json.partial"
        partial.write_text(json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, RUN / "demo.json")

    def note(self, step: str, watched: Watched) -> None:
        """Keep what a step needed."""
        self.steps[step] = {"seconds": round(watched.seconds, 1), "peak_gb": round(watched.peak_bytes / 1e9, 2)}
        self.figures["time"] = round(sum(needed["seconds"] for needed in self.steps.values()) / 60, 1)
        self.figures["memory"] = max(needed["peak_gb"] for needed in self.steps.values())
        self.write()


def preparation() -> Iterator[Step]:
    """The prepared sets, a vocabulary for text and one for code."""
    yield Step("prepare", ["prepare", "demo"], Path("data/demo-code/manifest.json"))
    for skill, sets in {"text": "demo-text", "code": "demo-code"}.items():
        words = ["prepare", "vocab", "--skill", skill, "--from", sets]
        yield Step(f"vocabulary of {skill}", words, Path(f"data/demo-vocab/{skill}.txt"))


def training() -> Iterator[Step]:
    """Both stages of the recipe; a stage that was interrupted goes on from its last checkpoint."""
    for stage in ("pretrain", "finetune"):
        yield Step(stage, [stage, RECIPE, "--resume"], RUN / stage / "done.json")


def run_steps(steps: Iterator[Step], diary: Diary, console: Console) -> None:
    """Run the steps whose work is not there yet."""
    for step in steps:
        if step.done and step.done.exists():
            console.print(f"[dim]{step.name}: there already[/dim]")
            continue
        console.rule(f"{step.name}: skillnet {' '.join(step.words)}")
        diary.note(step.name, run_watched([SKILLNET, *step.words]))


def ask(step: str, words: Sequence[str], diary: Diary, console: Console) -> Any:
    """Run a command that answers in JSON; return what it answers."""
    console.rule(f"{step}: skillnet {' '.join(words)}")
    watched = run_watched([SKILLNET, *words, "--json"], capture=True)
    diary.note(step, watched)
    return json.loads(watched.output)


def evaluate(diary: Diary, console: Console) -> None:
    """Measure all five tasks, names never seen apart."""
    for task, split in EVALUATIONS:
        answer = ask(f"eval {task} {split}", ["eval", "--task", task, "--split", split], diary, console)
        for metric, value in answer["metrics"].items():
            diary.figures[f"{task} {split} {metric}"] = value


def exhibit() -> None:
    """Write the test pictures, clips, functions and recordings out of their sets as plain files."""
    for name, wanted in EXHIBITS:
        folder = FILES / name
        if folder.exists():
            continue
        partial = folder.with_suffix(".partial")
        partial.mkdir(parents=True, exist_ok=True)
        for shard in sorted(Path("data", name).glob("test-*.tar")):
            write_members(shard, wanted, partial)
        partial.rename(folder)


def write_members(shard: Path, wanted: str, folder: Path) -> None:
    """Write one field of every sample of a shard as a file named by the sample's place."""
    with tarfile.open(shard) as archive:
        for member in archive:
            key, _, kind = member.name.partition(".")
            content = archive.extractfile(member)
            assert content is not None, "shards hold plain files only"
            if kind.startswith(f"{wanted}."):
                (folder / f"{key}.{kind.rpartition('.')[2]}").write_bytes(content.read())
            elif kind == "json" and wanted == "code":
                (folder / f"{key}.py").write_text(json.load(content)["code"], encoding="utf-8")


def use(diary: Diary, console: Console) -> None:
    """Embed what was put out, search it with a sentence, transcribe a recording."""
    collection = RUN / "collection"
    embed = [["embed", str(FILES / name), "--to", str(collection)] for name, skill in EXHIBITS if skill != "sound"]
    run_steps((Step(" ".join(words[:2]), words) for words in embed), diary, console)
    diary.found = ask("search", ["search", QUERY, "--in", str(collection)], diary, console)["hits"]
    recording = min((FILES / "demo-digits").glob("*.wav"))
    diary.heard = ask("transcribe", ["transcribe", str(recording)], diary, console)
    diary.write()


def figures_table(diary: Diary) -> Table:
    """The figures beside what they must be."""
    table = Table("figure", "measured", "wanted", "", title="skillnet demo")
    for figure in FIGURES:
        value = diary.figures.get(figure.name, float("nan"))
        sign, verdict = "≤" if figure.at_most else "≥", "reached" if figure.reached(value) else "[bold]missed[/bold]"
        table.add_row(figure.name, f"{value:.3g} {figure.unit}", f"{sign} {figure.bound:g} {figure.unit}", verdict)
    return table


def steps_table(diary: Diary) -> Table:
    """The time and memory of every step, by the run that did it."""
    table = Table("step", "seconds", "peak GB")
    for name, needed in diary.steps.items():
        table.add_row(name, f"{needed['seconds']:.1f}", f"{needed['peak_gb']:.2f}")
    return table


def main() -> int:
    """Run the demo; exit code 1 where a command failed, or where a figure was missed."""
    os.chdir(ROOT)
    console, diary = Console(), Diary.read()
    stages: list[Callable[[], None]] = [
        lambda: run_steps(preparation(), diary, console),
        lambda: run_steps(training(), diary, console),
        lambda: evaluate(diary, console),
        exhibit,
        lambda: use(diary, console),
        lambda: run_steps(iter([Step("report", ["report", str(RUN)])]), diary, console),
    ]
    try:
        for stage in stages:
            stage()
    except subprocess.CalledProcessError as error:
        console.print(f"the demo stopped: {' '.join(error.cmd)} ended with exit code {error.returncode}")
        return 1
    console.print(steps_table(diary), figures_table(diary))
    console.print(f"[bold]{QUERY}[/bold] finds {diary.found[:3]}\nthe recording says {diary.heard}")
    console.print(f"report: {RUN / 'report.html'}   figures: {RUN / 'demo.json'}")
    return int(not all(figure.reached(diary.figures.get(figure.name, float("nan"))) for figure in FIGURES))


if __name__ == "__main__":
    raise SystemExit(main())

"""The demo: five modalities from real files to one model, measured, searched and listened to.

    make demo            (or: python examples/demo.py)

Everything is done by the command line that users have; this file only calls its verbs one after another, watches
what they need, and sets the figures beside those that the demo must reach. What an earlier run has finished is
reused; delete ``runs/demo`` and ``data/demo-*`` to start afresh.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from watching import Watched, run_watched

from skillnet_cli.files import write_json

ROOT = Path(__file__).resolve().parent.parent
SKILLNET = str(Path(sys.executable).with_name("skillnet"))
RECIPE = "recipes/demo.toml"
RUN = Path("runs/demo")
QUERY = "红色的汽车"
EVALUATIONS = {
    "t2i": ["demo-emoji:test", "demo-emoji:unseen"],
    "tc": ["demo-reviews:test"],
    "asr": ["demo-digits:test"],
    "t2v": ["demo-clips:test", "demo-clips:unseen"],
    "t2c": ["demo-functions:test", "demo-functions:unseen"],
}
SEARCHABLE = ["demo-emoji:test", "demo-clips:test", "demo-functions:test"]
COLLECTION = RUN / "collection"
REPORT = RUN / "report.html"
RECORDING = RUN / "recording.wav"
VOCABULARIES = {
    "text": ["demo-text", "demo-reviews", "demo-emoji-pretrain", "demo-clips-pretrain", "demo-functions", "demo-code"],
    "code": ["demo-functions", "demo-code"],
}


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
    """What each step needed and what the model answered, kept in ``runs/demo/demo.json`` for the next run of the demo.

    ``model`` tells one training's result from another's.
    """

    steps: dict[str, dict[str, float]] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    spoken: str = ""
    model: str = ""

    @classmethod
    def read(cls) -> Diary:
        """The diary of an earlier run, or an empty one."""
        path = RUN / "demo.json"
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else cls()

    def write(self) -> None:
        """Keep what is known so far; a reader never sees half of it."""
        self.figures = dict(measured_figures(self))
        RUN.mkdir(parents=True, exist_ok=True)
        write_json(RUN / "demo.json", asdict(self))

    def note(self, step: str, watched: Watched) -> None:
        """Keep what a step needed; a repetition that found its work done does not make it look quicker."""
        earlier = self.steps.get(step, {"seconds": 0.0, "peak_gb": 0.0})
        needed = {"seconds": round(watched.seconds, 1), "peak_gb": round(watched.peak_bytes / 1e9, 2)}
        self.steps[step] = {key: max(needed[key], earlier[key]) for key in needed}
        self.write()

    def meet(self, model: Path) -> None:
        """Forget what another model answered."""
        stamp = str((model / "config.json").stat().st_mtime_ns)
        if stamp != self.model:
            self.model, self.answers = stamp, {}
            shutil.rmtree(COLLECTION, ignore_errors=True)
            REPORT.unlink(missing_ok=True)


def measured_figures(diary: Diary) -> Iterator[tuple[str, float]]:
    """Every figure that the demo has measured so far, by name."""
    for answer in diary.answers.values():
        for result in answer.get("results", []) if isinstance(answer, dict) else []:
            for metric, value in result.get("metrics", {}).items():
                yield f"{result['task']} {result['set']}:{result['split']} {metric}", value
    yield "time", round(sum(needed["seconds"] for needed in diary.steps.values()) / 60, 1)
    yield "memory", max(needed["peak_gb"] for needed in diary.steps.values())


def vocabulary(modality: str, sets: Sequence[str]) -> Step:
    """How the vocabulary of a modality is learnt from the training texts of prepared sets."""
    out = Path("data/demo-vocab") / f"{modality}.txt"
    origins = [word for name in sets for word in ("--from", name)]
    words = ["prepare", "vocab", "--modality", modality, *origins, "--size", "6000", "--out", str(out)]
    return Step(f"{modality} vocabulary", words, out)


PREPARATION = [
    Step("prepare", ["prepare", "demo"]),
    *(vocabulary(modality, sets) for modality, sets in VOCABULARIES.items()),
]
TRAINING = [Step(stage, [stage, RECIPE], RUN / stage / "model") for stage in ("pretrain", "finetune")]


def run_steps(steps: Iterable[Step], diary: Diary, console: Console) -> None:
    """Run the steps whose work is not there yet."""
    for step in steps:
        if step.done and step.done.exists():
            console.print(f"{step.name}: there already")
            continue
        console.rule(f"skillnet {' '.join(step.words)}")
        diary.note(step.name, run_watched([SKILLNET, *step.words]))


def ask(step: str, words: Sequence[str], diary: Diary, console: Console) -> Any:
    """What a command answers in JSON, or has answered before."""
    if step not in diary.answers:
        console.rule(f"skillnet {' '.join(words)}")
        watched = run_watched([SKILLNET, *words, "--json"], capture=True)
        diary.answers[step] = json.loads(watched.output)
        diary.note(step, watched)
    return diary.answers[step]


def evaluate(diary: Diary, console: Console) -> None:
    """Measure all five tasks; names of things and packages that are in no training set apart."""
    for task, splits in EVALUATIONS.items():
        places = [word for split in splits for word in ("--split", split)]
        ask(f"eval {task}", ["eval", "--task", task, *places], diary, console)


def use(diary: Diary, console: Console) -> None:
    """Search the test items with a sentence, transcribe one of the test recordings, write the report."""
    run_steps([Step("embed", ["embed", *SEARCHABLE, "--to", str(COLLECTION)], COLLECTION)], diary, console)
    ask("search", ["search", QUERY, "--in", str(COLLECTION), "--skill", "image"], diary, console)
    diary.spoken = unpack_recording()
    ask("transcribe", ["transcribe", str(RECORDING)], diary, console)
    run_steps([Step("report", ["report", str(RUN)], REPORT)], diary, console)


def unpack_recording() -> str:
    """Take one test recording out of its prepared set, a WAV file like anyone's; returns what is said in it."""
    with tarfile.open("data/demo-digits/test-000000.tar") as shard:
        members = {member.name.partition(".")[2]: shard.extractfile(member) for member in islice(shard, 2)}
        sample, recording = members["json"], members["sound.wav"]
        assert sample is not None and recording is not None, "shards hold plain files only"
        RECORDING.write_bytes(recording.read())
        return str(json.load(sample)["transcript"])


def figures_table(diary: Diary) -> Table:
    """The figures beside what they must be."""
    table = Table("figure", "measured", "wanted", "", title="skillnet demo")
    for figure in FIGURES:
        value = diary.figures.get(figure.name, float("nan"))
        sign, verdict = "≤" if figure.at_most else "≥", "reached" if figure.reached(value) else "[bold]missed[/bold]"
        table.add_row(figure.name, f"{value:.3g} {figure.unit}", f"{sign} {figure.bound:g} {figure.unit}", verdict)
    for name, value in diary.figures.items():
        if ":unseen recall@10" in name:
            table.add_row(
                name, f"{value:.3g}", "", "packages never seen" if "functions" in name else "names never seen"
            )
    return table


def steps_table(diary: Diary) -> Table:
    """The time and memory of every step, by the run that did it."""
    table = Table("step", "seconds", "peak GB")
    for name, needed in diary.steps.items():
        table.add_row(name, f"{needed['seconds']:.1f}", f"{needed['peak_gb']:.2f}")
    return table


def found_table(diary: Diary) -> Table:
    """The best of what the sentence found."""
    table = Table("score", "skill", "known as", "item", title=QUERY)
    for hit in diary.answers["search"]["hits"][:5]:
        table.add_row(f"{hit['score']:.3f}", hit["skill"], hit["text"], hit["path"])
    return table


def main() -> int:
    """Run the demo; exit code 1 where a command failed, or where a figure was missed."""
    os.chdir(ROOT)
    os.environ["SKILLNET_CHECKPOINT"] = str(RUN / "model")
    console, diary = Console(), Diary.read()
    try:
        run_steps([*PREPARATION, *TRAINING], diary, console)
        diary.meet(RUN / "model")
        evaluate(diary, console)
        use(diary, console)
    except subprocess.CalledProcessError as error:
        console.print(f"the demo stopped: {' '.join(error.cmd)} ended with exit code {error.returncode}")
        return 1
    console.print(steps_table(diary), found_table(diary), figures_table(diary))
    heard = diary.answers["transcribe"]["transcripts"][0]["text"]
    console.print(f"{RECORDING} says {diary.spoken}, and was heard as {heard}")
    console.print(f"report: {REPORT}   figures: {RUN / 'demo.json'}")
    return int(not all(figure.reached(diary.figures.get(figure.name, float("nan"))) for figure in FIGURES))


if __name__ == "__main__":
    raise SystemExit(main())

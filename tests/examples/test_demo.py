"""The demo's driver against a stand-in for the command line: what it calls, reuses, measures and concludes."""

from __future__ import annotations

import importlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

# Notes how it was called, leaves the files that the real verbs would, and answers with the figure it is told.
STAND_IN = """#!{python}
import json, os, pathlib, sys
words = sys.argv[1:]
with open("calls.txt", "a") as calls: print(" ".join(words), file=calls)
if os.environ.get("BREAK") == words[0]: sys.exit(2)
if words[:2] == ["prepare", "vocab"]:
    path = pathlib.Path(words[-1]); path.parent.mkdir(parents=True, exist_ok=True); path.write_text("x")
if words[0] in ("pretrain", "finetune"):
    for folder in ("runs/demo/model", f"runs/demo/{{words[0]}}/model"):
        os.makedirs(folder, exist_ok=True); pathlib.Path(folder, "config.json").write_text("{{}}")
if words[0] == "embed": os.makedirs(words[words.index("--to") + 1])
if words[0] == "report": pathlib.Path("runs/demo/report.html").write_text("<html>")
if words[0] == "eval":
    figure = float(os.environ["FIGURE"])
    places = [word.split(":") for word in words if ":" in word]
    metrics = {{"recall@10": figure, "accuracy": figure, "cer": 1 - figure}}
    rows = [{{"task": words[2], "set": name, "split": part, "metrics": metrics}} for name, part in places]
    print(json.dumps({{"results": rows}}))
if words[0] == "search":
    print(json.dumps({{"hits": [{{"score": 0.5, "skill": "image", "text": "car", "path": "demo-emoji:test#1"}}]}}))
if words[0] == "transcribe": print(json.dumps({{"transcripts": [{{"path": words[1], "text": "123"}}]}}))
"""


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("watching")


@pytest.fixture
def demo(tmp_path: Path, watching: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The driver, at work in a folder of its own, with the stand-in for ``skillnet``."""
    module = importlib.import_module("demo")
    stand_in = tmp_path / "skillnet"
    stand_in.write_text(STAND_IN.format(python=sys.executable))
    stand_in.chmod(0o755)
    monkeypatch.setattr(module, "SKILLNET", str(stand_in))
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setenv("SKILLNET_CHECKPOINT", "")
    monkeypatch.setenv("FIGURE", "0.9")
    monkeypatch.chdir(tmp_path)
    write_shard(tmp_path / "data/demo-digits/test-000000.tar")
    return module


def write_shard(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w") as shard:
        for name, content in [("00000000.json", b'{"transcript": "321"}'), ("00000000.sound.wav", b"RIFF")]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))


def calls() -> list[str]:
    """The verbs called since the last look."""
    path = Path("calls.txt")
    words = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [line.split()[0] for line in words]


FIRST = ["prepare"] * 3 + ["pretrain", "finetune"] + ["eval"] * 5 + ["embed", "search", "transcribe", "report"]


def test_it_goes_the_whole_way_and_a_second_run_reuses_it(demo: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    assert demo.main() == 0
    assert calls() == FIRST
    printed = capfd.readouterr().out
    assert "reached" in printed and "missed" not in printed and "says 321, and was heard as 123" in printed

    assert demo.main() == 0
    assert calls() == ["prepare"]
    kept = json.loads(Path("runs/demo/demo.json").read_text())
    assert kept["figures"]["t2i demo-emoji:unseen recall@10"] == 0.9
    assert kept["figures"]["memory"] < 1 and set(kept["steps"]) >= {"pretrain", "eval asr", "embed"}
    assert Path("runs/demo/recording.wav").read_bytes() == b"RIFF"


def test_another_training_is_measured_anew(demo: ModuleType) -> None:
    assert demo.main() == 0
    calls()
    demo.shutil.rmtree("runs/demo/finetune")
    assert demo.main() == 0
    assert calls() == ["prepare", "finetune", *FIRST[5:]]


def test_a_missed_figure_shows_in_the_table_and_the_exit_code(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FIGURE", "0.3")
    assert demo.main() == 1
    missed = [line.split("│")[1].split()[0] for line in capfd.readouterr().out.splitlines() if "missed" in line]
    assert missed == ["t2i", "tc", "asr", "t2v"]


def test_a_verb_that_fails_stops_it_with_a_line(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BREAK", "finetune")
    assert demo.main() == 1
    assert calls()[-1] == "finetune"
    assert "ended with exit code 2" in " ".join(capfd.readouterr().out.split())
    monkeypatch.delenv("BREAK")
    assert demo.main() == 0
    assert calls() == ["prepare", "finetune", *FIRST[5:]]


def test_memory_of_children_counts(watching: ModuleType) -> None:
    child = "block = bytearray(300_000_000); import time; time.sleep(1.2)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    watched = watching.run_watched([sys.executable, "-c", parent])
    assert 290e6 < watched.peak_bytes < 400e6
    assert 1.2 < watched.seconds < 20


def test_what_a_command_prints_is_captured_only_on_demand(
    watching: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-c", "import sys; print('out'); print('remark', file=sys.stderr)"]
    assert watching.run_watched(command, capture=True).output == "out\n"
    assert watching.run_watched(command).output == ""
    assert capfd.readouterr() == ("out\n", "remark\nremark\n")


def test_a_failing_command_raises(watching: ModuleType) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        watching.run_watched([sys.executable, "-c", "raise SystemExit(3)"])

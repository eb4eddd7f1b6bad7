"""What data holds never acts on the terminal, and no encoding or width of a terminal ends a command."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import unicodedata
from pathlib import Path

import pytest

from tests.inference.world import World

HOSTILE = "\x1b[31mred\x07\x9b2J\u202egnp.exe\u2066\u200b\rover"
"""A colour, a bell, a screen cleared in two ways, text turned round, an invisible blank, a line written over."""

VERBS = (
    "inspect",
    "inspect --json",
    "skills list",
    "skills list --json",
    "transcribe a.hum",
    "transcribe a.hum --json",
    "transcribe a.hum --format srt",
    "eval --task kind",
    "data show evil",
    "data show evil --json",
    "data verify evil",
    "data overlap evil:train evil:test",
    "embed named --to c",
    "search aw --in c",
    "report nowhere",
)


def obeyed(text: str) -> list[str]:
    """The characters of an output that a terminal would act on."""
    return [each for each in text if unicodedata.category(each) in {"Cc", "Cf"} and each not in "\n\t"]


@pytest.fixture
def hostile(world: World) -> World:
    """A run whose model, a set whose manifest, and a folder whose file have hostile names."""
    world.prepare("pairs")
    model = world.save_run() / "config.json"
    document = json.loads(model.read_text())
    document["skills"]["word"]["version"] = HOSTILE
    document["tasks"]["kind"]["datasets"] = [HOSTILE]
    document["tasks"]["hear"]["labels"] = [f"{HOSTILE}{place}" for place in range(9)]
    model.write_text(json.dumps(document))
    evil = world.data / "evil"
    (world.data / "pairs").rename(evil)
    manifest = json.loads((evil / "manifest.json").read_text())
    (evil / "manifest.json").write_text(json.dumps({**manifest, "licence": HOSTILE}))
    (world.folder / "named").mkdir()
    (world.folder / "named" / f"{HOSTILE}.hum").write_bytes(b"abc")
    (world.folder / "a.hum").write_bytes(b"abcabc")
    return world


@pytest.mark.parametrize("verb", VERBS)
def test_s03_no_output_has_what_a_terminal_obeys(verb: str, hostile: World) -> None:
    out, err = hostile.skillnet(*verb.split(), code=None)
    assert out or err
    assert not obeyed(out) and not obeyed(err) and HOSTILE not in out + err
    if "--json" in verb and out:
        json.loads(out)


def typed(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "skillnet_cli", *words]
    return subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, timeout=120)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "gbk"])
def test_u09_an_output_of_another_encoding_has_replaced_characters(encoding: str, tmp_path: Path) -> None:
    done = typed(tmp_path, "prepare", "--list", PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and done.stdout.decode(encoding) and not done.stderr
    done = typed(tmp_path, "data", "show", "没有这个", PYTHONIOENCODING=encoding)
    assert done.returncode == 2 and b"Traceback" not in done.stderr


def on_terminal(folder: Path, columns: int, *words: str) -> list[str]:
    """The lines that a command prints on a terminal of that width."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "skillnet_cli", *words]
    process = subprocess.Popen(command, cwd=folder, env=environment | {"PYTHONUTF8": "1"}, stdout=there)
    os.close(there)
    seen = b""
    while piece := _read(here):
        seen += piece
    os.close(here)
    assert process.wait() == 0
    return seen.decode().splitlines()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # how a terminal says that the other side is gone
        return b""


@pytest.mark.parametrize("columns", [80, 120])
def test_u11_no_table_is_wider_than_the_terminal(columns: int, tmp_path: Path) -> None:
    lines = on_terminal(tmp_path, columns, "prepare", "--list")
    widths = [sum(1 + (unicodedata.east_asian_width(each) in "WF") for each in line) for line in lines]
    assert max(widths) <= columns
    piped = typed(tmp_path, "prepare", "--list", PYTHONUTF8="1").stdout.decode().splitlines()
    assert len(piped) < len(lines)
    assert {line.split()[0] for line in piped} <= {line.split()[0] for line in lines if line.strip()}

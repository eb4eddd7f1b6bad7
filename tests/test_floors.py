"""What may be imported where: no torch for ``--help``, light top modules, a core that knows no modality."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ["torch", "numpy", "transformers", "torchvision", "torchaudio", "av", "soundfile", "sklearn", "lancedb"]
LIGHT = [
    *(f"skillnet_cli.{room}" for room in ("api", "api_changes", "plugins", "recipe", "cli")),
    *(f"skillnet_{name}" for name in ("text", "sound", "image", "video", "code")),
]
MODALITY_WORDS = r"\b(aishell|tnews|vatex|wordpiece|mfcc|tubelet|patches)\b"


def heavy_after(code: str) -> list[str]:
    """The heavy modules that a fresh interpreter has loaded after ``code``."""
    code += f"\nimport sys; print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ast_list(done.stderr.splitlines()[-1])


def ast_list(line: str) -> list[str]:
    """The names in a printed list."""
    return re.findall(r"'(\w+)'", line)


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_nothing_heavy(module: str) -> None:
    assert heavy_after(f"import {module}") == []


def test_the_watch_itself_sees_a_heavy_import() -> None:
    assert heavy_after("import numpy") == ["numpy"]


@pytest.mark.parametrize("words", [["--help"], ["pretrain", "--help"], ["plugins", "--json"], ["eval", "--help"]])
def test_help_and_listings_import_nothing_heavy(words: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["skillnet", *{words}]
from skillnet_cli.cli import main
try:
    main()
except SystemExit:
    pass
"""
    assert heavy_after(code) == []


def test_the_core_knows_no_modality_by_name() -> None:
    hits = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / "skillnet_cli").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(MODALITY_WORDS, line)
    ]
    assert hits == []

"""The figures of Table 3 as the benchmark prints them."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

TABLE3 = Path(__file__).parents[2] / "benchmarks" / "table3.py"


@pytest.mark.filterwarnings("ignore")
def test_rows_are_the_papers_and_differences_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(TABLE3), run_name="__main__")
    printed = capsys.readouterr().out
    rows = {line[:34].strip(): line[34:].split() for line in printed.splitlines()[1:4]}
    assert rows == {
        "Wenlan 2.0": ["445", "445.4", "+0.4"],
        "Wukong ViT-B": ["197", "187.7", "-9.3"],
        "SkillNet": ["124", "123.7", "-0.3"],
    }
    assert "the row's -9.3: -8.7 are the text Transformer's, the rest is rounding" in printed
    readings = [line.split(":")[0].strip() for line in printed.splitlines() if ", comes to the paper's 110;" in line]
    assert readings == ["a decoder of 12 × 768 with 32,000 entries", "BERT-base with its English 30,522 entries"]

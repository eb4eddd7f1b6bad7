"""Every fault that was found by using, reading and attacking the program has a test that is named after it.

The numbers are those of the list of findings that the tests were written for: S security, A protocol and paper, B code,
D preparation, T W L M R F inputs that users of other tools complained about, U use.
"""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
NUMBERS = {
    "s": range(1, 17),
    "a": (*range(1, 7), *range(8, 15)),  # 7 is about what galleries show, no wrong value
    "b": range(1, 17),
    "d": range(1, 14),
    "t": (1, 2, 4, 6, 7, 8),
    "w": (1, 4, 6, 7, 9, 10, 11),
    "l": (1, 2, 4, 5, 8, 10, 12),
    "m": (2, 3, 4, 5, 6, 8),
    "r": (1, 2, 5, 6, 7, 9, 10, 11, 12, 14, 16),
    "f": range(1, 8),
    "u": (*range(2, 16), 18),
}
ELSEWHERE = {
    "s01": "cli/test_trust.py::test_no_verb_imports_what_a_model_names",
    "s02": "evaluation/report/test_hostile_pages.py::test_texts_in_a_runs_files_stay_texts",
    "b03": "engine/test_own_objective.py::test_it_trains_and_measures_as_its_base_does",
    "b10": "test_files.py::test_a_folder_is_replaced_and_at_no_moment_absent",
    "b14": "model/test_persistence.py::test_keywords_that_would_do_nothing_are_refused",
    "f03": "model/test_persistence.py::test_the_code_in_the_card_runs",
    "u15": "test_packaging.py::test_u15_the_metadata_are_whole_and_their_links_lead_somewhere",
}
"""Findings whose tests stand in the room that they are about."""


def names_in(path: Path) -> set[str]:
    return set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))


def test_every_finding_has_a_test() -> None:
    wanted = {f"{letter}{number:02}" for letter, numbers in NUMBERS.items() for number in numbers}
    found = {name[5:8] for path in (TESTS / "cases").glob("test_*.py") for name in names_in(path)}
    assert wanted - found - set(ELSEWHERE) == set()


def test_what_stands_elsewhere_is_there() -> None:
    for place in ELSEWHERE.values():
        path, name = place.split("::")
        assert name in names_in(TESTS / path), place

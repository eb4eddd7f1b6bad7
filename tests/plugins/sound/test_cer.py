from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from skillnet_cli.api import UserError
from skillnet_sound.cer import cer, normalise

TEXTS = st.lists(
    st.tuples(st.text("零一二三a，。 ", max_size=8), st.text("零一二三A,. ", max_size=8)), min_size=1, max_size=6
)


def levenshtein(one: str, other: str) -> int:
    """Edits by the plain recurrence."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]


def stripped(text: str) -> str:
    return "".join(character for character in text.lower() if character not in " ，。,.")


@given(TEXTS)
def test_against_brute_force(pairs: list[tuple[str, str]]) -> None:
    predictions, references = [list(texts) for texts in zip(*pairs, strict=True)]
    wanted = [stripped(text) for text in references]
    assume(any(wanted))
    edits = sum(levenshtein(stripped(one), other) for one, other in zip(predictions, wanted, strict=True))
    assert cer(predictions, references) == pytest.approx(edits / sum(map(len, wanted)))


def test_the_corpus_counts_not_the_average_of_utterances() -> None:
    assert cer(["一", "二三四五六七八九零"], ["二", "二三四五六七八九零"]) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("你好，世界！", "你好世界"),
        (" 今 天\u3000天气\n", "今天天气"),
        ("ＡＢＣ１２３", "abc123"),
        ("《书》—“引”…", "书引"),
        ("5℃ 100% $3", "5°c100$3"),
        ("a\u200bb\ufeff", "ab"),
    ],
)
def test_normaliser(text: str, expected: str) -> None:
    assert normalise(text) == expected
    assert normalise(expected) == expected


def test_nothing_to_compare_with() -> None:
    with pytest.raises(UserError, match="no text"):
        cer(["一"], ["，。"])

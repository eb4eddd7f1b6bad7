"""Masking statistics, targets and their errors."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skillnet_cli import objectives
from skillnet_cli.api import DamagedItem, frames_needed
from skillnet_cli.objectives import TaskConfig
from skillnet_cli.objectives.masked_tokens import corrupt
from skillnet_cli.objectives.masked_units import span_mask
from skillnet_cli.plugins import load_registry
from tests.integers import ToyConfig, ToyReader, ToyVocabulary

RNG = np.random.default_rng


def test_masked_tokens_follow_the_papers_statistics() -> None:
    vocabulary = ToyVocabulary(1000)
    rng = RNG(1)
    ids = torch.from_numpy(rng.integers(3, 1000, size=200_000))
    shown, wanted = corrupt(ids, vocabulary, rng)
    chosen = wanted != -100
    assert chosen.float().mean().item() == pytest.approx(0.15, abs=1e-4)
    assert torch.equal(wanted[chosen], ids[chosen])
    assert torch.equal(shown[~chosen], ids[~chosen])
    masked = (shown[chosen] == vocabulary.mask_id).float().mean().item()
    kept = (shown[chosen] == ids[chosen]).float().mean().item()
    assert masked == pytest.approx(0.8, abs=0.01)
    assert kept == pytest.approx(0.1, abs=0.01)
    replaced = shown[chosen & (shown != ids) & (shown != vocabulary.mask_id)]
    assert replaced.min() >= 3
    assert len(replaced) / int(chosen.sum()) == pytest.approx(0.1, abs=0.01)


@given(st.integers(0, 40), st.integers(0, 2**32))
def test_special_tokens_are_never_chosen(length: int, seed: int) -> None:
    ids = torch.cat([torch.tensor([1]), torch.full((length,), 7)])
    _, wanted = corrupt(ids, ToyVocabulary(20), RNG(seed))
    assert wanted[0] == -100
    assert int((wanted != -100).sum()) == (max(1, round(0.15 * length)) if length else 0)


def test_span_masks_cover_about_two_fifths() -> None:
    rng = RNG(1)
    covered = np.mean([span_mask(500, rng).mean() for _ in range(400)])
    assert covered == pytest.approx(1 - 0.95**10, abs=0.02)  # 0.401


@given(st.integers(1, 60), st.integers(0, 2**32))
def test_span_masks_hide_something_however_short(frames: int, seed: int) -> None:
    mask = span_mask(frames, RNG(seed))
    assert len(mask) == frames and mask.any()


@given(st.text("ab", max_size=4))
def test_frames_needed_is_the_shortest_alignment(transcript: str) -> None:
    def collapses(path: tuple[str, ...]) -> bool:
        merged = [symbol for index, symbol in enumerate(path) if index == 0 or symbol != path[index - 1]]
        return "".join(symbol for symbol in merged if symbol != "-") == transcript

    shortest = next(n for n in range(9) if any(collapses(path) for path in product("-ab", repeat=n)))
    assert frames_needed(transcript) == shortest


READERS = {"alpha": ToyReader(ToyConfig())}
IDS = [[torch.tensor([1, 3, 4, 5])]]


@pytest.mark.parametrize(
    ("objective", "target", "message"),
    [
        ("classification", "x", "label 'x' is not in the list of 3 labels"),
        ("ctc", "abx", "characters 'x'"),
        ("ctc", "aab", "3 frames are too few for a transcript that needs 4"),
        ("masked-units", [0, 1], "2 units for 3 frames"),
        ("masked-units", [0, 1, 3], "a unit outside 0 to 2"),
    ],
)
def test_targets_that_do_not_fit_are_damaged(objective: str, target: object, message: str) -> None:
    task = TaskConfig("task", (("alpha",),), objective, labels=("a", "b", "c"))
    targets = objectives.load(objective, load_registry()).targets(task, READERS)
    with pytest.raises(DamagedItem, match=message):
        targets.example(IDS, target, RNG(0))


def test_units_are_collated_with_a_mask_that_spares_cls() -> None:
    task = TaskConfig("task", (("alpha",),), "masked-units", "units", labels=tuple("abc"))
    targets = objectives.load("masked-units", load_registry()).targets(task, READERS)
    wanted = [targets.example(IDS, [0, 1, 2], RNG(seed))[1] for seed in range(2)]
    batch = READERS["alpha"].collate([IDS[0][0], IDS[0][0]])
    collated = targets.collate([[batch]], wanted)
    assert batch["mask"].tolist()[0] is False and batch["mask"].tolist()[4] is False
    assert torch.equal(batch["mask"].view(2, 4)[:, 1:].flatten(), collated["hidden"])
    expected = np.concatenate([units[mask] for mask, units in wanted])
    assert collated["units"].tolist() == expected.tolist()

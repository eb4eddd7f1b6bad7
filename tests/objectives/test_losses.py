"""Losses against brute force."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from skillnet_cli import objectives
from skillnet_cli.objectives import Encoded, TaskConfig, contrastive
from skillnet_cli.objectives.contrastive import Temperature
from skillnet_cli.objectives.ctc import BLANK, greedy
from skillnet_cli.plugins import load_registry

HIDDEN = 16


def encoded(lengths: list[int], seed: int = 0) -> Encoded:
    tokens = torch.randn(sum(lengths), HIDDEN, generator=torch.Generator().manual_seed(seed))
    counts = torch.tensor(lengths)
    return Encoded(tokens, counts, counts.cumsum(0) - counts, (torch.arange(sum(lengths)),))


def ctc_by_hand(probabilities: Tensor, wanted: list[int]) -> float:
    """The sum over every path that collapses to the transcript."""
    total = 0.0
    for path in product(range(probabilities.shape[1]), repeat=len(probabilities)):
        merged = [symbol for index, symbol in enumerate(path) if index == 0 or symbol != path[index - 1]]
        if [symbol for symbol in merged if symbol != BLANK] == wanted:
            total += math.prod(probabilities[frame, symbol].item() for frame, symbol in enumerate(path))
    return -math.log(total)


def test_ctc_sums_over_all_alignments() -> None:
    task = TaskConfig("spell", (("alpha",),), "ctc", labels=("a", "b"))
    objective = objectives.load("ctc", load_registry())(task)
    heads = nn.ModuleDict({name: make() for name, make in objective.heads(HIDDEN).items()})
    tower = encoded([5, 6])  # 4 and 5 frames after [CLS]
    targets = {"transcripts": torch.tensor([1, 1, 1, 2]), "transcript_lengths": torch.tensor([2, 2])}
    total, count = objective.loss([tower], targets, heads, nn.ModuleDict())
    rows = [tower.tokens[1:5], tower.tokens[6:11]]
    by_hand = [
        ctc_by_hand(heads["spell"](frames).softmax(-1), wanted)
        for frames, wanted in zip(rows, [[1, 1], [1, 2]], strict=True)
    ]
    assert total.item() == pytest.approx(sum(by_hand), rel=1e-5)
    assert count.item() == 4


def test_greedy_merges_repeats_and_drops_blanks() -> None:
    outputs = torch.tensor([0, 1, 1, 0, 1, 2, 2, 0, 0])
    assert greedy(torch.nn.functional.one_hot(outputs, 3).float(), ("a", "b")) == "aab"


def test_contrastive_is_the_mean_of_both_directions() -> None:
    task = TaskConfig("match", (("alpha",), ("beta",)), "contrastive")
    objective = objectives.load("contrastive", load_registry())(task)
    heads = nn.ModuleDict({"match": Temperature()})
    one, other = encoded([2, 3, 4], 1), encoded([5, 1, 2], 2)
    total, count = objective.loss([one, other], {}, heads, nn.ModuleDict())
    by_hand = 0.0
    unit = [[row / row.norm() for row in tower.cls] for tower in (one, other)]
    for i in range(3):
        rows = [math.exp(float(unit[0][i] @ unit[1][j]) / 0.07) for j in range(3)]
        columns = [math.exp(float(unit[0][j] @ unit[1][i]) / 0.07) for j in range(3)]
        by_hand -= (math.log(rows[i] / sum(rows)) + math.log(columns[i] / sum(columns))) / 2
    assert total.item() == pytest.approx(by_hand, rel=1e-5)
    assert count.item() == 3


def test_a_dot_product_is_left_as_it_is() -> None:
    task = TaskConfig("match", (("alpha",), ("beta",)), "contrastive")
    objective = objectives.load("contrastive", load_registry())(task, similarity="dot")
    heads = nn.ModuleDict({name: make() for name, make in objective.heads(HIDDEN).items()})
    one, other = encoded([2, 3, 4], 1), encoded([5, 1, 2], 2)
    total, _ = objective.loss([one, other], {}, heads, nn.ModuleDict())
    scores = one.cls @ other.cls.T / HIDDEN**0.5
    by_hand = -(scores.log_softmax(0).diagonal() + scores.log_softmax(1).diagonal()).sum() / 2
    assert total.item() == pytest.approx(by_hand.item(), rel=1e-5)


@pytest.mark.parametrize("at_once", [1, 30, 1 << 22])
def test_what_is_the_same_is_no_negative(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Pairs 0 and 3 have one caption, 1 and 3 one picture: brute force over who may compete with whom."""
    monkeypatch.setattr(contrastive, "SCORES", at_once)
    content_ids = torch.tensor([[7, 1], [8, 2], [9, 3], [7, 2], [-5, 7]])
    same = {(0, 3), (3, 0), (1, 3), (3, 1)}
    task = TaskConfig("match", (("alpha",), ("beta",)), "contrastive")
    objective = objectives.load("contrastive", load_registry())(task)
    heads = nn.ModuleDict({"match": Temperature()})
    towers = [encoded([2, 1, 3, 1, 2], 1), encoded([1, 4, 1, 2, 2], 2)]
    for tower in towers:
        tower.tokens.requires_grad_()
    total, count = objective.loss(towers, {"content_ids": content_ids}, heads, nn.ModuleDict())
    one, other = (tower.cls / tower.cls.norm(dim=1, keepdim=True) for tower in towers)
    scores = one @ other.T / 0.07
    by_hand = torch.tensor(0.0)
    for i in range(5):
        rivals = [j for j in range(5) if (i, j) not in same]
        by_hand = by_hand - scores[i, i] + (scores[i, rivals].logsumexp(0) + scores[rivals, i].logsumexp(0)) / 2
    assert total.item() == pytest.approx(by_hand.item(), rel=1e-5) and count.item() == 5
    found = torch.autograd.grad(total, [towers[0].tokens, towers[1].tokens])
    wanted = torch.autograd.grad(by_hand, [towers[0].tokens, towers[1].tokens])
    torch.testing.assert_close(found, wanted)
    assert objective.duplicates({"content_ids": content_ids}).item() == 3, "pairs 0, 1 and 3"
    assert objective.duplicates({"content_ids": content_ids[:3]}).item() == objective.duplicates({}).item() == 0


def test_the_temperature_never_exceeds_100_and_comes_back() -> None:
    """Beyond the limit there is no gradient; after :meth:`limit` there is, and a step leads away from it."""
    temperature = Temperature()
    temperature.logit_scale.data.fill_(10.0)
    assert temperature(torch.ones(1, 1)).item() == pytest.approx(100.0)
    optimizer = torch.optim.SGD(temperature.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        temperature(torch.ones(1, 1)).sum().backward()
        optimizer.step()
        temperature.limit()
    assert temperature.logit_scale.grad is not None and temperature.logit_scale.grad.item() == pytest.approx(100.0)
    assert temperature.logit_scale.item() == pytest.approx(math.log(100) - 0.1)


def test_a_frozen_temperature_is_left_alone() -> None:
    temperature = Temperature(start=200.0).requires_grad_(False)
    temperature.limit()
    assert temperature.logit_scale.item() == pytest.approx(math.log(200))


def test_classification_is_the_negative_log_softmax() -> None:
    task = TaskConfig("classify", (("alpha",),), "classification", labels=("a", "b", "c"))
    objective = objectives.load("classification", load_registry())(task)
    heads = nn.ModuleDict({"classify": nn.Linear(HIDDEN, 3)})
    tower = encoded([2, 3])
    total, count = objective.loss([tower], {"classes": torch.tensor([2, 0])}, heads, nn.ModuleDict())
    scores = [heads["classify"](row).exp() for row in tower.cls]
    by_hand = -math.log(scores[0][2] / scores[0].sum()) - math.log(scores[1][0] / scores[1].sum())
    assert total.item() == pytest.approx(by_hand, rel=1e-5) and count.item() == 2


class Table(nn.Module):
    """Stands for an embedder: it has a token table."""

    def __init__(self) -> None:
        super().__init__()
        self.token_table = nn.Parameter(torch.randn(20, HIDDEN, generator=torch.Generator().manual_seed(3)))


def test_masked_tokens_count_only_what_was_hidden_and_use_the_embedders_table() -> None:
    objective = objectives.load("masked-tokens", load_registry())(TaskConfig("fill", (("alpha",),), "masked-tokens"))
    heads, table = (
        nn.ModuleDict({name: make() for name, make in objective.heads(HIDDEN).items()}),
        nn.ModuleDict({"alpha": Table()}),
    )
    tower = encoded([4, 3])
    wanted = torch.tensor([-100, 5, -100, 7, -100, -100, 9])
    total, count = objective.loss([tower], {"tokens_0": wanted}, heads, table)
    by_hand = 0.0
    for row, token in [(1, 5), (3, 7), (6, 9)]:
        scores = heads["tokens-alpha"](tower.tokens[row : row + 1], table["alpha"].token_table)[0]
        by_hand -= float(scores[token] - scores.logsumexp(0))
    assert total.item() == pytest.approx(by_hand, rel=1e-5) and count.item() == 3
    total.backward()
    assert table["alpha"].token_table.grad is not None
    predicted, true = objective.predict([tower], {"tokens_0": wanted}, heads, table)
    assert true.tolist() == [5, 7, 9] and len(predicted) == 3


def test_masked_units_count_only_hidden_frames() -> None:
    task = TaskConfig("guess", (("alpha",),), "masked-units", "units", labels=("0", "1", "2"))
    objective = objectives.load("masked-units", load_registry())(task)
    heads = nn.ModuleDict({"guess": nn.Linear(HIDDEN, 3)})
    tower = encoded([3, 4])
    hidden = torch.tensor([False, True, True, False, False])
    total, count = objective.loss([tower], {"hidden": hidden, "units": torch.tensor([2, 0])}, heads, nn.ModuleDict())
    rows = tower.tokens[[2, 4]]  # frames 1 of the first item and 0 of the second, behind their [CLS]
    scores = heads["guess"](rows).log_softmax(-1)
    assert total.item() == pytest.approx(-float(scores[0, 2] + scores[1, 0]), rel=1e-5) and count.item() == 2

"""The whole model: routing of gradients, invariance of batches, saving and loading."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModel

from skillnet_cli.api import Batch, UserError
from skillnet_cli.model import SkillNet
from skillnet_cli.model.build import build_readers
from skillnet_cli.model.checkpoint import fingerprint
from skillnet_cli.model.parts import parameters_by_part, part_of
from tests.integers import toy_registry


def toy_batch(lengths: list[int], seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    ids = [torch.cat([torch.tensor([1]), torch.randint(3, 20, (n - 1,), generator=generator)]) for n in lengths]
    return {"ids": torch.cat(ids), "lengths": torch.tensor(lengths)}


LENGTHS = [5, 9, 9, 3]
PACKED = torch.zeros(sum(LENGTHS), dtype=torch.bool).index_fill(0, torch.tensor([2, 7, 8, 24]), True)
HIDDEN = torch.where(PACKED, 7, -100)
INPUTS: dict[str, tuple[list[list[Batch]], dict[str, Tensor]]] = {
    "classify": ([[toy_batch(LENGTHS)]], {"classes": torch.tensor([0, 1, 2, 3])}),
    "spell": (
        [[toy_batch(LENGTHS)]],
        {"transcripts": torch.tensor([1, 2, 3, 3, 4]), "transcript_lengths": torch.tensor([1, 1, 2, 1])},
    ),
    "match": ([[toy_batch(LENGTHS)], [toy_batch([4, 4, 4, 4], 1)]], {}),
    "fill": ([[toy_batch(LENGTHS)]], {"tokens_0": HIDDEN}),
    "fill-both": (
        [[toy_batch(LENGTHS), toy_batch([6, 2, 4, 7])]],
        {"tokens_0": HIDDEN, "tokens_1": torch.full((19,), -100)},
    ),
    "guess": (
        [[toy_batch(LENGTHS) | {"mask": PACKED}]],
        {"hidden": PACKED[[i for i in range(26) if i not in (0, 5, 14, 23)]], "units": torch.tensor([1, 2, 3, 4])},
    ),
}


@pytest.mark.parametrize("task", INPUTS)
def test_a_task_touches_only_its_own_parts(model: SkillNet, task: str) -> None:
    towers, targets = INPUTS[task]
    total, count = model(task, towers, targets)
    assert total.isfinite() and count > 0
    total.backward()
    touched = {part_of(name) for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert touched <= set(model.activated_parts(task))
    assert {f"skill:{skill}" for skill in model.task(task).skills} <= touched


@pytest.mark.parametrize("task", ["classify", "spell", "match"])
def test_predictions_do_not_depend_on_batch_mates(model: SkillNet, task: str) -> None:
    model.eval()
    together = model.encode("alpha", toy_batch(LENGTHS))
    begin = 0
    whole = toy_batch(LENGTHS)["ids"]
    for index, length in enumerate(LENGTHS):
        alone = {"ids": whole[begin : begin + length], "lengths": torch.tensor([length])}
        torch.testing.assert_close(model.encode("alpha", alone)[0], together[index], rtol=0, atol=1e-5)
        begin += length


def test_parts_cover_every_parameter_once(model: SkillNet) -> None:
    parts = parameters_by_part(model)
    assert sum(parts.values()) == sum(parameter.numel() for parameter in model.parameters())
    assert model.activated_parameters("classify") == sum(
        parts[part] for part in ("shared", "skill:alpha", "embedder:alpha", "task:classify")
    )
    # per layer: 32 x 96 weights and 96 biases
    assert parts["skill:alpha"] == 2 * (32 * 96 + 96)


FILES = sorted(
    f"model-{part}.safetensors"
    for part in (
        *("shared", "skill-alpha", "skill-beta", "skill-gamma", "embedder-alpha", "embedder-beta", "embedder-gamma"),
        *("task-classify", "task-spell", "task-match", "task-guess", "task-tokens-alpha", "task-tokens-gamma"),
    )
)


def test_a_saved_model_answers_the_same(model: SkillNet, tmp_path: Path) -> None:
    registry = toy_registry()
    readers = build_readers({"alpha": {}, "beta": {}, "gamma": {}}, registry)
    folder = tmp_path / "model"
    for _ in range(2):  # saving over an older model replaces it whole
        model.save(folder, readers)
        (folder / "stale.txt").touch()
    model.save(folder, readers)
    loaded = SkillNet.from_pretrained(folder, registry=registry)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "assets", "config.json", *FILES, "model.safetensors.index.json",
    ]  # fmt: skip
    assert set(loaded.readers) == {"alpha", "beta", "gamma"}
    assert loaded.task("match") == model.task("match")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    assert torch.equal(model.encode("beta", toy_batch(LENGTHS)), loaded.encode("beta", toy_batch(LENGTHS)))
    auto = AutoModel.from_pretrained(folder, registry=registry)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in auto.state_dict().items())


@pytest.fixture
def folder(model: SkillNet, tmp_path: Path) -> Path:
    model.save(tmp_path / "model", build_readers({"alpha": {}, "beta": {}, "gamma": {}}, toy_registry()))
    return tmp_path / "model"


def test_a_folder_without_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a model: config.json is missing"):
        SkillNet.from_pretrained(tmp_path, registry=toy_registry())


def test_the_fingerprint_tells_models_apart(model: SkillNet, folder: Path) -> None:
    before = fingerprint(folder)
    (folder / "assets" / "alpha" / "toy.txt").write_text("another asset")
    assert fingerprint(folder) != before
    with torch.no_grad():
        model.embedders["alpha"].table.weight[0, 0] += 1
    model.save(folder, build_readers({"alpha": {}, "beta": {}, "gamma": {}}, toy_registry()))
    assert fingerprint(folder) != before

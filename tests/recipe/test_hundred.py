"""A recipe with a hundred mistakes: all of them are said in one go, each with its line and its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from skillnet_cli.api import UserError
from skillnet_cli.plugins import load_registry
from skillnet_cli.recipe import load_recipe

UNKNOWN_KEYS = 11


def hundred() -> tuple[list[str], list[tuple[int, str, str]]]:
    """The lines of a recipe, and (line, key, what is said) of every mistake in it."""
    lines: list[str] = []
    wrong: list[tuple[int, str, str]] = []

    def table(header: str = "") -> None:
        lines.append(header)

    def mistake(key: str, written: str, said: str) -> None:
        lines.append(written)
        wrong.append((len(lines), key, said))

    lines.append('name = "hundred"')
    mistake("sed", "sed = 1", "did you mean 'seed'?")
    table("[model]")
    for key in ("layers", "heads", "ffn"):
        mistake(f"model.{key}", f'{key} = "twelve"', "must be a whole number, not 'twelve'")
    mistake("model.hidden", "hidden = 0", "must be greater than 0, not 0")
    mistake("model.norm", 'norm = "pro"', "did you mean 'pre'?")
    mistake("model.activation", 'activation = "gelo"', "did you mean 'gelu'?")
    mistake("model.dropout", "dropout = 1.5", "must be less than 1, not 1.5")
    mistake("model.layer", "layer = 3", "did you mean 'layers'?")
    for number in range(UNKNOWN_KEYS):
        mistake(f"model.key{number}", f"key{number} = {number}", "unknown key")
    for skill, key in {"image": "resolutoin", "video": "framse", "text": "max_lenght", "sound": "chanels"}.items():
        table(f"[model.embedders.{skill}]")
        mistake(f"model.embedders.{skill}.{key}", f"{key} = 3", "did you mean")
    table("[train]")
    mistake("train.precision", 'precision = "bf61"', "did you mean 'bf16'?")
    mistake("train.strategy", 'strategy = "replicat"', "did you mean 'replicate'?")
    mistake("train.clip", "clip = -1.0", "must be greater than 0")
    mistake("train.patience", "patience = 3", "this key is called max_skipped_updates now")
    mistake("train.workers", "workers = -1", "must be at least 0")
    mistake("train.frieze", "frieze = []", "did you mean 'freeze'?")
    for number in range(UNKNOWN_KEYS):
        mistake(f"train.key{number}", f"key{number} = {number}", "unknown key")
    table("[train.optimizer]")
    mistake("train.optimizer.name", 'name = "adamw"', "the optimizer is always AdamW: leave it out")
    mistake("train.optimizer.weigth_decay", "weigth_decay = 1.0", "did you mean 'weight_decay'?")
    mistake("train.optimizer.eps", "eps = 0.0", "must be greater than 0")
    table("[train.checkpoints]")
    mistake("train.checkpoints.evry", "evry = 3", "did you mean 'every'?")
    table("[train.eval]")
    mistake("train.eval.every", "every = 0", "must be greater than 0")
    for stage, tasks in {"pretrain": ("mlm", "units", "code-mlm"), "finetune": ("tc", "asr", "t2i")}.items():
        table(f"[{stage}]")
        mistake(f"{stage}.steps", "steps = 0", "must be greater than 0")
        mistake(f"{stage}.lr", 'lr = "fast"', "must be a number")
        mistake(f"{stage}.warmup", "warmup = -1", "must be at least 0")
        mistake(f"{stage}.schedule", 'schedule = "liner"', "did you mean 'linear'?")
        mistake(f"{stage}.freeze.0", 'freeze = ["skill:imgae"]', "did you mean 'skill:image'?")
        for number in range(UNKNOWN_KEYS):
            mistake(f"{stage}.key{number}", f"key{number} = {number}", "unknown key")
        for task in tasks:
            table(f"[{stage}.tasks.{task}]")
            mistake(f"{stage}.tasks.{task}.datasets", "datasets = []", "must not be empty")
            mistake(f"{stage}.tasks.{task}.batch", "batch = 0", "must be greater than 0")
            mistake(f"{stage}.tasks.{task}.ratoi", "ratoi = 1", "did you mean 'ratio'?")
        lines.append(f"[{stage}.tasks.{task}s]")
        wrong.append((len(lines), f"{stage}.tasks.{task}s", f"did you mean '{task}'?"))
        lines += ['datasets = ["mine"]', "batch = 2"]
        table(f"[{stage}.tasks.{'image-text' if stage == 'pretrain' else 't2c'}]")
        key = f"{stage}.tasks.{'image-text' if stage == 'pretrain' else 't2c'}.datasets.tnews"
        mistake(key, 'datasets = ["tnews"]', "this data set feeds tc")
        lines.append("batch = 2")
    return lines, wrong


def test_all_are_named_each_with_its_line(tmp_path: Path) -> None:
    lines, wrong = hundred()
    assert len(wrong) == 100
    path = tmp_path / "hundred.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_recipe(path, registry=load_registry())
    head, *said = str(caught.value).splitlines()
    assert head == f"100 mistakes in {path}"
    assert len(said) == len(set(said)) == 100
    for number, key, text in wrong:
        own = [line for line in said if line.startswith(f"{path}:{number}: {key}: ")]
        assert len(own) == 1 and text in own[0], (number, key, own)
    assert [int(line.split(":")[1]) for line in said] == sorted(number for number, _, _ in wrong)

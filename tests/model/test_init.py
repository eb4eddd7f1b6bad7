"""Reading the models of others: safetensors alone, whole or in shards, and everything that may be wrong with them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from skillnet_cli.api import UserError
from skillnet_cli.model.hub import Pretrained, fetch_pretrained
from tests.pretrained import save_toy, toy_tensors


def test_names_of_the_oldest_checkpoints_are_todays(tmp_path: Path) -> None:
    tensors = {"x.LayerNorm.gamma": torch.ones(2), "x.LayerNorm.beta": torch.zeros(2)}
    weights = Pretrained(save_toy(tmp_path / "toy", tensors))
    assert set(weights) == {"x.LayerNorm.weight", "x.LayerNorm.bias"}
    assert torch.equal(weights["x.LayerNorm.weight"], torch.ones(2))


def shard(folder: Path) -> None:
    """The toy's tensors in two files under an index."""
    tensors = toy_tensors()
    (folder / "model.safetensors").unlink()
    files = {"model-1.safetensors": ["table", "q"], "model-2.safetensors": ["k", "v", "out", "head"]}
    for file, names in files.items():
        save_file({name: tensors[name] for name in names}, folder / file)
    weight_map = {name: file for file, names in files.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_shards_are_read_by_their_index(tmp_path: Path) -> None:
    folder = save_toy(tmp_path / "toy")
    shard(folder)
    weights = Pretrained(folder)
    assert set(weights) == set(toy_tensors()) and len(weights) == 6
    assert all(torch.equal(weights[name], tensor) for name, tensor in toy_tensors().items())


class Canary:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('the pickle was run')",)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Canary()))


def disguised(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(Canary()))


def truncated(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-10])


def leading_out(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    index = {"weight_map": {"table": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def no_index(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": 5}')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pickled, r"pytorch_model.bin: pickled weights are never read: convert them to safetensors first"),
        (disguised, "model.safetensors: damaged: "),
        (truncated, "model.safetensors: damaged: it ends inside tensor"),
        (leading_out, "tensor 'table' should be in '../outside.safetensors', which lies outside the folder"),
        (no_index, "model.safetensors.index.json: damaged: not an index of weights"),
    ],
)
def test_what_cannot_be_read_is_one_line(change: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    folder = save_toy(tmp_path / "toy")
    change(folder)
    with pytest.raises(UserError, match=message) as caught:
        Pretrained(folder)
    assert "\n" not in str(caught.value)


def test_only_safetensors_are_fetched_from_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None, list[str]]] = []

    def download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert fetch_pretrained("someone/model@refs/pr/3") == tmp_path == fetch_pretrained("someone/model")
    wanted = ["config.json", "*.safetensors", "model.safetensors.index.json"]
    assert asked == [("someone/model", "refs/pr/3", wanted), ("someone/model", None, wanted)]


def test_a_hubs_model_that_cannot_be_fetched_is_one_line() -> None:
    with pytest.raises(UserError, match=r"'nobody/nothing' is not a folder and cannot be fetched: ") as caught:
        fetch_pretrained("nobody/nothing")
    assert "\n" not in str(caught.value)

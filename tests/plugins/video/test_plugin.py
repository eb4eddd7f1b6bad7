from __future__ import annotations

import subprocess
import sys

import pytest

import skillnet_video
from skillnet_cli.plugins import build_registry, load_plugin, resolve, selected_entry_points


def test_what_it_brings() -> None:
    (entry,) = [entry for entry in selected_entry_points() if entry.name == "video"]
    registry = build_registry([load_plugin(entry)])
    assert registry.plugins[0].error is None
    assert set(registry.modalities) == {"video"}
    assert set(registry.tasks) == {"t2v", "video-text"}
    assert {dataset.name for dataset in registry.datasets_named("demo")} == {"demo-clips", "demo-clips-pretrain"}


@pytest.mark.parametrize("key", ["config", "reader", "augment", "embedder", "preview"])
def test_references_resolve(key: str) -> None:
    (modality,) = skillnet_video.skillnet_modalities()
    assert callable(resolve(getattr(modality, key)))


def test_preparers_resolve() -> None:
    assert all(callable(resolve(dataset.prepare)) for dataset in skillnet_video.skillnet_datasets())


def test_importing_it_is_light() -> None:
    code = "import sys, skillnet_video; print(sorted({'torch', 'numpy', 'av', 'pydantic'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"

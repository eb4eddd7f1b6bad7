from __future__ import annotations

import subprocess
import sys

import pytest

import skillnet_image
from skillnet_cli.plugins import build_registry, load_plugin, resolve, selected_entry_points


def test_what_it_brings() -> None:
    (entry,) = [entry for entry in selected_entry_points() if entry.name == "image"]
    registry = build_registry([load_plugin(entry)])
    assert registry.plugins[0].error is None
    assert set(registry.modalities) == {"image"}
    assert set(registry.tasks) == {"t2i", "image-text"}
    assert {dataset.name for dataset in registry.datasets_named("demo")} == {"demo-emoji", "demo-emoji-pretrain"}


@pytest.mark.parametrize("key", ["config", "reader", "augment", "embedder", "preview"])
def test_references_resolve(key: str) -> None:
    (modality,) = skillnet_image.skillnet_modalities()
    assert callable(resolve(getattr(modality, key)))


def test_preparers_resolve() -> None:
    assert all(callable(resolve(dataset.prepare)) for dataset in skillnet_image.skillnet_datasets())


def test_importing_it_is_light() -> None:
    code = "import sys, skillnet_image; print(sorted({'torch', 'numpy', 'PIL', 'pydantic'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"

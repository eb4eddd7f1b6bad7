"""A model on disk: a Hugging Face folder with the readers' assets beside the weights."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from skillnet_cli.api import Reader
from skillnet_cli.data.files import sha256_of
from skillnet_cli.model.card import write_card
from skillnet_cli.model.choosing import read_config
from skillnet_cli.model.saved_by_part import write_description
from skillnet_cli.model.saving import CONFIG, asset_digests, replace_folder
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.model.weights import Weights
from skillnet_cli.plugins import Registry

__all__ = ["fingerprint", "load_model", "read_config", "save_model", "write_card", "write_description"]


def save_model(model: SkillNet, readers: Mapping[str, Reader], folder: Path) -> None:
    """Write configuration, weights by part, assets and card into ``folder``, which is replaced as a whole."""
    fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    model.readers = dict(readers)
    try:
        model.write(fresh)
        replace_folder(folder, fresh)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def load_model(
    folder: str | os.PathLike[str],
    registry: Registry,
    skills: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
) -> tuple[SkillNet, dict[str, Reader]]:
    """Open a saved model, or some of its skills and tasks, and the readers. Raises as SkillNet.from_pretrained does."""
    model = SkillNet.from_pretrained(folder, registry=registry, skills=skills, tasks=tasks)
    return model, dict(model.readers)


def fingerprint(folder: Path) -> str:
    """A name for a model's exact weights, configuration and assets: vectors of other fingerprints do not compare.

    It goes by the checksums that the index has of the files of weights, so that it is the same, and quickly there,
    where only some of them are; what is read is compared with them when it is read. Where the index has none, the
    files themselves are read.
    """
    weights = Weights.open(folder)
    digests = dict(weights.facts.get("sha256", {}))
    for file in set(weights.files.values()) - digests.keys():
        digests[file] = sha256_of(folder / file)
    assets = {**weights.facts.get("assets", {}), **asset_digests(folder)}
    named = json.dumps([sha256_of(folder / CONFIG), sorted(digests.items()), sorted(assets.items())])
    return hashlib.sha256(named.encode()).hexdigest()[:16]

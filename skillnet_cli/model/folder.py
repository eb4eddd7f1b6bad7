"""A model on disk: a Hugging Face folder with the readers' assets beside the weights."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from skillnet_cli.api import Reader, UserError
from skillnet_cli.model.build import build_readers
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import Registry

WEIGHTS = "model.safetensors"
CHUNK = 1 << 20


def save_model(model: SkillNet, readers: Mapping[str, Reader], folder: Path) -> None:
    """Write ``config.json``, weights and ``assets/SKILL`` into ``folder``, which is replaced as a whole."""
    fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        model.save_pretrained(fresh)
        for skill, reader in readers.items():
            assets = fresh / "assets" / skill
            assets.mkdir(parents=True)
            reader.save(assets)
        _replace(folder, fresh)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _replace(folder: Path, fresh: Path) -> None:
    """Put ``fresh`` where ``folder`` is; the old folder is set aside first, since a full one cannot be overwritten."""
    for file in fresh.rglob("*"):
        if file.is_file():
            _sync(file)
    old = fresh.with_suffix(".old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_model(folder: Path | str, registry: Registry) -> tuple[SkillNet, dict[str, Reader]]:
    """Open a saved model and its readers.

    Raises:
        UserError: no model lies there, a plugin that it needs is missing, or its weights are damaged or of another
            size; the message names the file and the tensor.
    """
    folder = Path(folder)
    config = read_config(folder)
    embedders = {skill: facts["embedder"] for skill, facts in (config.skills or {}).items()}
    readers = build_readers(embedders, registry, folder / "assets")
    return _load_weights(folder, config, registry), readers


def read_config(folder: Path) -> SkillNetConfig:
    """The configuration of a saved model. Raises UserError where there is none, or not one of a SkillNet."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no model lies there (config.json is missing)")
    try:
        config = SkillNetConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'config.json'}: {str(error).splitlines()[0]}") from error
    if not config.skills:
        raise UserError(f"{folder / 'config.json'}: this is not a SkillNet's configuration (it has no skills)")
    return config


def _load_weights(folder: Path, config: SkillNetConfig, registry: Registry) -> SkillNet:
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise UserError(f"{weights}: the model's weights are missing")
    try:
        loaded: Any = SkillNet.from_pretrained(
            folder,
            config=config,
            registry=registry,
            output_loading_info=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
        )
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{weights}: damaged ({str(error).splitlines()[0]})") from error
    model, report = loaded
    for name, *shapes in sorted(report["mismatched_keys"]):
        saved, wanted = (tuple(shape) for shape in shapes)
        raise UserError(f"{weights}: tensor '{name}' has shape {saved}, config.json asks for {wanted}")
    for kind in ("missing", "unexpected"):
        for name in sorted(report[f"{kind}_keys"]):
            raise UserError(f"{weights}: tensor '{name}' is {kind}")
    ready: SkillNet = model.eval()
    return ready


def fingerprint(folder: Path) -> str:
    """A name for a model's exact weights, configuration and assets: vectors of other fingerprints do not compare."""
    digest = hashlib.sha256()
    assets = sorted(path for path in (folder / "assets").rglob("*") if path.is_file())
    for path in (folder / "config.json", folder / WEIGHTS, *assets):
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()[:16]

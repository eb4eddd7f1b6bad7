"""Writes a model's weights by part, and puts finished files where a model is."""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from safetensors.torch import save_file
from torch import Tensor

from skillnet_cli.data.files import sha256_of
from skillnet_cli.model.parts import part_of
from skillnet_cli.model.weights import INDEX, crc32_of

CONFIG = "config.json"
CARD = "README.md"
ASSETS = "assets"
OURS = ("model*.safetensors", "pytorch_model*.bin", INDEX, "pytorch_model.bin.index.json", CARD, ASSETS)
"""What a save writes besides ``config.json``, and what earlier ones of this or other tools have left."""


def file_of(part: str) -> str:
    """The file of a part: ``model-skill-text.safetensors`` for ``skill:text``."""
    return f"model-{'-'.join(quote(word, safe='') for word in part.split(':'))}.safetensors"


def write_weights(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write each part's tensors into its file, then the index. The assets must be there: the index lists them too."""
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in sorted(tensors.items()):
        parts[part_of(name)][name] = tensor
    checksums: dict[str, int] = {}
    for part, some in parts.items():
        held = {name: tensor.detach().cpu().contiguous() for name, tensor in some.items()}
        save_file(held, folder / file_of(part), metadata={"format": "pt"})
        checksums |= {name: crc32_of(tensor) for name, tensor in held.items()}
    files = {name: file_of(part_of(name)) for name in sorted(tensors)}
    facts = {
        "total_size": sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()),
        "sha256": {file: sha256_of(folder / file) for file in sorted(set(files.values()))},
        "crc32": checksums,
        "assets": asset_digests(folder),
    }
    write_json(folder / INDEX, {"metadata": facts, "weight_map": files})


def asset_digests(folder: Path) -> dict[str, str]:
    """The sha256 of each file in ``assets``, by its path in the folder."""
    files = sorted(path for path in (folder / ASSETS).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def write_json(path: Path, document: Any) -> None:
    """Write a document as JSON whose order is that of the document."""
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def replace_folder(folder: Path, fresh: Path) -> None:
    """Put ``fresh`` where ``folder`` is; the old folder is set aside first, since a full one cannot be overwritten."""
    sync_files(fresh)
    old = fresh.with_suffix(".old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def replace_model(folder: Path, fresh: Path) -> None:
    """Move the model in ``fresh`` into ``folder``, take away the one that was there, and leave other files alone.

    ``config.json``, without which there is no model, is the first to go and the last to come.
    """
    sync_files(fresh)
    (folder / CONFIG).unlink(missing_ok=True)
    for path in _earlier(folder):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in sorted(fresh.iterdir(), key=lambda path: path.name == CONFIG):
        os.replace(path, folder / path.name)


def _earlier(folder: Path) -> Iterator[Path]:
    return (path for pattern in OURS for path in folder.glob(pattern))


def sync_files(folder: Path) -> None:
    """Have all files of a folder on the disk."""
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

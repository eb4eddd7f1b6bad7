"""A model's weights on disk: safetensors files of one part each, under the index that Hugging Face's tools read.

``model.safetensors.index.json`` says which file holds which tensor and, beside what the standard asks for, each file's
sha256 (as ``sha256sum`` prints it) and each tensor's crc32. The first name a model by its content without opening its
weights; the second are checked whenever a tensor is read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from skillnet_cli.api import UserError
from skillnet_cli.files import replace_path, sha256_of, write_json
from skillnet_cli.model.parts import part_of

CONFIG = "config.json"
CARD = "README.md"
ASSETS = "assets"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLED = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
OURS = ("model*.safetensors", "pytorch_model*.bin", INDEX, "pytorch_model.bin.index.json", CARD, ASSETS)
"""What a save writes besides ``config.json``, and what earlier ones of this or other tools have left."""


@dataclass(frozen=True)
class Weights:
    """Which file of a folder holds which tensor. Nothing is opened before it is asked for.

    Attributes:
        files: tensor -> the name of its file in ``folder``.
        facts: the index's metadata.
        saved_names: tensor -> its name in the file, of those that have another there (:meth:`renamed`).
    """

    folder: Path
    files: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    saved_names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Weights:
        """Read a folder's index, or the header of its one ``model.safetensors``.

        Raises:
            UserError: there are no weights, or only pickled ones; the index is damaged or names a file elsewhere.
        """
        index = folder / INDEX
        if index.is_file():
            document = _read_index(index)
            return cls(folder, document["weight_map"], document.get("metadata") or {})
        if (folder / SINGLE).is_file():
            with _opened(folder / SINGLE, "") as file:
                return cls(folder, dict.fromkeys(file.keys(), SINGLE))
        for path in sorted(folder.glob("*")):
            if path.suffix in PICKLED:
                raise UserError(f"{path}: pickled weights are never read: convert them to safetensors first")
        raise UserError(f"{index}: the model's weights are missing")

    def renamed(self, names: Mapping[str, str]) -> Weights:
        """The same weights, in which tensors go by other names: ``names`` has for each its name in the file."""
        files = {name: file for name, file in self.files.items() if name not in names.values()}
        return replace(
            self, files=files | {name: self.files[saved] for name, saved in names.items()}, saved_names=names
        )

    def location(self, name: str) -> Path:
        """The file of one of the tensors."""
        return self.folder / self.files[name]

    def holding(self, names: Iterable[str]) -> list[str]:
        """The files that hold these tensors, each once. Raises UserError where a tensor is in none."""
        for name in names:
            if name not in self.files:
                raise UserError(f"{self.folder / INDEX}: tensor '{name}' is missing")
        return list(dict.fromkeys(self.files[name] for name in names))

    def shapes(self, names: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """The shapes of some tensors, from the headers of their files. Raises UserError as :meth:`read` does."""
        return {
            name: tuple(file.get_slice(self._saved_name(name)).get_shape())
            for _, file, some in self._grouped(names)
            for name in some
        }

    def parameters_by_part(self) -> dict[str, int]:
        """How many parameters each part has, from the headers of those of its files that are there."""
        parts: Counter[str] = Counter()
        for name, shape in self.shapes(name for name in self.files if self.location(name).is_file()).items():
            parts[part_of(name)] += torch.Size(shape).numel()
        return dict(parts)

    def read(self, names: Iterable[str], verify: bool = True) -> dict[str, Tensor]:
        """Some tensors, mapped from their files and not copied. Writing to them changes no file.

        Args:
            names: the tensors.
            verify: compare each tensor's bytes with the checksum that the index has of it.

        Raises:
            UserError: a file is missing, truncated, altered or no safetensors file; the line names file and tensor.
        """
        known = self.facts.get("crc32", {}) if verify else {}
        tensors = {}
        for path, file, some in self._grouped(names):
            for name in some:
                saved = self._saved_name(name)
                tensors[name] = file.get_tensor(saved)
                if saved in known and _crc32_of(tensors[name]) != known[saved]:
                    raise UserError(f"{path}: tensor '{name}' was altered: its checksum is not that of {INDEX}")
        return tensors

    def _saved_name(self, name: str) -> str:
        return self.saved_names.get(name, name)

    def _grouped(self, names: Iterable[str]) -> Iterator[tuple[Path, Any, list[str]]]:
        """Each file that holds some of the tensors, opened, with those that it holds."""
        wanted = list(names)
        for file_name in self.holding(wanted):
            some = [name for name in wanted if self.files[name] == file_name]
            path = self.folder / file_name
            with _opened(path, some[0]) as file:
                inside = set(file.keys())
                for name in some:
                    if self._saved_name(name) not in inside:
                        raise UserError(f"{path}: tensor '{name}' is missing, and {INDEX} says that it is there")
                yield path, file, some


def _crc32_of(tensor: Tensor) -> int:
    """The crc32 of a tensor's bytes."""
    return zlib.crc32(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data) if tensor.numel() else 0


def _read_index(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        items = list(document["weight_map"].items())
        facts = document.get("metadata") or {}
        tables = [facts, *(facts.get(key, {}) for key in ("crc32", "sha256", "assets"))]
        if not all(isinstance(table, dict) for table in tables):
            raise TypeError("its metadata is no table")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged: not an index of weights ({error})") from error
    for name, file in items:
        _check_file_name(path, name, file)
    return document


def _check_file_name(index: Path, tensor: str, file: Any) -> None:
    if not isinstance(file, str) or Path(file).name != file or "\\" in file or file == "..":
        raise UserError(f"{index}: tensor '{tensor}' should be in {file!r}, which lies outside the folder")
    if not file.endswith(".safetensors"):
        raise UserError(f"{index}: tensor '{tensor}' should be in '{file}', but only safetensors files are read")


def _opened(path: Path, tensor: str) -> Any:
    """The file, mapped. ``tensor`` is one that should be in it, to name where the file cannot be read."""
    wanted = f"; tensor '{tensor}' should be in it" if tensor else ""
    if not path.is_file():
        raise UserError(f"{path}: the file is missing{wanted}")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged: {_cut_off(path) or f'{_line(error)}{wanted}'}") from error


def _cut_off(path: Path) -> str:
    """Where a truncated file ends, empty if it is damaged in another way."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        room = path.stat().st_size - 8 - length
        ends = {name: facts["data_offsets"][1] for name, facts in header.items() if name != "__metadata__"}
        return next((f"it ends inside tensor '{name}'" for name in sorted(ends, key=ends.__getitem__)
                     if ends[name] > room), "")  # fmt: skip
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError, MemoryError, OverflowError):
        return ""


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _file_of(part: str) -> str:
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
        save_file(held, folder / _file_of(part), metadata={"format": "pt"})
        checksums |= {name: _crc32_of(tensor) for name, tensor in held.items()}
    files = {name: _file_of(part_of(name)) for name in sorted(tensors)}
    facts = {
        "total_size": sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()),
        "sha256": {file: sha256_of(folder / file) for file in sorted(set(files.values()))},
        "crc32": checksums,
        "assets": _asset_digests(folder),
    }
    write_json(folder / INDEX, {"metadata": facts, "weight_map": files})


def _asset_digests(folder: Path) -> dict[str, str]:
    """The sha256 of each file in ``assets``, by its path in the folder."""
    files = sorted(path for path in (folder / ASSETS).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def _assets_of(weights: Weights) -> dict[str, str]:
    """The sha256 of every asset: of the files that are there, and, as the index has it, of those that are not."""
    return {**weights.facts.get("assets", {}), **_asset_digests(weights.folder)}


def checksums_by_part(folder: Path) -> dict[str, str]:
    """A checksum of each part's tensors, and as ``assets:SKILL`` one of the files that a skill's reader needs.

    Two models whose part has the same tensors, to the bit, have the same checksum of it, whatever else they consist of.
    It goes by the checksums of the tensors in the index, without opening the weights; where there are none, the
    tensors are read.

    Raises:
        UserError: there are no weights, or a file is missing or damaged.
    """
    weights = Weights.open(folder)
    known = dict(weights.facts.get("crc32", {}))
    for name in weights.files.keys() - known.keys():
        known[name] = _crc32_of(weights.read([name])[name])
    contents: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for name in sorted(weights.files):
        contents[part_of(name)].append((name, known[name]))
    for path, digest in sorted(_assets_of(weights).items()):
        contents[f"{ASSETS}:{Path(path).parts[1]}"].append((path, digest))
    return {part: digest_of_json(content) for part, content in contents.items()}


def digest_of_json(document: Any) -> str:
    """The sha256 of a document of JSON; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def fingerprint(folder: Path) -> str:
    """A name for a model's exact weights, configuration and assets. Parts have checksums: :func:`checksums_by_part`.

    It goes by the checksums that the index has of the files of weights, so that it is the same, and quickly there,
    where only some of them are; what is read is compared with them when it is read. Where the index has none, the
    files themselves are read.
    """
    weights = Weights.open(folder)
    digests = dict(weights.facts.get("sha256", {}))
    for file in set(weights.files.values()) - digests.keys():
        digests[file] = sha256_of(folder / file)
    named = json.dumps([sha256_of(folder / CONFIG), sorted(digests.items()), sorted(_assets_of(weights).items())])
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def replace_model(folder: Path, fresh: Path) -> None:
    """Move the model in ``fresh`` into ``folder``, take away the one that was there, and leave other files alone.

    ``config.json``, without which there is no model, is the first to go and the last to come.
    """
    (folder / CONFIG).unlink(missing_ok=True)
    for path in _earlier(folder):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in sorted(fresh.iterdir(), key=lambda path: path.name == CONFIG):
        replace_path(folder / path.name, path)


def _earlier(folder: Path) -> Iterator[Path]:
    return (path for pattern in OURS for path in folder.glob(pattern))

"""A model's weights on disk: safetensors files of one part each, under the index that Hugging Face's tools read.

``model.safetensors.index.json`` says which file holds which tensor and, beside what the standard asks for, each file's
sha256 (as ``sha256sum`` prints it) and each tensor's crc32. The first name a model by its content without opening its
weights; the second are checked whenever a tensor is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import torch
from pydantic import AfterValidator, BaseModel, Field, NonNegativeInt
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from skillnet_cli.api import UserError
from skillnet_cli.files import disk_errors, replace_path, sha256_of, write_json
from skillnet_cli.model.parts import part_of
from skillnet_cli.pace import advanced
from skillnet_cli.untrusted import Untrusted, open_regular, parse_json, read_json, validate

CONFIG = "config.json"
CARD = "README.md"
ASSETS = "assets"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLED = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
MAX_INDEX = 64 << 20
"""The largest index that is read: it has some 200 bytes a tensor."""
MOST_TENSORS = 200_000
"""The most tensors of a model, and of a file; the paper's has 300."""
_TensorName = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _asset(path: str) -> str:
    """The path of an asset, as it stands in the folder."""
    parts = path.split("/")
    if len(parts) < 3 or parts[0] != ASSETS or not {"", ".", ".."}.isdisjoint(parts) or "\\" in path:
        raise ValueError(f"{path[:100]!r} is not the path of an asset")
    return path


@dataclass(frozen=True)
class Weights:
    """Which file of a folder holds which tensor. Nothing is opened before it is asked for.

    Attributes:
        files: tensor -> the name of its file in ``folder``.
        crc32: tensor -> its checksum, of those of which the index has one.
        sha256: file -> its checksum, likewise; ``assets`` are those of the assets, by their paths in the folder.
        saved_names: tensor -> its name in the file, of those that have another there (:meth:`renamed`).
    """

    folder: Path
    files: Mapping[str, str]
    crc32: Mapping[str, int] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)
    assets: Mapping[str, str] = field(default_factory=dict)
    saved_names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Weights:
        """Read a folder's index, or the header of its one ``model.safetensors``.

        Raises:
            UserError: there are no weights, or only pickled ones; the index is damaged or names a file elsewhere.
        """
        index = folder / INDEX
        if index.exists():
            check_inside(folder, index)
            document = _read_index(index)
            known = document.metadata or _Metadata()
            return cls(folder, document.weight_map, known.crc32, known.sha256, known.assets)
        if (folder / SINGLE).exists():
            check_inside(folder, folder / SINGLE)
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
        """The file of one of the tensors. Raises UserError where it is a link to elsewhere."""
        path = self.folder / self.files[name]
        check_inside(self.folder, path)
        return path

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

    def check_assets(self, skills: Collection[str]) -> None:
        """Raises UserError where an asset of some skills lies elsewhere, is missing, or is not the one in the index."""
        for path in _asset_files(self.folder):
            check_inside(self.folder, path)
        found = _asset_digests(self.folder)
        for name, digest in self.assets.items():
            if name.split("/")[1] in skills and found.get(name) != digest:
                state = f"altered: its checksum is not that of {INDEX}" if name in found else "the file is missing"
                raise UserError(f"{self.folder / name}: {state}")

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
            verify: compare each tensor's bytes with the checksum that the index has of it, and look for numbers that
                are not finite.

        Raises:
            UserError: a file is missing, truncated, altered or no safetensors file, or a number is not finite; the line
                names file and tensor.
        """
        tensors = {}
        for path, file, some in self._grouped(names):
            for name in some:
                tensors[name] = _tensor_in(file, self._saved_name(name), path)
                if verify:
                    self._verify(tensors[name], name, path)
                advanced()
        return tensors

    def _verify(self, tensor: Tensor, name: str, path: Path) -> None:
        saved = self._saved_name(name)
        if saved in self.crc32 and _crc32_of(tensor) != self.crc32[saved]:
            raise UserError(f"{path}: tensor '{name}' was altered: its checksum is not that of {INDEX}")
        if not _is_finite(tensor):
            raise UserError(f"{path}: tensor '{name}' holds numbers that are not finite (NaN or infinite)")

    def _saved_name(self, name: str) -> str:
        return self.saved_names.get(name, name)

    def _grouped(self, names: Iterable[str]) -> Iterator[tuple[Path, Any, list[str]]]:
        """Each file that holds some of the tensors, opened, with those that it holds."""
        wanted = list(names)
        for file_name in self.holding(wanted):
            some = [name for name in wanted if self.files[name] == file_name]
            path = self.location(some[0])
            with _opened(path, some[0]) as file:
                inside = set(file.keys())
                for name in some:
                    if self._saved_name(name) not in inside:
                        raise UserError(f"{path}: tensor '{name}' is missing, and {INDEX} says that it is there")
                yield path, file, some


def _tensor_in(file: Any, name: str, path: Path) -> Tensor:
    try:
        tensor: Tensor = file.get_tensor(name)
    except Exception as error:  # safetensors raises what torch does at a type or a size that it does not have
        raise UserError(f"{path}: tensor '{name}' cannot be read: {_line(error)}") from error
    return tensor


def fitted(tensor: Tensor, dtype: torch.dtype, weights: Weights, name: str) -> Tensor:
    """A tensor in the type that its parameter has: floating-point numbers are cast, others must have it already.

    Args:
        tensor: as it is in the file.
        dtype: of the parameter; it is float32, in which models are trained.
        weights: what it was read from, to name its file.
        name: the tensor's.

    Raises:
        UserError: it holds numbers of another kind, or larger ones than the type has.
    """
    if tensor.dtype == dtype:
        return tensor
    if not (tensor.is_floating_point() and dtype.is_floating_point):
        raise UserError(f"{weights.location(name)}: tensor '{name}' holds {_short(tensor.dtype)}, not {_short(dtype)}")
    cast = tensor.to(dtype)
    if not _is_finite(cast) and _is_finite(tensor):
        raise UserError(f"{weights.location(name)}: tensor '{name}' holds numbers too large for {_short(dtype)}")
    return cast


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite. Their sum tells, at the speed of memory, unless finite ones overflow in it."""
    if not tensor.is_floating_point():
        return True
    numbers = tensor if tensor.element_size() > 1 else tensor.float()  # float8 has no sum
    return bool(numbers.sum().isfinite()) or bool(numbers.isfinite().all())


def _crc32_of(tensor: Tensor) -> int:
    """The crc32 of a tensor's bytes."""
    return zlib.crc32(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data) if tensor.numel() else 0


class _Metadata(BaseModel):
    """What the index says beside the standard's: of foreign models there is nothing but a size, or other things."""

    crc32: dict[str, Annotated[int, Field(ge=0, lt=1 << 32)]] = {}
    sha256: dict[str, _Digest] = {}
    assets: dict[Annotated[str, AfterValidator(_asset)], _Digest] = {}
    config: _Digest | None = None


class _Index(BaseModel):
    metadata: _Metadata | None = None
    weight_map: Annotated[dict[_TensorName, str], Field(max_length=MOST_TENSORS)]


def _read_index(path: Path) -> _Index:
    """An index of weights. Raises UserError where it is none, or names a file elsewhere or of another kind."""
    try:
        index = validate(_Index, read_json(path, MAX_INDEX))
    except (OSError, Untrusted) as error:
        raise UserError(f"{path}: damaged: not an index of weights ({_line(error)})") from error
    for name, file in index.weight_map.items():
        _check_file_name(path, name, file)
    return index


def config_digest(folder: Path) -> str | None:
    """The checksum of what is ours in ``config.json``, as the index has it; None where there is none."""
    path = folder / INDEX
    metadata = _read_index(path).metadata if path.exists() else None
    return metadata.config if metadata else None


def _check_file_name(index: Path, tensor: str, file: str) -> None:
    if Path(file).name != file or "\\" in file or file == ".." or not file.isprintable():
        raise UserError(f"{index}: tensor '{tensor}' should be in {file[:200]!r}, which lies outside the folder")
    if not file.endswith(".safetensors"):
        raise UserError(f"{index}: tensor '{tensor}' should be in '{file}', but only safetensors files are read")


def _opened(path: Path, tensor: str) -> Any:
    """The file, mapped. ``tensor`` is one that should be in it, to name where the file cannot be read."""
    wanted = f"; tensor '{tensor}' should be in it" if tensor else ""
    if not path.exists():
        raise UserError(f"{path}: the file is missing{wanted}")
    try:
        _check_header(path)
        return safe_open(path, framework="pt")
    except (Untrusted, SafetensorError, OSError) as error:
        text = _line(error)
        raise UserError(f"{path}: damaged: {text}{'' if 'tensor' in text else wanted}") from error


class _TensorFacts(BaseModel):
    dtype: Annotated[str, Field(max_length=20)]
    shape: Annotated[list[Annotated[int, Field(ge=0, lt=1 << 48)]], Field(max_length=16)]
    data_offsets: tuple[NonNegativeInt, NonNegativeInt]


class _Header(BaseModel):
    tensors: Annotated[dict[_TensorName, _TensorFacts], Field(max_length=MOST_TENSORS)]


def _check_header(path: Path) -> None:
    """See that a file of safetensors is one, and whole, before it is mapped.

    Raises:
        Untrusted: it is a device or a pipe, its header is no header, or its tensors are not side by side in it.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(MAX_INDEX, size - 8):
            raise Untrusted("its header is cut off" if len(start) == 8 and length <= MAX_INDEX else "it has no header")
        document = parse_json(file.read(length), depth=4, unique=True)
    if not isinstance(document, dict):
        raise Untrusted("its header is no table")
    document.pop("__metadata__", None)  # what it says is not read
    tensors = validate(_Header, {"tensors": document}).tensors
    end = 0
    for name, facts in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        if facts.data_offsets[0] != end or facts.data_offsets[1] < end:
            raise Untrusted(f"tensor '{name}' does not begin where the one before it ends")
        end = facts.data_offsets[1]
        if end > size - 8 - length:
            raise Untrusted(f"it ends inside tensor '{name}'")


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _file_of(part: str) -> str:
    """The file of a part: ``model-skill-text.safetensors`` for ``skill:text``."""
    return f"model-{'-'.join(quote(word, safe='') for word in part.split(':'))}.safetensors"


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file, with the permissions that any new file gets.

    Raises:
        FailedJob: the disk does not take it.
    """
    with disk_errors(path):
        path.open("wb").close()
        mode = path.stat().st_mode  # as the umask has it: the library makes files that only their owner may read
        save_file(dict(tensors), path, metadata=metadata)
        path.chmod(mode)
        advanced()


def write_weights(tensors: Mapping[str, Tensor], folder: Path, config: str) -> None:
    """Write each part's tensors into its file, then the index.

    Args:
        tensors: the model's.
        folder: its folder. The assets must be there: the index lists them too.
        config: the checksum of the model's settings.
    """
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in sorted(tensors.items()):
        parts[part_of(name)][name] = tensor
    checksums: dict[str, int] = {}
    for part, some in parts.items():
        held = {name: tensor.detach().cpu().contiguous() for name, tensor in some.items()}
        write_tensors(held, folder / _file_of(part), {"format": "pt"})
        checksums |= {name: _crc32_of(tensor) for name, tensor in held.items()}
    files = {name: _file_of(part_of(name)) for name in sorted(tensors)}
    facts = {
        "total_size": sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()),
        "sha256": {file: sha256_of(folder / file) for file in sorted(set(files.values()))},
        "crc32": checksums,
        "assets": _asset_digests(folder),
        "config": config,
    }
    write_json(folder / INDEX, {"metadata": facts, "weight_map": files})


def _asset_digests(folder: Path) -> dict[str, str]:
    """The sha256 of each file in ``assets``, by its path in the folder."""
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in _asset_files(folder)}


def _asset_files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / ASSETS).rglob("*") if path.is_file())


def check_inside(folder: Path, path: Path) -> None:
    """Raises UserError where a file of a model is a link to somewhere else: what is there may be private.

    The hub's cache has links of its own, from a snapshot's folder to the one with the contents of all snapshots.
    """
    root, target = folder.resolve(), path.resolve()
    cached = root.parents[1] / "blobs" if root.parent.name == "snapshots" else root
    if not target.is_relative_to(root) and not target.is_relative_to(cached):
        raise UserError(f"{path}: a link that leads out of the model's folder: put the file itself there")


def _assets_of(weights: Weights) -> dict[str, str]:
    """The sha256 of every asset: of the files that are there, and, as the index has it, of those that are not."""
    return {**weights.assets, **_asset_digests(weights.folder)}


def checksums_by_part(folder: Path) -> dict[str, str]:
    """A checksum of each part's tensors, and as ``assets:SKILL`` one of the files that a skill's reader needs.

    Two models whose part has the same tensors, to the bit, have the same checksum of it, whatever else they consist of.
    It goes by the checksums of the tensors in the index, without opening the weights; where there are none, the
    tensors are read.

    Raises:
        UserError: there are no weights, or a file is missing or damaged.
    """
    weights = Weights.open(folder)
    known = dict(weights.crc32)
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
    digests = dict(weights.sha256)
    for file in set(weights.files.values()) - digests.keys():
        digests[file] = sha256_of(folder / file)
    named = json.dumps([sha256_of(folder / CONFIG), sorted(digests.items()), sorted(_assets_of(weights).items())])
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def replace_model(folder: Path, fresh: Path) -> None:
    """Move the model in ``fresh`` into ``folder``, take away the one that was there, and leave other files alone.

    ``config.json``, without which there is no model, is the first to go and the last to come. A card that is not ours
    stays.

    Raises:
        UserError: a file that belongs to no model has the name of one of the new one's. Nothing is changed then.
    """
    old = _files_of_model(folder)
    new = sorted(path.relative_to(fresh).as_posix() for path in fresh.rglob("*") if path.is_file())
    kept = {CARD} if os.path.lexists(folder / CARD) and CARD not in old else set()
    for name in set(new) - old - kept:
        path = folder / name
        if os.path.lexists(path) or any(each.exists() and not each.is_dir() for each in path.parents):
            raise UserError(f"{path}: belongs to no model, and the model to be saved has a file of that name: move it")
        check_inside(folder, path.parent)
    (folder / CONFIG).unlink(missing_ok=True)
    for name in old:
        (folder / name).unlink(missing_ok=True)
    for name in sorted(new, key=lambda name: name == CONFIG):
        if name not in kept:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            replace_path(folder / name, fresh / name)
    for place in sorted(folder.glob(f"{ASSETS}/*/"), reverse=True):
        if place.is_dir() and not place.is_symlink() and not any(place.iterdir()):
            place.rmdir()


def _files_of_model(folder: Path) -> set[str]:
    """The files of the model that lies in a folder, and what other tools have left of one, by their paths in it."""
    standard = {path.name for path in folder.glob("*") if _STANDARD.fullmatch(path.name)}
    if not (folder / CONFIG).exists():
        return standard
    try:
        index = _read_index(folder / INDEX) if (folder / INDEX).exists() else None
    except UserError:  # what a damaged one lists is not believed
        index = None
    known = index.metadata if index and index.metadata else _Metadata()
    listed = {*index.weight_map.values(), *known.assets} if index else set()
    card = folder / CARD
    if card.is_file() and _OURS in card.read_bytes():
        listed.add(CARD)
    return {name for name in {CONFIG, INDEX, *standard, *listed} if os.path.lexists(folder / name)}


_STANDARD = re.compile(r"(pytorch_)?model(-\d{5}-of-\d{5})?\.(safetensors|bin)(\.index\.json)?")
"""The names that transformers gives to files of weights and their indices."""
_OURS = b"\n# A SkillNet of "
"""What the text of every card of ours begins with."""

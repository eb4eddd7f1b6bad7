"""What ranks save in chunks, ranks of any other number read to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from safetensors.torch import save_file

from skillnet_cli.api import FailedJob
from skillnet_cli.engine.checkpoint.format import CHUNKS, Chunk, Draft, ShardedTensors

SHAPES = {"table": (7, 3), "bias": (5,), "one": (1,), "deep": (2, 3, 4), "count": ()}


def full_tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def rows(shape: tuple[int, ...], rank: int, world: int) -> Chunk:
    """The rows that a rank holds of a tensor dealt out as ``torch.chunk`` does; a number is the first one's."""
    if not shape:
        return Chunk.all_of(shape)
    step = -(-shape[0] // world)
    start = min(rank * step, shape[0])
    return Chunk(shape, (start, *(0,) * (len(shape) - 1)), (min(step, shape[0] - start), *shape[1:]))


def cut(tensor: torch.Tensor, chunk: Chunk) -> torch.Tensor:
    return tensor[Chunk.all_of(tensor.shape).index_of(chunk)]


def save(folder: Path, world: int) -> list[Path]:
    draft = Draft(folder, 1, "x", writers=world)
    for rank in range(world):
        parts = {}
        for name, tensor in full_tensors().items():
            chunk = rows(SHAPES[name], rank, world)
            if 0 not in chunk.size and (rank == 0 or tensor.dim()):
                parts[name] = (cut(tensor, chunk).contiguous(), chunk)
        draft.write(rank, {"model": parts})
    return sorted(draft.folder.glob("*.safetensors"))


@pytest.mark.parametrize(("writers", "readers"), [(1, 2), (2, 1), (2, 2), (2, 4), (3, 2), (4, 3), (8, 5)])
def test_another_number_of_ranks_reads_what_it_holds(writers: int, readers: int, tmp_path: Path) -> None:
    sharded = ShardedTensors(save(tmp_path, writers))
    assert sharded.names == sorted(SHAPES)
    for name, tensor in full_tensors().items():
        assert sharded.shape(name) == SHAPES[name] and torch.equal(sharded.read(name), tensor)
        for rank in range(readers):
            chunk = rows(SHAPES[name], rank, readers)
            found = sharded.read(name, chunk)
            assert tuple(found.shape) == chunk.size and torch.equal(found, cut(tensor, chunk))


@given(st.data())
def test_the_common_part_of_two_chunks_is_what_both_have(data: st.DataObject) -> None:
    """Against marking the numbers of each in an array."""
    full = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    chunks = [_any_chunk(data, full) for _ in range(2)]
    marks = [np.zeros(full, dtype=bool) for _ in chunks]
    for mark, chunk in zip(marks, chunks, strict=True):
        mark[Chunk.all_of(full).index_of(chunk)] = True
    common, expected = chunks[0].overlap(chunks[1]), np.logical_and(*marks)
    assert (common is None) == (not expected.any())
    if common is not None:
        found = np.zeros(full, dtype=bool)
        found[Chunk.all_of(full).index_of(common)] = True
        assert (found == expected).all()
        inside = np.zeros(chunks[0].size, dtype=bool)
        inside[chunks[0].index_of(common)] = True
        assert (inside == expected[Chunk.all_of(full).index_of(chunks[0])]).all()


def _any_chunk(data: st.DataObject, full: tuple[int, ...]) -> Chunk:
    begin = tuple(data.draw(st.integers(0, length - 1)) for length in full)
    size = tuple(data.draw(st.integers(0, length - start)) for length, start in zip(full, begin, strict=True))
    return Chunk(full, begin, size)


def test_a_missing_file_is_noticed(tmp_path: Path) -> None:
    sharded = ShardedTensors(save(tmp_path, 4)[:-1])
    with pytest.raises(FailedJob, match=r"3 values of tensor 'table' are missing from its files"):
        sharded.read("table")


BAD_CHUNKS = {
    "no JSON": "{",
    "no table": "[1]",
    "no pair": '{"a": [[4, 2]]}',
    "outside": '{"a": [[4, 2], [3, 0]]}',
    "before": '{"a": [[4, 2], [-1, 0]]}',
    "other dimensions": '{"a": [[8], [0]]}',
    "words": '{"a": [["x", "y"], [0, 0]]}',
}


@pytest.mark.parametrize("bad", BAD_CHUNKS)
def test_chunks_that_make_no_sense_are_damage(bad: str, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, 2)}, tmp_path / "model.safetensors", metadata={CHUNKS: BAD_CHUNKS[bad]})
    with pytest.raises(FailedJob, match=r"model\.safetensors: damaged"):
        ShardedTensors([tmp_path / "model.safetensors"])


def test_a_file_of_whole_tensors_is_a_plain_safetensors_file(tmp_path: Path) -> None:
    """Any tool reads it; only files of chunks say more."""
    (path,) = save(tmp_path, 1)
    header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    assert header.pop("__metadata__") == {"format": "pt"} and header.keys() == SHAPES.keys()


def test_a_process_alone_holds_all() -> None:
    tensor = torch.zeros(3, 2)
    assert Chunk.of(tensor) == Chunk.all_of((3, 2))

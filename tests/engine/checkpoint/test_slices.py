"""What ranks save in slices, ranks of any other number read to the bit."""

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
from skillnet_cli.engine.checkpoint.format import (
    CHUNKS,
    Chunk,
    ShardedTensors,
    chunk_of,
    is_saved_here,
    is_sharded,
    write_chunks,
)

SHAPES = {"table": (7, 3), "bias": (5,), "one": (1,), "deep": (2, 3, 4), "count": ()}


def whole_tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def rows(shape: tuple[int, ...], rank: int, world: int) -> Chunk:
    """The rows that a rank holds of a tensor dealt out as ``torch.chunk`` does; a number is the first one's."""
    if not shape:
        return Chunk.all_of(shape)
    step = -(-shape[0] // world)
    start = min(rank * step, shape[0])
    return Chunk(shape, (start, *(0,) * (len(shape) - 1)), (min(step, shape[0] - start), *shape[1:]))


def cut(tensor: torch.Tensor, box: Chunk) -> torch.Tensor:
    return tensor[Chunk.all_of(tensor.shape).place_of(box)]


def save(folder: Path, world: int) -> list[Path]:
    paths = []
    for rank in range(world):
        parts = {}
        for name, tensor in whole_tensors().items():
            box = rows(SHAPES[name], rank, world)
            if 0 not in box.size and (rank == 0 or tensor.dim()):
                parts[name] = (cut(tensor, box).contiguous(), box)
        paths.append(folder / f"model-{rank + 1:05}-of-{world:05}.safetensors")
        write_chunks(paths[-1], parts)
    return paths


@pytest.mark.parametrize(("writers", "readers"), [(1, 2), (2, 1), (2, 2), (2, 4), (3, 2), (4, 3), (8, 5)])
def test_another_number_of_ranks_reads_what_it_holds(writers: int, readers: int, tmp_path: Path) -> None:
    slices = ShardedTensors(save(tmp_path, writers))
    assert slices.names == sorted(SHAPES)
    for name, tensor in whole_tensors().items():
        assert slices.shape(name) == SHAPES[name] and torch.equal(slices.read(name), tensor)
        for rank in range(readers):
            box = rows(SHAPES[name], rank, readers)
            found = slices.read(name, box)
            assert tuple(found.shape) == box.size and torch.equal(found, cut(tensor, box))


@given(st.data())
def test_the_common_part_of_two_boxes_is_what_both_have(data: st.DataObject) -> None:
    """Against marking the numbers of each in an array."""
    whole = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    boxes = [_any_box(data, whole) for _ in range(2)]
    marks = [np.zeros(whole, dtype=bool) for _ in boxes]
    for mark, box in zip(marks, boxes, strict=True):
        mark[Chunk.all_of(whole).place_of(box)] = True
    common, expected = boxes[0].common(boxes[1]), np.logical_and(*marks)
    assert (common is None) == (not expected.any())
    if common is not None:
        found = np.zeros(whole, dtype=bool)
        found[Chunk.all_of(whole).place_of(common)] = True
        assert (found == expected).all()
        inside = np.zeros(boxes[0].size, dtype=bool)
        inside[boxes[0].place_of(common)] = True
        assert (inside == expected[Chunk.all_of(whole).place_of(boxes[0])]).all()


def _any_box(data: st.DataObject, whole: tuple[int, ...]) -> Chunk:
    begin = tuple(data.draw(st.integers(0, length - 1)) for length in whole)
    size = tuple(data.draw(st.integers(0, length - start)) for length, start in zip(whole, begin, strict=True))
    return Chunk(whole, begin, size)


def test_a_missing_file_is_noticed(tmp_path: Path) -> None:
    slices = ShardedTensors(save(tmp_path, 4)[:-1])
    with pytest.raises(FailedJob, match=r"3 numbers of tensor 'table' are in none of its files"):
        slices.read("table")


BAD_SLICES = {
    "no JSON": "{",
    "no table": "[1]",
    "no pair": '{"a": [[4, 2]]}',
    "outside": '{"a": [[4, 2], [3, 0]]}',
    "before": '{"a": [[4, 2], [-1, 0]]}',
    "other dimensions": '{"a": [[8], [0]]}',
    "words": '{"a": [["x", "y"], [0, 0]]}',
}


@pytest.mark.parametrize("bad", BAD_SLICES)
def test_slices_that_make_no_sense_are_damage(bad: str, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, 2)}, tmp_path / "model.safetensors", metadata={CHUNKS: BAD_SLICES[bad]})
    with pytest.raises(FailedJob, match=r"model\.safetensors: damaged"):
        ShardedTensors([tmp_path / "model.safetensors"])


def test_a_file_of_whole_tensors_is_a_plain_safetensors_file(tmp_path: Path) -> None:
    """Any tool reads it; only files of slices say more."""
    (path,) = save(tmp_path, 1)
    header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    assert header.pop("__metadata__") == {"format": "pt"} and header.keys() == SHAPES.keys()


def test_a_process_alone_holds_and_saves_all() -> None:
    tensor = torch.zeros(3, 2)
    assert chunk_of(tensor) == Chunk.all_of((3, 2)) and is_saved_here(tensor, 0) and not is_saved_here(tensor, 1)
    assert not is_sharded(tensor)

"""Vectors keep their order, do not depend on their neighbours, and damaged sources stop nobody."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skillnet_cli.inference.encoder import by_length, encode_sources
from tests.inference.world import World


@given(st.lists(st.integers(1, 30), max_size=60), st.integers(1, 40))
def test_batches_hold_every_item_once_and_not_too_many_tokens(lengths: list[int], tokens: int) -> None:
    items = list(enumerate(lengths))
    batches = list(by_length(items, lambda item: item[1], tokens))
    assert sorted(item for batch in batches for item in batch) == items
    assert all(len(batch) == 1 or sum(length for _, length in batch) <= tokens for batch in batches)


def test_batches_are_alike_in_length() -> None:
    batches = list(by_length([1, 9, 1, 9, 1, 9], lambda item: item, tokens=9))
    assert batches == [[1, 1, 1], [9], [9], [9]]


def test_a_stream_is_read_as_it_is_needed() -> None:
    read = []

    def stream():  # type: ignore[no-untyped-def]
        for number in range(10_000):
            read.append(number)
            yield 1

    next(by_length(stream(), lambda item: item, tokens=10))
    assert len(read) < 1_000


@pytest.mark.parametrize("tokens", [3, 40, 4_096])
def test_vectors_are_those_of_single_items_in_order(world: World, monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    monkeypatch.setattr("skillnet_cli.model.device.default_precision", lambda device: "fp32")
    monkeypatch.setattr("skillnet_cli.inference.encoder.by_length.__defaults__", (tokens, None))
    model, readers = world.model()
    sources = ["abc", "z", "a longer text", "!", "abc", "", "mn"]
    encoded = encode_sources(model, readers, "word", sources)
    assert encoded.kept == (0, 1, 2, 4, 6)
    assert encoded.damaged == ((3, "an exclamation mark cannot be read"), (5, "it is empty"))
    for position, vector in zip(encoded.kept, encoded.vectors, strict=True):
        alone = encode_sources(model, readers, "word", [sources[position]]).vectors[0]
        torch.testing.assert_close(vector, alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(encoded.vectors.norm(dim=1), torch.ones(5))


def test_files_bytes_and_texts_are_the_same(world: World, tmp_path: Path) -> None:
    model, readers = world.model()
    (tmp_path / "x.word").write_text("abc")
    vectors = encode_sources(model, readers, "word", ["abc", b"abc", tmp_path / "x.word"]).vectors
    torch.testing.assert_close(vectors, vectors[:1].expand(3, -1))


def test_nothing_readable_is_no_vectors(world: World) -> None:
    model, readers = world.model()
    for sources in ([], ["!"]):
        assert encode_sources(model, readers, "word", sources).vectors.shape == (0, 16)


def test_the_mode_of_the_model_is_put_back(world: World) -> None:
    model, readers = world.model(dropout=0.5)
    model.train()
    first, second = (encode_sources(model, readers, "word", ["abc"]).vectors for _ in range(2))
    assert model.training and torch.equal(first, second)

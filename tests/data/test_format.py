"""The bytes of shards, against Python's own tar reader."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillnet_cli.data.format import decode_sample, encode_sample, end_of_archive

texts = st.text(st.characters(exclude_categories=["Cs"]))
names = st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter(lambda name: name not in ("json", "id"))
values = st.one_of(texts, st.lists(texts), st.integers(), st.none(), st.floats(allow_nan=False, allow_infinity=False))
media = st.dictionaries(names, st.tuples(st.binary(max_size=2000), st.sampled_from([".png", ".tar.gz", ".x"])))


@given(st.dictionaries(names, values), media)
def test_a_sample_comes_back_as_it_was(fields: dict, blobs: dict) -> None:
    fields = {name: value for name, value in fields.items() if name not in blobs}
    region = encode_sample("00000007", {"id": "x", **fields}, blobs)
    assert decode_sample(region) == {"id": "x", **fields, **{name: content for name, (content, _) in blobs.items()}}


@given(media)
def test_any_tar_reader_opens_a_shard(blobs: dict) -> None:
    region = encode_sample("00000000", {"id": "火"}, blobs)
    with tarfile.open(fileobj=io.BytesIO(region + end_of_archive(len(region)))) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}
        assert {(member.uid, member.gid, member.mtime, member.uname) for member in tar} == {(0, 0, 0, "")}
    assert json.loads(found.pop("00000000.json")) == {"id": "火"}
    assert found == {f"00000000.{name}{suffix}": content for name, (content, suffix) in blobs.items()}


@given(st.integers(0, 10**7))
def test_an_archive_ends_on_a_whole_record_after_two_empty_blocks(blocks: int) -> None:
    size = blocks * 512
    end = end_of_archive(size)
    assert not any(end) and len(end) >= 1024 and (size + len(end)) % 10240 == 0


@given(st.binary(max_size=3000))
def test_bytes_that_are_no_sample_are_refused(noise: bytes) -> None:
    if noise:
        with pytest.raises(ValueError):
            decode_sample(noise)

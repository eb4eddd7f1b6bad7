"""Models cut, grafted and compared; what is not cut or grafted stays to the bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from skillnet_cli.api import UserError
from skillnet_cli.model import SkillNet
from skillnet_cli.model.build import build_config, build_readers
from skillnet_cli.model.card import results_of, write_card
from skillnet_cli.model.checkpoint import fingerprint
from skillnet_cli.model.parts import part_of
from skillnet_cli.model.surgery import describe_skills, diff, export, graft_from, graft_new
from skillnet_cli.objectives import TaskConfig
from tests.integers import TASKS, toy_registry
from tests.model.conftest import SIZES
from tests.model.test_skillnet import INPUTS, LENGTHS, toy_batch

REGISTRY = toy_registry()
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Saves a model with some skills and those of the toy tasks that they suffice for; returns its folder."""

    def saved(name: str, *skills: str, seed: int = 1, shared_of: Path | None = None, **sizes: int) -> Path:
        torch.manual_seed(seed)
        readers = build_readers({skill: {} for skill in skills}, REGISTRY)
        tasks = [TaskConfig(**asdict(task) | {"labels": tuple("abcdefgh")}) for task in TASKS
                 if set(task.skills) <= set(skills)]  # fmt: skip
        model = SkillNet(
            build_config({**SIZES, **sizes}, readers, tasks, REGISTRY),
            REGISTRY,
        )
        if shared_of:
            donor = SkillNet.from_pretrained(shared_of, registry=REGISTRY).state_dict()
            own = model.state_dict()
            model.load_state_dict({**own, **{name: donor[name] for name in own if part_of(name) == "shared"}})
        model.eval().save(tmp_path / name, readers)
        return tmp_path / name

    return saved


def opened(folder: Path) -> SkillNet:
    return SkillNet.from_pretrained(folder, registry=REGISTRY)


def same(one: SkillNet, other: SkillNet, *parts: str) -> bool:
    """Whether all tensors of both, or those of some parts, are the same to the bit."""
    names = [
        name for name in one.state_dict().keys() & other.state_dict().keys() if not parts or part_of(name) in parts
    ]
    return bool(names) and all(torch.equal(one.state_dict()[name], other.state_dict()[name]) for name in names)


def test_an_export_answers_the_same_to_the_bit(save: Save, tmp_path: Path) -> None:
    whole = save("whole", "alpha", "beta", "gamma")
    rows = [
        {"task": task, "set": "s", "split": "test", "metrics": {"m": 0.5}, "items": 2} for task in ("match", "spell")
    ]
    write_card(whole, rows)
    before = fingerprint(whole)
    export(whole, tmp_path / "part", REGISTRY, ["alpha", "beta"], ["match", "fill"])
    part = opened(tmp_path / "part")
    assert set(part.config.skills) == {"alpha", "beta"} and set(part.config.tasks) == {"match", "fill"}
    assert sorted(path.name for path in (tmp_path / "part" / "assets").iterdir()) == ["alpha", "beta"]
    for task in ("match", "fill"):
        assert torch.equal(part(task, *INPUTS[task])[0], opened(whole)(task, *INPUTS[task])[0])
    assert fingerprint(whole) == before != fingerprint(tmp_path / "part")
    assert results_of(tmp_path / "part") == [{**rows[0], "checksum": ""}]
    with pytest.raises(UserError, match="part already exists: choose another folder"):
        export(whole, tmp_path / "part", REGISTRY, ["alpha"], None)


@pytest.mark.parametrize("like", [None, "beta"])
def test_a_new_skill_leaves_the_others_as_they_are(save: Save, tmp_path: Path, like: str | None) -> None:
    base = save("base", "alpha", "beta")
    before = fingerprint(base)
    keys = {"vocabulary": 9}
    grown = graft_new(base, "gamma", tmp_path / "grown", REGISTRY, like=like, keys=keys, seed=3)
    again = opened(tmp_path / "grown")
    assert same(again, opened(base)) and same(again, grown) and fingerprint(base) == before
    assert again.config.skills["gamma"]["embedder"]["vocabulary"] == 9
    assert len(again.embedders["gamma"].table.weight) == 9
    for block in again.encoder.blocks:
        pair = [block.attention.skills[skill].weight for skill in ("beta", "gamma")]
        assert torch.equal(*pair) == (like is not None)
    batch = toy_batch(LENGTHS)
    assert again.encode("gamma", {**batch, "ids": batch["ids"] % 9}).isfinite().all()
    graft_new(base, "gamma", tmp_path / "same", REGISTRY, like=like, keys=keys, seed=3)
    assert fingerprint(tmp_path / "same") == fingerprint(tmp_path / "grown")


def test_a_skill_trained_elsewhere_comes_with_its_tasks(save: Save, tmp_path: Path) -> None:
    base = save("base", "alpha")
    other = save("other", "beta", seed=2, shared_of=base)
    graft_from(base, "beta", other, tmp_path / "merged", REGISTRY)
    merged = opened(tmp_path / "merged")
    assert set(merged.config.tasks) == {"classify", "fill", "spell", "guess"}
    assert same(merged, opened(base)) and same(merged, opened(other))
    for task, origin in (("classify", base), ("spell", other)):
        assert torch.equal(merged(task, *INPUTS[task])[0], opened(origin)(task, *INPUTS[task])[0])
    graft_from(base, "beta", other, tmp_path / "fewer", REGISTRY, tasks=["spell"])
    assert set(opened(tmp_path / "fewer").config.tasks) == {"classify", "fill", "spell"}


def test_a_skill_of_another_shared_part_is_refused(save: Save, tmp_path: Path) -> None:
    base, other = save("base", "alpha"), save("other", "beta", seed=2)
    with pytest.raises(UserError, match=r"part 'shared' is not the same in .*: tensor 'encoder\.blocks\.0\..* first"):
        graft_from(base, "beta", other, tmp_path / "merged", REGISTRY)
    wide = save("wide", "beta", heads=2)
    with pytest.raises(UserError, match="the models do not fit: heads is 4 in .* and 2 in"):
        graft_from(base, "beta", wide, tmp_path / "merged", REGISTRY)
    assert not list(tmp_path.glob("*merged*"))


def test_a_task_that_needs_another_alpha_is_refused(save: Save, tmp_path: Path) -> None:
    base = save("base", "alpha")
    other = save("other", "alpha", "beta", seed=2, shared_of=base)
    with pytest.raises(UserError, match=r"part '(skill|embedder):alpha' is not the same"):  # match is of both
        graft_from(base, "beta", other, tmp_path / "merged", REGISTRY)
    graft_from(base, "beta", other, tmp_path / "merged", REGISTRY, tasks=["spell"])
    assert same(opened(tmp_path / "merged"), opened(base))


def test_what_cannot_be_grafted_is_said(save: Save, tmp_path: Path) -> None:
    base, other = save("base", "alpha"), save("other", "beta")
    with pytest.raises(UserError, match="already has the skill 'alpha'"):
        graft_new(base, "alpha", tmp_path / "x", REGISTRY)
    with pytest.raises(UserError, match="has no skill 'beta': it has alpha"):
        graft_new(base, "gamma", tmp_path / "x", REGISTRY, like="beta")
    with pytest.raises(UserError, match="unknown skill 'video': pip install skillnet-video"):
        graft_new(base, "video", tmp_path / "x", REGISTRY)
    with pytest.raises(UserError, match="has no skill 'gamma': it has beta"):
        graft_from(base, "gamma", other, tmp_path / "x", REGISTRY)
    with pytest.raises(UserError, match="has no task 'fill'"):
        graft_from(base, "beta", other, tmp_path / "x", REGISTRY, tasks=["fill"])
    assert not (tmp_path / "x").exists()


def test_differences_are_counted_by_part(save: Save) -> None:
    one, two = save("one", "alpha", "beta"), save("two", "beta", "gamma", seed=2, ffn=32)
    found = {each.part: each for each in diff(one, two)}
    assert next(iter(found)) == "shared"
    assert found["skill:alpha"].only == dict.fromkeys(found["skill:alpha"].only, "first")
    assert len(found["skill:gamma"].only) == 4 and set(found["skill:gamma"].only.values()) == {"second"}
    assert found["shared"].shapes["encoder.blocks.0.feed_forward.up.weight"] == ((64, 32), (32, 32))
    tensors = [opened(folder).state_dict() for folder in (one, two)]
    names = [name for name in tensors[0] if part_of(name) == "skill:beta"]
    largest = max(float((tensors[0][name] - tensors[1][name]).abs().max()) for name in names)
    assert found["skill:beta"].largest == pytest.approx(largest) and found["skill:beta"].equal == 2  # the zero biases
    assert all(each.equal == each.tensors and each.largest == 0 for each in diff(one, one))


def test_skills_are_listed_without_their_plugins(save: Save) -> None:
    from skillnet_cli.plugins import Registry

    rows = {row["skill"]: row for row in describe_skills(save("model", "alpha", "beta"), Registry())}
    assert rows["alpha"]["plugin"] == "skillnet-toy" and rows["alpha"]["installed"] is None
    assert rows["beta"]["projections"] == 2 * (32 * 96 + 96) and rows["beta"]["tasks"] == ["guess", "match", "spell"]

"""Models in hub repositories, on a hub of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from transformers import AutoConfig, AutoModel

from skillnet_cli.api import UserError
from skillnet_cli.model import SkillNet
from skillnet_cli.model.build import build_readers
from skillnet_cli.model.checkpoint import fingerprint
from tests.integers import toy_registry
from tests.model.hub import Hub, serving
from tests.model.test_skillnet import toy_batch

NAME = "someone/toy"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serving() as hub:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(
            huggingface_hub.constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            hub.address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


@pytest.fixture
def norm() -> str:
    return "pre"


@pytest.fixture
def folder(model: SkillNet, tmp_path: Path) -> Path:
    model.save(tmp_path / "model", build_readers({"alpha": {}, "beta": {}, "gamma": {}}, toy_registry()))
    return tmp_path / "model"


@pytest.fixture
def published(hub: Hub, folder: Path) -> Hub:
    files = [path for path in folder.rglob("*") if path.is_file()]
    hub.repositories[NAME] = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return hub


def test_only_what_is_activated_is_fetched(published: Hub, model: SkillNet, folder: Path) -> None:
    opened = SkillNet.from_pretrained(NAME, skills=["beta"], registry=toy_registry())
    assert sorted(published.fetched) == [
        "assets/beta/toy.txt", "config.json", "model-embedder-beta.safetensors", "model-shared.safetensors",
        "model-skill-beta.safetensors", "model-task-guess.safetensors", "model-task-spell.safetensors",
        "model.safetensors.index.json",
    ]  # fmt: skip
    batch = toy_batch([5, 9, 9, 3])
    assert torch.equal(opened.encode("beta", batch), model.eval().encode("beta", batch))
    published.fetched.clear()
    more = SkillNet.from_pretrained(NAME, tasks=["classify"], registry=toy_registry())
    assert sorted(published.fetched) == [  # the asset is the same file as beta's
        "model-embedder-alpha.safetensors", "model-skill-alpha.safetensors", "model-task-classify.safetensors",
    ]  # fmt: skip
    assert torch.equal(more.encode("alpha", batch), model.encode("alpha", batch))


def test_a_model_fetched_in_part_has_the_name_of_the_whole(published: Hub, folder: Path, tmp_path: Path) -> None:
    SkillNet.from_pretrained(NAME, skills=["beta"], registry=toy_registry())
    (snapshot,) = (tmp_path / "cache").glob("models--someone--toy/snapshots/*")
    assert fingerprint(snapshot) == fingerprint(folder)


def test_auto_classes_read_a_repository(published: Hub, model: SkillNet) -> None:
    assert AutoConfig.from_pretrained(NAME).skills == model.config.skills
    auto = AutoModel.from_pretrained(NAME, skills=["alpha"], registry=toy_registry())
    batch = toy_batch([5, 9, 9, 3])
    assert torch.equal(auto.encode("alpha", batch), model.eval().encode("alpha", batch))


def test_no_such_repository(hub: Hub) -> None:
    with pytest.raises(UserError, match="someone/nothing: no such folder, nor a repository that can be read"):
        SkillNet.from_pretrained("someone/nothing", registry=toy_registry())


def test_pushing_uploads_exactly_the_folder(hub: Hub, folder: Path, tmp_path: Path) -> None:
    hub.repositories[NAME] = {"model-00001-of-00002.safetensors": b"old", "assets/old/x.txt": b"old", "mine.md": b"x"}
    opened = SkillNet.from_pretrained(folder, registry=toy_registry())
    commit = opened.push_to_hub(NAME, commit_message="Try it", tags=["toy"])
    opened.save_pretrained(tmp_path / "again")
    pushed = hub.repositories[NAME]
    saved = {path.relative_to(tmp_path / "again").as_posix(): path.read_bytes()
             for path in (tmp_path / "again").rglob("*") if path.is_file()}  # fmt: skip
    assert set(pushed) == {*saved, "mine.md"}
    assert {name: pushed[name] for name in saved if name != "README.md"} == {
        name: content for name, content in saved.items() if name != "README.md"
    }
    assert b"- toy" in pushed["README.md"] and hub.commits[0]["summary"] == "Try it"
    assert commit.oid and "someone/toy" in commit.commit_url
    back = SkillNet.from_pretrained(NAME, registry=toy_registry())
    assert all(torch.equal(tensor, opened.state_dict()[name]) for name, tensor in back.state_dict().items())


def test_saving_may_push(hub: Hub, folder: Path, tmp_path: Path) -> None:
    opened = SkillNet.from_pretrained(folder, registry=toy_registry())
    opened.save_pretrained(tmp_path / "toy", push_to_hub=True, repo_id=NAME, commit_message="Both")
    assert set(hub.repositories[NAME]) == {
        path.relative_to(tmp_path / "toy").as_posix() for path in (tmp_path / "toy").rglob("*") if path.is_file()
    }

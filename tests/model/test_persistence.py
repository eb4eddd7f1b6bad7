"""Checkpoints by part: what is written, what is opened, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import load_torch_model, save_torch_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModel

from skillnet_cli.api import Modality, Reader, UserError
from skillnet_cli.model import SkillNet
from skillnet_cli.model.build import build_config, build_readers
from skillnet_cli.model.card import results_of, write_card
from skillnet_cli.model.checkpoint import INDEX, SINGLE, fingerprint
from skillnet_cli.model.config import read_config
from skillnet_cli.model.parts import part_of
from skillnet_cli.plugins import Plugin, build_registry
from tests.integers import TASKS, ToyConfig, ToyEmbedder, toy_modality, toy_registry
from tests.model.test_skillnet import INPUTS, LENGTHS, toy_batch
from tests.model.variants import VARIANTS, variant

SKILLS = ("alpha", "beta", "gamma")


@pytest.fixture
def norm() -> str:
    return "pre"


@pytest.fixture
def readers() -> dict[str, Reader]:
    return build_readers({skill: {} for skill in SKILLS}, toy_registry())


@pytest.fixture
def folder(model: SkillNet, readers: dict[str, Reader], tmp_path: Path) -> Path:
    model.save(tmp_path / "model", readers)
    return tmp_path / "model"


def index_of(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / INDEX).read_text())
    return document


def save_plain(model: SkillNet, folder: Path) -> None:
    """As any tool that knows no parts would: all tensors in one file."""
    folder.mkdir()
    model.config.save_pretrained(folder)
    save_torch_model(model, folder)


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def opened_files(folder: Path) -> set[str]:
    """The weights that this process has mapped, as the system tells."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {Path(line.split()[-1]).name for line in lines if line.split()[-1].startswith(str(folder))}


def test_every_tensor_is_saved_once_in_the_file_of_its_part(model: SkillNet, folder: Path) -> None:
    index = index_of(folder)
    found: dict[str, str] = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                assert name not in found
                found[name] = path.name
        assert index["metadata"]["sha256"][path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found == index["weight_map"]
    assert found == {name: f"model-{part_of(name).replace(':', '-')}.safetensors" for name in model.state_dict()}
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in model.state_dict().values())


def test_the_hubs_own_library_reads_it(model: SkillNet, folder: Path) -> None:
    plain = SkillNet(model.config, toy_registry())
    load_torch_model(plain, folder)
    assert all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_the_auto_classes_open_and_build_it(model: SkillNet, folder: Path) -> None:
    assert AutoConfig.from_pretrained(folder).skills == model.config.skills
    auto = AutoModel.from_pretrained(folder, registry=toy_registry(), tasks=["classify"])
    assert isinstance(auto, SkillNet) and set(auto.config.skills) == {"alpha"}
    built = AutoModel.from_config(model.config, registry=toy_registry())
    assert isinstance(built, SkillNet) and built.state_dict().keys() == model.state_dict().keys()


def test_what_the_hubs_own_library_saves_is_read(model: SkillNet, tmp_path: Path) -> None:
    save_plain(model, tmp_path / "plain")
    assert (tmp_path / "plain" / SINGLE).exists()
    opened = SkillNet.from_pretrained(tmp_path / "plain", skills=["beta"], registry=toy_registry())
    batch = toy_batch(LENGTHS)
    assert torch.equal(opened.encode("beta", batch), model.eval().encode("beta", batch))
    assert len(fingerprint(tmp_path / "plain")) == 16


@pytest.mark.parametrize("task", INPUTS)
def test_a_task_opens_only_its_parts_and_answers_the_same(model: SkillNet, folder: Path, task: str) -> None:
    opened = SkillNet.from_pretrained(folder, tasks=[task], registry=toy_registry())
    parts = set(model.activated_parts(task)) & {part_of(name) for name in model.state_dict()}
    assert opened_files(folder) == {f"model-{part.replace(':', '-')}.safetensors" for part in parts}
    assert set(opened.config.tasks) == {task} and set(opened.readers) == set(model.task(task).skills)
    towers, targets = INPUTS[task]
    whole, part = model.eval()(task, towers, targets), opened(task, towers, targets)
    assert torch.equal(whole[0], part[0])


def test_opening_imports_nothing_that_it_has_no_use_for(folder: Path) -> None:
    """Each of these takes as much memory as a skill of the paper's size, or a large part of it."""
    heavy = ("torch._dynamo", "torch.distributed.fsdp", "sympy", "transformers.modeling_utils")
    script = (
        "import sys; from skillnet_cli.model import SkillNet; from tests.integers import toy_registry; "
        "SkillNet.from_pretrained(sys.argv[1], skills=['alpha'], registry=toy_registry()); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", script, str(folder)]
    assert subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("task", ["classify", "match"])
def test_every_routing_opens_by_part(readers: dict[str, Reader], tmp_path: Path, name: str, task: str) -> None:
    model = variant(**VARIANTS[name]).eval()
    model.save(tmp_path / "model", readers)
    opened = SkillNet.from_pretrained(tmp_path / "model", tasks=[task], registry=toy_registry())
    parts = set(model.activated_parts(task)) & {part_of(each) for each in model.state_dict()}
    assert opened_files(tmp_path) == {f"model-{part.replace(':', '-')}.safetensors" for part in parts}
    assert torch.equal(opened(task, *INPUTS[task])[0], model(task, *INPUTS[task])[0])


def test_what_is_kept_goes_by_skills_and_tasks(folder: Path) -> None:
    def kept(**asked: Any) -> tuple[list[str], list[str]]:
        config = SkillNet.from_pretrained(folder, registry=toy_registry(), **asked).config
        return list(config.skills), list(config.tasks)

    everything = list(SKILLS), sorted(task.name for task in TASKS)
    assert kept() == everything
    assert kept(skills=["beta"]) == (["beta"], ["guess", "spell"])
    assert kept(tasks=["match"]) == (["alpha", "beta"], ["match"])
    assert kept(skills=["gamma"]) == (["gamma"], [])
    assert kept(skills=["beta", "alpha"], tasks=["fill"]) == (["alpha", "beta"], ["fill"])
    assert kept(skills=["alpha"], tasks=[]) == (["alpha"], [])


def test_what_is_not_there_is_said(folder: Path) -> None:
    def asked(**what: Any) -> str:
        with pytest.raises(UserError) as error:
            SkillNet.from_pretrained(folder, registry=toy_registry(), **what)
        return str(error.value)

    assert asked(skills=["beat"]) == f"the model in {folder} has no skill 'beat': did you mean 'beta'?"
    assert asked(skills=["x"]) == f"the model in {folder} has no skill 'x': it has alpha, beta, gamma"
    assert asked(tasks=["spel"]) == f"the model in {folder} has no task 'spel': did you mean 'spell'?"
    assert "task 'match' needs the skill 'alpha', which is not among beta" in asked(skills=["beta"], tasks=["match"])
    opened = SkillNet.from_pretrained(folder, skills=["beta"], registry=toy_registry())
    with pytest.raises(UserError, match="the model, as it was opened, has no skill 'alpha': it has beta"):
        opened.encode("alpha", toy_batch(LENGTHS))
    with pytest.raises(UserError, match="the model, as it was opened, has no task 'classify': it has guess, spell"):
        opened("classify", *INPUTS["classify"])
    with pytest.raises(UserError, match="has no task 'match'"):
        opened.task("match")
    with pytest.raises(TypeError, match="takes no 'device_map'"):
        SkillNet.from_pretrained(folder, device_map="auto")


def test_only_the_plugins_of_what_is_asked_for_are_needed(folder: Path) -> None:
    one = build_registry([Plugin("toy", "skillnet-toy", "1.0", modalities=(toy_modality("beta"),))])
    assert SkillNet.from_pretrained(folder, skills=["beta"], registry=one).config.skills
    message = "skill 'alpha' needs the plugin skillnet-toy, which is not installed: pip install skillnet-toy"
    with pytest.raises(UserError, match=message):
        SkillNet.from_pretrained(folder, registry=one)
    broken = build_registry([Plugin("toy", "skillnet-toy", "1.0", error="ImportError: nothing")])
    with pytest.raises(UserError, match=r"which could not be loaded \(ImportError: nothing\)"):
        SkillNet.from_pretrained(folder, registry=broken)


def test_tensors_are_mapped_and_training_changes_no_file(model: SkillNet, folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    opened = SkillNet.from_pretrained(folder, tasks=["classify"], registry=toy_registry())
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line]
    spans = [tuple(int(end, 16) for end in line[0].split("-")) for line in lines]
    assert all(any(low <= parameter.data_ptr() < high for low, high in spans) for parameter in opened.parameters())
    assert all(parameter.requires_grad for parameter in opened.parameters()) and not opened.training
    optimizer = torch.optim.AdamW(opened.parameters(), lr=0.1)
    loss, _ = opened("classify", *INPUTS["classify"])
    loss.backward()
    optimizer.step()
    assert not torch.equal(opened.state_dict()["heads.classify.bias"], model.state_dict()["heads.classify.bias"])
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_saving_again_replaces_the_model_and_leaves_the_rest(model: SkillNet, folder: Path, tmp_path: Path) -> None:
    save_plain(model, tmp_path / "twice")
    (tmp_path / "twice" / "model-00001-of-00002.safetensors").touch()
    (tmp_path / "twice" / "pytorch_model.bin").touch()
    (tmp_path / "twice" / "notes.txt").write_text("mine")
    SkillNet.from_pretrained(folder, registry=toy_registry()).save_pretrained(tmp_path / "twice")
    opened = SkillNet.from_pretrained(tmp_path / "twice", skills=["beta"], registry=toy_registry())
    opened.save_pretrained(tmp_path / "twice")  # over the very files that it is mapped from
    assert sorted(path.name for path in (tmp_path / "twice").iterdir()) == [
        "README.md", "assets", "config.json", "model-embedder-beta.safetensors", "model-shared.safetensors",
        "model-skill-beta.safetensors", "model-task-guess.safetensors", "model-task-spell.safetensors", INDEX,
        "notes.txt",
    ]  # fmt: skip
    assert [path.name for path in (tmp_path / "twice" / "assets").iterdir()] == ["beta"]
    again = SkillNet.from_pretrained(tmp_path / "twice", registry=toy_registry())
    batch = toy_batch(LENGTHS)
    assert torch.equal(again.encode("beta", batch), model.eval().encode("beta", batch))


def test_a_save_cut_off_leaves_what_was_there(model: SkillNet, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(folder)
    opened = SkillNet.from_pretrained(folder, registry=toy_registry())
    monkeypatch.setattr("skillnet_cli.model.checkpoint._crc32_of", lambda tensor: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        opened.save_pretrained(folder)
    assert fingerprint(folder) == before and not list(folder.glob(".*"))


@pytest.mark.parametrize("options", [{"max_shard_size": "5GB"}, {"private": True}])
def test_keywords_that_would_do_nothing_are_refused(options: dict[str, Any], model: SkillNet, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=f"takes no '{next(iter(options))}'"):
        model.save_pretrained(tmp_path / "model", **options)
    assert not list(tmp_path.iterdir())


def test_opening_and_saving_keeps_the_fingerprint(folder: Path, tmp_path: Path) -> None:
    SkillNet.from_pretrained(folder, registry=toy_registry()).save_pretrained(tmp_path / "copy")
    assert fingerprint(tmp_path / "copy") == fingerprint(folder)
    assert (tmp_path / "copy" / INDEX).read_bytes() == (folder / INDEX).read_bytes()


class Counting(ToyEmbedder):
    """Keeps numbers that are not saved: a buffer and a plain tensor."""

    def __init__(self, config: ToyConfig, hidden: int) -> None:
        super().__init__(config, hidden)
        self.register_buffer("ramp", torch.arange(hidden).float(), persistent=False)
        self.saved: Tensor
        self.register_buffer("saved", torch.ones(hidden))
        self.plain = torch.full((hidden,), 2.0)

    def forward(self, batch: Any) -> tuple[Tensor, Tensor]:
        tokens, lengths = super().forward(batch)
        return tokens * self.plain + self.ramp * self.saved, lengths


def test_numbers_that_are_not_saved_are_there_nevertheless(tmp_path: Path) -> None:
    modality = Modality("alpha", (), "tests.integers:ToyConfig", "tests.integers:ToyReader",
                        f"{__name__}:Counting")  # fmt: skip
    registry = build_registry([Plugin("toy", "skillnet-toy", "1.0", modalities=(modality,))])
    readers = build_readers({"alpha": {}}, registry)
    model = SkillNet(
        build_config(
            {"layers": 1, "hidden": 8, "heads": 2, "ffn": 8},
            readers,
            (),
            registry,
        ),
        registry,
    )
    model.embedders["alpha"].saved += 1
    model.eval().save(tmp_path / "model", readers)
    opened = SkillNet.from_pretrained(tmp_path / "model", registry=registry)
    assert torch.equal(opened.encode("alpha", toy_batch(LENGTHS)), model.encode("alpha", toy_batch(LENGTHS)))
    assert not any(buffer.is_meta for buffer in opened.buffers())


def test_a_temperature_saved_under_its_former_name_is_opened(folder: Path, model: SkillNet) -> None:
    file, index = folder / "model-task-match.safetensors", index_of(folder)
    save_file({"heads.match.log_scale": load_file(file)["heads.match.logit_scale"]}, file, metadata={"format": "pt"})
    for table in (index["weight_map"], index["metadata"]["crc32"]):
        table["heads.match.log_scale"] = table.pop("heads.match.logit_scale")
    (folder / INDEX).write_text(json.dumps(index))
    opened = SkillNet.from_pretrained(folder, registry=toy_registry())
    assert all(torch.equal(tensor, opened.state_dict()[name]) for name, tensor in model.state_dict().items())
    index["metadata"]["crc32"]["heads.match.log_scale"] += 1
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(UserError, match="tensor 'heads.match.logit_scale' was altered"):
        SkillNet.from_pretrained(folder, registry=toy_registry())


# What is wrong with a folder, one at a time, and what is said.


def shrink(tensors: dict[str, Tensor]) -> None:
    tensors["encoder.blocks.0.ffn_norm.weight"] = torch.ones(5)


def drop(tensors: dict[str, Tensor]) -> None:
    del tensors["encoder.blocks.1.ffn_norm.bias"]


def alter(tensors: dict[str, Tensor]) -> None:
    tensors["encoder.blocks.0.ffn_norm.weight"][3] += 1e-6


def narrow(tensors: dict[str, Tensor]) -> None:
    tensors["encoder.blocks.0.ffn_norm.weight"] = tensors["encoder.blocks.0.ffn_norm.weight"].half()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shrink, r"tensor 'encoder.blocks.0.ffn_norm.weight' has shape \(5,\), config.json asks for \(32,\)"),
        (drop, "tensor 'encoder.blocks.1.ffn_norm.bias' is missing, and model.safetensors.index.json says"),
        (alter, "tensor 'encoder.blocks.0.ffn_norm.weight' was altered"),
        (narrow, "tensor 'encoder.blocks.0.ffn_norm.weight' was altered"),
    ],
)
def test_changed_tensors_are_named(folder: Path, change: Callable[[dict[str, Tensor]], None], message: str) -> None:
    file = folder / "model-shared.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"model-shared\.safetensors: {message}"):
        SkillNet.from_pretrained(folder, registry=toy_registry())
    if change is alter:
        SkillNet.from_pretrained(folder, registry=toy_registry(), verify=False)


def test_a_flipped_bit_is_named(folder: Path) -> None:
    file = folder / "model-skill-beta.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 16
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"skill-beta.safetensors: tensor 'encoder.blocks.1.attention.skills.beta.\w+'"):
        SkillNet.from_pretrained(folder, registry=toy_registry())
    SkillNet.from_pretrained(folder, registry=toy_registry(), skills=["alpha"])


@pytest.mark.parametrize("left", [0, 5, 60, -100])
def test_a_truncated_file_is_named(folder: Path, left: int) -> None:
    file = folder / "model-embedder-beta.safetensors"
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(UserError, match=r"model-embedder-beta\.safetensors: damaged: .*tensor 'embedders\.beta\."):
        SkillNet.from_pretrained(folder, registry=toy_registry(), tasks=["spell"])
    SkillNet.from_pretrained(folder, registry=toy_registry(), tasks=["classify"])


def test_a_renamed_file_is_named(folder: Path) -> None:
    (folder / "model-skill-beta.safetensors").rename(folder / "model-skill-delta.safetensors")
    with pytest.raises(UserError, match=r"model-skill-beta\.safetensors: the file is missing; tensor 'encoder"):
        SkillNet.from_pretrained(folder, registry=toy_registry())
    shutil.copy(folder / "model-skill-alpha.safetensors", folder / "model-skill-beta.safetensors")
    with pytest.raises(UserError, match=r"model-skill-beta\.safetensors: tensor 'encoder.*skills.beta.* is missing"):
        SkillNet.from_pretrained(folder, registry=toy_registry())


@pytest.mark.parametrize("file", ["../model-shared.safetensors", "/etc/passwd", "a/b.safetensors", "..", "a\\b"])
def test_an_index_reaches_nothing_outside_the_folder(folder: Path, file: object) -> None:
    shutil.copy(folder / "model-shared.safetensors", folder.parent)
    index = index_of(folder)
    edit_json(folder / INDEX, weight_map={**index["weight_map"], "encoder.final_norm.bias": file})
    message = r"index\.json: tensor 'encoder\.final_norm\.bias' should be in .*, which lies outside the folder"
    with pytest.raises(UserError, match=message):
        SkillNet.from_pretrained(folder, registry=toy_registry())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {}, "metadata": {"crc32": 3}}',
        "\xff",
        '{"weight_map": {"a": 3}}',
    ],
)
def test_a_damaged_index_is_named(folder: Path, text: str) -> None:
    (folder / INDEX).write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"model\.safetensors\.index\.json: damaged"):
        SkillNet.from_pretrained(folder, registry=toy_registry())


def test_an_index_that_lacks_a_tensor_or_has_one_more(folder: Path) -> None:
    index = index_of(folder)
    file = index["weight_map"].pop("heads.classify.bias")
    edit_json(folder / INDEX, weight_map=index["weight_map"])
    with pytest.raises(UserError, match=r"index\.json: tensor 'heads\.classify\.bias' is missing"):
        SkillNet.from_pretrained(folder, registry=toy_registry())
    edit_json(folder / INDEX, weight_map={**index["weight_map"], "heads.classify.bias": file, "extra": file})
    with pytest.raises(UserError, match=r"classify\.safetensors: tensor 'extra' is unexpected"):
        SkillNet.from_pretrained(folder, registry=toy_registry())


def task_of(**facts: Any) -> dict[str, Any]:
    common = {"name": "t", "towers": [["alpha"]], "objective": "ctc", "target": None}
    return {**common, "metrics": [], "labels": [], "datasets": [], **facts}


class Canary:
    """What a pickle may do to who reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("place", ["alone", "in the index", "under another name"])
def test_a_pickle_is_never_read(folder: Path, tmp_path: Path, place: str) -> None:
    canary, evil = tmp_path / "canary", tmp_path / "evil"
    evil.write_bytes(pickle.dumps(Canary(canary)))
    if place == "alone":
        for path in folder.glob("model*"):
            path.unlink()
        shutil.copy(evil, folder / "pytorch_model.bin")
        message = r"pytorch_model\.bin: pickled weights are never read"
    elif place == "in the index":
        shutil.copy(evil, folder / "pytorch_model.bin")
        index = index_of(folder)
        edit_json(folder / INDEX, weight_map=dict.fromkeys(index["weight_map"], "pytorch_model.bin"))
        message = "should be in 'pytorch_model.bin', but only safetensors files are read"
    else:
        shutil.copy(evil, folder / "model-shared.safetensors")
        message = r"model-shared\.safetensors: damaged: .*; tensor 'encoder\.\S+' should be in it"
    with pytest.raises(UserError, match=message):
        SkillNet.from_pretrained(folder, registry=toy_registry())
    assert not canary.exists()
    pickle.loads(evil.read_bytes())
    assert canary.exists()  # it would have


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "sideways"}, "norm: must be 'pre' or 'post', not 'sideways'"),
        ({"activation": "swish"}, "activation: must be 'quick_gelu' or 'gelu', not 'swish'"),
        ({"layers": -1}, "layers: must be greater than 0, not -1"),
        ({"heads": 5}, "heads: must divide hidden = 32, and 5 does not"),
        ({"hidden": "wide"}, "'hidden'|hidden"),
        ({"skills": None}, "skills: must be a table, not None"),
        ({"skills": {"alpha": 3}}, "skills.alpha"),
        ({"skills": {"alpha": {"plugin": "p", "version": "1"}}}, "skills.alpha.embedder: is missing"),
        ({"tasks": {"t": task_of(towers=[["omega"]])}}, "needs the skill 'omega'"),
        ({"tasks": {"t": {"name": "t"}}}, "tasks.t.towers: is missing"),
        (
            {"tasks": {"t": task_of(objective="no.such:thing")}},
            r"tasks\.t\.objective: no installed plugin brings",
        ),
        (
            {"tasks": {"t": task_of(metrics=["no.such:thing"])}},
            r"tasks\.t\.metrics: no installed plugin brings",
        ),
        ({"model_type": "bert"}, "its model_type is 'bert'"),
    ],
)
def test_a_configuration_of_no_use_is_named(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit_json(folder / "config.json", **changes)
    with pytest.raises(UserError, match=message) as error:
        SkillNet.from_pretrained(folder, registry=toy_registry())
    assert "config.json" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\xff\xfe", "{}"])
def test_a_damaged_configuration_is_named(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"config\.json: "):
        read_config(folder, toy_registry())


# The model card


def test_the_card_says_what_the_model_is(model: SkillNet, folder: Path) -> None:
    text = (folder / "README.md").read_text()
    assert "| alpha | skillnet-toy | 1.0 |" in text and "| match | alpha, beta | contrastive |  |" in text
    assert f"| skill:alpha | {2 * (32 * 96 + 96):,} |" in text
    row = {"task": "classify", "set": "news", "split": "test", "metrics": {"accuracy": 0.5, "loss": 1.25}, "items": 9}
    row["checksum"] = "0123456789abcdef"
    rows = [row, {**row, "task": "gone"}]
    before = fingerprint(folder)
    write_card(folder, rows)
    assert "| classify | news:test | 0123456789abcdef | 9 | accuracy | 0.5000 |" in (folder / "README.md").read_text()
    assert results_of(folder) == rows[:1] and fingerprint(folder) == before


def test_the_code_in_the_card_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (folder / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0].replace("FOLDER_OR_REPOSITORY", repr(str(folder)))
    monkeypatch.setattr("skillnet_cli.model.persistence.load_registry", toy_registry)
    names: dict[str, Any] = {}
    exec(code, names)
    assert isinstance(names["model"], SkillNet)

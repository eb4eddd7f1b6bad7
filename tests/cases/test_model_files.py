"""A model's folder is data: whatever its files say, a command answers in one line, and nothing is silently another."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from skillnet_cli.api import Modality, UserError
from skillnet_cli.model import SkillNet
from skillnet_cli.model.analysis import summarise, without_storage
from skillnet_cli.model.build import build_config, build_readers, config_of, embedder_config
from skillnet_cli.model.checkpoint import INDEX
from skillnet_cli.model.config import read_config
from skillnet_cli.plugins import Plugin, build_registry, load_registry
from tests.inference.world import World
from tests.integers import ToyConfig, ToyEmbedder
from tests.model.test_skillnet import LENGTHS, toy_batch

DEEP = "[" * 20_000
MUTATIONS: tuple[Any, ...] = (
    None, True, False, -1, 0, 1.5, 10**9, 10**5, 10**400, "NaN", "", "a/b", "../x", "\x1b[31m", [], [[]], {}, DEEP,
)  # fmt: skip
VERBS = ("inspect", "skills list", "embed shapes --to c", "export --tasks find --to out")


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in a document but the second and later elements of lists."""
    if path:
        yield path
    inner = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document[:1])
        if isinstance(document, list)
        else ()
    )
    for key, value in inner:
        yield from places(value, (*path, key))


def altered(document: Any, path: tuple[Any, ...], value: Any) -> str:
    """The document as text with another value at a place, or without it if the value is ``...``."""
    changed = copy.deepcopy(document)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = "REPLACED" if value in ("NaN", DEEP) and isinstance(value, str) else value
    return json.dumps(changed).replace('"REPLACED"', str(value))


def said(world: World, words: str, *, codes: tuple[int, ...]) -> str:
    """What a command that is refused prints: one line on standard error, within the time that was promised."""
    begin = time.monotonic()
    try:
        _, remarks = world.skillnet(*words.split(), code=2)
    except AssertionError as error:
        assert isinstance(error.args[0], tuple) and error.args[0][0] in codes, error
        return ""
    finally:
        assert time.monotonic() - begin < 20, words
    errors = [line for line in remarks.splitlines() if line.startswith("skillnet: error: ")]
    assert len(errors) == 1 and "Traceback" not in remarks and "\x1b" not in remarks, remarks
    return errors[0]


@pytest.fixture
def saved(world: World) -> World:
    """A model and something to embed."""
    world.save_run()
    (world.folder / "shapes").mkdir()
    (world.folder / "shapes" / "a.shape").write_bytes(b"abc")
    return world


def without_checksum(world: World) -> None:
    """As models are that an earlier version has saved: whatever their settings say is believed."""
    path = world.run / "model" / INDEX
    document = json.loads(path.read_text())
    del document["metadata"]["config"]
    path.write_text(json.dumps(document))


def refused(folder: Path) -> bool:
    """Whether the configuration is refused, in one line."""
    try:
        read_config(folder, load_registry())
    except UserError as error:
        assert "\n" not in str(error) and "config.json" in str(error)
        return True
    return False


def test_s04_whatever_config_json_says_a_command_ends_in_one_line(saved: World) -> None:
    without_checksum(saved)
    path = saved.run / "model" / "config.json"
    document = json.loads(path.read_text())
    taken: dict[str, list[Any]] = {}
    number = 0
    for place in places(document):
        if place[:2] in (("skills", "hum"), ("skills", "lone"), ("tasks", "fill"), ("tasks", "guess")):
            continue
        for value in (..., *MUTATIONS):
            number += 1
            path.write_text(altered(document, place, value))
            was_refused = refused(path.parent)
            already = taken.setdefault(".".join(map(str, place)), [])
            if not was_refused:
                already.append(value)
            # One gate for all verbs: a sample of what it keeps out is enough, and of what it lets in for each key.
            if number % 100 == 0 or (not was_refused and len(already) == 1):
                line = said(saved, VERBS[number % len(VERBS)], codes=() if was_refused else (0,))
                shutil.rmtree("out", ignore_errors=True)
                assert was_refused <= ("config.json" in line), (place, value, line)
    for key in ("layers", "hidden", "heads", "norm", "routing", "routed", "similarity", "tasks.find.towers"):
        assert set(map(str, taken[key])) <= {"Ellipsis"}, (key, taken[key])


def test_s04_a_value_of_another_kind_is_refused_where_a_table_or_an_array_belongs(saved: World) -> None:
    without_checksum(saved)
    path = saved.run / "model" / "config.json"
    document = json.loads(path.read_text())
    wanted = {dict: "table", list: "array"}
    for place in places(document):
        if place[0] not in ("skills", "tasks", "routed") or "embedder" in place[:-1]:
            continue  # transformers' keys, which are not read, and those of a plugin's embedder
        kind = wanted.get(type(usual_at(document, place)))
        for value in ([], {}, [1], {"a": 1}, "text", 3, None, True) if kind else ():
            if type(value) not in (dict, list) or wanted[type(value)] != kind:
                path.write_text(altered(document, place, value))
                with pytest.raises(UserError) as refusal:
                    read_config(path.parent, load_registry())
                assert str(refusal.value).startswith(f"{path}: {'.'.join(map(str, place))}: must be "), refusal.value
    for value in ("[]", "3", "null", '"text"', "{}"):
        path.write_text(value)
        assert refused(path.parent), value


def test_s01_no_string_of_a_model_chooses_what_is_imported(saved: World, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = saved.folder / "modules"
    modules.mkdir()
    canary = saved.folder / "canary"
    (modules / "evil_module.py").write_text(f"open({str(canary)!r}, 'w').close()\ndef attribute(*_, **__): ...\n")
    monkeypatch.syspath_prepend(modules)
    monkeypatch.delitem(sys.modules, "evil_module", raising=False)
    folder = saved.run / "model"
    without_checksum(saved)
    for name in ("config.json", INDEX):
        sound = (folder / name).read_text()
        document = json.loads(sound)
        extra = {"auto_map": {"AutoModel": "evil_module.attribute"}, "custom_pipelines": {"x": {"impl": "evil_module"}}}
        texts = [
            json.dumps({**document, **extra}),
            json.dumps({**document, "architectures": ["evil_module:attribute"]}),
        ]
        for place in places(document):
            if isinstance(usual_at(document, place), str):
                texts += [altered(document, place, evil) for evil in ("evil_module:attribute", "evil_module")]
        for number, text in enumerate(texts):
            (folder / name).write_text(text)
            try:
                SkillNet.from_pretrained(folder, registry=load_registry())
            except UserError as error:
                assert "\n" not in str(error)
            if number % 10 == 0:
                said(saved, VERBS[number // 10 % 3], codes=(0,))
        (folder / name).write_text(sound)
    assert "evil_module" not in sys.modules and not canary.exists()


def test_s04_settings_that_were_altered_after_saving_are_refused(saved: World) -> None:
    folder = saved.run / "model"
    path = folder / "config.json"
    document = json.loads(path.read_text())
    changes: list[dict[str, Any]] = [
        {"heads": 4}, {"activation": "quick_gelu"}, {"similarity": "dot"}, {"dropout": 0.5}, {"norm": "post"},
        {"tasks": {**document["tasks"], "kind": {**document["tasks"]["kind"], "labels": list("bacdef")}}},
    ]  # fmt: skip
    for change in changes:
        path.write_text(json.dumps({**document, **change}))
        for verb in VERBS[:2] if change is not changes[0] else VERBS:
            line = said(saved, verb, codes=())
            assert "config.json: altered since the model was saved" in line and INDEX in line, line
    # What transformers writes there means nothing, and neither does the order.
    foreign = {"dtype": "float16", "torch_dtype": "bfloat16", "transformers_version": "9.9", "id2label": {"0": "x"}}
    path.write_text(json.dumps(dict(reversed([*{**document, **foreign}.items()]))))
    saved.skillnet("inspect")
    assert next(SkillNet.from_pretrained(folder, registry=load_registry()).parameters()).dtype == torch.float32


def test_s04_doubled_labels_and_assets_of_others_are_refused(saved: World) -> None:
    folder = saved.run / "model"
    (folder / "assets" / "shape" / "letters.txt").write_text("257")
    assert "assets/shape/letters.txt: altered" in said(saved, "embed shapes --to c", codes=())
    (folder / "assets" / "shape" / "letters.txt").unlink()
    assert "assets/shape/letters.txt: the file is missing" in said(saved, "embed shapes --to c", codes=())
    without_checksum(saved)
    path = folder / "config.json"
    document = json.loads(path.read_text())
    document["tasks"]["kind"]["labels"][1] = "a"
    path.write_text(json.dumps(document))
    assert "tasks.kind.labels: 'a' comes twice" in said(saved, "inspect", codes=())
    document["layers"] = True
    path.write_text(json.dumps(document))
    assert "layers: must be a whole number, not True" in said(saved, "inspect", codes=())


@pytest.mark.parametrize("name", ["a/b", "..", "a.b", "", "keys", "forward", "-x", "x" * 200, "a\nb", "\x1b[31m"])
def test_s04_names_become_modules_and_files_and_are_words(saved: World, name: str) -> None:
    path = saved.run / "model" / "config.json"
    document = json.loads(path.read_text())
    skills = {**document["skills"], name: document["skills"]["hum"]}
    path.write_text(json.dumps({**document, "skills": skills}))
    assert "must be letters, digits" in said(saved, "inspect", codes=())
    task = {**document["tasks"]["kind"], "name": name}
    path.write_text(json.dumps({**document, "tasks": {**document["tasks"], name: task}}))
    assert "must be letters, digits" in said(saved, "inspect", codes=())


KEYS: dict[str, dict[str, Any]] = {
    "text": {"vocab_size": 30}, "code": {"vocab_size": 30}, "image": {"resolution": 32},
    "sound": {"channels": 8, "max_seconds": 1.0}, "video": {"resolution": 32},
}  # fmt: skip


@pytest.mark.parametrize("skill", KEYS)
def test_s04_numbers_of_embedders_take_neither_all_time_nor_all_memory(skill: str) -> None:
    load_registry.cache_clear()
    registry = load_registry()
    usual = embedder_config(skill, KEYS[skill], registry).model_dump(mode="json")
    for place in places(usual):
        for value in (..., *MUTATIONS):
            keys = json.loads(altered(usual, place, value if value != DEEP else "deep").replace("NaN", "0.5"))
            begin = time.monotonic()
            try:
                config = config_of(SIZES, {skill: embedder_config(skill, keys, registry)}, (), registry)
                summarise(without_storage(config, {}, registry), {})
            except UserError as error:
                assert "\n" not in str(error), (place, value)
            else:
                assert value is not True or isinstance(usual_at(usual, place), bool), (place, "true is no number")
            assert time.monotonic() - begin < 20, (place, value)


SIZES = {"layers": 1, "hidden": 8, "heads": 2, "ffn": 8, "norm": "pre", "activation": "gelu", "dropout": 0.0}


def usual_at(document: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        document = document[key]
    return document


# Weights

TYPES = [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2]


def rewritten(world: World, change: Callable[[str, Tensor], Tensor]) -> Path:
    """The run's model with other tensors, as a tool that knows no checksums would leave it."""
    folder = world.run / "model"
    for path in folder.glob("*.safetensors"):
        save_file({name: change(name, tensor) for name, tensor in load_file(path).items()}, path)
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps({"weight_map": index["weight_map"]}))
    return folder


def answer(folder: Path) -> Tensor:
    model = SkillNet.from_pretrained(folder, registry=load_registry())
    reader = model.readers["shape"]
    with torch.no_grad():
        return model.encode("shape", reader.collate([reader.read(b"abc")]))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("which", ["all", "one"])
def test_s08_weights_of_other_precisions_are_cast_on_opening(saved: World, dtype: torch.dtype, which: str) -> None:
    one = "encoder.blocks.0.feed_forward.up.weight"
    model = SkillNet.from_pretrained(saved.run / "model", registry=load_registry())
    tensors = {
        name: tensor.to(dtype).float() if which == "all" or name == one else tensor.clone()
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(tensors)
    reader = model.readers["shape"]
    with torch.no_grad():
        expected = model.encode("shape", reader.collate([reader.read(b"abc")]))
    folder = rewritten(saved, lambda name, tensor: tensor.to(dtype) if which == "all" or name == one else tensor)
    assert torch.equal(answer(folder), expected)
    saved.skillnet("embed", "shapes", "--to", "c")
    saved.skillnet("export", "--tasks", "find", "--to", "out")
    assert torch.equal(answer(Path("out")), expected)


def test_s08_a_model_saved_in_half_precision_opens(saved: World) -> None:
    model = SkillNet.from_pretrained(saved.run / "model", registry=load_registry(), dtype="bfloat16")
    model.save_pretrained("half")
    assert answer(Path("half")).dtype == torch.float32
    assert torch.allclose(answer(Path("half")), answer(saved.run / "model"), atol=0.05)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.uint8, torch.bool], ids=str)
def test_s08_integers_are_no_weights(saved: World, dtype: torch.dtype) -> None:
    one = "encoder.blocks.0.feed_forward.up.weight"
    rewritten(saved, lambda name, tensor: tensor.to(dtype) if name == one else tensor)
    line = said(saved, "embed shapes --to c", codes=())
    assert f"model-shared.safetensors: tensor '{one}' holds {str(dtype)[6:]}, not float32" in line


def test_s08_numbers_that_float32_cannot_hold_are_refused(saved: World) -> None:
    one = "encoder.blocks.0.feed_forward.up.weight"
    rewritten(saved, lambda name, tensor: tensor.double() * 1e300 if name == one else tensor)
    assert f"tensor '{one}' holds numbers too large for float32" in said(saved, "embed shapes --to c", codes=())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_s09_weights_that_are_not_finite_are_named(saved: World, value: float) -> None:
    def spoil(name: str, tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        if name in ("embedders.shape.tokens.weight", "embedders.hum.tokens.weight"):
            tensor.view(-1)[-1] = value
        return tensor

    (saved.folder / "a.hum").write_bytes(b"abcabc")
    saved.prepare("pairs")
    saved.skillnet("embed", "shapes", "--to", "c")
    rewritten(saved, spoil)
    for words, skill in (
        ("embed shapes --to d", "hum|shape"), ("transcribe a.hum", "hum"),
        ("eval --task find --split pairs", "hum|shape"),
        ("export --tasks find --to out", "hum|shape"), ("search shapes/a.shape --in c", "hum|shape"),
        ("skills graft lone --to out", "hum|shape"), ("skills diff runs/small/model runs/small/model", "hum|shape"),
    ):  # fmt: skip
        line = said(saved, words, codes=())
        if "collection" not in line and "already has" not in line:
            assert re.search(rf"tensor 'embedders\.({skill})\.tokens\.weight' holds numbers that are not finite", line)


def test_s09_numbers_whose_sum_overflows_are_finite(saved: World) -> None:
    model = SkillNet.from_pretrained(saved.run / "model", registry=load_registry())
    with torch.no_grad():
        model.embedders["lone"].tokens.weight.fill_(3e38)
    model.save_pretrained("large")
    SkillNet.from_pretrained("large", registry=load_registry())


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(path: Path, header: str | bytes, data: bytes) -> None:
    text = header.encode() if isinstance(header, str) else header
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def test_s04_headers_of_weights_are_checked_before_they_are_believed(saved: World) -> None:
    path = saved.run / "model" / "model-embedder-shape.safetensors"
    header, data = header_of(path)
    name = "embedders.shape.norm.bias"
    entry = json.dumps(header[name])
    others = {key: facts for key, facts in header.items() if key != name}
    cases: dict[str, tuple[str | bytes, bytes]] = {
        "nested": (DEEP, data),
        "nested metadata": (json.dumps(header)[:-1] + f',"__metadata__":{"[" * 100 + "]" * 100}}}', data),
        "twice": (json.dumps(header)[:-1] + f',"{name}":{entry}}}', data),
        "no table": ("[]", data),
        "no JSON": (b"\xff" * 20, data),
        "huge": (json.dumps({**header, name: {**header[name], "shape": [1 << 60]}}), data),
        "negative": (json.dumps({**header, name: {**header[name], "shape": [-1]}}), data),
        "text": (json.dumps({**header, name: {**header[name], "shape": "16"}}), data),
        "true": (json.dumps({**header, name: {**header[name], "data_offsets": [True, 64]}}), data),
        "offsets": (json.dumps({**header, name: {**header[name], "data_offsets": [0, 1 << 40]}}), data),
        "reversed": (json.dumps({**header, name: {**header[name], "data_offsets": [64, 0]}}), data),
        "type": (json.dumps({**header, name: {**header[name], "dtype": "F7"}}), data),
        "null": (json.dumps({**header, name: None}), data),
        "cut": (json.dumps(header), data[:-1]),
        "more": (json.dumps(header), data + b"x"),
        "control": (json.dumps({**others, "a\x1b[31m": header[name]}), data),
    }
    for case, (text, rest) in cases.items():
        with_header(path, text, rest)
        for verb in ("inspect", "embed shapes --to c", "skills list", "skills diff runs/small/model runs/small/model"):
            assert "model-embedder-shape.safetensors: " in said(saved, verb, codes=()), case
    path.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    assert "no header" in said(saved, "inspect", codes=())


def test_s04_flipped_bits_in_headers_and_index_are_one_line(saved: World) -> None:
    rng = np.random.default_rng(0)
    for path in (saved.run / "model" / "model-shared.safetensors", saved.run / "model" / INDEX):
        sound = path.read_bytes()
        size = min(len(sound), 8 + int.from_bytes(sound[:8], "little")) if path.suffix == ".safetensors" else len(sound)
        for number in range(60):
            content = bytearray(sound)
            for place in rng.integers(0, size, 1 + number % 3):
                content[place] ^= 1 << rng.integers(8)
            path.write_bytes(bytes(content))
            try:
                SkillNet.from_pretrained(saved.run / "model", registry=load_registry())
            except UserError as error:
                assert "\n" not in str(error)
            if number % 20 == 0:
                said(saved, VERBS[number // 20], codes=(0,))
        path.write_bytes(sound)


def test_s05_deep_json_is_one_line_in_every_file_of_a_model(saved: World) -> None:
    folder = saved.run / "model"
    for name in ("config.json", INDEX):
        sound = (folder / name).read_text()
        for text in (DEEP, '{"weight_map": ' + DEEP, sound[:-2] + ', "more": ' + "[" * 60 + "]" * 60 + "}"):
            (folder / name).write_text(text)
            for verb in VERBS:
                assert name in said(saved, verb, codes=()), verb
        (folder / name).write_text(sound)


def test_s04_nothing_outside_the_folder_is_read(saved: World) -> None:
    folder = saved.run / "model"
    secret = saved.folder / "secret"
    for name in ("model-shared.safetensors", "assets/shape/letters.txt", INDEX):
        (folder / name).rename(secret)
        (folder / name).symlink_to(secret)
        assert "a link that leads out of the model's folder" in said(saved, "embed shapes --to c", codes=()), name
        (folder / name).unlink()
        secret.rename(folder / name)
    (saved.folder / "linked").symlink_to(folder)  # a link to the whole folder is its owner's
    saved.skillnet("embed", "shapes", "--to", "c", "--checkpoint", "linked")
    index = json.loads((folder / INDEX).read_text())
    index["metadata"]["assets"]["assets/shape/../../secret"] = "0" * 64
    (folder / INDEX).write_text(json.dumps(index))
    assert "is not the path of an asset" in said(saved, "inspect", codes=())


def test_s05_pipes_and_devices_are_not_opened(saved: World) -> None:
    folder = saved.run / "model"
    for name in ("config.json", INDEX, "model-shared.safetensors"):
        sound = (folder / name).read_bytes()
        (folder / name).unlink()
        os.mkfifo(folder / name)
        line = said(saved, "embed shapes --to c", codes=())
        assert name in line and "named pipe" in line, line
        (folder / name).unlink()
        (folder / name).write_bytes(sound)


CARDS = {
    "broken": "---\na: [\n---\n",
    "bomb": "---\na: &a [x]\n" + "".join(f"{b}: &{b} [{f'*{a},' * 9}]\n" for a, b in pairwise("abcdefghij")) + "---\n",
    "deep": "---\na: " + "[" * 20_000 + "\n---\n",
    "index": "---\nmodel-index: 3\n---\n",
    "rows": "---\nmodel-index:\n- name: x\n  results:\n  - task: {type: 1, name: [a]}\n"
    "    dataset: {type: d, name: d}\n    metrics:\n    - {type: m, value: nan}\n---\n",
    "bytes": "\udcff",
    "none": "",
}


@pytest.mark.parametrize("card", CARDS)
def test_s04_a_card_that_cannot_be_read_ends_nothing(saved: World, card: str) -> None:
    (saved.run / "model" / "README.md").write_bytes(CARDS[card].encode(errors="surrogateescape"))
    _, remarks = saved.skillnet("export", "--tasks", "find", "--to", "out")
    assert card in ("none", "bomb") or "README.md: its results are left out: " in remarks
    assert "Traceback" not in remarks and Path("out", "README.md").read_text().startswith("---")


# Opening and saving


class Tabled(ToyEmbedder):
    """Has a table that is computed of numpy's numbers in place, as sines of positions are."""

    def __init__(self, config: ToyConfig, hidden: int) -> None:
        super().__init__(config, hidden)
        table = torch.from_numpy(np.ones(hidden, dtype=np.float32))
        table.mul_(3).add_(1)
        nn.init.constant_(table[:1], 7)
        table[1:2].normal_(generator=torch.Generator().manual_seed(0)).clamp_(-5, -4).uniform_(2, 2.5).fill_(2)
        self.sines = table

    def forward(self, batch: Any) -> tuple[Tensor, Tensor]:
        tokens, lengths = super().forward(batch)
        return tokens * self.sines, lengths


def test_b01_what_a_plugin_computes_in_place_is_there_after_opening(tmp_path: Path) -> None:
    modality = Modality("alpha", (), "tests.integers:ToyConfig", "tests.integers:ToyReader", f"{__name__}:Tabled")
    registry = build_registry([Plugin("toy", "skillnet-toy", "1.0", modalities=(modality,))])
    readers = build_readers({"alpha": {}}, registry)
    model = SkillNet(build_config(SIZES, readers, (), registry), registry).eval()
    model.save(tmp_path / "model", readers)
    opened = SkillNet.from_pretrained(tmp_path / "model", registry=registry)
    assert opened.embedders["alpha"].sines.tolist() == [7, 2, *[4] * 6]
    assert torch.equal(opened.encode("alpha", toy_batch(LENGTHS)), model.encode("alpha", toy_batch(LENGTHS)))


def test_b07_saving_replaces_what_is_ours_alone(saved: World) -> None:
    model = SkillNet.from_pretrained(saved.run / "model", registry=load_registry())
    mine = {"assets/logo.png": "mine", "assets/shape/notes.txt": "mine", "README.md": "# My project\n",
            "model-of-the-data.safetensors": "mine", "modelling.py": "mine"}  # fmt: skip
    for name, text in mine.items():
        path = saved.folder / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    smaller = SkillNet.from_pretrained(saved.run / "model", skills=["shape"], registry=load_registry())
    for model_again in (model, smaller):
        model_again.save_pretrained("project")
        assert {name: Path("project", name).read_text() for name in mine} == mine
        opened = SkillNet.from_pretrained("project", registry=load_registry())
        assert set(opened.config.skills) == set(model_again.config.skills)
    assert not Path("project/assets/word").exists() and not Path("project/model-embedder-word.safetensors").exists()


def test_b07_a_file_of_the_users_is_not_overwritten(saved: World) -> None:
    model = SkillNet.from_pretrained(saved.run / "model", registry=load_registry())
    Path("project/assets/shape").mkdir(parents=True)
    Path("project/assets/shape/letters.txt").write_text("mine")
    with pytest.raises(UserError, match="project/assets/shape/letters.txt: belongs to no model"):
        model.save_pretrained("project")
    assert [path.name for path in Path("project").rglob("*") if path.is_file()] == ["letters.txt"]
    Path("flat").mkdir()
    Path("flat/assets").write_text("mine")
    with pytest.raises(UserError, match="belongs to no model"):
        model.save_pretrained("flat")
    assert Path("flat/assets").read_text() == "mine" and len(list(Path("flat").iterdir())) == 1

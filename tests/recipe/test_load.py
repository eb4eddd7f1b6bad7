"""Recipes are read strictly, completed from [train], and every mistake is said at once with its place."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import astuple
from math import inf
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from tomli_w import dumps

from skillnet_cli.api import UserError
from skillnet_cli.recipe import Recipe, load_recipe
from skillnet_cli.recipe.errors import check_section
from skillnet_cli.recipe.schema import EmaSection, LastSection
from skillnet_cli.recipe.toml import parse_toml
from tests.workbench import document

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "r.toml"
    path.write_text(text, encoding="utf-8")
    return path


def complaints(path: Path, *overrides: str) -> list[str]:
    """The lines of the error, with the file's name instead of its path."""
    with pytest.raises(UserError) as caught:
        load_recipe(path, overrides)
    return str(caught.value).replace(str(path), path.name).splitlines()


def test_what_a_stage_leaves_unsaid_comes_from_train(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "train__optimizer": {"weight_decay": 0.3, "betas": [0.5, 0.6]},
        "train__clip": 7.0,
        "finetune__optimizer": {"weight_decay": 0.1},
        "finetune__eval": {"every": 3},
    }
    recipe = load_recipe(write(tmp_path, dumps(document(**changes))))
    assert recipe.pretrain is not None and recipe.finetune is not None
    assert recipe.pretrain.optimizer.weight_decay == 0.3
    assert recipe.finetune.optimizer.weight_decay == 0.1
    assert recipe.finetune.optimizer.betas == (0.5, 0.6)
    assert (recipe.finetune.clip, recipe.finetune.precision, recipe.pretrain.eval) == (7.0, "fp32", None)


def test_an_average_of_another_kind_inherits_nothing(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"train__average": {"kind": "ema", "decay": 0.5}}
    recipe = load_recipe(write(tmp_path, dumps(document(**changes, finetune__average={"kind": "last"}))))
    assert recipe.pretrain is not None and recipe.finetune is not None
    assert recipe.pretrain.average == EmaSection(kind="ema", decay=0.5)
    assert recipe.finetune.average == LastSection(kind="last", count=5)
    dumped = dumps(recipe.model_dump(mode="json", exclude_none=True))
    assert load_recipe(write(tmp_path, dumped)) == recipe


def test_a_dumped_recipe_reads_back_the_same(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"finetune__tasks__sort__datasets": {"a": 1.0, "b": 2.5}, "finetune__eval": {"every": 3}}
    recipe = load_recipe(write(tmp_path, dumps(document(**changes))))
    dumped = dumps(recipe.model_dump(mode="json", exclude_none=True))
    assert load_recipe(write(tmp_path, dumped)) == recipe


@pytest.mark.parametrize("routing", ["skill", "dense", "moe", "separate"])
def test_a_recipe_survives_json(routing: str) -> None:
    recipe = Recipe.model_validate(document(model__routing=routing, train__freeze=["shared"])).with_inherited()
    assert Recipe.model_validate(recipe.model_dump(mode="json", exclude_none=True)).with_inherited() == recipe


def test_all_mistakes_at_once_in_the_order_of_their_lines(tmp_path: Path) -> None:
    text = """\
nam = "demo"
[model]
hidden = 250
heads = 4
norm = "prae"
[train]
optimizer = { weight_dekay = 0.01 }
[finetune]
steps = "many"
lr = -1
warmup = 5
[finetune.tasks.t2i]
datasets = ["a"]
bach = 3
[finetune.tasks]
asr = { datasets = {}, batch = 4, ratio = 0 }
"""
    assert complaints(write(tmp_path, text)) == [
        "11 mistakes in r.toml",
        "r.toml:1: name: is missing",
        "r.toml:1: nam: unknown key: did you mean 'name'?",
        "r.toml:4: model.heads: must divide hidden = 250, and 4 does not",
        "r.toml:5: model.norm: must be 'pre' or 'post', not 'prae': did you mean 'pre'?",
        "r.toml:7: train.optimizer.weight_dekay: unknown key: did you mean 'weight_decay'?",
        "r.toml:9: finetune.steps: must be a whole number, not 'many'",
        "r.toml:10: finetune.lr: must be greater than 0, not -1",
        "r.toml:12: finetune.tasks.t2i.batch: is missing",
        "r.toml:14: finetune.tasks.t2i.bach: unknown key: did you mean 'batch'?",
        "r.toml:16: finetune.tasks.asr.datasets: must not be empty",
        "r.toml:16: finetune.tasks.asr.ratio: must be greater than 0, not 0",
    ]


WRONG: dict[str, tuple[str, str]] = {
    "no stage": ('name = "x"', "r.toml:1: needs a stage: [pretrain], [finetune] or both"),
    "not TOML": ('name = "x"\n[model\n', "r.toml:2: not valid TOML"),
    "cut off": ('name = "x"\nseed =', "r.toml:2: not valid TOML"),
    "a key twice": ('name = "x"\nname = "y"', "r.toml:2: not valid TOML"),
    "a folder as name": ('name = "../x"', "r.toml:1: name: must consist of letters, digits, '.', '_' and '-', and"),
    "dropout of 1": (dumps(document(model__dropout=1.0)), "model.dropout: must be less than 1, not 1.0"),
    "no finite rate": (dumps(document(finetune__lr=inf)), "finetune.lr: must be a finite number, not inf"),
    "a seed of no generator": (
        dumps(document(seed=2**64)),
        "seed: must be at most 9223372036854775807, not 1844674407",
    ),
    "weight of 0": (dumps(document(finetune__tasks__sort__datasets={"a": 0.0})), "datasets.a: must be greater"),
    "an unknown routing": (
        dumps(document(model__routing="sparse")),
        "model.routing: must be 'skill', 'dense', ",
    ),
    "modules routed where nothing is": (
        dumps(document(model={"routing": "dense", "routed": ["qkv", "ffn"]})),
        "model.routed: is for routing = 'skill', and routing is 'dense'",
    ),
    "nothing routed": (dumps(document(model__routed=[])), "model.routed: must not be empty"),
    "a balance of nothing": (
        dumps(document(model__balance=0.5)),
        "model.balance: is for routing = 'moe', and routing is 'skill'",
    ),
    "an average of no kind": (dumps(document(train__average={"decay": 0.5})), "train.average: kind is missing"),
    "an average of another kind": (
        dumps(document(train__average={"kind": "emma"})),
        "train.average: kind must be 'ema' or 'last', not 'emma': did you mean 'ema'?",
    ),
    "the key of another kind of average": (
        dumps(document(finetune__average={"kind": "last", "decay": 0.5})),
        "finetune.average.decay: unknown key",
    ),
    "a key of that kind of average": (
        dumps(document(finetune__average={"kind": "last", "cuont": 3})),
        "finetune.average.cuont: unknown key: did you mean 'count'?",
    ),
    "an average of none": (
        dumps(document(finetune__average={"kind": "last", "count": 0})),
        "finetune.average.count: must be greater than 0, not 0",
    ),
    "a table as number": (dumps(document(seed={"a": 1})), "seed: must be a whole number, not {'a': 1}"),
}


@pytest.mark.parametrize("name", WRONG)
def test_single_mistakes(name: str, tmp_path: Path) -> None:
    text, expected = WRONG[name]
    assert expected in "\n".join(complaints(write(tmp_path, text)))


def test_a_missing_file_names_the_recipes_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "")
    with pytest.raises(UserError, match=r"cannot read the recipe .*s\.toml: No such file.*its folder has .*r\.toml"):
        load_recipe(tmp_path / "s.toml")


def test_a_text_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes('name = "x"\n# 识别'.encode("gbk"))
    assert complaints(tmp_path / "r.toml") == ["r.toml:2: not UTF-8 text: save the file as UTF-8"]


def test_a_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    text = dumps(document()).replace("\n", "\r\n")
    (tmp_path / "r.toml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_recipe(tmp_path / "r.toml").name == "toy"


OVERRIDES: dict[str, tuple[str, Any]] = {
    "number": ("finetune.steps=7", 7),
    "bare word": ("finetune.start_from=some/folder", "some/folder"),
    "word with spaces": ("finetune.start_from=  my folder ", "my folder"),
    "string": ('finetune.start_from="x=y"', "x=y"),
    "inline table": ("finetune.eval={every=3, items=4}", {"every": 3, "items": 4}),
    "array": ("finetune.tasks.sort.datasets=['a', 'b']", {"a": None, "b": None}),
    "quoted key": ('finetune.tasks."sort".batch = 4', 4),
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_overrides(name: str, tmp_path: Path) -> None:
    text, expected = OVERRIDES[name]
    value: Any = load_recipe(write(tmp_path, dumps(document())), [text])
    for part in text.partition("=")[0].replace('"', "").strip().split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    assert (value.model_dump() if hasattr(value, "model_dump") else value) == expected


BAD_OVERRIDES = {
    "finetune.stepz=3": "--set finetune.stepz=3: finetune.stepz: unknown key: did you mean 'steps'?",
    "finetune.steps=x": "--set finetune.steps=x: finetune.steps: must be a whole number, not 'x'",
    "finetune.steps": "--set finetune.steps: write it as key=value",
    "finetune.steps=": "--set finetune.steps=: write it as key=value",
    "=3": "--set =3: write it as key=value",
    "a b=3": "--set a b=3: write it as key=value",
    "name.first=3": "--set name.first=3: name is a value, not a table",
    "finetune.tasks={": "--set finetune.tasks={: not a TOML value",
}


@pytest.mark.parametrize("text", BAD_OVERRIDES)
def test_mistakes_in_overrides_name_the_override(text: str, tmp_path: Path) -> None:
    assert complaints(write(tmp_path, dumps(document())), text)[-1].startswith(BAD_OVERRIDES[text])


def test_the_last_override_of_a_key_wins(tmp_path: Path) -> None:
    path = write(tmp_path, dumps(document()))
    assert load_recipe(path, ["seed=3", "seed=4"]).seed == 4


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_the_project_are_right(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert parse_toml(path.read_text(encoding="utf-8"))["name"] == recipe.name


def test_reading_a_recipe_does_not_import_torch() -> None:
    program = (
        "import sys; from pathlib import Path; from skillnet_cli.recipe import load_recipe; "
        "from skillnet_cli.plugins import load_registry; "
        f"load_recipe(Path({str(RECIPES[0])!r}), (), load_registry()); "
        "sys.exit(f'imported {heavy}' if (heavy := {'torch', 'transformers', 'numpy'} & set(sys.modules)) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def keys_of(schema: type[BaseModel], *path: str) -> Iterator[tuple[str, ...]]:
    """The path of every key of a schema's tables."""
    for name, field in schema.model_fields.items():
        key = (*path, field.alias or name)
        yield key
        inner = field.annotation if isinstance(field.annotation, type) else next(iter(get_args(field.annotation)), None)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from keys_of(inner, *key)


ODD = (
    True,
    7,
    -7,
    1.5,
    float("nan"),
    "",
    "x",
    "x" * 99,
    [],
    [1, 2, 3],
    ["x"],
    {},
    {"x": 1},
    {"kind": "last", "count": "x"},
)
PYDANTICS = re.compile(r"[Ii]nput|should|dictionary|tuple|instance|Python|valid|None")


def test_every_message_is_in_the_words_of_toml() -> None:
    keys = list(keys_of(Recipe))
    assert ("train", "optimizer", "betas") in keys
    mistakes = []
    for *path, last in keys:
        for value in ODD:
            table: dict[str, Any] = {last: value}
            for part in reversed(path):
                table = {part: table}
            mistakes += check_section(Recipe, table)
    assert len(mistakes) > len(keys) and not [text for _, text in map(astuple, mistakes) if PYDANTICS.search(text)]

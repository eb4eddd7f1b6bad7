"""The demo's sets of code: splits that share nothing, the same bytes every time."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

import skillnet_code
from skillnet_cli.api import UserError
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.plugins import resolve
from skillnet_cli.prepare.preparer import Preparation
from skillnet_code.datasets.harvest import essence_of_code, essence_of_text

WORDS = ("股票", "基金", "债券", "期货", "外汇", "指数", "期权", "黄金", "港股", "美股")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Three hundred functions with Chinese descriptions, thirty with English ones, and a README."""
    chinese = [
        f'def get_{place}_{word_place}_{"x" * place}():\n    """获取{word}的第{place}种行情数据"""\n'
        f"    return {place}, '{word}'\n"
        for place in range(30)
        for word_place, word in enumerate(WORDS)
    ]
    english = [
        f'def {chr(97 + n % 26)}{"b" * n}():\n    """Return quote number {n}."""\n    return {n}\n' for n in range(30)
    ]
    path = tmp_path / "quotes-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("quotes/chinese.py", "\n\n".join(chinese))
        archive.writestr("quotes/english.py", "\n\n".join(english))
        archive.writestr("quotes/README.md", "def no(): pass")
    return path


def prepare(name: str, source: Path, out: Path, **settings: int) -> PreparedSet:
    dataset = next(dataset for dataset in skillnet_code.skillnet_datasets() if dataset.name == name)
    resolve(dataset.prepare)(Preparation(dataset, (str(source),), out, **settings))
    return PreparedSet.open(out)


def samples(prepared: PreparedSet) -> dict[str, list[dict[str, object]]]:
    return {split: list(prepared.split(split)) for split in prepared.manifest.splits}


def test_functions_have_one_chinese_text_and_code_without_it(wheel: Path, tmp_path: Path) -> None:
    found = samples(prepare("demo-functions", wheel, tmp_path / "set"))
    assert sum(map(len, found.values())) == 300
    assert set(found) == {"train", "dev", "test"}
    for sample in found["train"]:
        (text,) = sample["text"]  # type: ignore[misc]
        assert text not in sample["code"]  # type: ignore[operator]
        assert str(sample["code"]).startswith("def get_")


@pytest.mark.parametrize("essence", [essence_of_code, essence_of_text])
def test_splits_share_no_code_and_no_description(wheel: Path, tmp_path: Path, essence: object) -> None:
    found = samples(prepare("demo-functions", wheel, tmp_path / "set"))
    field = "code" if essence is essence_of_code else "text"
    sides = {split: {essence(str(sample[field])) for sample in rows} for split, rows in found.items()}  # type: ignore[operator]
    assert not sides["train"] & sides["dev"] | sides["train"] & sides["test"] | sides["dev"] & sides["test"]


@pytest.mark.parametrize("seed", [0, 9])
def test_pretraining_never_sees_what_retrieval_holds_out(wheel: Path, tmp_path: Path, seed: int) -> None:
    retrieval = samples(prepare("demo-functions", wheel, tmp_path / "one"))
    pretraining = samples(prepare("demo-code", wheel, tmp_path / "two", seed=seed))
    seen = [sample["id"] for rows in pretraining.values() for sample in rows]
    held_out = [sample["id"] for split in ("dev", "test") for sample in retrieval[split]]
    assert held_out
    assert not set(seen) & set(held_out)
    assert any("english" in str(id) for id in seen)


@pytest.mark.parametrize("name", ["demo-functions", "demo-code"])
def test_the_same_source_gives_the_same_bytes(wheel: Path, tmp_path: Path, name: str) -> None:
    for folder in ("one", "two"):
        prepare(name, wheel, tmp_path / folder)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)


def test_ledger_accounts_for_every_function(wheel: Path, tmp_path: Path) -> None:
    ledger = prepare("demo-functions", wheel, tmp_path / "set").manifest.ledger
    assert (ledger["kept"], ledger["filtered"], sum(ledger.values())) == (300, 30, 330)


def test_limit_bounds_every_split(wheel: Path, tmp_path: Path) -> None:
    found = samples(prepare("demo-functions", wheel, tmp_path / "set", limit=3))
    assert {split: len(rows) for split, rows in found.items()} == {"train": 3, "dev": 3, "test": 3}


def test_a_source_without_functions_is_a_users_mistake(tmp_path: Path) -> None:
    path = tmp_path / "empty.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.txt", "x")
    with pytest.raises(UserError, match="demo-code: the source holds no items"):
        prepare("demo-code", path, tmp_path / "set")

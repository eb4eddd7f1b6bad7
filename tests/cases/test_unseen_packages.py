"""What a figure on unseen functions is of: whole packages of which no training set has anything."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

import skillnet_code
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.plugins import resolve
from skillnet_cli.prepare.preparer import Preparation
from skillnet_code.datasets import demo


def write_wheel(path: Path, package: str, names: list[str]) -> str:
    code = "\n\n".join(
        f'def get_{name}():\n    """获取第{name}种行情数据的{package}"""\n    return "{package}{name}"\n'
        for name in names
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{package}/functions.py", code)
    return str(path)


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two packages to train on and one held out, which has a function of an earlier one among its own."""
    words = [f"{first}{second}" for first in "abcdefgh" for second in "股票基金债券期货"]
    seen = [write_wheel(tmp_path / f"{name}.whl", name, words) for name in ("quotes", "funds")]
    unseen = write_wheel(tmp_path / "moon.whl", "moon", words)
    with zipfile.ZipFile(unseen, "a") as archive, zipfile.ZipFile(seen[0]) as other:
        archive.writestr("moon/copied.py", other.read("quotes/functions.py"))
    monkeypatch.setattr(demo, "SOURCES", dict.fromkeys(seen))
    monkeypatch.setattr(demo, "UNSEEN", {unseen: None})


def ids_by_split(name: str, out: Path) -> dict[str, set[str]]:
    dataset = next(dataset for dataset in skillnet_code.skillnet_datasets() if dataset.name == name)
    resolve(dataset.prepare)(Preparation(dataset, (), out))
    prepared = PreparedSet.open(out)
    return {split: {str(sample["id"]) for sample in prepared.split(split)} for split in prepared.manifest.splits}


@pytest.mark.usefixtures("sources")
def test_a12_unseen_functions_are_of_packages_that_no_other_part_has(tmp_path: Path) -> None:
    retrieval = ids_by_split("demo-functions", tmp_path / "functions")
    pretraining = ids_by_split("demo-code", tmp_path / "code")
    packages = {split: {id.split("/")[0] for id in ids} for split, ids in retrieval.items()}
    assert packages.pop("unseen") == {"moon"} and len(retrieval["unseen"]) == 64
    assert set(packages) == {"train", "dev", "test"}
    assert all(found == {"quotes", "funds"} for found in packages.values())
    assert {id.split("/")[0] for ids in pretraining.values() for id in ids} == {"quotes", "funds"}


@pytest.mark.usefixtures("sources")
def test_a12_what_an_unseen_package_copied_is_left_out(tmp_path: Path) -> None:
    assert not any("copied" in id for id in ids_by_split("demo-functions", tmp_path / "functions")["unseen"])


def test_a12_no_package_is_on_both_sides() -> None:
    names = [source.removeprefix("pypi:").partition("==")[0] for source in (*demo.SOURCES, *demo.UNSEEN)]
    assert len(set(names)) == len(names) == 11

"""The fetcher's kinds of sources, and packages from a folder that stands for the registry."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from skillnet_cli.api import Dataset, FailedJob, UserError
from skillnet_cli.prepare.preparer import Preparation, default_cache
from skillnet_cli.sources import fetch as packages
from skillnet_cli.sources.fetch import fetch

METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"


def wheel(folder: Path, name: str) -> str:
    """A wheel of that name with a file of data; returns its sha256."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{name}/data.txt"), "data")
        archive.writestr(zipfile.ZipInfo(f"{name}-1.0.dist-info/METADATA"), METADATA.format(name=name))
        archive.writestr(zipfile.ZipInfo(f"{name}-1.0.dist-info/WHEEL"), "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(zipfile.ZipInfo(f"{name}-1.0.dist-info/RECORD"), "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def registry_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What pip takes for the whole world."""
    folder = tmp_path / "world"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_wheel_is_fetched_once_and_then_found_without_a_network(registry_folder: Path, tmp_path: Path) -> None:
    sha256 = wheel(registry_folder, "stamps")
    path = fetch("pypi:stamps==1.0", tmp_path / "cache", sha256)
    assert path == tmp_path / "cache" / "pypi" / "stamps==1.0" / "stamps-1.0-py3-none-any.whl"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    (registry_folder / path.name).unlink()
    assert fetch("pypi:stamps==1.0", tmp_path / "cache", sha256) == path
    assert [each.name for each in path.parents[1].iterdir()] == ["stamps==1.0"], "nothing temporary is left"


def test_another_file_than_the_one_pinned_is_refused(registry_folder: Path, tmp_path: Path) -> None:
    wheel(registry_folder, "stamps")
    with pytest.raises((FailedJob, UserError), match=r"pypi:stamps==1\.0") as error:
        fetch("pypi:stamps==1.0", tmp_path / "cache", "0" * 64)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache").rglob("*.whl"))


def test_a_spoilt_cache_is_fetched_again(registry_folder: Path, tmp_path: Path) -> None:
    sha256 = wheel(registry_folder, "stamps")
    fetch("pypi:stamps==1.0", tmp_path / "cache", sha256).write_bytes(b"spoilt")
    assert hashlib.sha256(fetch("pypi:stamps==1.0", tmp_path / "cache", sha256).read_bytes()).hexdigest() == sha256


def test_a_version_that_is_not_there_is_a_users_mistake(registry_folder: Path, tmp_path: Path) -> None:
    wheel(registry_folder, "stamps")
    with pytest.raises(UserError, match="cannot be fetched: No matching distribution") as error:
        fetch("pypi:stamps==2.0", tmp_path / "cache")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("pin", ["stamps", "stamps>=1", "--index-url=x==1", "a==1 b==2", "stamps==", "../x==1/.."])
def test_only_exact_versions_reach_pip(tmp_path: Path, pin: str) -> None:
    with pytest.raises(UserError, match="exact version"):
        fetch(f"pypi:{pin}", tmp_path)


def test_without_pip_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="ensurepip"):
        fetch("pypi:stamps==1.0", tmp_path)


def test_local_sources_are_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert fetch(str(tmp_path), tmp_path / "cache", "any") == tmp_path
    assert fetch(str(tmp_path / "file"), tmp_path / "cache", hashlib.sha256(b"x").hexdigest()) == tmp_path / "file"
    with pytest.raises(UserError, match="not the expected file"):
        fetch(str(tmp_path / "file"), tmp_path / "cache", "0" * 64)
    with pytest.raises(UserError, match="no such file or folder"):
        fetch(str(tmp_path / "nowhere"), tmp_path / "cache")


@pytest.mark.parametrize("source", ["file:///etc/passwd", "ftp://host/x", "s3://bucket/x"])
def test_other_kinds_of_addresses_are_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(UserError, match="cannot be fetched: give a path"):
        fetch(source, tmp_path)


def test_a_cache_that_cannot_be_made_is_a_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for source in ("pypi:stamps==1.0", "http://127.0.0.1:9/x"):
        with pytest.raises(UserError, match="SKILLNET_CACHE"):
            fetch(source, tmp_path / "file" / "cache")


def test_the_cache_is_the_environments_or_the_homes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SKILLNET_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("SKILLNET_CACHE")
    assert default_cache() == Path.home() / ".cache" / "skillnet"


def test_a_preparation_hands_out_its_set_and_its_tools(tmp_path: Path) -> None:
    dataset = Dataset("stamps", prepare="x:y", feeds=("find",), licence="CC0", size="small")
    job = Preparation(dataset, (str(tmp_path),), tmp_path / "set", seed=3, cache=tmp_path / "cache")
    assert job.fetch(job.sources[0]) == tmp_path
    with job.writer(version="2", choices={"rule": "all"}) as writer:
        writer.keep("train", "a", {"words": ["1"]})
        manifest = writer.finish()
    assert (manifest.name, manifest.licence, manifest.seed, manifest.version) == ("stamps", "CC0", 3, "2")
    assert manifest.source == (tmp_path.name,) and manifest.choices == {"rule": "all"}
    assert list(job.progress.track(iter("ab"), 2, "letters")) == ["a", "b"]

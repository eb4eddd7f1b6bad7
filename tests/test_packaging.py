"""The six distributions: what they declare, what they import, what their wheels hold."""

from __future__ import annotations

import ast
import email
import email.policy
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PLUGINS = ["text", "sound", "image", "video", "code"]
FOLDERS = {"skillnet_cli": ROOT, **{f"skillnet_{name}": ROOT / "plugins" / f"skillnet-{name}" for name in PLUGINS}}

# Modules that are not called as the distribution that brings them.
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn"}


def project(package: str) -> dict[str, Any]:
    """The ``[project]`` table of a package's distribution."""
    return tomllib.loads((FOLDERS[package] / "pyproject.toml").read_text())["project"]


def requirements(package: str) -> list[Requirement]:
    """All that a distribution requires, its extras included."""
    facts = project(package)
    extras = facts.get("optional-dependencies", {}).values()
    return [Requirement(line) for line in [*facts["dependencies"], *(line for extra in extras for line in extra)]]


def imported(package: str) -> set[str]:
    """The top-level modules that a package's files import anywhere."""
    found = set()
    for path in (FOLDERS[package] / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {package, "tomllib"}


@pytest.mark.parametrize("package", FOLDERS)
def test_what_is_imported_is_declared(package: str) -> None:
    declared = {canonicalize_name(requirement.name) for requirement in requirements(package)}
    wanted = {canonicalize_name(DISTRIBUTIONS.get(module, module)) for module in imported(package)}
    assert wanted - declared == set()


@pytest.mark.parametrize("package", FOLDERS)
def test_lower_bounds_only(package: str) -> None:
    for requirement in requirements(package):
        assert {bound.operator for bound in requirement.specifier} <= {">="}, requirement


def test_the_six_agree_on_python_and_licence() -> None:
    said = {(project(package)["requires-python"], project(package)["license"]) for package in FOLDERS}
    assert said == {(">=3.10,<3.14", "Apache-2.0")}


@pytest.mark.parametrize("package", FOLDERS)
def test_types_and_a_readme_are_shipped(package: str) -> None:
    assert (FOLDERS[package] / package / "py.typed").is_file()
    assert (FOLDERS[package] / "README.md").stat().st_size > 200


def test_constraints_pin_everything_and_name_no_index() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.lstrip().startswith("#")]
    assert all([bound.operator for bound in pin.specifier] == ["=="] for pin in pins)
    assert all(pin.url is None for pin in pins) and not re.search(r"://|--\w+", "\n".join(lines))
    pinned = {canonicalize_name(pin.name) for pin in pins}
    wanted = {canonicalize_name(requirement.name) for package in FOLDERS for requirement in requirements(package)}
    assert {name for name in wanted if not name.startswith("skillnet-")} <= pinned


def build_wheel(folder: Path, out: Path) -> set[str]:
    """Build the wheel of a project offline; returns the names of its members."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_core_wheel_holds_the_recipes_and_nothing_of_the_tests(tmp_path: Path) -> None:
    members = build_wheel(ROOT, tmp_path)
    assert {f"skillnet_cli/recipes/{path.name}" for path in (ROOT / "recipes").glob("*.toml")} <= members
    assert {"skillnet_cli/recipes/demo.toml", "skillnet_cli/py.typed", "skillnet_cli/api.py"} <= members
    assert {name.split("/")[0] for name in members} == {"skillnet_cli", "skillnet_cli-0.1.0.dist-info"}


@pytest.mark.parametrize("package", [name for name in FOLDERS if name != "skillnet_cli"])
def test_a_plugin_wheel_holds_its_package_and_entry_point(package: str, tmp_path: Path) -> None:
    members = build_wheel(FOLDERS[package], tmp_path)
    assert {f"{package}/__init__.py", f"{package}/py.typed"} <= members
    assert any(name.endswith("entry_points.txt") for name in members)


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_links_inside_the_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_the_public_workflow_runs_the_same_commands() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    assert {"make lint", "make test"} <= set(re.findall(r"- run: (.+)", workflow))
    assert all(f'"3.{minor}"' in workflow for minor in range(10, 14))
    assert "exec make test" in (ROOT / ".ci/run").read_text()


@pytest.mark.parametrize("package", FOLDERS)
def test_u15_the_metadata_are_whole_and_their_links_lead_somewhere(package: str, tmp_path: Path) -> None:
    build_wheel(FOLDERS[package], tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith("/METADATA")]
        facts = email.message_from_bytes(archive.read(name), policy=email.policy.default)
    assert (
        facts["Author"] and facts["Keywords"] and facts["Project-URL"] and facts["License-Expression"] == "Apache-2.0"
    )
    described = facts.get_content() if facts.get_content_type().startswith("text/") else ""
    assert (
        f"# skillnet{'' if package == 'skillnet_cli' else package.removeprefix('skillnet').replace('_', '-')}"
        in described
    )
    assert all(target.startswith("https://") for target in re.findall(r"\]\(([^)]+)\)", described))


def test_u15_the_readme_says_the_name_of_the_distribution() -> None:
    assert 'pip install "skillnet-cli[all]"' in (ROOT / "README.md").read_text()
    extras = project("skillnet_cli")["optional-dependencies"]["all"]
    assert {Requirement(line).name for line in extras} >= {f"skillnet-{name}" for name in PLUGINS}
    assert "skillnet-sound[demo]" in extras

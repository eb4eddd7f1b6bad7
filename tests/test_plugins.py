"""Plugins are found, kept apart from one another, selected, and missed with a word on what to install."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from skillnet_cli.api import API_VERSION, UserError
from skillnet_cli.api_changes import MOVED, RENAMED
from skillnet_cli.plugins import Plugin, Registry, build_registry, load_registry, resolve, selected_entry_points
from tests.distributions import Site, modality, task


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A fresh site folder; what was imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    yield Site(tmp_path)
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def load(monkeypatch: pytest.MonkeyPatch, *names: str) -> Registry:
    """Load the named plugins alone, past the cache of this process."""
    monkeypatch.setenv("SKILLNET_PLUGINS", ",".join(names))
    return load_registry.__wrapped__()


BROKEN = {
    "raises": ("raise ValueError('no such card\\nmore lines')", "ValueError: no such card"),
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "misses": ("import a_module_that_nobody_has", "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"),
    "old": ("API_VERSION = 0", f"it is written for API version 0, and this skillnet has version {API_VERSION}"),
    "new": ("API_VERSION = 9", f"it is written for API version 9, and this skillnet has version {API_VERSION}"),
    "unsaid": ("del API_VERSION", f"UserError: skillnet_badunsaid does not state API_VERSION = {API_VERSION}"),
    "hook": ("@hookimpl\ndef skillnet_tasks():\n    raise KeyError('label')", "KeyError: 'label'"),
    "wrong": (
        "@hookimpl\ndef skillnet_tasks():\n    return ['label']",
        "UserError: skillnet_tasks returns 'label', which is not an api.Task",
    ),
    "misspelt": ("@hookimpl\ndef skillnet_taks():\n    return []", "PluginValidationError"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_one_line_and_takes_nobody_with_it(
    name: str, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body, error = BROKEN[name]
    site.install(f"bad{name}", body)
    site.install(f"good{name}", modality("smell"))

    registry = load(monkeypatch, f"bad{name}", f"good{name}")

    bad, good = registry.plugins
    assert bad.error is not None and bad.error.startswith(error)
    assert good.error is None and set(registry.modalities) == {"smell"}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"skillnet: plugin 'bad{name}' (skillnet-bad{name}) could not be loaded: {bad.error}")


VERSION_1 = {
    "__init__.py": """
        \"\"\"Imports what version 2 no longer has, so nothing of it can be imported.\"\"\"
        from skillnet_cli.api import Donor, hookimpl
        API_VERSION = 1
    """,
    "datasets/own.py": """
        from skillnet_cli.data import preparer, progress
        from skillnet_cli.data.preparer import Deal, Kept, Preparer
        import skillnet_cli.data.near_copies
        class Own(Preparer):
            def begin(self) -> None:
                super().begin()
            def deal(self, pool, size, protocol):
                self.deal_cards()
                return Deal({"train": size})
    """,
}


def test_a_plugin_for_api_version_1_is_told_what_to_change(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.install("former", VERSION_1)
    (plugin,) = load(monkeypatch, "former").plugins
    assert plugin.error == "it is written for API version 1, and this skillnet has version 2"
    package = Path("skillnet_former")
    top, own = package / "__init__.py", package / "datasets" / "own.py"
    assert list(plugin.changes) == [
        f"{top}:2: api.Donor → api.SourceCheckpoint",
        f"{top}:3: API_VERSION = 1 → 2",
        f"{own}:1: skillnet_cli.data.preparer → skillnet_cli.prepare.preparer",
        f"{own}:2: skillnet_cli.data.preparer → skillnet_cli.prepare.preparer",
        f"{own}:2: preparer.Deal → preparer.PoolSplit",
        f"{own}:3: skillnet_cli.data.near_copies → skillnet_cli.prepare.duplicates",
        f"{own}:5: Preparer.begin() → Preparer.setup()",
        f"{own}:6: Preparer.begin() → Preparer.setup()",
        f"{own}:7: Preparer.deal() → Preparer.split()",
        f"{own}:9: preparer.Deal → preparer.PoolSplit",
    ]
    assert not any(name.startswith("skillnet_former") for name in sys.modules)
    assert "'skillnet plugins' lists what to change" in capsys.readouterr().err


def test_every_new_name_exists_and_no_old_module_does() -> None:
    for old, new in MOVED.items():
        assert find_spec(new.removesuffix(".Hooks")) is not None, new
        with pytest.raises(UserError):
            resolve(f"{old}:__name__")
    modules = {
        each.rpartition(".")[2]: each
        for each in [*MOVED.values(), "skillnet_cli.sources.http", "skillnet_cli.sources.members"]
    }
    for new in RENAMED.values():
        owner, _, name = new.rpartition(".")
        if name.endswith("="):
            assert name[:-1] in inspect.signature(resolve(f"skillnet_cli.api:{owner}")).parameters
        elif owner:
            rooms = {"Objective": "skillnet_cli.objectives", "Preparer": "skillnet_cli.prepare.preparer"}
            module = modules.get(owner) or rooms[owner]
            assert resolve(f"{module}:{'' if owner in modules else owner + '.'}{name.removesuffix('()')}")


def test_strict_mode_makes_a_broken_plugin_fatal(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("strictly", "raise ValueError('no such card')")
    monkeypatch.setenv("SKILLNET_STRICT_PLUGINS", "1")
    with pytest.raises(UserError, match=r"plugin 'strictly' \(skillnet-strictly\) could not be loaded: ValueError: no"):
        load(monkeypatch, "strictly")


def test_what_a_broken_plugin_brings_is_not_to_be_installed_again() -> None:
    broken = Plugin("sound", "skillnet-sound", "9.9", error="ImportError: libsndfile is missing")
    with pytest.raises(UserError, match=r"skillnet-sound brings it and could not be loaded .*libsndfile is missing"):
        build_registry([broken]).modality("sound")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (modality("smell"), "skill 'smell'"),
        (task("tag", "smell"), "task 'tag'"),
        ("@hookimpl\ndef skillnet_metrics(): return [Metric('f1', 'm:f1')]", "metric 'f1'"),
        ("@hookimpl\ndef skillnet_datasets(): return [Dataset('d', 'm:p', (), 'MIT', '1 MB')]", "data set 'd'"),
    ],
)
def test_a_clash_names_both_owners(body: str, kind: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("first", body)
    site.install("second", body)
    with pytest.raises(UserError, match=f"{kind} is claimed by skillnet-first and skillnet-second: uninstall one"):
        load(monkeypatch, "first", "second")
    assert load(monkeypatch, "second").plugins[0].name == "second"


def test_one_plugin_that_claims_a_name_twice_is_a_clash_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("twice", "@hookimpl\ndef skillnet_tasks(): return 2 * [Task('tag', (('text',),), 'ctc')]")
    with pytest.raises(UserError, match="claimed by skillnet-twice and skillnet-twice"):
        load(monkeypatch, "twice")


def test_selection_takes_only_the_named_and_knows_them(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("one", modality("touch"))
    site.install("two", modality("taste"))
    assert set(load(monkeypatch, "two").modalities) == {"taste"}
    assert load(monkeypatch, "").plugins == ()
    monkeypatch.delenv("SKILLNET_PLUGINS")
    assert {"one", "two"} <= {entry.name for entry in selected_entry_points()}
    with pytest.raises(UserError, match="SKILLNET_PLUGINS names 'three', which is not installed"):
        load(monkeypatch, "one", "three")


def test_a_missing_skill_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = load(monkeypatch, "text", "image")
    assert set(registry.modalities) == {"text", "image"}
    assert "t2i" in registry.tasks
    for call, name in [(registry.modality, "sound"), (registry.task, "asr"), (registry.metric, "cer")]:
        with pytest.raises(UserError, match=f"unknown [a-z ]+ '{name}': pip install skillnet-sound"):
            call(name)


def test_a_task_is_listed_but_refused_while_a_skill_of_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = load(monkeypatch, "image")
    assert registry.missing_skills(registry.tasks["t2i"].value) == ("text",)
    with pytest.raises(UserError, match="task 't2i' needs the skill 'text': pip install skillnet-text"):
        registry.task("t2i")


def test_a_slip_of_the_pen_gets_a_suggestion(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("pen", modality("smell"))
    registry = load(monkeypatch, "pen")
    with pytest.raises(UserError, match=r"unknown skill 'smel': did you mean 'smell'\?"):
        registry.modality("smel")
    with pytest.raises(UserError, match="unknown skill 'quux': installed are smell"):
        registry.modality("quux")


def test_files_find_their_modality_by_suffix_in_any_case(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("nose", modality("smell"))
    registry = load(monkeypatch, "nose")
    found = registry.modality_of_suffix(".SMELL")
    assert found is not None and found.skill == "smell"
    assert registry.modality_of_suffix(".exe") is None


def test_a_plugin_records_its_distribution_and_version(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("aged", modality("smell"), version="2.5")
    (plugin,) = load(monkeypatch, "aged").plugins
    assert (plugin.distribution, plugin.version) == ("skillnet-aged", "2.5")


def test_the_five_plugins_come_through_the_same_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKILLNET_PLUGINS", raising=False)
    registry = load_registry.__wrapped__()
    assert {"text", "sound", "image", "video", "code"} <= set(registry.modalities)
    assert {"tc", "asr", "t2i", "t2v", "t2c", "mlm", "units", "image-text", "video-text", "code-mlm"} <= set(
        registry.tasks
    )
    for owned in registry.tasks.values():
        assert registry.missing_skills(owned.value) == (), owned.value.name


def test_every_reference_of_the_five_plugins_leads_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = load_registry.__wrapped__()
    for owned in registry.modalities.values():
        value = owned.value
        references = [value.config, value.reader, value.embedder, value.augment, value.preview]
        for reference in [*filter(None, references), *value.vocabularies.values()]:
            assert callable(resolve(reference)), reference
    for dataset in registry.datasets.values():
        assert callable(resolve(dataset.value.prepare)), dataset.value.name
    for metric in registry.metrics.values():
        assert callable(resolve(metric.value.compute)), metric.value.name


@pytest.mark.parametrize("reference", ["nowhere:at_all", "json:at_all", "json", "json:"])
def test_a_reference_that_leads_nowhere_is_a_users_error(reference: str) -> None:
    with pytest.raises(UserError, match=f"cannot load '{reference}'"):
        resolve(reference)

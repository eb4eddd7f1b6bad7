"""Real distributions in a folder, as ``pip install --target`` leaves them, for tests that install plugins."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PREAMBLE = """
from skillnet_cli.api import Dataset, Metric, Modality, Task, hookimpl
API_VERSION = 2
"""


@dataclass(frozen=True)
class Site:
    """A folder on ``sys.path`` into which plugins are installed."""

    folder: Path

    def install(self, name: str, body: str | Mapping[str, str], preamble: str = PREAMBLE, version: str = "1.0") -> str:
        """Install ``skillnet-NAME``; returns the distribution's name.

        Its one module is ``preamble`` and ``body``; or it is a package of the files that ``body`` has by path.
        """
        module, distribution = f"skillnet_{name}", f"skillnet-{name}"
        files = {f"{module}.py": body} if isinstance(body, str) else {f"{module}/{path}": body[path] for path in body}
        for path, text in files.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            text = textwrap.dedent(text)
            (self.folder / path).write_text(
                preamble + text if isinstance(body, str) else text.lstrip(), encoding="utf-8"
            )
        facts = self.folder / f"{module}-{version}.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (facts / "entry_points.txt").write_text(f"[skillnet]\n{name} = {module}\n")
        return distribution


def modality(skill: str) -> str:
    """The source of a hook that brings one skill."""
    return f"""
    @hookimpl
    def skillnet_modalities():
        return [Modality("{skill}", (".{skill}",), config="nowhere:C", reader="nowhere:R", embedder="nowhere:E")]
    """


def task(name: str, *skills: str) -> str:
    """The source of a hook that brings one classification task of one tower."""
    return f"""
    @hookimpl
    def skillnet_tasks():
        return [Task("{name}", towers=({skills!r},), objective="classification", target="label")]
    """

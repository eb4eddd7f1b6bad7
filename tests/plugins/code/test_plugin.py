"""What the plugin brings, how it shows code, and that finding it costs no torch."""

from __future__ import annotations

import subprocess
import sys

import skillnet_code
from skillnet_cli.api import API_VERSION
from skillnet_cli.plugins import resolve
from skillnet_code.preview import listing


def test_everything_that_the_hooks_name_is_there() -> None:
    (modality,) = skillnet_code.skillnet_modalities()
    names = [modality.config, modality.reader, modality.embedder, modality.preview, *modality.vocabularies.values()]
    datasets = skillnet_code.skillnet_datasets()
    assert all(callable(resolve(name)) for name in [*names, *(dataset.prepare for dataset in datasets)])
    towers = {task.name: task.towers for task in skillnet_code.skillnet_tasks()}
    assert towers == {"t2c": (("text",), ("code",)), "code-mlm": (("text", "code"),)}
    assert {dataset.name for dataset in datasets if dataset.part_of != "demo"} == {"pytorrent", "code-pretrain"}
    assert skillnet_code.API_VERSION == API_VERSION


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    code = "import sys, skillnet_code; print(*{'torch', 'numpy', 'tokenizers', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


def test_preview_escapes_what_code_holds_and_keeps_its_lines() -> None:
    assert listing("if a < b:\n    c &= 1\n") == "<pre><code>if a &lt; b:\n    c &amp;= 1\n</code></pre>"

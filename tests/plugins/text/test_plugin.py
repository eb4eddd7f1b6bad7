"""What the plugin brings, how it shows a text, and that finding it costs no torch."""

from __future__ import annotations

import subprocess
import sys

import pydantic
import pytest

import skillnet_text
from skillnet_cli.api import API_VERSION
from skillnet_cli.plugins import resolve
from skillnet_text.config import TextConfig
from skillnet_text.preview import paragraph


def test_everything_that_the_hooks_name_is_there() -> None:
    (modality,) = skillnet_text.skillnet_modalities()
    names = [modality.config, modality.reader, modality.embedder, modality.preview, *modality.vocabularies.values()]
    datasets = skillnet_text.skillnet_datasets()
    assert all(callable(resolve(name)) for name in [*names, *(dataset.prepare for dataset in datasets)])
    tasks = {task.name: (task.skills, task.pairs) for task in skillnet_text.skillnet_tasks()}
    assert tasks == {"tc": (("text",), ()), "mlm": (("text",), ()), "text-pair": (("text",), ("text",))}
    assert {dataset.name for dataset in datasets if dataset.part_of != "demo"} == {"text-corpus", "tnews"}
    assert skillnet_text.API_VERSION == API_VERSION


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    code = "import sys, skillnet_text; print(*{'torch', 'numpy', 'tokenizers', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("keys", [{"vocabulary": "v.txt"}, {"max_length": 1}, {"segment_types": 0}])
def test_unknown_and_impossible_keys_are_refused(keys: dict[str, object]) -> None:
    with pytest.raises(pydantic.ValidationError, match=next(iter(keys))):
        TextConfig(**keys)  # type: ignore[arg-type]


def test_preview_escapes_what_a_text_holds() -> None:
    assert paragraph("<script>好 & 坏</script>\n") == '<p class="text">&lt;script&gt;好 &amp; 坏&lt;/script&gt;</p>'

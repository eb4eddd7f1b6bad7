"""What every test stands on: shapes and types checked at every call, a clean environment, one thread a process."""

from __future__ import annotations

import os

for name in [name for name in os.environ if name.startswith("SKILLNET_") and name != "SKILLNET_TEST_PACKS"]:
    del os.environ[name]
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import hypothesis
import jaxtyping

PACKAGES = ["cli", "text", "sound", "image", "video", "code", "series"]

# Before the first import of any of them: every annotated function checks the shapes it is given and gives.
jaxtyping.install_import_hook([f"skillnet_{name}" for name in PACKAGES], "beartype.beartype")

# A busy machine is no defect, so examples have no deadline; every run draws the same ones, `make soak` others.
hypothesis.settings.register_profile("skillnet", deadline=None, derandomize=True)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=1_000)
hypothesis.settings.load_profile("skillnet")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their number: packed ones may carry the time, and then every process would name them anew."""
    return f"{argname}-of-{len(val)}-bytes" if isinstance(val, bytes) else None

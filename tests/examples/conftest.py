from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SERIES = Path(__file__).parents[2] / "examples" / "skillnet-series"


@pytest.fixture(scope="session")
def series_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the example plugin is installed as any user would, but offline."""
    site = tmp_path_factory.mktemp("site")
    uv = [sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-deps", "--no-build-isolation"]
    subprocess.run([*uv, "--python", sys.executable, "--target", str(site), str(SERIES)], check=True)
    return site

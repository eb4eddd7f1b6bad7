"""Files that were fetched before: looked up by path in a folder, however many lie there, or in an archive."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.data.archives import inside
from skillnet_cli.data.trees import Leaf, Tree


class Shelf:
    """Looks files up without listing the folder.

    Args:
        place: a folder or an archive.
        folder: where a compressed tar is unpacked once.

    Raises:
        UserError: there is no such folder or archive.
    """

    def __init__(self, place: Path, folder: Path) -> None:
        self._place = place.expanduser()
        self._folder = folder
        if not self._place.exists():
            raise UserError(f"'{place}': no such folder or archive")

    def find(self, name: str, suffixes: Sequence[str]) -> bytes | None:
        """The content of the file of this path, which may lack its suffix; None where there is none.

        Raises:
            DamagedItem: the path leads out, or the file cannot be read.
        """
        path = inside(name)
        if path is None or not name.strip():
            raise DamagedItem(f"the path '{name}' leads out of the folder")
        whole = [path] if PurePosixPath(path).suffix.lower() in suffixes else []
        for each in (*whole, *(path + suffix for suffix in suffixes)):
            content = self._content(each)
            if content is not None:
                return content
        return None

    def _content(self, name: str) -> bytes | None:
        if not self._place.is_dir():
            leaf = self._leaves.get(name)
            return leaf.read() if leaf else None
        path = self._place / name
        try:
            if not path.resolve().is_relative_to(self._place.resolve()):
                raise DamagedItem(f"'{name}' is a link that leads out of the folder")
            return path.read_bytes() if path.is_file() else None
        except (OSError, ValueError) as error:
            raise DamagedItem(f"'{name}' cannot be read ({getattr(error, 'strerror', None) or error})") from error

    @cached_property
    def _leaves(self) -> dict[str, Leaf]:
        return {leaf.name: leaf for leaf in Tree([self._place], self._folder).leaves}

"""The recipes that come with skillnet: inside its wheel, or beside its sources."""

from __future__ import annotations

import difflib
from pathlib import Path

from skillnet_cli.api import UserError

PACKAGE = Path(__file__).parents[1]


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with this installation, by name."""
    places = [PACKAGE / "recipes", PACKAGE.parent / "recipes"]
    folder = next((place for place in places if place.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.toml"))} if folder else {}


def find_recipe(name: Path) -> Path:
    """A recipe's file: a path, or the name of one that comes with skillnet.

    Raises:
        UserError: it looks like a name, and no recipe is called so.
    """
    if name.exists() or name.suffix or len(name.parts) > 1:
        return name
    known = shipped_recipes()
    if str(name) not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}; a file ends in .toml"
        raise UserError(f"no recipe '{name}': {hint}")
    return known[str(name)]


def purpose(path: Path) -> str:
    """What a recipe says of itself: the first sentence of the comment at its head."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines).split(". ")[0].rstrip(".")

"""HTML is put together here alone: what is not :class:`Markup` is text, and is escaped wherever it is put in."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

EMPTY = frozenset({"br", "circle", "meta", "path", "polyline"})
"""Elements of ours that hold nothing."""


class Markup(str):
    """HTML that our own code or a plugin's preview has made; joined with other strings it is text again."""

    __slots__ = ()


def markup(content: Any) -> Markup:
    """``content`` as HTML: itself where it is that already, else its text, escaped."""
    return content if isinstance(content, Markup) else Markup(escape(str(content)))


def joined(parts: Iterable[Any], between: Any = "") -> Markup:
    """Several pieces of HTML or text one after another."""
    return Markup(markup(between).join(map(markup, parts)))


def element(tag: str, *content: Any, **attributes: Any) -> Markup:
    """An element that holds the pieces of ``content``; ``class_`` is its class, ``aria_label`` its ``aria-label``."""
    stated = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for name, value in attributes.items()
    )
    return Markup(f"<{tag}{stated}/>" if tag in EMPTY else f"<{tag}{stated}>{joined(content)}</{tag}>")


def note(text: Any) -> Markup:
    """A remark in place of what cannot be shown."""
    return element("p", text, class_="note")


def facts(pairs: Iterable[tuple[Any, Any]]) -> Markup:
    """A list of names with what is said of each."""
    return element("dl", *(joined((element("dt", name), element("dd", said))) for name, said in pairs))

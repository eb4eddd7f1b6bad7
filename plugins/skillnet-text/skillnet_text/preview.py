"""How a text is shown in galleries."""

from __future__ import annotations

from html import escape

from skillnet_cli.api import Source
from skillnet_text.files import open_text


def paragraph(source: Source) -> str:
    """A text as an HTML paragraph, everything in it escaped. Raises DamagedItem as the reader does."""
    return f'<p class="text">{escape(open_text(source).strip())}</p>'

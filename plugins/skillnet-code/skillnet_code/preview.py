"""How code is shown in galleries."""

from __future__ import annotations

from html import escape

from skillnet_cli.api import Source
from skillnet_text.files import open_text


def listing(source: Source) -> str:
    """A code as an HTML listing, everything in it escaped. Raises DamagedItem as the reader does."""
    return f"<pre><code>{escape(open_text(source))}</code></pre>"

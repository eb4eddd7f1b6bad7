"""The command line: one file a verb, each of which parses, calls and prints; nothing heavy until a verb runs."""

from __future__ import annotations

from skillnet_cli.cli.app import main

__all__ = ["main"]

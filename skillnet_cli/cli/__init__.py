"""The command line: each command parses, calls and prints; nothing heavy is imported until one runs."""

from __future__ import annotations

from skillnet_cli.cli.app import main

__all__ = ["main"]

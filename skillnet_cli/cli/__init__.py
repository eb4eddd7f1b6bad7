"""The command line: each command parses, calls and prints; nothing heavy is imported until one runs.

Where it is interrupted, be it while it is still being imported, it ends without a word and with exit code 130.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

__all__ = ["main"]

INTERRUPTED = 130  # 128 + SIGINT


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    _when_interrupted(_leave)
    try:
        from skillnet_cli.cli.app import main as run

        _when_interrupted(signal.default_int_handler)
        run(arguments)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    finally:
        _when_interrupted(_leave)  # the end of Python would print a traceback of its own


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


def _when_interrupted(handler: signal.Handlers | object) -> None:
    """Set what SIGINT does, unless it is ignored, as in the background of a shell."""
    with suppress(ValueError):  # another thread than the main one
        if signal.getsignal(signal.SIGINT) in (_leave, signal.default_int_handler):
            signal.signal(signal.SIGINT, handler)  # type: ignore[arg-type]


if multiprocessing.parent_process() is not None:
    # A process that a command has started imports this first. Until it says what a signal shall do, one ends it at
    # once: its command says what there is to say.
    _when_interrupted(_leave)

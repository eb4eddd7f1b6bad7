"""Real processes that train together, forked from this one: they start at once and can be killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import socket
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import Any

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.engine.signals import Stopped

FORK = multiprocessing.get_context("fork")


def free_port() -> int:
    """A port that nothing uses, and that no system gives to a connection before the ranks meet there."""
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("localhost", port))
            return port
    raise OSError("of 100 ports none is free")


def start_ranks(world: int, work: Callable[..., Any], *arguments: Any) -> Sequence[BaseProcess]:
    """Call ``work`` in ``world`` processes that find one another as torchrun's do. They exit as the command would."""
    shared = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "localhost", "MASTER_PORT": free_port()}
    processes = [
        FORK.Process(target=_rank, args=({**shared, "RANK": rank, "LOCAL_RANK": rank}, work, arguments))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    return processes


def run_ranks(world: int, work: Callable[..., Any], *arguments: Any) -> list[int | None]:
    """As :func:`start_ranks`, to the end of all. Returns their exit codes."""
    processes = start_ranks(world, work, *arguments)
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def _rank(environment: dict[str, Any], work: Callable[..., Any], arguments: Sequence[Any]) -> None:
    os.environ |= {name: str(value) for name, value in environment.items()}
    try:
        work(*arguments)
    except Stopped as stopped:
        _leave(128 + stopped.number, f"skillnet: {stopped}")
    except (UserError, FailedJob) as error:
        _leave(2 if isinstance(error, UserError) else 1, f"skillnet: error: {error}")
    except BaseException:
        _leave(99, traceback.format_exc())
    _leave(0, "")


def _leave(code: int, message: str) -> None:
    """At once, without what the parent has registered for its own end."""
    os.write(2, f"{message}\n".encode())  # in one piece: others write there too
    os._exit(code)

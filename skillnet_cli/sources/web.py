"""Many small files from many servers: asked for side by side, taken in order, with rate limits and without trust."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from skillnet_cli.api import UserError

if TYPE_CHECKING:
    from skillnet_cli.sources.web_client import Client


Key = TypeVar("Key")
Result = TypeVar("Result")

AHEAD = 3000
"""Files that are asked for before the first of them has come: one slow server does not hold up the others."""
RESOLVERS = 32


class Unavailable(Exception):
    """A file that could not be had, with the reason, in words that do not differ from one time to the next."""


@dataclass(frozen=True)
class RateLimits:
    """How servers are asked.

    Attributes:
        connections: at a time, all servers together.
        per_host: at a time, for one server.
        seconds: for one file, all tries together.
        idle: seconds without a byte after which a try has failed.
        retries: further tries where one failed and another may help.
        most_bytes: of a file.
        private_hosts: hosts that may be asked although their addresses are those of a private network.
    """

    connections: int = 64
    per_host: int = 8
    seconds: float = 30.0
    idle: float = 10.0
    retries: int = 2
    most_bytes: int = 16 << 20
    private_hosts: frozenset[str] = frozenset()


def fetch_in_order(
    requests: Iterable[tuple[Key, str | None]], manners: RateLimits, then: Callable[[bytes], Result]
) -> Iterator[tuple[Key, Result | Exception | None]]:
    """Fetch files side by side and hand them on in the order in which they are named.

    Args:
        requests: keys and addresses; what has no address comes back in its place with None.
        manners: bounds.
        then: what is made of a file's bytes, in a thread; no more files than connections are held in memory at a time.

    Yields:
        The key and what ``then`` returned; or what it raised, or :class:`Unavailable`.

    Raises:
        UserError: aiohttp is not installed.
    """
    pending: deque[tuple[Key, Future[Result] | None]] = deque()
    with _client(manners) as (client, loop), ThreadPoolExecutor(1) as one:

        async def fetched(url: str) -> Result:
            async with client.turn(url):
                data = await client.fetch(url)
                return await loop.run_in_executor(one, then, data)

        try:
            for key, url in requests:
                asked = None if url is None else asyncio.run_coroutine_threadsafe(fetched(url), loop)
                pending.append((key, asked))
                while pending and (len(pending) >= AHEAD or _is_done(pending[0][1])):
                    yield _taken(pending.popleft())
            while pending:
                yield _taken(pending.popleft())
        finally:
            for _, asked in pending:
                if asked:
                    asked.cancel()


def _is_done(asked: Future[Result] | None) -> bool:
    return asked is None or asked.done()


def _taken(first: tuple[Key, Future[Any] | None]) -> tuple[Key, Any]:
    key, asked = first
    if asked is None:
        return key, None
    error = asked.exception()
    if error is None:
        return key, asked.result()
    if isinstance(error, Exception):
        return key, error
    raise error


def client_kind() -> type[Client]:
    """The client's class. Raises UserError where aiohttp is not installed."""
    try:
        from skillnet_cli.sources.web_client import Client
    except ModuleNotFoundError as error:
        raise UserError("fetching many files needs aiohttp: pip install 'skillnet-cli[download]'") from error
    return Client


@contextmanager
def _client(manners: RateLimits) -> Iterator[tuple[Client, asyncio.AbstractEventLoop]]:
    """A client, and the event loop that it runs in, in a thread of its own."""
    kind = client_kind()
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(RESOLVERS))  # names are resolved there
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    client = asyncio.run_coroutine_threadsafe(kind.open(manners), loop).result()
    try:
        yield client, loop
    finally:
        asyncio.run_coroutine_threadsafe(client.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

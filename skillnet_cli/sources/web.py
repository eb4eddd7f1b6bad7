"""Many small files from many servers: asked for side by side, taken in order, within rate limits and without trust.

The only module that needs aiohttp, so whoever may not need it imports it late.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import aiohttp

from skillnet_cli.sources.http import (
    FIRST_WAIT,
    HEADERS,
    MAX_REDIRECTS,
    REDIRECTS,
    RateLimits,
    TryAgain,
    Unavailable,
    check_address,
    check_status,
    is_private_address,
    redirected,
)

Key = TypeVar("Key")
Result = TypeVar("Result")

_AHEAD = 3000
"""Files that are asked for before the first of them has come: one slow server does not hold up the others."""
_RESOLVERS = 32
_CHUNK = 1 << 16


def fetch_in_order(
    requests: Iterable[tuple[Key, str | None]], limits: RateLimits, then: Callable[[bytes], Result]
) -> Iterator[tuple[Key, Result | Exception | None]]:
    """Fetch files side by side, and yield them in the order in which they are requested.

    Args:
        requests: keys and addresses; a key without an address comes back in its place with None.
        limits: how servers are asked.
        then: called with each file's bytes, in a thread; its result is what is kept, so that no more files than
            connections are held in memory at a time.

    Yields:
        The key, and what ``then`` returned or raised, or :class:`Unavailable`.
    """
    pending: deque[tuple[Key, Future[Result] | None]] = deque()
    with _client(limits) as (client, loop), ThreadPoolExecutor(1) as converter:

        async def fetched(url: str) -> Result:
            host = check_address(url)
            # The host's turn comes first: whoever waits for a slow host must not take a place of all. Waiting does
            # not count as the file's time. The bytes are handed on within, which bounds the files in memory.
            async with client.per_host[host], client.connections:
                content = await client.fetch(url)
                return await loop.run_in_executor(converter, then, content)

        try:
            for key, url in requests:
                future = None if url is None else asyncio.run_coroutine_threadsafe(fetched(url), loop)
                pending.append((key, future))
                while pending and (len(pending) >= _AHEAD or pending[0][1] is None or pending[0][1].done()):
                    yield _taken(*pending.popleft())
            while pending:
                yield _taken(*pending.popleft())
        finally:
            for _, future in pending:
                if future:
                    future.cancel()


def _taken(key: Key, future: Future[Any] | None) -> tuple[Key, Any]:
    if future is None:
        return key, None
    error = future.exception()
    if error is None:
        return key, future.result()
    if isinstance(error, Exception):
        return key, error
    raise error


@contextmanager
def _client(limits: RateLimits) -> Iterator[tuple[_Client, asyncio.AbstractEventLoop]]:
    """A client, and the event loop that it runs in, in a thread of its own."""
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(_RESOLVERS))  # names are looked up there, and some take long
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def opened() -> _Client:  # aiohttp wants its sessions made within the loop
        return _Client(limits)

    client = asyncio.run_coroutine_threadsafe(opened(), loop).result()
    try:
        yield client, loop
    finally:
        asyncio.run_coroutine_threadsafe(client.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _Client:
    """Fetches single files; ``connections`` and ``per_host`` are to be held meanwhile."""

    def __init__(self, limits: RateLimits) -> None:
        self._limits = limits
        self.connections = asyncio.Semaphore(limits.connections)
        self.per_host: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(limits.per_host))
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=limits.idle, sock_read=limits.idle)
        connector = aiohttp.TCPConnector(limit=0, resolver=_PublicResolver(limits), ttl_dns_cache=300)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=HEADERS, cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )  # fmt: skip

    async def close(self) -> None:
        """End what is still being fetched, and close all connections."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._session.close()

    async def fetch(self, url: str) -> bytes:
        """Return the bytes at an address. Raises Unavailable."""
        try:
            return await asyncio.wait_for(self._tries(url), self._limits.seconds)
        except asyncio.TimeoutError:
            raise Unavailable("the server does not answer in time") from None

    async def _tries(self, url: str) -> bytes:
        reason = ""
        for number in range(self._limits.retries + 1):
            if number:
                await asyncio.sleep(FIRST_WAIT * 2 ** (number - 1))
            try:
                return await self._follow(url)
            except TryAgain as error:
                reason = str(error)
            except asyncio.TimeoutError:
                reason = "the server does not answer in time"
            except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, ConnectionError):
                reason = "the transfer breaks off"
            except aiohttp.InvalidURL:
                raise Unavailable("the address is not valid") from None
            except aiohttp.ClientConnectorDNSError:
                raise Unavailable("the host is unknown") from None
            except aiohttp.ClientConnectionError:
                reason = "the server cannot be reached"
            except (aiohttp.ClientError, ValueError):
                raise Unavailable("the server's answer is not valid HTTP") from None
        raise Unavailable(reason)

    async def _follow(self, url: str) -> bytes:
        """The bytes at an address, or where redirects lead."""
        for _ in range(MAX_REDIRECTS + 1):
            host = check_address(url)
            _check_public(host, host, self._limits)  # no resolver is asked for a number
            async with self._session.get(url, allow_redirects=False) as answer:
                if answer.status not in REDIRECTS or "Location" not in answer.headers:
                    check_status(answer.status)
                    return await self._body(answer)
                url = redirected(url, answer.headers["Location"])
        raise Unavailable(f"it redirects more than {MAX_REDIRECTS} times")

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        most = self._limits.most_bytes
        body = bytearray()
        if (answer.content_length or 0) > most:
            raise Unavailable(f"it is larger than {most >> 20} MiB")
        async for piece in answer.content.iter_chunked(_CHUNK):
            body += piece
            if len(body) > most:  # the length that a server states may be wrong, or missing
                raise Unavailable(f"it is larger than {most >> 20} MiB")
        return bytes(body)


class _PublicResolver(aiohttp.ThreadedResolver):
    """Looks names up at the moment of connecting, so that no second look-up can lead elsewhere than the checked one."""

    def __init__(self, limits: RateLimits) -> None:
        super().__init__()
        self._limits = limits

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[Any]:
        found = await super().resolve(host, port, family)
        for each in found:
            _check_public(host, each["host"], self._limits)
        return found


def _check_public(host: str, address: str, limits: RateLimits) -> None:
    if host not in limits.private_hosts and is_private_address(address):
        raise Unavailable("the address belongs to a private network")

"""The client behind :mod:`skillnet_cli.data.web`, the only module that needs aiohttp."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp

from skillnet_cli.sources.download import is_private_address
from skillnet_cli.sources.web import RateLimits, Unavailable

HOPS = 5
FIRST_WAIT = 0.25
CHUNK = 1 << 16
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_REDIRECTS = {301, 302, 303, 307, 308}
_HEADERS = {"User-Agent": "skillnet", "Accept-Encoding": "identity"}
PRIVATE = "it leads to an address of a private network, which is not asked"


class _Passing(Exception):
    """A failure that another try may help."""


class Client:
    """Fetches single files; made and used in one event loop."""

    def __init__(self, manners: RateLimits) -> None:
        self._manners = manners
        self._all = asyncio.Semaphore(manners.connections)
        self._hosts: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(manners.per_host))
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=manners.idle, sock_read=manners.idle)
        connector = aiohttp.TCPConnector(limit=0, resolver=_PublicResolver(manners), ttl_dns_cache=300)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=_HEADERS, cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )  # fmt: skip

    @classmethod
    async def open(cls, manners: RateLimits) -> Client:
        """A client that belongs to the running loop."""
        return cls(manners)

    async def close(self) -> None:
        """End what is still being fetched, and close all connections."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._session.close()

    @asynccontextmanager
    async def turn(self, url: str) -> AsyncIterator[None]:
        """Wait until the server, and then any server, may be asked; waiting does not count as the file's time."""
        async with self._hosts[_host_of(url)], self._all:
            yield

    async def fetch(self, url: str) -> bytes:
        """The bytes at an address. Raises Unavailable."""
        try:
            return await asyncio.wait_for(self._tries(url), self._manners.seconds)
        except asyncio.TimeoutError:
            raise Unavailable("the server does not answer in time") from None

    async def _tries(self, url: str) -> bytes:
        reason = ""
        for number in range(self._manners.retries + 1):
            if number:
                await asyncio.sleep(FIRST_WAIT * 2**number)
            try:
                return await self._follow(url)
            except _Passing as error:
                reason = str(error)
            except asyncio.TimeoutError:
                reason = "the server does not answer in time"
            except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, ConnectionError):
                reason = "the transfer breaks off"
            except aiohttp.InvalidURL:
                raise Unavailable("it is no address") from None
            except aiohttp.ClientConnectorDNSError:
                raise Unavailable("there is no server of this name") from None
            except aiohttp.ClientConnectionError:
                reason = "the server cannot be reached"
            except (aiohttp.ClientError, ValueError):
                raise Unavailable("the server does not answer as one") from None
        raise Unavailable(reason)

    async def _follow(self, url: str) -> bytes:
        """The bytes at an address, or where it leads."""
        for _ in range(HOPS + 1):
            self._check(url)
            async with self._session.get(url, allow_redirects=False) as answer:
                if answer.status in _REDIRECTS and "Location" in answer.headers:
                    url = urljoin(url, answer.headers["Location"])
                    continue
                if answer.status in _PASSING:
                    raise _Passing(f"the server answers {_name(answer.status)}")
                if answer.status != HTTPStatus.OK:
                    raise Unavailable(f"the server answers {_name(answer.status)}")
                return await self._body(answer)
        raise Unavailable(f"it leads on more than {HOPS} times")

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        if (answer.content_length or 0) > self._manners.most_bytes:
            raise Unavailable(f"it is larger than {self._manners.most_bytes >> 20} MiB")
        async for piece in answer.content.iter_chunked(CHUNK):
            body += piece
            if len(body) > self._manners.most_bytes:
                raise Unavailable(f"it is larger than {self._manners.most_bytes >> 20} MiB")
        return bytes(body)

    def _check(self, url: str) -> None:
        """Raises Unavailable where an address is none, is not of http(s), or names a private network by number."""
        host = _host_of(url)
        scheme = url.partition(":")[0].lower()
        if scheme not in ("http", "https"):
            raise Unavailable(f"it leads to '{scheme[:20]}:', which is not followed")
        if not host:
            raise Unavailable("it is no address")
        if host not in self._manners.private_hosts and _is_number(host) and is_private_address(host):
            raise Unavailable(PRIVATE)


class _PublicResolver(aiohttp.ThreadedResolver):
    """Resolves names, and refuses those that lead into a private network."""

    def __init__(self, manners: RateLimits) -> None:
        super().__init__()
        self._trusted = manners.private_hosts

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[Any]:
        found = await super().resolve(host, port, family)
        if host not in self._trusted and any(is_private_address(each["host"]) for each in found):
            raise Unavailable(PRIVATE)
        return found


def _host_of(url: str) -> str:
    """The host of an address, empty where it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _name(status: int) -> str:
    """A status with its phrase, in words only where that is known: the numbers of a reason are not counted apart."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)

"""The rules for everything that is fetched over HTTP: which addresses, how often, how long, and which errors pass.

Two transports follow them: :mod:`~skillnet_cli.sources.download` for a single file of any size (httpx) and
:mod:`~skillnet_cli.sources.web` for many small ones (aiohttp). What they need lies here, without either library.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

HEADERS = {"User-Agent": "skillnet", "Accept-Encoding": "identity"}  # sizes and ranges must be those of the file itself
REDIRECTS = {301, 302, 303, 307, 308}
MAX_REDIRECTS = 10  # browsers allow 20, curl 50; published files need two or three
FIRST_WAIT = 0.5
"""Seconds before the second try; every further wait is twice as long."""
LONGEST_WAIT = 60.0
"""Seconds that are waited at most where a server asks for more by ``Retry-After``."""

_TEMPORARY = {408, 425, 429, 500, 502, 503, 504}
_HOST = re.compile(r"[\w.:%-]+")  # names, numbers, and IPv6 with a zone
_LOCAL_ENDINGS = ("localhost", "local", "internal")
_FAKE_IP = ipaddress.ip_network("198.18.0.0/15")
"""What local proxies (Clash and others, with "fake IP") answer for every name; the name is theirs to look up."""

_HOLDING_IPV4 = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96")))
"""Networks whose addresses end in one of IPv4, to which translators pass what is sent there (RFC 6052, 8215, 4291)."""


class Unavailable(Exception):
    """A file that cannot be had. The message is the reason, in words that do not differ from file to file."""


class TryAgain(Exception):
    """A failure that may pass; ``wait`` is how many seconds the server asks to be left alone."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class RateLimits:
    """How servers are asked for many files.

    Attributes:
        connections: at a time, all servers together.
        per_host: at a time, to one server.
        seconds: for one file, all tries together.
        idle: seconds without a byte after which a try has failed.
        retries: further tries after one that failed and may pass.
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


def check_address(url: str) -> str:
    """Return the host of an http(s) address as it is connected to. Raises Unavailable where it is none.

    Clients fold compatible characters (①②⑦ is 127, 。 is a full stop) before they connect, so whatever is to be known
    of the host is asked of what comes of that.
    """
    try:
        parts = urlsplit(url)
        host = unicodedata.normalize("NFKC", parts.hostname or "").replace("\u3002", ".").lower()
        host.encode("idna")
        valid = bool(_HOST.fullmatch(host)) and parts.port != 0
    except ValueError:  # an open bracket, a port that is not a number, an empty label or one that is too long
        raise Unavailable("the address is not valid") from None
    if parts.scheme not in ("http", "https"):
        raise Unavailable("the address is not http or https")
    if not valid:
        raise Unavailable("the address is not valid")
    return host


def redirected(url: str, location: str) -> str:
    """Return the address that a redirect leads to. Raises Unavailable where it is not an http(s) address."""
    try:
        target = urljoin(url, location)
    except ValueError:
        target = ""
    check_address(target)
    return target


def check_status(status: int, retry_after: str = "") -> None:
    """Check that an answer has the file (status 200).

    Args:
        status: that of the answer.
        retry_after: its header ``Retry-After``; only seconds count.

    Raises:
        TryAgain: another try may help.
        Unavailable: none will.
    """
    if status == HTTPStatus.OK:
        return
    try:
        reason = f"the server answers {status} {HTTPStatus(status).phrase}"
    except ValueError:  # a server's own words are not repeated: they may be anything
        reason = f"the server answers {status}"
    if status not in _TEMPORARY:
        raise Unavailable(reason)
    wait = float(retry_after) if retry_after.isdecimal() and retry_after.isascii() else 0.0
    raise TryAgain(reason, min(wait, LONGEST_WAIT))


def is_private(host: str) -> bool:
    """Whether one of a host's addresses is private, see :func:`is_private_address`.

    A name that is not found is private where its ending says so: otherwise it may be a proxy's to look up.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return host.rstrip(".").lower().rpartition(".")[2] in _LOCAL_ENDINGS
    return any(is_private_address(str(place[4][0])) for place in found)


def is_private_address(host: str) -> bool:
    """Whether a host is an IP address of no public server: of a private network, this machine, a link, a multicast."""
    try:
        plain = ipaddress.ip_address(_dotted(host.partition("%")[0]))  # without its zone
    except ValueError:  # a name
        return host.rstrip(".").lower().rpartition(".")[2] == "localhost"
    plain = getattr(plain, "ipv4_mapped", None) or plain
    if plain.version == 4 and plain in _FAKE_IP:
        return False
    within = [plain, getattr(plain, "sixtofour", None)]
    if any(plain in network for network in _HOLDING_IPV4):
        within.append(ipaddress.IPv4Address(int(plain) & 0xFFFFFFFF))
    return any(not each.is_global or each.is_multicast for each in within if each)


def _dotted(host: str) -> str:
    """A number of IPv4 in octal, hexadecimal or one piece as four decimal ones; any other host as it is."""
    if not re.fullmatch(r"(?:0x[0-9a-f]*|\d+)(?:\.(?:0x[0-9a-f]*|\d+)){0,3}\.?", host, re.IGNORECASE):
        return host
    try:
        return socket.inet_ntoa(socket.inet_aton(host.rstrip(".")))
    except OSError:
        return host

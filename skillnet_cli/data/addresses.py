"""Where a redirect may lead: never out of http(s), and never from a public address into a private network."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from skillnet_cli.api import UserError

_LOCAL = ("localhost", "local", "internal")
_STAND_IN = ipaddress.ip_network("198.18.0.0/15")
"""What some local proxies answer for every name; the name is theirs to look up."""


def check_redirect(asked: str, target: str) -> None:
    """Raises UserError where an answer for the address ``asked`` leads to a ``target`` that is not followed.

    Those are addresses of other kinds than http(s), plain http for what was asked by https, and hosts of this machine
    or of a private network, unless the host that was asked is one itself.
    """
    try:
        here, there = urlsplit(asked), urlsplit(target)
        host = there.hostname or ""
    except ValueError as error:
        raise UserError(f"{asked} leads to '{target}', which is no address: fetch the file yourself") from error
    if there.scheme not in ("http", "https") or not host or (here.scheme == "https" and there.scheme == "http"):
        raise UserError(f"{asked} leads to {target}, which is not followed: fetch the file yourself")
    if is_private(host) and not is_private(here.hostname or ""):
        raise UserError(f"{asked} leads to {target}, a private address, which is not followed: fetch the file yourself")


def is_private(host: str) -> bool:
    """Whether one of a host's addresses is of this machine, of a private network or reserved.

    A name that is not found is private where its end says so: it may be a proxy's to look up.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return host.rstrip(".").lower().rpartition(".")[2] in _LOCAL
    return any(_inside(str(place[4][0])) for place in found)


def _inside(address: str) -> bool:
    plain = _plain(address)
    return is_private_address(address) and not (plain.version == 4 and plain in _STAND_IN)


def is_private_address(address: str) -> bool:
    """Whether an IP address belongs to no public server: a private network, this machine, a link, a multicast."""
    plain = _plain(address)
    inner = [plain, getattr(plain, "sixtofour", None)]
    return any(not each.is_global or each.is_multicast for each in inner if each)


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address without its zone, and without IPv6 around an IPv4 one."""
    found = ipaddress.ip_address(address.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found


__all__ = ["check_redirect", "is_private", "is_private_address"]

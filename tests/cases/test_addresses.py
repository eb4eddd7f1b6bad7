"""Hosts in any spelling are checked as they are connected to."""

from __future__ import annotations

import ipaddress

import pytest

from skillnet_cli.sources.http import RateLimits, Unavailable, check_address, is_private_address
from skillnet_cli.sources.web import fetch_in_order
from tests.webserver import serving

LOOPBACK = [
    "①②⑦.0.0.1", "１２７.0.0.1", "127。0。0。1", "127．0．0．1", "127｡0｡0｡1", "127.1", "2130706433", "0x7f000001",
    "017700000001", "0177.0.0.1", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]", "localhost", "a.localhost", "ＬＯＣＡＬＨＯＳＴ",
]  # fmt: skip


@pytest.mark.parametrize("host", LOOPBACK)
def test_s13_every_spelling_of_a_private_host_is_private(host: str) -> None:
    assert is_private_address(check_address(f"http://{host}:8080/x.jpg"))


@pytest.mark.parametrize("host", ["example.com", "8.8.8.8", "[2606:4700::1111]", "[64:ff9b::808:808]", "图.example"])
def test_s13_public_hosts_stay_public(host: str) -> None:
    assert not is_private_address(check_address(f"http://{host}/x.jpg"))


def test_s13_numbers_are_what_the_system_takes_them_for() -> None:
    assert ipaddress.ip_address("127.0.0.1").is_loopback and not is_private_address("0x08080808")


@pytest.mark.parametrize("host", ["127.0.0.1", "①②⑦.0.0.1", "127。0。0。1", "2130706433", "[::ffff:127.0.0.1]"])
def test_s13_no_spelling_leads_to_this_machine(host: str) -> None:
    with serving({"x": b"secret"}) as server:
        port = server.url.rpartition(":")[2]
        ((_, found),) = fetch_in_order([(0, f"http://{host}:{port}/ok/x")], RateLimits(seconds=10.0, retries=0), bytes)
    assert isinstance(found, Unavailable) and not server.asked

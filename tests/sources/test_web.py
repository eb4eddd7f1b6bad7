"""Many files from a server that drops, stalls, lies and leads astray."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any

import pytest

from skillnet_cli.api import DamagedItem
from skillnet_cli.sources.http import RateLimits, Unavailable, is_private_address
from skillnet_cli.sources.web import fetch_in_order
from tests.webserver import Server, serving

QUICK = RateLimits(connections=16, per_host=16, seconds=2.0, idle=0.5, retries=1, most_bytes=1 << 20)
LOCAL = replace(QUICK, private_hosts=frozenset({"127.0.0.1"}))


def content(name: str) -> bytes:
    return name.encode() * 1000


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(content) as running:
        yield running


def fetched(urls: list[str | None], limits: RateLimits = LOCAL, then: Any = bytes) -> list[Any]:
    return [outcome for _, outcome in fetch_in_order(((url, url) for url in urls), limits, then)]


def test_files_come_in_the_order_in_which_they_were_asked_for(server: Server) -> None:
    urls = [f"{server.url}/{'slow' if number % 3 else 'ok'}/{number}" for number in range(60)]
    keys = [(number, None if number % 10 == 7 else url) for number, url in enumerate(urls)]
    found = list(fetch_in_order(keys, LOCAL, len))
    assert found == [(n, None if n % 10 == 7 else 1000 * len(str(n))) for n in range(60)]


FAILURES = {
    "status/404": "the server answers 404 Not Found",
    "status/403": "the server answers 403 Forbidden",
    "status/799": "the server answers 799",
    "status/503": "the server answers 503 Service Unavailable",
    "drop/abc": "the transfer breaks off",
    "dropped/abc": "the transfer breaks off",
    "stall/abc": "the server does not answer in time",
    "drip/abc": "the server does not answer in time",
    "endless/abc": "it is larger than 1 MiB",
    "claims/abc": "it is larger than 1 MiB",
    "nonsense/abc": "the server's answer is not valid HTTP",
    "round/abc": "it redirects more than 10 times",
    "leads/file:///etc/passwd": "the address is not http or https",
    "leads/ftp://127.0.0.1/x": "the address is not http or https",
    "leads/http://10.0.0.1/x": "private",
    "leads/http://127.0.0.2/x": "private",
    "leads/http://localhost:9/x": "private",
    "leads/http://[::1]/x": "private",
    "leads/http://[::ffff:127.0.0.1]/x": "private",
    "leads/http://0x7f.1/x": "private",
    "leads/http://169.254.169.254/latest": "private",
}


def test_every_failure_has_its_reason_and_delays_nobody(server: Server) -> None:
    started = time.monotonic()
    sound = f"{server.url}/ok/sound"
    outcomes = fetched([each for path in FAILURES for each in (f"{server.url}/{path}", sound)])
    assert outcomes[1::2] == [content("sound")] * len(FAILURES)
    for (path, reason), outcome in zip(FAILURES.items(), outcomes[::2], strict=True):
        assert isinstance(outcome, Unavailable), path
        wanted = "the address belongs to a private network" if reason == "private" else reason
        assert str(outcome) == wanted, path
    assert time.monotonic() - started < 20


def test_another_try_helps_where_a_server_was_busy(server: Server) -> None:
    assert fetched([f"{server.url}/once/a"]) == [content("a")]
    assert server.asked["/once/a"] == 2
    assert str(fetched([f"{server.url}/once/b"], replace(LOCAL, retries=0))[0]).startswith("the server answers 503")


def test_more_than_was_said_is_not_taken(server: Server) -> None:
    (outcome,) = fetched([f"{server.url}/long/abcd"])  # what comes behind the end may spoil the whole answer
    assert outcome == content("abcd")[:2000] or str(outcome) == "the server's answer is not valid HTTP"


def test_it_follows_where_a_server_leads_within_the_web(server: Server) -> None:
    assert fetched([f"{server.url}/leads//ok/further", f"{server.url}/leads/SELF/ok/there"]) == [
        content("further"),
        content("there"),
    ]


@pytest.mark.parametrize("url", ["", "picture.jpg", "//host/x", "file:///etc/passwd", "http://", "http://[::1/x"])
def test_what_is_no_address_of_the_web(url: str) -> None:
    (outcome,) = fetched([url])
    assert isinstance(outcome, Unavailable) and str(outcome).startswith("the address is not")


def test_private_addresses_are_asked_only_where_that_is_allowed(server: Server) -> None:
    (refused,) = fetched([f"{server.url}/ok/a"], QUICK)
    assert str(refused) == "the address belongs to a private network"
    (named,) = fetched([f"{server.url}/ok/b".replace("127.0.0.1", "localhost")], LOCAL)
    assert isinstance(named, Unavailable), "another name of the host that is allowed"
    assert server.asked["/ok/b"] == 0


def test_a_server_that_is_not_there(server: Server) -> None:
    gone, unknown = fetched(["http://127.0.0.1:9/x", "http://no-such-host.invalid/x"])
    assert str(gone) == "the server cannot be reached" and str(unknown) == "the host is unknown"


@pytest.mark.parametrize(("all_hosts", "one_host"), [(3, 16), (16, 3)])
def test_no_more_connections_than_allowed(all_hosts: int, one_host: int) -> None:
    with serving(content) as fresh:
        fetched([f"{fresh.url}/slow/{n}" for n in range(40)], replace(LOCAL, connections=all_hosts, per_host=one_host))
        assert 1 < fresh.most_at_once <= 3


def test_what_is_made_of_a_file_may_fail_for_one(server: Server) -> None:
    def then(data: bytes) -> int:
        if data.startswith(b"bad"):
            raise DamagedItem("it is bad")
        return len(data)

    good, bad = fetched([f"{server.url}/ok/good", f"{server.url}/ok/bad"], then=then)
    assert good == 4000 and isinstance(bad, DamagedItem)


def test_leaving_early_ends_everything(server: Server) -> None:
    threads = threading.active_count()
    found = fetch_in_order(((n, f"{server.url}/{'ok' if n == 0 else 'stall'}/{n}") for n in range(30)), LOCAL, bytes)
    assert next(found)[0] == 0
    found.close()  # type: ignore[attr-defined]
    limit = time.monotonic() + 30
    while any("run_forever" in each.name for each in threading.enumerate()):
        assert time.monotonic() < limit
        time.sleep(0.02)
    assert threading.active_count() <= threads + 30  # the server's own


def test_a_failing_list_of_addresses_is_passed_on(server: Server) -> None:
    def urls() -> Iterator[tuple[int, str]]:
        yield 0, f"{server.url}/stall/0"
        raise CancelledError

    with pytest.raises(CancelledError):
        list(fetch_in_order(urls(), LOCAL, bytes))


def test_private_addresses_by_their_numbers() -> None:
    private = ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "0.0.0.0", "::1", "fe80::1%eth0", "fc00::1"]
    assert all(map(is_private_address, [*private, "224.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "100.64.0.1"]))
    assert not any(map(is_private_address, ["93.184.215.14", "2606:4700::1111", "::ffff:93.184.215.14"]))
    assert not is_private_address("198.18.3.4"), "what proxies on this machine answer for every name"

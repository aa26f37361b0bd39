"""How endpoints are written, and which is asked next."""

from typing import Any

import pytest

from sparts.errors import OptionError
from sparts.thrift.clients.endpoints import ALONE, TIMEOUTS, Balancer, Endpoint, parse_endpoints


def anywhere(_: int) -> bool:
    """All have room."""
    return True


# -- how they are written -------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "expected", "text"),
    [
        (("h", 1), Endpoint("tcp", "h", 1), "h:1"),
        ("h:1", Endpoint("tcp", "h", 1), "h:1"),
        ("[::1]:9090", Endpoint("tcp", "::1", 9090), "[::1]:9090"),
        (("::1", 9090), Endpoint("tcp", "::1", 9090), "[::1]:9090"),
        ("tcp://h:1", Endpoint("tcp", "h", 1), "h:1"),
        ("tls://h:1", Endpoint("tls", "h", 1), "tls://h:1"),
        ("unix:/run/x", Endpoint("unix", path="/run/x"), "unix:/run/x"),
        ("unix:///run/x", Endpoint("unix", path="/run/x"), "unix:/run/x"),
        ("http://h", Endpoint("http", "h", 80, "/"), "http://h:80/"),
        ("http://h:8080/a?b=c", Endpoint("http", "h", 8080, "/a?b=c"), "http://h:8080/a?b=c"),
        ("https://[::1]/a", Endpoint("https", "::1", 443, "/a"), "https://[::1]:443/a"),
    ],
)
def test_forms(given: Any, expected: Endpoint, text: str) -> None:
    """Every form is understood, and told again as users write it."""
    assert (expected,) == parse_endpoints(given)
    assert (expected,) == parse_endpoints([given])
    assert text == str(expected)
    assert (expected,) == parse_endpoints(expected)


def test_path_and_tls() -> None:
    """With a path it is HTTP, with TLS the secure kind of either; a URL says for itself."""
    assert (Endpoint("http", "h", 1, "/a"),) == parse_endpoints(("h", 1), path="a")
    assert (Endpoint("http", "h", 1, "/"),) == parse_endpoints("h:1", path="")
    assert (Endpoint("https", "h", 1, "/a"),) == parse_endpoints(("h", 1), path="/a", tls=True)
    assert (Endpoint("tls", "h", 1),) == parse_endpoints(("h", 1), tls=True)
    assert (Endpoint("http", "h", 80, "/a"),) == parse_endpoints("http://h/", path="/a")
    assert (Endpoint("http", "h", 80, "/b"),) == parse_endpoints("http://h/b", path="/a")
    assert (Endpoint("unix", path="/x"),) == parse_endpoints("unix:/x", tls=True)


def test_several() -> None:
    """A list has some, of whichever form."""
    assert ["h:1", "unix:/x"] == [str(each) for each in parse_endpoints([("h", 1), "unix:/x"])]
    assert ["a:1", "b:2"] == [str(each) for each in parse_endpoints(("a:1", "b:2"))]


@pytest.mark.parametrize(
    "wrong",
    [
        "h",
        "h:port",
        "h:99999",
        ":1",
        ("h", 0),
        ("", 1),
        "ftp://h:1",
        "http://",
        "http://user:word@h/",
        "tcp://h:1/path",
        "unix:x",
        "unix:",
        [],
        3,
        None,
        [("h", "1")],
    ],
)
def test_wrong_forms(wrong: Any) -> None:
    """Anything else is refused, with the value and all forms there are."""
    with pytest.raises(OptionError, match=r"no endpoint: .*give \(host, port\), 'host:port'"):
        parse_endpoints(wrong)


def test_no_http_over_unix() -> None:
    """HTTP has a host and a port."""
    with pytest.raises(OptionError, match="needs a host and a port"):
        parse_endpoints("unix:/x", path="/")


# -- which is next --------------------------------------------------------------------------------
class Clock:
    """A time that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def made(count: int, primary_first: bool = False) -> tuple[Balancer, Clock]:
    """A balancer of so many endpoints."""
    clock = Clock()
    endpoints = [Endpoint("tcp", "h", each + 1) for each in range(count)]
    return Balancer(endpoints, primary_first, clock), clock


def picks(balancer: Balancer, count: int) -> list[int]:
    """The next so many."""
    return [balancer.pick((), anywhere) for _ in range(count)]


def test_turns() -> None:
    """They take turns, or the first has all."""
    assert [0, 1, 2, 0, 1] == picks(made(3)[0], 5)
    assert [0, 0, 0] == picks(made(3, primary_first=True)[0], 3)


def test_a_failing_one_is_left_alone() -> None:
    """While it is left alone the others have its turns; one call tries it when that is over."""
    balancer, clock = made(2, primary_first=True)
    balancer.failed(0)
    assert [1, 1] == picks(balancer, 2)
    clock.now += ALONE.first
    assert [0, 1, 1] == picks(balancer, 3)
    balancer.succeeded(0)
    assert [0, 0] == picks(balancer, 2)


def test_it_is_left_alone_for_longer_each_time() -> None:
    """The time doubles with each failure in a row, up to a limit."""
    balancer, clock = made(2, primary_first=True)
    for _ in range(40):
        balancer.failed(0)
    clock.now += ALONE.last / 2 - 0.1
    assert [1] == picks(balancer, 1)
    clock.now += ALONE.last / 2 + 0.1
    assert [0] == picks(balancer, 1)


def test_when_all_fail() -> None:
    """Then the one is tried whose time is over first; none is refused its only chance."""
    balancer, clock = made(2)
    balancer.failed(1)
    clock.now += ALONE.first
    balancer.failed(0)
    balancer.failed(0)
    balancer.failed(0)
    assert 1 == balancer.pick((), anywhere)
    alone, _ = made(1)
    alone.failed(0)
    assert [0, 0] == picks(alone, 2)


def test_timeouts_in_a_row() -> None:
    """Some calls in a row without an answer count as a failure; an answer between wipes them."""
    balancer, _ = made(2, primary_first=True)
    for _ in range(TIMEOUTS - 1):
        balancer.timed_out(0)
    balancer.succeeded(0)
    for _ in range(TIMEOUTS - 1):
        balancer.timed_out(0)
    assert [0] == picks(balancer, 1)
    balancer.timed_out(0)
    assert [1] == picks(balancer, 1)


def test_not_the_ones_that_were_tried() -> None:
    """Within a call another one is preferred, even one that fails."""
    balancer, _ = made(2, primary_first=True)
    balancer.failed(1)
    assert 1 == balancer.pick({0}, anywhere)
    assert 0 == balancer.pick({0, 1}, anywhere)


def test_one_with_room() -> None:
    """Of those whose turn it could be, one with a free connection; a primary keeps its calls."""
    balancer, _ = made(3)
    assert [2, 2] == [balancer.pick((), lambda each: each == 2) for _ in range(2)]
    assert 1 == balancer.pick((), lambda _: False)
    primary, _ = made(2, primary_first=True)
    assert 0 == primary.pick((), lambda each: each == 1)

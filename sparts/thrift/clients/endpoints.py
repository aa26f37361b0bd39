"""Where the servers of a client are, how that is written, and which of them is asked next."""

import itertools
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from sparts.errors import OptionError
from sparts.thrift.clients.forks import renew_in_child
from sparts.thrift.clients.retry import Backoff

__all__ = ["Balancer", "Endpoint", "parse_endpoints"]

#: How long an endpoint that fails is left alone while there are others, in seconds.
ALONE: Final = Backoff(0.25, 30.0)
#: After so many calls in a row that got no answer in time an endpoint counts as failing.
TIMEOUTS: Final = 3
_FORMS: Final = (
    "give (host, port), 'host:port', 'tls://host:port', 'unix:/path' or 'http://host:port/path'"
)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server's address."""

    #: ``tcp``, ``tls``, ``unix``, ``http`` or ``https``.
    scheme: str
    host: str = ""
    port: int = 0
    #: The file of a unix socket, or what a URL has after the port.
    path: str = ""

    @property
    def is_http(self) -> bool:
        """Whether messages go in HTTP requests."""
        return self.scheme in _DEFAULT_PORTS

    @property
    def is_secure(self) -> bool:
        """Whether its scheme asks for TLS."""
        return self.scheme in ("tls", "https")

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.path}"
        address = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        return address if self.scheme == "tcp" else f"{self.scheme}://{address}{self.path}"


def parse_endpoints(given: Any, path: str | None = None, tls: bool = False) -> tuple[Endpoint, ...]:
    """The endpoints that *given* stands for: one, or a list of some, each in one of the forms.

    With *path*, those without a scheme are asked by HTTP there; with *tls*, by TLS.

    :raises OptionError: one is in none of the forms, or there is none.
    """
    if isinstance(given, str | Endpoint) or _is_pair(given):
        given = [given]
    if not isinstance(given, Iterable) or not (each := list(given)):
        raise OptionError(f"no endpoint: {given!r}; {_FORMS}, or a list of them")
    return tuple(_parse(one, path, tls) for one in each)


def _is_pair(given: Any) -> bool:
    return (
        isinstance(given, Sequence)
        and len(given) == 2
        and isinstance(given[0], str)
        and isinstance(given[1], int)
    )


def _parse(given: Any, path: str | None, tls: bool) -> Endpoint:
    if isinstance(given, Endpoint):
        return given
    if _is_pair(given):
        return _plain(given[0], given[1], path, tls, given)
    if not isinstance(given, str):
        raise OptionError(f"no endpoint: {given!r}; {_FORMS}")
    if given.startswith("unix:"):
        return _unix(given, path)
    if "://" in given:
        return _url(given, path, tls)
    return _url(f"tcp://{given}", path, tls, given)


def _unix(given: str, path: str | None) -> Endpoint:
    file = given.removeprefix("unix:").removeprefix("//")
    if not file.startswith("/") or path is not None:
        what = "HTTP (path) needs a host and a port" if path is not None else "no full path"
        raise OptionError(f"no endpoint: {given!r}; {what}; {_FORMS}")
    return Endpoint("unix", path=file)


def _url(url: str, path: str | None, tls: bool, given: str | None = None) -> Endpoint:
    given = given or url
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:  # the port is no number, or no port
        raise OptionError(f"no endpoint: {given!r} ({error}); {_FORMS}") from None
    scheme = parts.scheme
    if scheme in _DEFAULT_PORTS and host and parts.username is None:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        if target in ("", "/"):
            target = _target(path)
        return Endpoint(scheme, host, port or _DEFAULT_PORTS[scheme], target)
    if scheme not in ("tcp", "tls") or port is None or parts.username or parts.path or parts.query:
        raise OptionError(f"no endpoint: {given!r}; {_FORMS}")
    return _plain(host, port, path, tls or scheme == "tls", given)


def _plain(host: str, port: int, path: str | None, tls: bool, given: Any) -> Endpoint:
    if not host or not 0 < port < 65536:
        raise OptionError(f"no endpoint: {given!r}; a host and a port of 1 to 65535; {_FORMS}")
    if path is None:
        return Endpoint("tls" if tls else "tcp", host, port)
    return Endpoint("https" if tls else "http", host, port, _target(path))


def _target(path: str | None) -> str:
    return "/" + (path or "").removeprefix("/")


# -- choosing -------------------------------------------------------------------------------------
@dataclass(slots=True)
class _Health:
    failures: int = 0
    timeouts: int = 0
    #: The time of the clock until which it is left alone.
    until: float = 0.0


class Balancer:
    """Chooses among *endpoints*, by turns or the first that works; safe to share between threads.

    One that fails is left alone for a while, which doubles with each failure, as long as there is
    another. When its time has come one call tries it, and the others wait for how that ends.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        primary_first: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """With *primary_first* a later endpoint is asked only while all before it fail."""
        self.endpoints = tuple(endpoints)
        self._primary_first = primary_first
        self._clock = clock
        self._turns = itertools.count()
        self._health = [_Health() for _ in self.endpoints]
        #: Whether none fails, so that there is nothing to weigh.
        self._all_well = True
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Another thread of the parent may have held the lock."""
        self._lock = threading.Lock()

    def pick(self, tried: Collection[int], has_room: Callable[[int], bool]) -> int:
        """The index of the endpoint to ask, not one that was *tried* if there is another.

        By turns, one that *has_room()* comes before one that has not.
        """
        if self._all_well and not tried:
            turn = 0 if self._primary_first else next(self._turns) % len(self._health)
            if self._primary_first or has_room(turn):
                return turn
        now = self._clock()
        with self._lock:
            order = self._order(tried)
            ready = [each for each in order if self._health[each].until <= now]
            if not ready:
                chosen = min(order, key=lambda each: self._health[each].until)
            elif self._primary_first:
                chosen = ready[0]
            else:
                chosen = next(filter(has_room, ready), ready[0])
            health = self._health[chosen]
            if health.failures:
                health.until = now + ALONE.delay(health.failures)
            return chosen

    def _order(self, tried: Collection[int]) -> list[int]:
        count = len(self.endpoints)
        start = 0 if self._primary_first else next(self._turns)
        order = [(start + each) % count for each in range(count)]
        return [each for each in order if each not in tried] or order

    def failed(self, index: int) -> None:
        """It refused a connection, lost one, or answered nonsense."""
        with self._lock:
            health = self._health[index]
            health.failures += 1
            self._all_well = False
            health.until = self._clock() + ALONE.delay(health.failures)

    def timed_out(self, index: int) -> None:
        """A call got no answer in time, which may be the call's own fault."""
        with self._lock:
            health = self._health[index]
            health.timeouts += 1
            if health.timeouts < TIMEOUTS:
                return
        self.failed(index)

    def succeeded(self, index: int) -> None:
        """It answered; cheap when that is no news."""
        health = self._health[index]
        if health.failures or health.timeouts:
            with self._lock:
                self._health[index] = _Health()
                self._all_well = not any(each.failures for each in self._health)

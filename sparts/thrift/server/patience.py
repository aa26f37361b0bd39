"""How long a connection may be at what it is at: one timer for all of them, at the earliest end."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from sparts.net.listener import Timer
from sparts.thrift.limits import Limits
from sparts.thrift.server.connection import Connection, Phase

__all__ = ["Patience"]

#: Seconds that an idle connection has, at a stop, for a call that is on its way already.
_GRACE: Final = 0.1
#: Seconds that a client has to close once it was told that nothing more comes.
_PARTING: Final = 1.0
#: Seconds between two looks, at least.
_COARSE: Final = 0.05


class Patience:
    """Tells which connections have used up their time; :meth:`watch` apart, for the leader."""

    def __init__(
        self,
        limits: Limits,
        loop: Any,
        connections: Callable[[], Iterable[Connection]],
        is_up: Callable[[Connection], object],
    ) -> None:
        """*is_up(connection)* is called when the time of one of *connections()* is up."""
        self._loop = loop
        self._connections = connections
        self._is_up = is_up
        self._timer: Timer | None = None
        #: When the earliest time known is up.
        self._due = math.inf
        self._times: Mapping[Phase, float] = {
            Phase.HANDSHAKE: limits.read_timeout or math.inf,
            Phase.NEW: limits.idle_timeout or math.inf,
            Phase.IDLE: limits.idle_timeout or math.inf,
            Phase.READING: limits.read_timeout or math.inf,
            Phase.WRITING: limits.write_timeout or math.inf,
            Phase.BUSY: math.inf,
            Phase.LEAVING: _PARTING,
        }

    def watch(self, connection: Connection) -> None:
        """*connection* begins a phase; from any thread."""
        due = connection.since + self._times[connection.phase]
        if due < self._due:
            self._due = due
            self._loop.post(self._arm)

    def end_soon(self) -> None:
        """From now on, those that are idle have only a moment left."""
        self._times = {**self._times, Phase.NEW: _GRACE, Phase.IDLE: _GRACE}
        self._look()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(_COARSE, self._due - self._loop.now), self._look)

    def _look(self) -> None:
        self._due = math.inf
        now = self._loop.now
        for connection in tuple(self._connections()):
            due = connection.since + self._times[connection.phase]
            if due <= now:
                self._is_up(connection)
            elif due < self._due:
                self._due = due
        if self._due < math.inf:
            self._arm()

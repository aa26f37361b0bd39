"""Connections that are kept for the next call: at most so many, none idle for too long."""

import threading
import time
from collections import deque
from typing import Final, Generic, Protocol, TypeVar

from sparts.thrift.clients.forks import renew_in_child
from sparts.thrift.errors import ClientClosed, PoolExhausted

__all__ = ["CLOSED", "Pool", "Pooled", "exhausted"]

#: The message of the error of a closed client.
CLOSED: Final = "the client is closed; make a new one"


class Pooled(Protocol):
    """A connection, as the pool sees it."""

    #: When its last call ended, a time of ``time.monotonic()``.
    last_used: float

    def is_quiet(self) -> bool:
        """Whether it can take a call: it was not closed meanwhile, and nothing waits in it."""

    def close(self) -> None:
        """Close it."""


C = TypeVar("C", bound=Pooled)


def exhausted(endpoint: object, limit: int) -> PoolExhausted:
    """The error of a call for which no connection became free."""
    return PoolExhausted(
        f"all {limit} connections to {endpoint} were in use until the call's deadline; allow more "
        "(max_connections), or make fewer calls at once"
    )


class _Ticket(Generic[C]):
    """One thread's place in the queue."""

    def __init__(self) -> None:
        self.served = threading.Event()
        self.connection: C | None = None
        self.closed = False


class Pool(Generic[C]):
    """The connections to one endpoint, safe to share between threads; it does not make them.

    Who takes one gives or drops it. The one used last is taken first, so those that are too many
    grow old and are closed by the calls of others: no thread watches over them.
    """

    def __init__(self, endpoint: object, limit: int, idle_timeout: float) -> None:
        """At most *limit* connections, each unused for at most *idle_timeout* seconds."""
        self._endpoint = endpoint
        self._limit = limit
        self._idle_timeout = idle_timeout
        self._idle: deque[C] = deque()
        #: All that are open, in use or not; for a child of a fork, which must close its copies.
        self._open: set[C] = set()
        self._closed = False
        self._renew()
        renew_in_child(self)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._tickets: deque[_Ticket[C]] = deque()
        #: How many connections there are, idle, in use, or being made.
        self._made = 0

    def after_fork(self) -> None:
        """Leave the parent its connections: to close our copies does not end them."""
        self._renew()
        self._idle.clear()
        while self._open:
            self._open.pop().close()

    @property
    def size(self) -> int:
        """How many connections there are, in use or not."""
        return self._made

    @property
    def has_room(self) -> bool:
        """Whether a call would get a connection at once."""
        return bool(self._idle) or self._made < self._limit

    # -- taking -----------------------------------------------------------------------------------
    def take(self, now: float, deadline: float) -> C | None:
        """A connection that can be used; None: make a new one, whose place is reserved.

        *now* is the present time and *deadline* the one until which to wait, on the clock
        ``time.monotonic()``.

        :raises PoolExhausted: none became free until then.
        :raises ClientClosed: the pool is closed, or was while this waited.
        """
        try:
            # A lock would cost more than all the rest of this; deques need none.
            connection: C | None = self._idle.pop()
        except IndexError:
            connection = self._queue_for_one(deadline)
            if connection is None:
                return None
        assert connection is not None
        if self._idle:
            self._shrink(now - self._idle_timeout)
        if connection.last_used < now - self._idle_timeout or not connection.is_quiet():
            self._discard(connection)
            return None
        return connection

    def adopt(self, connection: C) -> C:
        """Know of *connection*, which was made in the place that :meth:`take` reserved."""
        self._open.add(connection)
        return connection

    def _discard(self, connection: C) -> None:
        self._open.discard(connection)
        connection.close()

    def _queue_for_one(self, deadline: float) -> C | None:
        with self._lock:
            if self._closed:
                raise ClientClosed(CLOSED)
            if self._idle:
                return self._idle.pop()
            if self._made < self._limit:
                self._made += 1
                return None
            ticket: _Ticket[C] = _Ticket()
            self._tickets.append(ticket)
            # One may have come back before the ticket could be seen.
            self._serve()
        try:
            self._wait(ticket, deadline)
        except BaseException:
            self._withdraw(ticket)
            raise
        if ticket.closed:
            raise ClientClosed(CLOSED)
        return ticket.connection

    def _wait(self, ticket: _Ticket[C], deadline: float) -> None:
        left = min(deadline - time.monotonic(), threading.TIMEOUT_MAX)
        if ticket.served.wait(max(left, 0.0)):
            return
        raise exhausted(self._endpoint, self._limit)

    def _withdraw(self, ticket: _Ticket[C]) -> None:
        with self._lock:
            if ticket in self._tickets:
                self._tickets.remove(ticket)
                return
        # It was served at the last moment; pass that on.
        if ticket.connection is not None:
            self.give(ticket.connection)
        elif not ticket.closed:
            self.drop(None)

    def _shrink(self, oldest: float) -> None:
        """Close what was last used before *oldest*."""
        while True:
            try:
                if self._idle[0].last_used >= oldest:
                    return
                connection = self._idle.popleft()
            except IndexError:
                return
            # Should another thread have been first, it is a younger one, which is no loss.
            self.drop(connection)

    # -- giving back ------------------------------------------------------------------------------
    def give(self, connection: C) -> None:
        """Take *connection* back for the next call."""
        connection.last_used = time.monotonic()
        # In this order: who queues looks for an idle one after its ticket can be seen.
        self._idle.append(connection)
        if self._tickets or self._closed:
            with self._lock:
                self._serve()
            if self._closed:
                self.close()

    def drop(self, connection: C | None) -> None:
        """Close *connection*; None: give up the place for one that could not be made."""
        if connection is not None:
            self._discard(connection)
        with self._lock:
            self._made -= 1
            self._serve()

    def _serve(self) -> None:
        """Give those who wait what is there, the first one first; under the lock."""
        while self._tickets:
            connection: C | None = None
            try:
                connection = self._idle.pop()
            except IndexError:
                if self._made >= self._limit:
                    return
                self._made += 1
            ticket = self._tickets.popleft()
            ticket.connection = connection
            ticket.served.set()

    def close(self) -> None:
        """Close the idle connections and wake who waits; the others are closed as they come back.

        More than once is fine.
        """
        with self._lock:
            self._closed = True
            tickets, self._tickets = self._tickets, deque()
        for ticket in tickets:
            ticket.closed = True
            ticket.served.set()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            self.drop(connection)

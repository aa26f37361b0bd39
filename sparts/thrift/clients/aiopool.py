"""The asyncio client's pool: as the threads' one, but in one loop, and with a timer."""

import asyncio
import contextlib
import time
from collections import deque
from typing import Any

from sparts.thrift.clients.aioconnection import AsyncConnection
from sparts.thrift.clients.pool import CLOSED
from sparts.thrift.errors import ClientClosed

__all__ = ["AsyncPool"]


class AsyncPool:
    """The connections to one endpoint, in one loop; it does not make them.

    Who takes one gives or drops it. The one used last is taken first; a timer closes those that
    are idle for too long, and is only there while there is an idle one.
    """

    def __init__(self, limit: int, idle_timeout: float) -> None:
        """At most *limit* connections, each unused for at most *idle_timeout* seconds."""
        self._limit = limit
        self._idle_timeout = idle_timeout
        self._idle: deque[AsyncConnection] = deque()
        self._waiting: deque[asyncio.Future[AsyncConnection | None]] = deque()
        self._made = 0
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._closing: set[AsyncConnection] = set()

    @property
    def size(self) -> int:
        """How many connections there are, in use or not."""
        return self._made

    @property
    def has_room(self) -> bool:
        """Whether a call would get a connection at once."""
        return bool(self._idle) or self._made < self._limit

    async def take(self) -> AsyncConnection | None:
        """A connection that can be used; None: make a new one, whose place is reserved.

        :raises ClientClosed: the pool is closed, or was while this waited.
        """
        if self._closed:
            raise ClientClosed(CLOSED)
        connection: AsyncConnection | None = None
        if self._idle:
            connection = self._idle.pop()
        elif self._made < self._limit:
            self._made += 1
        else:
            connection = await self._queue_for_one()
        if connection is not None and not connection.is_quiet():
            self._discard(connection)
            return None
        return connection

    async def _queue_for_one(self) -> AsyncConnection | None:
        turn: asyncio.Future[AsyncConnection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):
                self._waiting.remove(turn)
            if not turn.cancelled() and turn.exception() is None:
                self._pass_on(turn.result())
            raise

    def _pass_on(self, connection: AsyncConnection | None) -> None:
        """Give back what came for one who was cancelled at that moment."""
        if connection is None:
            self.drop(None)
        else:
            self.give(connection)

    def give(self, connection: AsyncConnection) -> None:
        """Take *connection* back for the next call."""
        if self._closed or not connection.is_quiet():
            self.drop(connection)
            return
        connection.last_used = time.monotonic()
        self._idle.append(connection)
        self._serve()
        if self._idle and self._timer is None:
            self._start_timer()

    def drop(self, connection: AsyncConnection | None) -> None:
        """Close *connection*; None: give up the place for one that could not be made."""
        if connection is not None:
            self._discard(connection)
        self._made -= 1
        self._serve()

    def _discard(self, connection: AsyncConnection) -> None:
        connection.close()
        if not connection.lost.done():
            self._closing.add(connection)
            connection.lost.add_done_callback(lambda _: self._closing.discard(connection))

    def _serve(self) -> None:
        """Give those who wait what is there, the first one first."""
        while self._waiting and self.has_room:
            turn = self._waiting.popleft()
            if turn.done():  # cancelled, and not woken yet to leave the queue
                continue
            connection: AsyncConnection | None = None
            if self._idle:
                connection = self._idle.pop()
            else:
                self._made += 1
            turn.set_result(connection)

    # -- the end of the idle ----------------------------------------------------------------------
    def _start_timer(self) -> None:
        if self._idle_timeout == float("inf"):
            return
        left = self._idle[0].last_used + self._idle_timeout - time.monotonic()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(left, 0.001), self._close_idle)

    def _close_idle(self) -> None:
        self._timer = None
        oldest = time.monotonic() - self._idle_timeout
        while self._idle and self._idle[0].last_used <= oldest:
            self.drop(self._idle.popleft())
        if self._idle:
            self._start_timer()

    async def close(self) -> None:
        """Close the idle connections and wake who waits; the others are closed as they come back.

        It waits for the sockets to be closed; more than once is fine.
        """
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting: deque[asyncio.Future[Any]] = self._waiting
        for turn in waiting:
            if not turn.done():
                turn.set_exception(ClientClosed(CLOSED))
        waiting.clear()
        while self._idle:
            self.drop(self._idle.pop())
        for connection in tuple(self._closing):
            await connection.closed()

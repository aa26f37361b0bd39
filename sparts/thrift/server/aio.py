"""Serves ``async def`` handlers on an asyncio loop, where the connections are too: no hand-over.

It is the engine's other half: the same connections, limits and codecs, driven by asyncio instead
of by threads that lead in turn. Calls of one connection run at the same time, up to a limit, and
are answered in the order in which they came.
"""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from sparts.thrift.server.aiopoller import AsyncioPoller
from sparts.thrift.server.calls import Call, Target, count_recent
from sparts.thrift.server.connection import AGAIN, TURNS, Connection, Phase
from sparts.thrift.server.dispatch import Dispatcher
from sparts.thrift.server.gate import Gate
from sparts.thrift.server.runners import Pending, Runners
from sparts.thrift.server.shortcut import on_a_loop

__all__ = ["AsyncioEngine"]

#: A name of this module is found faster, in what is done for every call.
_IDLE: Final = Phase.IDLE


class AsyncioEngine:
    """Serves the calls of a :class:`Dispatcher` on an asyncio loop, all in its thread."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        logger: logging.Logger,
        loop: asyncio.AbstractEventLoop,
        tls: ssl.SSLContext | None = None,
        ended: Callable[[], object] = bool,
    ) -> None:
        """*ended()* is called when a drain is over."""
        self._dispatcher = dispatcher
        self._limits = dispatcher.limits
        self._loop = loop
        self._poller = AsyncioPoller(loop, self._serve, self._served)
        self.gate = Gate(dispatcher, self._poller, logger, tls, self._go_on, self._end)
        self._tell_end = ended
        self._runners = Runners(loop)
        #: Methods of which calls are to be counted.
        self._timed: list[Target] = []
        self._shortcut = on_a_loop(dispatcher, self._runners, self.gate, self._pend, self._timed)
        #: Calls under way.
        self.load = 0

    def open(self, sockets: Iterable[socket.socket]) -> None:
        """Serve clients of *sockets*, which listen and are non-blocking."""
        self._runners.prepare()
        self.gate.open(sockets)

    def drain(self, timeout: float) -> None:
        """End: let nobody in, answer what is under way, part with all, in *timeout* seconds."""
        self.gate.drain(timeout)

    def abandon(self) -> None:
        """End at once, closing all connections."""
        self.gate.abandon()

    def discard(self) -> None:
        """Let go of an engine that was never opened."""
        self._poller.close()

    def _end(self) -> None:
        self._runners.end()
        self._poller.close()
        self._tell_end()

    def _served(self) -> None:
        if self._timed:
            count_recent(self._timed)

    # -- one connection ---------------------------------------------------------------------------
    def _serve(self, fd: int) -> None:
        """See to a ready connection."""
        connection = self.gate.connections.get(fd)
        if connection is None:
            return
        phase = connection.phase
        if phase is _IDLE:
            self._read(connection)
        elif phase is Phase.WRITING:
            if self.gate.flush(connection):
                self._answer(connection)
        elif phase is Phase.LEAVING:
            self.gate.leave(connection)
        elif phase is not Phase.HANDSHAKE or self.gate.shake_hands(connection):
            self._read(connection)
            if phase <= Phase.NEW:
                connection.recognise()

    def _read(self, connection: Connection) -> None:
        while True:
            try:
                data = connection.recv(connection.appetite)
            except AGAIN:
                return
            except OSError:
                data = b""
            if not data:
                self._end_of_stream(connection)
                return
            if (
                connection.is_framed
                and connection.phase is _IDLE
                and self._shortcut is not None
                and self._shortcut(connection, data, self._poller.now) is not None
            ):
                if connection.calls:
                    self._settle(connection)
                if connection.is_tls and connection.more_is_there() and connection.mask:
                    continue
                return
            self.gate.feed(connection, data)
            self._advance(connection)
            if not (connection.more_is_there() and connection.mask):
                return

    def _end_of_stream(self, connection: Connection) -> None:
        """No more calls come; what is under way is answered all the same."""
        if connection.calls:
            self.gate.drop(connection)
            connection.parting = True
        else:
            self.gate.close(connection)

    def _advance(self, connection: Connection) -> None:
        """Begin the calls that are there, and answer those that are done."""
        gate, calls = self.gate, connection.calls
        for _ in range(TURNS):
            if len(calls) >= self._limits.max_pipelined:
                break
            call = gate.next_call(connection)
            if call is None:
                break
            payload = self._begin(connection, call)
            if payload is None:
                continue
            if calls:
                calls.append(_Slot(self, connection, call, payload))
            elif payload and not gate.answer(connection, call, payload):
                break
        else:  # the others are to have theirs
            gate.drop(connection)
            connection.phase = _IDLE
            self._go_on(connection)
            return
        self._settle(connection)

    def _go_on(self, connection: Connection) -> None:
        """Serve what a connection has already in the loop's next turn."""
        self._poller.post(lambda: self._advance(connection))

    def _begin(self, connection: Connection, call: Call) -> bytes | None:
        """The answer, if it is there at once; else the call stands last among those under way."""
        target = call.target
        if not target.is_spawned:
            return self._dispatcher.run(call)
        if self.load >= self._limits.max_calls:
            return self._dispatcher.overloaded(call, f"{self.load} calls are under way")
        try:
            work = (
                target.invoke(call.args)
                if target.is_async
                else asyncio.to_thread(target.invoke, call.args)
            )
            value = self._runners.begin(work, call.client)
        except BaseException as error:
            return self._dispatcher.answer(call, None, error)
        if isinstance(value, Pending):
            self._pend(connection, call, value)
            return None
        return self._dispatcher.answer(call, value, None)

    def _pend(self, connection: Connection, call: Call, pending: Pending) -> None:
        """*call* goes on: it stands last among those of *connection* that are under way."""
        slot = _Slot(self, connection, call)
        pending.done = slot.done
        self.load += 1
        call.target.counters.pending.add(call)
        connection.calls.append(slot)

    def result(self, call: Call, value: Any, error: BaseException | None) -> bytes:
        """The answer to *call*, which has ended."""
        return self._dispatcher.answer(call, value, error)

    def ended(self, slot: "_Slot") -> None:
        """A call that was under way has its answer."""
        self.load -= 1
        slot.call.target.counters.pending.discard(slot.call)
        self._poller.now = time.monotonic()
        if slot.connection.phase is not Phase.WRITING:
            self._answer(slot.connection)

    def _answer(self, connection: Connection) -> None:
        """Send the answers that are there, in the order of their calls; then go on."""
        calls = connection.calls
        while calls:
            slot: _Slot = calls[0]
            if slot.answer is None:
                break
            calls.popleft()
            if slot.answer and not self.gate.answer(connection, slot.call, slot.answer):
                self._settle(connection)
                return
        if connection.phase is Phase.BUSY and self.gate.has(connection):
            connection.phase = Phase.IDLE
        self._advance(connection)

    def _settle(self, connection: Connection) -> None:
        """Wait for what is next: to write, for a call under way, or for another one."""
        if connection.phase is Phase.WRITING or not connection.calls:
            self.gate.settle(connection, self._poller.now)
        elif len(connection.calls) >= self._limits.max_pipelined or connection.parting:
            self.gate.drop(connection)
        else:
            self.gate.keep_busy(connection)


class _Slot:
    """The place of one call among those of its connection that are under way."""

    __slots__ = ("_engine", "answer", "call", "connection")

    def __init__(
        self,
        engine: AsyncioEngine,
        connection: Connection,
        call: Call,
        answer: bytes | None = None,
    ) -> None:
        self._engine = engine
        self.connection = connection
        self.call = call
        #: None: it is still under way.
        self.answer = answer

    def done(self, value: Any, error: BaseException | None) -> None:
        """Take what came of the call."""
        self.answer = self._engine.result(self.call, value, error)
        self._engine.ended(self)

"""Serves Thrift on sockets, as fast as Python can: quick handlers inline, slow ones in threads.

One thread at a time, the leader, waits for all connections by epoll, reads, runs the handler and
writes the answer, with no hand-over to another thread. A method that was seen to block is given
the thread that it is in: before such a call the leader passes the loop on to another and becomes
its worker. :mod:`sparts.thrift.server.crew` has how a method is seen to block. So with N+1 threads
N calls may block at once while quick ones go on. With a single thread all is run inline.

Each connection has one call at a time; while it is under way nothing more is read of it. So the
calls of a connection are run and answered in order, and a client that does not read its answers is
not read from.
"""

import logging
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from sparts.thrift.server.calls import Call, Target, count_recent
from sparts.thrift.server.connection import AGAIN, TURNS, Connection, Phase
from sparts.thrift.server.crew import Crew
from sparts.thrift.server.dispatch import Dispatcher
from sparts.thrift.server.gate import Gate
from sparts.thrift.server.loop import Loop
from sparts.thrift.server.shortcut import PROOF, SERVED, with_threads
from sparts.thrift.server.workload import Work, Workload

__all__ = ["Engine"]

#: A name of this module is found faster, in what is done for every call.
_IDLE: Final = Phase.IDLE
_READING: Final = Phase.READING
#: Seconds that a quick call takes at most.
_QUICK: Final = 0.0001
#: Seconds that the leader keeps a single CPU from workers that compute.
_SHARE: Final = 0.001

#: Runs a call of an ``async def`` handler and, from any thread, tells the answer.
Spawn = Callable[[Call, Callable[[bytes], None]], None]


class Engine:
    """Serves the calls of a :class:`Dispatcher` on listening sockets.

    ``run`` is called by each of ``threads + 1`` threads, or by one where *threads* is 0.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        logger: logging.Logger,
        threads: int = 10,
        tls: ssl.SSLContext | None = None,
        spawn: Spawn | None = None,
    ) -> None:
        """*threads* plain handlers may block at once; 0: they run inline. *spawn* is for those that
        are ``async def`` or need a thread beside."""
        self._dispatcher = dispatcher
        self._limits = dispatcher.limits
        self.threads = threads
        self._spawn = spawn
        self._crew = Crew(self._taken_over)
        self._loop = Loop()
        #: Connections that have messages which nobody has looked at yet.
        self._ready: list[Connection] = []
        self.gate = Gate(dispatcher, self._loop, logger, tls, self._go_on, bool)
        #: Methods of which calls are to be counted.
        self._timed: list[Target] = []
        self._shortcut = with_threads(dispatcher, self._crew, self.gate, threads > 0, self._timed)
        self._workload = Workload(self._crew, self._loop, self._limits.queue_timeout, self._refuse)
        #: Answers to spawned calls, for the leader to send.
        self._done: deque[tuple[Connection, Call, bytes]] = deque()
        self._yielded = 0.0
        self._one_cpu = bool(threads) and _has_one_cpu()

    def open(self, sockets: Iterable[socket.socket]) -> None:
        """Serve clients of *sockets*, which listen and are non-blocking; before ``run``."""
        self.gate.open(sockets)

    def drain(self, timeout: float) -> None:
        """End: let nobody in, answer what is under way, part with all, at most *timeout* seconds.

        From any thread; ``run`` returns when it is done.
        """
        self._loop.post(lambda: self.gate.drain(timeout))

    def abandon(self) -> None:
        """End at once, closing all connections; from any thread."""
        self._loop.post(self.gate.abandon)

    def discard(self) -> None:
        """Let go of all that it holds, once no thread runs it any more, whyever that is."""
        self.gate.close_all()
        self._loop.close()

    @property
    def load(self) -> int:
        """Calls that wait for a worker, have one or are spawned."""
        return self._workload.load

    # -- the threads ------------------------------------------------------------------------------
    def run(self) -> None:
        """Be one of the threads; returns when the engine has ended."""
        try:
            while self._crew.stand_by(self._workload.stands_by) and self._lead():
                pass
        except BaseException:
            # Nobody ends what this thread had in hand; whoever leads, if anyone still does, is not
            # to wait for it.
            self.abandon()
            raise
        finally:
            self._crew.dismiss()

    def _go_on(self, connection: Connection) -> None:
        self._ready.append(connection)
        self._loop.post(_nothing)

    def _taken_over(self, connection: Connection) -> None:
        """The leader is stuck in a call: remember its method, leave it the connection."""
        target = connection.target
        if target is not None:
            target.blocks, target.streak = True, 0
            self._let_go(connection, target)
            self._workload.begin()

    def _let_go(self, connection: Connection, target: Target) -> None:
        """The loop has nothing to do with *connection*, while a call of it is under way."""
        self.gate.drop(connection)
        target.counters.pending.add(connection)

    def _lead(self) -> bool:
        """Run the loop; True when it was passed on or taken, False at the end of all."""
        loop, crew, gate = self._loop, self._crew, self.gate
        connections, ready, done = gate.connections, self._ready, self._done
        timed = self._timed
        while not gate.ended:
            if timed:  # also by a leader before this one
                count_recent(timed)
            events = loop.wait()
            crew.attend()
            for fd, _ in events:
                connection = connections.get(fd)
                if connection is None:
                    loop.special(fd)
                elif not self._serve(connection):
                    return True
            loop.run_due()
            while done:
                self._answer_spawned(*done.popleft())
            while ready:
                if not self._advance(ready.pop(), True):
                    return True
            work = self._workload.employ()
            if work is not None:
                self._work(*work)
                return True
            if self._one_cpu and self._workload.busy and loop.now - self._yielded > _SHARE:
                self._yielded = loop.now
                time.sleep(0)  # gives the CPU to a worker, and waits for nothing
        self._crew.dismiss()
        self._loop.close()
        return False

    # -- one connection ---------------------------------------------------------------------------
    def _serve(self, connection: Connection) -> bool:
        """See to a ready connection; False when this thread no longer leads."""
        phase = connection.phase
        if phase is _IDLE or phase is _READING:
            return self._read(connection)
        if phase is Phase.WRITING:
            return not self.gate.flush(connection) or self._advance(connection, True)
        if phase is Phase.LEAVING:
            self.gate.leave(connection)
        if phase > Phase.WRITING:
            return True
        if phase is Phase.HANDSHAKE and not self.gate.shake_hands(connection):
            return True
        leads = self._read(connection)
        if leads:
            connection.recognise()
        return leads

    def _read(self, connection: Connection) -> bool:
        while True:
            try:
                data = connection.recv(connection.appetite)
            except AGAIN:
                return True
            except OSError:
                data = b""
            if not data:
                self.gate.close(connection)
                return True
            if connection.phase is _IDLE and self._shortcut is not None and connection.is_framed:
                rest = self._shortcut(connection, data, self._loop.now)
                if rest is SERVED:
                    if not connection.is_tls or connection.phase is not _IDLE:
                        return True
                    if not connection.more_is_there():
                        return True
                    continue
                if rest is not None:
                    self._crew.deposed()
                    self._work_off(connection, rest)
                    return False
            self.gate.feed(connection, data)
            if not self._advance(connection, True):
                return False
            if not connection.is_tls or not connection.more_is_there() or not connection.mask:
                return True

    def _advance(self, connection: Connection, leading: bool) -> bool:
        """Serve the messages that are there; False if this thread was leading and no longer is."""
        gate, crew, run = self.gate, self._crew, self._dispatcher.run
        careful = leading and self.threads > 0
        turns = TURNS
        while (call := gate.next_call(connection)) is not None:
            target = call.target
            if target.is_spawned:
                self._start(connection, call)
                return True
            if not careful or target.is_quick:
                payload = run(call)
            elif target.blocks or (crew.watcher is None and target.streak < PROOF):
                return self._give_a_thread(connection, call)
            else:
                connection.target = target
                crew.claims[0] = connection
                payload = run(call)
                if crew.claims.pop(0, None) is None:
                    crew.deposed()
                    data = connection.framing.wrap(payload, call.message) if payload else b""
                    self._work_off(connection, data)
                    return False
                if target.streak < PROOF:
                    target.streak += 1
            if payload and not gate.answer(connection, call, payload):
                break
            if not connection.framing.buffered:
                break
            turns -= 1
            if not turns and leading:  # the others are to have theirs
                gate.drop(connection)
                connection.phase = _IDLE
                self._go_on(connection)
                return True
        gate.settle(connection, self._loop.now)
        return True

    # -- calls that block -------------------------------------------------------------------------
    def _give_a_thread(self, connection: Connection, call: Call) -> bool:
        """Become the worker of *call*, or have it wait for one; whether this thread still leads."""
        if self.load >= self._limits.max_calls:
            self._refuse(connection, call, f"{self.load} calls wait or are under way")
            return True
        self._let_go(connection, call.target)
        if not self._workload.take_on((connection, call)):
            return True
        self._work(connection, call)
        return False

    def _work(self, connection: Connection, call: Call) -> None:
        """Run *call* in this thread, then those that wait for a worker."""
        while True:
            began = time.monotonic()
            payload = self._dispatcher.run(call)
            self._learn(call.target, time.monotonic() - began)
            data = connection.framing.wrap(payload, call.message) if payload else b""
            waiting = self._hand_back(connection, call.target, data)
            if waiting is None:
                return
            connection, call = waiting

    def _work_off(self, connection: Connection, data: bytes) -> None:
        """As the worker that a deposed leader is: send the answer, then see to those that wait."""
        target = connection.target
        waiting = self._hand_back(connection, target, data) if target is not None else None
        if waiting is not None:
            self._work(*waiting)

    def _learn(self, target: Target, seconds: float) -> None:
        if seconds > _QUICK:
            target.streak = 0
        elif target.blocks:
            target.streak += 1
            target.blocks = target.streak < PROOF

    def _hand_back(self, connection: Connection, target: Target, data: bytes) -> Work | None:
        """Send the answer, serve what came behind it, and give the connection to the loop.

        :returns: a call that waits for a worker, for this one; None if there is none.
        """
        target.counters.pending.discard(connection)
        connection.phase = Phase.IDLE
        if not data or self.gate.send_some(connection, data):
            self._advance(connection, False)
        else:
            self.gate.settle(connection, self._loop.now)
        return self._workload.next()

    def _refuse(self, connection: Connection, call: Call, why: str) -> None:
        self._send_later(connection, call, self._dispatcher.overloaded(call, why))

    def _send_later(self, connection: Connection, call: Call, payload: bytes) -> None:
        """Send an answer, in the leader's thread, and have the loop go on with the connection."""
        call.target.counters.pending.discard(connection)
        self.gate.drop(connection)
        connection.phase = Phase.IDLE
        if not payload or self.gate.answer(connection, call, payload):
            self._go_on(connection)
        else:
            self.gate.settle(connection, self._loop.now)

    # -- calls that others run: those of async def handlers, and of those that need a thread -------
    def _start(self, connection: Connection, call: Call) -> None:
        if self._spawn is None:
            raise RuntimeError(
                f"{call.target.name} is not for these threads, and nobody else runs it"
            )
        if self.load >= self._limits.max_calls:
            self._refuse(connection, call, f"{self.load} calls wait or are under way")
            return
        self._let_go(connection, call.target)
        self._workload.begin()

        def done(payload: bytes) -> None:
            self._done.append((connection, call, payload))
            self._loop.post(_nothing)

        self._spawn(call, done)

    def _answer_spawned(self, connection: Connection, call: Call, payload: bytes) -> None:
        self._workload.end()
        self._send_later(connection, call, payload)


def _has_one_cpu() -> bool:
    if hasattr(os, "sched_getaffinity"):  # not everywhere
        return len(os.sched_getaffinity(0)) == 1
    return os.cpu_count() == 1


def _nothing() -> None:
    """What is posted only to wake the leader."""

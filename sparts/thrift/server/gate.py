"""Whom the engine lets in, for how long, and how they part: limits in time and number, TLS, drain.

Methods are for the thread that has the connection in hand; those that say so, for the leader.
"""

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from sparts.counters import CallbackCounter, HasCounters, counter
from sparts.net.listener import Listener
from sparts.net.tls import BadHandshake
from sparts.thrift.framing import FrameError, new_framing
from sparts.thrift.server.calls import Call, Client
from sparts.thrift.server.codec import BadMessage, Unanswerable, refusal
from sparts.thrift.server.connection import AGAIN, READ_MORE, READ_SIZE, Connection, Phase
from sparts.thrift.server.dispatch import Dispatcher
from sparts.thrift.server.loop import READ, WRITE
from sparts.thrift.server.patience import Patience

__all__ = ["Gate"]

#: A name of this module is found faster, in what is done for every call.
_IDLE: Final = Phase.IDLE
_AGAIN = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Gate(HasCounters):
    """The connections of one engine."""

    #: Connections that were let in.
    accepted = counter()
    #: Connections that were cut at a time limit.
    timed_out = counter()
    #: Messages that no codec understood, or whose method or arguments were none.
    refused = counter()
    #: Clients of a TLS port that spoke none, or none that both speak.
    failed_handshakes = counter()

    def __init__(
        self,
        dispatcher: Dispatcher,
        loop: Any,
        logger: logging.Logger,
        tls: ssl.SSLContext | None,
        go_on: Callable[[Connection], object],
        ended: Callable[[], object],
    ) -> None:
        """*loop* is a :class:`sparts.thrift.server.loop.Loop` or works like one. *go_on* serves the
        messages that a connection has already; *ended* is called when all is over."""
        self._go_on = go_on
        self._tell_end = ended
        self._dispatcher = dispatcher
        self._loop = loop
        self._logger = logger
        self._tls = tls
        limits = self._limits = dispatcher.limits
        #: By descriptor.
        self.connections: dict[int, Connection] = {}
        self.open_connections = CallbackCounter(lambda: len(self.connections))
        #: Whether all is over.
        self.ended = False
        self.draining = False
        self._patience = Patience(limits, loop, self.connections.values, self._time_is_up)
        self._held = 0
        self._holding = threading.Lock()
        self._listener = Listener(self._let_in, self._has_room, logger)

    # -- coming, in the leader's thread -----------------------------------------------------------
    def open(self, sockets: Iterable[socket.socket]) -> None:
        """Let clients in by *sockets*, which listen and are non-blocking."""
        self._listener.open(sockets, self._loop)

    def _has_room(self) -> bool:
        return len(self.connections) < self._limits.max_connections

    def _let_in(self, sock: socket.socket, address: Any) -> None:
        try:
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = Client(sock, address)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError:  # gone before it was looked at
            sock.close()
            return
        connection = Connection(sock, client, new_framing(self._limits), self._loop.now)
        self.connections[connection.fd] = connection
        self.accepted.increment()
        self._poll(connection, READ)
        self._patience.watch(connection)

    def shake_hands(self, connection: Connection) -> bool:
        """Go on with TLS; whether it is done."""
        sock = connection.sock
        try:
            sock.do_handshake()  # type: ignore[attr-defined]
        except _AGAIN as again:
            self._poll(connection, READ if isinstance(again, ssl.SSLWantReadError) else WRITE)
            return False
        except (OSError, BadHandshake) as error:
            self.failed_handshakes.increment()
            self._logger.debug("No TLS with %s: %s", connection.client.peer, error)
            self.close(connection)
            return False
        connection.phase, connection.since = Phase.NEW, self._loop.now
        self._poll(connection, READ)
        return True

    def has(self, connection: Connection) -> bool:
        """Whether *connection* is open; its descriptor may be another's by now."""
        return self.connections.get(connection.fd) is connection

    # -- calls and answers ------------------------------------------------------------------------
    def feed(self, connection: Connection, data: bytes) -> None:
        """Take in what came."""
        try:
            connection.framing.feed(data)
        except FrameError as error:
            self.give_up(connection, error)

    def next_call(self, connection: Connection) -> Call | None:
        """The next whole call that came in, be it one to refuse; None when there is none."""
        if connection.parting:
            return None
        try:
            message = connection.framing.next()
            if message is None:
                return None
            connection.phase = _IDLE
            call = self._dispatcher.read(message)
        except BadMessage as error:
            self.refused.increment()
            self._logger.debug("Refused a call of %s: %s", connection.client.peer, error)
            connection.parting = not error.goes_on
            call = refusal(message, error.payload)
        except (FrameError, Unanswerable) as error:
            self.give_up(connection, error)
            return None
        call.arrived = self._loop.now
        call.client = connection.client
        return call

    def give_up(self, connection: Connection, error: Exception) -> None:
        """Part, as soon as all is answered, with a client whose bytes make no sense."""
        self.refused.increment()
        self._logger.debug("Parting with %s: %s", connection.client.peer, error)
        connection.parting = True

    def answer(self, connection: Connection, call: Call, payload: bytes) -> bool:
        """Send the answer to *call*; False if the connection takes no more at the moment."""
        return self.send_some(connection, connection.framing.wrap(payload, call.message))

    def send_some(self, connection: Connection, data: bytes) -> bool:
        """Send *data*, whole messages; False if the connection takes no more at the moment."""
        try:
            if connection.send(data, self.draining):
                return True
        except OSError:
            self.close(connection)
            return False
        connection.phase = Phase.WRITING
        return False

    def send(self, connection: Connection, data: bytes, now: float) -> None:
        """Send *data*, whole messages, as the last that is to be done at the moment."""
        try:
            sent = connection.sock.send(data)
        except AGAIN:
            sent = 0
        except OSError:
            self.close(connection)
            return
        if sent == len(data):
            connection.since = now
            return
        connection.out = memoryview(data)[sent:]
        connection.phase = Phase.WRITING
        self.settle(connection, now)

    def flush(self, connection: Connection) -> bool:
        """Send what the socket did not take before; whether all is sent."""
        connection.since = self._loop.now
        rest, connection.out = connection.out, None
        try:
            if rest is not None and not connection.send(rest, self.draining):
                return False
        except OSError:
            self.close(connection)
            return False
        connection.phase = Phase.IDLE
        return True

    def settle(self, connection: Connection, now: float) -> None:
        """Wait for what is next on *connection*: more to read, or room to write."""
        buffered = connection.framing.buffered
        if (
            connection.phase is _IDLE
            and connection.mask == READ
            and not (buffered or connection.held or connection.parting or self.draining)
        ):
            connection.since = now  # the usual case
        else:
            self._settle(connection, now, buffered)

    def _settle(self, connection: Connection, now: float, buffered: int) -> None:
        if connection.phase > Phase.WRITING:
            return
        if buffered != connection.held:
            self._hold(connection, buffered)
        if connection.parting and connection.phase is not Phase.WRITING:
            self.part(connection)
            return
        if connection.phase <= Phase.IDLE:
            if buffered:
                connection.phase = Phase.READING
                connection.since = now
                connection.recognise()
                self._patience.watch(connection)
            elif self.draining:
                self._last_look(connection, True)
                return
        if connection.phase is not Phase.READING:
            connection.since = now
        connection.appetite = READ_MORE if buffered > READ_SIZE else READ_SIZE
        mask = WRITE if connection.phase is Phase.WRITING else READ
        if connection.mask != mask:
            self._poll(connection, mask)
            self._patience.watch(connection)

    def _hold(self, connection: Connection, buffered: int) -> None:
        """Account for the bytes of messages that are not all there; part if they are too many."""
        with self._holding:
            self._held += buffered - connection.held
            connection.held = buffered
            if self._held <= self._limits.max_buffered:
                return
        limit = self._limits.max_buffered
        self.give_up(connection, FrameError(f"over {limit} bytes of messages that came in part"))

    def _poll(self, connection: Connection, mask: int) -> None:
        # In this order, for once it is polled the connection may be in another thread's hand.
        before, connection.mask = connection.mask, mask
        self._loop.poll_for(connection.fd, mask, before)

    def drop(self, connection: Connection) -> None:
        """Do not poll it, while a worker has it in hand."""
        connection.phase = Phase.BUSY
        if connection.mask:
            self._poll(connection, 0)

    def keep_busy(self, connection: Connection) -> None:
        """Go on reading while calls are under way; no time limit holds meanwhile."""
        if connection.phase < Phase.LEAVING and self.has(connection):
            connection.phase = Phase.BUSY
            if connection.mask != READ:
                self._poll(connection, READ)

    # -- time limits, in the leader's thread ------------------------------------------------------
    def _time_is_up(self, connection: Connection) -> None:
        if connection.phase in (Phase.NEW, Phase.IDLE) and self.draining:
            self._last_look(connection, False)
            return
        if connection.phase is not Phase.LEAVING:
            self.timed_out.increment()
            self._logger.debug(
                "Cut %s at its time limit (%s)", connection.client.peer, connection.phase.name
            )
        self.close(connection)

    # -- going ------------------------------------------------------------------------------------
    def _last_look(self, connection: Connection, just_answered: bool) -> None:
        """Part, unless another call has come meanwhile."""
        try:
            data = connection.receive()
        except OSError:
            data = b""
        if data:
            self.drop(connection)
            connection.phase = Phase.IDLE
            self.feed(connection, data)
            self._go_on(connection)
        elif data is None and just_answered:
            self.part(connection)
        else:
            connection.say_goodbye()
            self.close(connection)

    def part(self, connection: Connection) -> None:
        """Tell the client that nothing more comes, and wait a moment for it to close.

        A close at once would have the kernel drop the last answer, should there be unread bytes.
        """
        connection.phase, connection.since = Phase.LEAVING, self._loop.now
        connection.say_goodbye()
        self._poll(connection, READ)
        self._patience.watch(connection)

    def leave(self, connection: Connection) -> None:
        """Throw away what a client sends that was told to close; close when it has."""
        try:
            data = connection.receive()
        except OSError:
            data = b""
        if data == b"":
            self.close(connection)

    def close(self, connection: Connection) -> None:
        """Close it, now."""
        if not self.has(connection):
            return
        del self.connections[connection.fd]
        connection.phase = Phase.BUSY
        if connection.mask:
            self._poll(connection, 0)
        connection.sock.close()
        with self._holding:
            self._held -= connection.held
        if self.draining or self._listener.is_paused:
            self._loop.post(self._closed)

    def _closed(self) -> None:
        self._listener.retry()
        self._check_drained()

    # -- the end, in the leader's thread ----------------------------------------------------------
    def drain(self, timeout: float) -> None:
        """Let nobody in any more, have what is under way answered, part with all; see ``ended``.

        What is still open *timeout* seconds from now is closed.
        """
        if self.draining:
            return
        self._listener.finish(self._check_drained)
        self.draining = True
        self._loop.call_later(timeout, lambda: self._cut_rest(timeout))
        self._patience.end_soon()
        self._check_drained()

    def _check_drained(self) -> None:
        if self.draining and not (self.connections or self._listener.is_open):
            self._end()

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self._tell_end()

    def _cut_rest(self, timeout: float) -> None:
        if self.ended:
            return
        self._logger.warning(
            "Closing %d connections that are still open after %g s (drain-timeout)",
            len(self.connections),
            timeout,
        )
        self.abandon()

    def close_all(self) -> None:
        """Close all, now, where nobody has one in hand any more."""
        self._listener.close()
        for connection in tuple(self.connections.values()):
            self.close(connection)
        self._end()

    def abandon(self) -> None:
        """Close all, now; a worker whose call is under way finds its connection closed."""
        self._listener.close()
        for connection in tuple(self.connections.values()):
            if connection.phase is Phase.BUSY:
                connection.abort()
            else:
                self.close(connection)
        self._end()

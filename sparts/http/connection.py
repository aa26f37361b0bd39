"""One HTTP connection: where it stands, how long it may stand there, and its stream.

A connection has one timer. It is set again only when it fires, or when a deadline comes up that is
earlier than the timer; what happens on a request merely writes down what it is and when it began.
"""

import enum
import math
import socket
import struct
import time
from asyncio import TimerHandle
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import BaseIOStream, IOStream, SSLIOStream

from sparts.net.tls import BadHandshake

if TYPE_CHECKING:
    from sparts.http.server import HTTPServer

__all__ = ["Connection", "Phase", "Stream", "TLSStream"]

#: Seconds by which a timer may fire early.
_SLACK = 0.002
#: SO_LINGER that drops unsent data: else the kernel keeps it for a peer that never reads.
_RESET = struct.pack("ii", 1, 0)
#: The websocket frame that closes with status 1001, going away (RFC 6455, 5.5.1 and 7.4.1).
_GOING_AWAY = struct.pack("!BBH", 0x88, 2, 1001)


class Phase(enum.Enum):
    """Where a connection stands, and so which time limit holds."""

    NEW = "new"  # accepted, nothing read yet; TLS shakes hands
    HEAD = "header"
    BODY = "body"
    ANSWER = "answer"  # the request is complete, and its handler's turn it is
    IDLE = "idle"
    UPGRADED = "upgraded"  # a handler took the stream over, as websockets do
    CLOSED = "closed"


_NEW, _HEAD, _BODY, _ANSWER, _IDLE = Phase.NEW, Phase.HEAD, Phase.BODY, Phase.ANSWER, Phase.IDLE
_UPGRADED, _CLOSED = Phase.UPGRADED, Phase.CLOSED


class Connection(HTTPMessageDelegate):
    """Stands between Tornado's parser and the application, and watches; in the loop's thread."""

    def __init__(self, server: "HTTPServer", stream: "Stream | TLSStream") -> None:
        self._server = server
        self.stream = stream
        self.phase = _NEW
        #: When the phase began (monotonic), or for HEAD, when its first byte came.
        self.since = time.monotonic()
        #: When a write last made progress with more to come; 0.0 while none waits.
        self._stalled = 0.0
        self._timer: TimerHandle | None = None
        self._fires = math.inf
        self._delegate: HTTPMessageDelegate
        self._exchange: HTTPConnection
        self._headers: HTTPHeaders | None = None
        self._expect(self.since + server.times[_NEW])

    # -- what happens on it -----------------------------------------------------------------------
    def awaits_request(self, exchange: HTTPConnection, delegate: HTTPMessageDelegate) -> None:
        """The answer before, if any, is out; *exchange* and *delegate* are for the next request."""
        self._exchange = exchange
        self._delegate = delegate
        if self.phase is not _NEW and self.phase is not _CLOSED:
            now = time.monotonic()
            self._end_request(now)
            self.phase = _IDLE
            self.since = now
            self._expect(now + self._server.times[_IDLE])

    def first_byte(self) -> None:
        """Something was read, in the phase NEW or IDLE."""
        if self.phase is _IDLE:
            self.since = time.monotonic()
        self.phase = _HEAD
        self._expect(self.since + self._server.times[_HEAD])

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        """The head is complete (Tornado calls it)."""
        self._headers = headers
        if self.phase is _CLOSED:  # what was read before is still parsed
            return self._delegate.headers_received(start_line, headers)
        self.phase = _BODY
        self.since = now = time.monotonic()
        self._server.request_began()
        wait = self._delegate.headers_received(start_line, headers)
        if wait is not None:
            self.phase = _ANSWER
            return self._prepare(wait)
        self._expect(now + self._server.times[_BODY])
        return None

    async def _prepare(self, wait: Awaitable[None]) -> None:
        """A handler that streams the body has its ``prepare()`` first; that is not body time."""
        await wait
        if self.phase is _ANSWER:
            self.phase = _BODY
            self.since = time.monotonic()
            self._expect(self.since + self._server.times[_BODY])

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """A part of the body came (Tornado calls it)."""
        return self._delegate.data_received(chunk)

    def finish(self) -> None:
        """The request is complete (Tornado calls it)."""
        if self.phase is not _CLOSED:
            self.phase = _ANSWER
        self._delegate.finish()

    def on_connection_close(self) -> None:
        """The connection closed while the request came in (Tornado calls it)."""
        self._delegate.on_connection_close()

    def wrote_some(self, sent: int) -> None:
        """The system took *sent* bytes, not all that was given to it."""
        if sent or not self._stalled:
            self._stalled = time.monotonic()
        self._expect(self._stalled + self._server.write_timeout)

    def wrote_all(self) -> None:
        """The system took all that was given to it."""
        self._stalled = 0.0

    def handed_over(self) -> None:
        """The handler took the stream over; it is no longer HTTP."""
        self._end_request(time.monotonic())
        self.phase = _UPGRADED
        if self._server.draining:
            self._say_going_away()

    def closed(self) -> None:
        """The stream's descriptor is closed."""
        upgraded = self.phase is _UPGRADED
        if isinstance(self.stream.error, BadHandshake):
            self._server.handshake_failed(self.stream.error)
        self._end_request(time.monotonic())
        self.phase = _CLOSED
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if upgraded:
            self.release()
        self._server.connection_closed(self)

    def release(self) -> None:
        """Nobody will call any more: break the cycles, so that no garbage collection is needed."""
        self._headers = None
        del self.stream, self._delegate, self._exchange

    def _end_request(self, now: float) -> None:
        if self.phase is _ANSWER or self.phase is _BODY:
            self._server.request_ended(now - self.since)

    # -- time limits ------------------------------------------------------------------------------
    def _expect(self, deadline: float) -> None:
        if deadline < self._fires:
            if self._timer is not None:
                self._timer.cancel()
            self._fires = deadline
            delay = max(0.0, deadline - time.monotonic())
            self._timer = self._server.loop.call_later(delay, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._fires = math.inf
        deadline, limit = self._deadline()
        if deadline - _SLACK > time.monotonic():
            self._expect(deadline)
        elif self._server.draining and self.phase in (_NEW, _IDLE):
            self._leave()
        else:
            self._server.timed_out(self, limit)
            self.cut()

    def _deadline(self) -> tuple[float, str]:
        """The next time limit and its name."""
        deadline = self.since + self._server.times[self.phase]
        # A handler that called set_body_timeout() has Tornado watch that time instead. The name is
        # Tornado's own: without it, only our limit holds.
        if self.phase is _BODY and getattr(self._exchange, "_body_timeout", None) is not None:
            deadline = math.inf
        write_timeout = self._server.write_timeout
        if self._stalled and self.stream.writing():
            return min((deadline, self.phase.value), (self._stalled + write_timeout, "write"))
        return deadline, self.phase.value

    def cut(self) -> None:
        """Close at once; what could not be sent so far is dropped."""
        sock = self.stream.socket
        if sock is not None and self.stream.writing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.stream.close()

    # -- draining ---------------------------------------------------------------------------------
    def drain(self) -> None:
        """The server stops: end after the answer under way, or soon if nothing is."""
        if self.phase in (_NEW, _IDLE):
            self._expect(self.since + self._server.times[self.phase])
        elif self.phase in (_BODY, _ANSWER):
            self._say_close()
        elif self.phase is _UPGRADED:
            self._say_going_away()

    def _say_close(self) -> None:
        # Tornado's own names: without them, or with the head of the answer already out, the
        # connection is closed when it has been idle for a moment.
        unset = object()
        head = getattr(self._exchange, "_response_start_line", unset)
        if head is None and hasattr(self._exchange, "_disconnect_on_finish"):
            self._exchange._disconnect_on_finish = True

    def _say_going_away(self) -> None:
        if self._headers is not None and self._headers.get("Upgrade", "").lower() == "websocket":
            self.stream.write(_GOING_AWAY)

    def _leave(self) -> None:
        """Close, unless a request has come in that the loop did not look at yet."""
        if self._has_unread():
            self.first_byte()
        else:
            self.stream.close()

    def _has_unread(self) -> bool:
        try:
            # Of the plain class, as an SSLSocket has no peek.
            return bool(socket.socket.recv(self.stream.socket, 1, socket.MSG_PEEK))
        except OSError:
            return False


class _Watched(BaseIOStream):
    """What a server's stream tells its connection."""

    connection: Connection

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        try:
            size = super().read_from_fd(buf)
        finally:
            del buf  # as Tornado does, lest an exception keeps it
        connection = self.connection
        if size and (connection.phase is _IDLE or connection.phase is _NEW):
            connection.first_byte()
        return size

    def write_to_fd(self, data: memoryview) -> int:
        size = len(data)
        try:
            sent = super().write_to_fd(data)
        except BlockingIOError:
            self.connection.wrote_some(0)
            raise
        finally:
            del data
        if sent < size:
            self.connection.wrote_some(sent)
        else:
            self.connection.wrote_all()
        return sent

    def close_fd(self) -> None:
        super().close_fd()
        self.connection.closed()

    def set_nodelay(self, value: bool) -> None:
        # The server has set it for good: Tornado's on and off are two system calls a request.
        if self.connection.phase is _UPGRADED:
            super().set_nodelay(value)


class Stream(_Watched, IOStream):
    """A plain stream."""


class TLSStream(_Watched, SSLIOStream):
    """A stream with TLS."""

"""Tornado's HTTP server with limits that hold against slow clients, and a stop that drains."""

import asyncio
import dataclasses
import logging
import math
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any

import tornado.httpserver
from tornado.httputil import HTTPConnection, HTTPMessageDelegate
from tornado.iostream import IOStream
from tornado.netutil import ssl_options_to_context, ssl_wrap_socket

from sparts.http.connection import Connection, Phase, Stream, TLSStream
from sparts.net.listener import AsyncioReactor, Listener
from sparts.net.tls import BadHandshake, TLSSocket

__all__ = ["HTTPServer", "Limits"]

#: Bytes read at once; a buffer of that size is made for each read, so Tornado's 64 KiB cost more.
_READ_SIZE = 16384
#: Seconds that an idle connection gets at a stop for a request that is on its way already.
_GRACE = 0.1
#: Seconds for Tornado's coroutines to notice that their streams were closed.
_LAST_WAIT = 0.5


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a client may take: times in seconds (0: no limit), sizes in bytes."""

    #: From the accept, or the first byte of a later request, to the end of its head; with TLS the
    #: handshake counts in.
    header_timeout: float = 20.0
    #: From the end of the head to the end of the body.
    body_timeout: float = 120.0
    #: Without progress while something is to be sent.
    write_timeout: float = 30.0
    #: Between two requests.
    idle_timeout: float = 75.0
    max_header_size: int = 32 * 1024
    max_body_size: int = 16 * 1024 * 1024
    max_connections: int = 10_000


class HTTPServer(tornado.httpserver.HTTPServer):
    """A ``tornado.httpserver.HTTPServer`` that holds its clients to :class:`Limits`.

    Made in any thread; everything else, and every call from Tornado, is in the loop's thread.
    """

    def initialize(  # type: ignore[override]
        self,
        request_callback: Any,
        limits: Limits | None = None,
        logger: logging.Logger | None = None,
        **settings: Any,
    ) -> None:
        """*request_callback* and *settings* as Tornado's; sizes in *settings* win over *limits*."""
        self._limits = limits or Limits()
        settings.setdefault("max_header_size", self._limits.max_header_size)
        settings.setdefault("max_body_size", self._limits.max_body_size)
        super().initialize(request_callback, **settings)
        if isinstance(self.ssl_options, dict):
            self.ssl_options = ssl_options_to_context(self.ssl_options, server_side=True)
        if self.ssl_options is not None and self.ssl_options.sslsocket_class is ssl.SSLSocket:
            self.ssl_options.sslsocket_class = TLSSocket
        # Connection watches that time too; Tornado's way costs a tenth of a small request.
        self.conn_params.header_timeout = None
        self._logger = logger or logging.getLogger(__name__)
        #: Seconds that a connection may spend in each phase.
        self.times = dict.fromkeys(Phase, math.inf)
        header = self._limits.header_timeout or math.inf
        self.times[Phase.NEW] = self.times[Phase.HEAD] = header
        self.times[Phase.BODY] = self._limits.body_timeout or math.inf
        self.times[Phase.IDLE] = self._limits.idle_timeout or math.inf
        self.write_timeout = self._limits.write_timeout or math.inf
        self.connections: set[Connection] = set()
        #: Requests whose head is in and whose answer is not yet out.
        self.in_flight = 0
        self.draining = False
        self._serving = 0
        self._drained: Callable[[], object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._listener = Listener(self._accepted, self._has_room, self._logger)

    # -- override points --------------------------------------------------------------------------
    def request_began(self) -> None:
        """The head of a request is in; overriding, call super."""
        self.in_flight += 1

    def request_ended(self, duration: float) -> None:
        """Its answer is out, or nobody waits for it any more, *duration* seconds later."""
        self.in_flight -= 1

    def timed_out(self, connection: Connection, limit: str) -> None:
        """*connection* is being cut: *limit* is new, header, body, write or idle."""
        self._logger.debug("Cut a connection at its time limit (%s)", limit)

    def handshake_failed(self, error: BadHandshake) -> None:
        """A client of a TLS server spoke no TLS, or none that both speak; it is closed."""
        self._logger.debug("A TLS handshake failed: %s", error)

    # -- connections ------------------------------------------------------------------------------
    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Accept connections on *sockets*, which listen and are non-blocking, from now on."""
        self.loop = asyncio.get_running_loop()
        self._listener.open(sockets, AsyncioReactor(self.loop))

    def stop(self) -> None:
        """Close the listening sockets; connections go on. See :meth:`drain`."""
        self._listener.finish(lambda: None)
        self._listener.close()

    def _has_room(self) -> bool:
        return len(self.connections) < self._limits.max_connections

    def _accepted(self, sock: socket.socket, address: Any) -> None:
        try:
            stream = self._stream(sock)
        except OSError:  # gone before it was looked at
            sock.close()
            return
        stream.connection = connection = Connection(self, stream)
        self.connections.add(connection)
        self._serving += 1
        self.handle_stream(stream, address)

    def _stream(self, sock: socket.socket) -> Stream | TLSStream:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        size = self.max_buffer_size
        if self.ssl_options is None:
            return Stream(sock, max_buffer_size=size, read_chunk_size=_READ_SIZE)
        secure = ssl_wrap_socket(
            sock, self.ssl_options, server_side=True, do_handshake_on_connect=False
        )
        return TLSStream(secure, max_buffer_size=size, read_chunk_size=_READ_SIZE)

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        """Tornado awaits a request on a connection."""
        connection: Connection = server_conn.stream.connection  # type: ignore[attr-defined]
        connection.awaits_request(request_conn, super().start_request(server_conn, request_conn))
        return connection

    def on_close(self, server_conn: object) -> None:
        """Tornado is done with a connection: it is closed, or a handler took it over."""
        super().on_close(server_conn)
        self._serving -= 1
        stream: IOStream = server_conn.stream  # type: ignore[attr-defined]
        if isinstance(stream, (Stream, TLSStream)):
            connection = stream.connection
            connection.release() if stream.closed() else connection.handed_over()
        self._check_drained()

    def connection_closed(self, connection: Connection) -> None:
        """The descriptor of *connection* is closed."""
        self.connections.discard(connection)
        self._listener.retry()
        self._check_drained()

    # -- the end ----------------------------------------------------------------------------------
    def drain(self, timeout: float, done: Callable[[], object]) -> None:
        """Stop listening, let what is under way finish, then call *done()*; the first call counts.

        Who waits to be accepted still is, over the limit of connections too. Answers from now on
        end their connections; idle ones close, after a moment if they were busy just now. What is
        still open *timeout* seconds from now is closed.
        """
        if self.draining:
            return
        self._drained = done
        self.conn_params.no_keep_alive = True
        self._listener.finish(self._check_drained)
        self.draining = True
        self.times[Phase.NEW] = self.times[Phase.IDLE] = _GRACE
        self._timer = self.loop.call_later(timeout, self._cut_rest, timeout)
        for connection in tuple(self.connections):
            connection.drain()
        self._check_drained()

    def _check_drained(self) -> None:
        if self.draining and not (self.connections or self._serving or self._listener.is_open):
            self._finish()

    def _cut_rest(self, timeout: float) -> None:
        self._listener.close()
        if self.connections:
            self._logger.warning(
                "Closing %d connections that are still open after %g s (drain-timeout)",
                len(self.connections),
                timeout,
            )
        self._timer = self.loop.call_later(_LAST_WAIT, self._finish)
        for connection in tuple(self.connections):
            connection.cut()

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        done, self._drained = self._drained, None
        if done is not None:
            done()

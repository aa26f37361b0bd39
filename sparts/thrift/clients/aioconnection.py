"""The asyncio client's connections; all in the thread of their loop."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Final, cast

from sparts.thrift.clients.endpoints import Endpoint
from sparts.thrift.clients.http import request_head, request_of
from sparts.thrift.clients.messages import Messages
from sparts.thrift.clients.replies import FramedReply, HttpReply, Reply
from sparts.thrift.clients.wire import reason
from sparts.thrift.errors import ClientError, ConnectFailed, ConnectionLost
from sparts.thrift.interface import Method

__all__ = ["AsyncConnection", "connect"]

#: Seconds that the sockets get to close.
_CLOSE_TIMEOUT: Final = 5.0


class AsyncConnection(asyncio.Protocol):
    """One connection, for one call at a time; bytes that nobody asked for make it useless."""

    def __init__(
        self,
        endpoint: Endpoint,
        messages: Messages,
        max_size: int,
        http_headers: Mapping[str, str] | None = None,
    ) -> None:
        """*max_size* bytes is the largest reply; with *http_headers* calls are HTTP requests."""
        self._endpoint = endpoint
        self._messages = messages
        self._max_size = max_size
        self._head = None if http_headers is None else request_head(endpoint, http_headers)
        #: When its last call ended, a time of ``time.monotonic()``.
        self.last_used = 0.0
        self._useless = False
        self._reply: Reply | None = None
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[bytes] | None = None
        #: Done when it has closed.
        self.lost: asyncio.Future[None] = self._loop.create_future()
        #: Done when all was sent; there while something is not.
        self._sending: asyncio.Future[None] | None = None

    # -- calls ------------------------------------------------------------------------------------
    def is_quiet(self) -> bool:
        """Whether it can take a call."""
        return not self._useless

    async def exchange(self, method: Method, seqid: int, request: bytes) -> Any:
        """Send *request* and return the struct of the result; None of a oneway method.

        After an error other than TApplicationException it is of no use any more.

        :raises ClientError: there is no answer.
        :raises TApplicationException: the answer is that it did not run well.
        """
        if self._useless:
            raise self._error(None, maybe_run=False)
        if self._head is not None:
            self._reply = HttpReply(self._endpoint, self._max_size, method.oneway)
            request = request_of(self._head, request)
        elif not method.oneway:
            self._reply = FramedReply(self._endpoint, self._max_size)
        if self._reply is not None:
            self._answer = self._loop.create_future()
        self._transport.write(request)
        if self._sending is not None:
            await self._sending
        if self._answer is None:
            return None
        data = await self._answer
        self._answer = None
        return None if method.oneway else self._messages.decode(method, seqid, data)

    def close(self) -> None:
        """Close it at once; more than once is fine."""
        self._useless = True
        self._transport.abort()

    async def closed(self) -> None:
        """Wait until its socket is closed."""
        await asyncio.wait([self.lost], timeout=_CLOSE_TIMEOUT)

    def _fail(self, error: ClientError) -> None:
        self._useless = True
        self._reply = None
        for future in (self._sending, self._answer):
            if future is not None and not future.done():
                future.set_exception(error)
                # The call may have been cancelled, and look at neither.
                future.exception()

    def _error(self, cause: Exception | None, maybe_run: bool) -> ConnectionLost:
        how = "closed it" if cause is None else f"is gone ({reason(cause)})"
        when = "before the answer came" if maybe_run else "before the call was sent"
        error = ConnectionLost(
            f"connection lost: {self._endpoint} {how} {when}", maybe_run=maybe_run
        )
        error.__cause__ = cause
        return error

    # -- asyncio.Protocol -------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is connected."""
        # uvloop's are not derived from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        # Anything that the socket does not take makes it pause, so we know what was sent.
        self._transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        """Something came."""
        if self._reply is None:
            self.close()  # nobody asked for it
            return
        try:
            whole = self._reply.feed(data)
        except ClientError as error:
            self._fail(error)
            return
        if whole is not None:
            self._answered(whole)

    def _answered(self, data: bytes) -> None:
        assert self._reply is not None
        self._useless = self._useless or not self._reply.keeps
        self._reply = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(data)

    def eof_received(self) -> bool:
        """The server has closed its side."""
        whole = None if self._reply is None else self._reply.end()
        self._useless = True
        if whole is not None:
            self._answered(whole)
        return False

    def pause_writing(self) -> None:
        """Not all could be sent at once."""
        self._sending = self._loop.create_future()

    def resume_writing(self) -> None:
        """All was sent."""
        if self._sending is not None and not self._sending.done():
            self._sending.set_result(None)
        self._sending = None

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._fail(self._error(exc, maybe_run=self._sending is None))
        self._sending = None
        if not self.lost.done():
            self.lost.set_result(None)


async def connect(
    made: AsyncConnection, endpoint: Endpoint, tls: ssl.SSLContext | None, server_name: str | None
) -> None:
    """Connect *made* to its *endpoint*; who calls it limits the time.

    :raises ConnectFailed: it cannot be connected to.
    """
    loop = asyncio.get_running_loop()
    try:
        if endpoint.scheme == "unix":
            await loop.create_unix_connection(lambda: made, endpoint.path)
            return
        name = (server_name or endpoint.host) if tls else None
        await loop.create_connection(
            lambda: made, endpoint.host, endpoint.port, ssl=tls, server_hostname=name
        )
    except (OSError, UnicodeError) as error:
        raise ConnectFailed(f"cannot connect to {endpoint}: {reason(error)}") from error

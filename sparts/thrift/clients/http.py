"""Calls as HTTP requests: one POST each, over a connection that is kept where the server does."""

from collections.abc import Mapping
from typing import Any

from sparts.errors import OptionError
from sparts.thrift.clients.connections import FIRST, Connection
from sparts.thrift.clients.endpoints import Endpoint
from sparts.thrift.clients.messages import Messages
from sparts.thrift.clients.replies import HttpReply
from sparts.thrift.clients.wire import Wire
from sparts.thrift.errors import ConnectionLost
from sparts.thrift.interface import Method

__all__ = ["HttpConnection", "request_head", "request_of"]


def request_head(endpoint: Endpoint, headers: Mapping[str, str]) -> bytes:
    """The head of every request to *endpoint*, up to the length of its body.

    :raises OptionError: a header has bytes that would end it, or that HTTP has not.
    """
    # With the default port there is none in the Host header.
    default = 443 if endpoint.is_secure else 80
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    lines = [
        f"POST {endpoint.path} HTTP/1.1",
        f"Host: {host}" + ("" if endpoint.port == default else f":{endpoint.port}"),
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    for line in lines:
        if not line.isascii() or not line.isprintable():
            raise OptionError(f"a line of an HTTP request may not be {line!r}; give plain ASCII")
    return "\r\n".join([*lines, "Content-Length: "]).encode()


def request_of(head: bytes, message: bytes) -> bytes:
    """The request that has *message* as its body."""
    return b"%b%d\r\n\r\n%b" % (head, len(message), message)


class HttpConnection(Connection):
    """One HTTP connection; *request* is a message, which is the body."""

    __slots__ = ("_ends", "_head", "_max_size", "_messages")

    def __init__(
        self, wire: Wire, messages: Messages, max_size: int, headers: Mapping[str, str]
    ) -> None:
        """*max_size* bytes is the largest body that is taken; *headers* go with every request."""
        super().__init__(wire)
        self._messages = messages
        self._max_size = max_size
        self._head = request_head(wire.endpoint, headers)
        self._ends = False

    def is_quiet(self) -> bool:
        return not self._ends and super().is_quiet()

    def exchange(self, method: Method, seqid: int, request: Any, deadline: float) -> Any:
        self.wire.send(request_of(self._head, request), deadline)
        reply = HttpReply(self.wire.endpoint, self._max_size, method.oneway)
        body = None
        while body is None:
            body = self._more(reply, deadline)
        self._ends = not reply.keeps
        return None if method.oneway else self._messages.decode(method, seqid, body)

    def _more(self, reply: HttpReply, deadline: float) -> bytes | None:
        try:
            return reply.feed(self.wire.receive(FIRST, deadline))
        except ConnectionLost as error:
            # An orderly end may be that of the body.
            body = None if error.__cause__ else reply.end()
            if body is None:
                raise
            return body

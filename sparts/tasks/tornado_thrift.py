"""Thrift over HTTP: a Tornado handler that takes a message in a POST and answers it.

class Web(TornadoHTTPTask):
    DEPS = [MyHandler, ThriftPoolTask]

    def getApplicationConfig(self):
        return [("/thrift", TornadoThriftHandler, {"handler": MyHandler})]
"""

import math
from typing import Any, Final

from tornado.httputil import HTTPServerRequest
from tornado.web import GZipContentEncoding, HTTPError, RequestHandler, stream_request_body

from sparts.tasks.thrift.pool import ThriftPoolTask
from sparts.tasks.thrift.routes import Routes
from sparts.thrift.incoming import Message, protocol_of
from sparts.thrift.server.calls import Client
from sparts.thrift.server.codec import Unanswerable
from sparts.thrift.server.exchange import Exchange, Overloaded

__all__ = ["ThriftPoolTask", "TornadoThriftHandler"]

#: What answers are.
_ANSWER: Final = "application/x-thrift"
#: What requests may be. A browser asks the server before it sends one of these to another site, as
#: it does not for a form or for plain text.
_ACCEPTED: Final = frozenset(
    [_ANSWER, "application/json"]
    + [f"application/vnd.apache.thrift.{each}" for each in ("binary", "compact", "json")]
)
#: Bytes over the limit that are read and thrown away, so that the client gets to read the answer.
_SWALLOWED: Final = 64 * 1024 * 1024
#: Seconds after which an overloaded server may be asked again.
_RETRY_AFTER: Final = "1"

# An application that was told to compress its answers does so with these, too.
GZipContentEncoding.CONTENT_TYPES.add(_ANSWER)


class _Refusal(HTTPError):
    """The request is answered with *status* and a line of text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status)
        self.text = text


@stream_request_body
class TornadoThriftHandler(RequestHandler):
    """Serves Thrift messages, binary, compact or JSON, each answered in its own protocol.

    Its route has a dictionary with either ``handler``: a ThriftHandlerTask or its class, or a list
    of several, which are served to multiplexing clients by their names; or ``processor``: that of
    a handler task, or any of Apache's library. Plain methods run in the threads of the service's
    :class:`ThriftPoolTask`, or of ten; an ``async def`` runs on the loop.

    What the handler raises is part of Thrift's answer, whose status is 200: also an internal error,
    for clients do not read an answer of another status. A oneway call is answered, with nothing,
    when it was run: until then it is a request under way, for the limits and for a stop.

    A web page of another site cannot call it: what is sent must have one of Thrift's content types
    or ``application/json``, for which a browser asks first (OPTIONS), and that is refused. Answer
    it in a subclass to let pages in.
    """

    def initialize(self, processor: Any = None, handler: Any = None) -> None:
        self._given = processor, handler
        self._chunks: list[bytes] = []
        self._size = 0
        self._limit: float = 0
        self._refusal: _Refusal | None = None
        self._exchange: Exchange

    def check_xsrf_cookie(self) -> None:
        """Nothing: Thrift clients have no cookies, and the content type keeps pages out."""

    # -- the request ------------------------------------------------------------------------------
    def prepare(self) -> None:
        """Look at the head, before the body comes."""
        if self.request.method != "POST":
            return  # answered with 405, when the body was thrown away
        self._exchange = Routes.of(self.application).exchange(*self._given)
        connection: Any = self.request.connection
        max_body_size = connection.params.max_body_size or math.inf
        self._limit = min(self._exchange.limits.max_frame_size, max_body_size)
        connection.set_max_body_size(self._limit + _SWALLOWED)
        self._refusal = self._objection()
        if self._refusal is not None and (self._is_too_much() or self._is_waiting()):
            raise self._refusal

    def _objection(self) -> _Refusal | None:
        headers = self.request.headers
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        # A page can send bytes of no type to another site, but not hide that it is a page.
        is_page = "Origin" in headers or "Sec-Fetch-Site" in headers
        if kind not in _ACCEPTED and (kind or is_page):
            accepted = ", ".join(sorted(_ACCEPTED))
            return _Refusal(415, f"the Content-Type is {kind[:100]!r}; accepted: {accepted}")
        if self._announced() > self._limit:
            return self._too_large()
        if "Content-Length" not in headers and "Transfer-Encoding" not in headers:
            return _Refusal(411, "there is no Content-Length")
        return None

    def _announced(self) -> int:
        length = self.request.headers.get("Content-Length", "")
        # What is none is for Tornado to refuse.
        return int(length) if length.isascii() and length.isdecimal() and len(length) < 19 else 0

    def _is_too_much(self) -> bool:
        return self._announced() > self._limit + _SWALLOWED

    def _is_waiting(self) -> bool:
        return self.request.headers.get("Expect", "").lower() == "100-continue"

    def _too_large(self) -> _Refusal:
        return _Refusal(413, f"a message has at most {self._limit} bytes")

    def data_received(self, chunk: bytes) -> None:
        """Keep a part of the body, unless it is refused anyway."""
        self._size += len(chunk)
        if self._size > self._limit and self._refusal is None:
            self._refusal = self._too_large()
            self._chunks.clear()
        if self._refusal is None:
            self._chunks.append(chunk)

    # -- the answer -------------------------------------------------------------------------------
    async def post(self, *args: str, **kwargs: str) -> None:
        """Answer the message."""
        if self._refusal is not None:
            raise self._refusal
        body = b"".join(self._chunks)
        self._chunks.clear()
        codec = protocol_of(body, 0, len(body)) if body else ""
        if not codec:
            begins = body[:8].hex(" ") or "nothing"
            raise _Refusal(400, f"the body is no Thrift message; it begins with {begins}")
        try:
            message = Message(body, 0, len(body), codec)
            payload = await self._exchange.answer(message, _client(self.request))
        except Unanswerable:
            raise _Refusal(400, f"the body is no Thrift message in the {codec} protocol") from None
        except Overloaded as error:
            self._say_overloaded(error)
            return
        self.set_header("Content-Type", _ANSWER)
        self.finish(payload)

    def _say_overloaded(self, error: Overloaded) -> None:
        if not error.payload:
            raise _Refusal(503, f"overloaded: {error}")
        # For a client that looks at no status, and one that does and knows Thrift.
        self.set_status(503)
        self.set_header("Retry-After", _RETRY_AFTER)
        self.set_header("Content-Type", _ANSWER)
        self.finish(error.payload)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """A line of text, whatever the application's settings."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        text = error.text if isinstance(error, _Refusal) else self._reason
        if status_code == 405:
            self.set_header("Allow", "POST")
            text = "Thrift messages come by POST"
        elif status_code == 503:
            self.set_header("Retry-After", _RETRY_AFTER)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{text}\n")


def _client(request: HTTPServerRequest) -> Client:
    """Who sent the request; as a trusted proxy tells, where the server has ``xheaders``."""
    context: Any = getattr(request.connection, "context", None)
    address: Any = getattr(context, "address", None)
    if not isinstance(address, tuple):
        address = "a unix socket" if request.remote_ip == "0.0.0.0" else request.remote_ip
    elif address[0] != request.remote_ip:
        address = request.remote_ip
    return Client(None, address, "http")

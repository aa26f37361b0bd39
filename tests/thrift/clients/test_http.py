"""Calls by HTTP, of both clients, against servers that answer in all the ways there are."""

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

import pytest
from thrift.protocol import TCompactProtocol, TJSONProtocol

from sparts.thrift.async_client import AsyncThriftClient
from sparts.thrift.client import ThriftClient
from sparts.thrift.clients.endpoints import Endpoint
from sparts.thrift.clients.replies import FramedReply, HttpReply
from sparts.thrift.clients.retry import Backoff, RetryPolicy
from sparts.thrift.errors import BadReply, BadStatus, ConnectionLost

DEADLINE = 10.0
QUICK = RetryPolicy(3, Backoff(0.001, 0.002))
Make = Callable[..., Any]
#: Makes so many calls of one method with a client, and returns what each returned or raised.
Calls = Callable[..., list[Any]]


def blocking(module: Any, endpoint: Any, name: str, count: int, **options: Any) -> list[Any]:
    """With the blocking client."""
    got: list[Any] = []
    with ThriftClient(endpoint, module=module, **options) as client:
        for _ in range(count):
            try:
                got.append(getattr(client, name)())
            except Exception as error:
                got.append(error)
    return got


def awaiting(module: Any, endpoint: Any, name: str, count: int, **options: Any) -> list[Any]:
    """With the asyncio one."""

    async def main() -> list[Any]:
        got: list[Any] = []
        async with AsyncThriftClient(endpoint, module=module, **options) as client:
            for _ in range(count):
                try:
                    got.append(await getattr(client, name)())
                except Exception as error:
                    got.append(error)
        return got

    return asyncio.run(main())


@pytest.fixture(params=[blocking, awaiting])
def calls(request: pytest.FixtureRequest, calculator: Any) -> Calls:
    """``calls(endpoint, name, count, **options)`` of either client."""
    return lambda *args, **options: request.param(calculator, *args, **options)


class Web:
    """One connection, as HTTP."""

    def __init__(self, peer: Any) -> None:
        self.peer = peer
        self.file = peer.sock.makefile("rb")
        self.head: list[bytes] = []

    def request(self) -> bytes:
        """The body of the next request; b'' at the end."""
        self.head = []
        while line := self.file.readline().strip():
            self.head.append(line)
        lengths = [line for line in self.head if line.lower().startswith(b"content-length:")]
        return self.file.read(int(lengths[0].split(b":")[1])) if lengths else b""

    def pong(self, request: bytes, text: bytes = b"pong") -> bytes:
        """The message that answers a ping."""
        body = b"\x0b\x00\x00" + struct.pack(">i", len(text)) + text + b"\x00"
        answer: bytes = self.peer.replied(request, body)[4:]
        return answer


def web(script: Callable[[Web, bytes], bytes], keep: bool = True) -> Callable[[Any], None]:
    """A script that answers each request, or the first one, with what *script* returns."""

    def serve(peer: Any) -> None:
        one = Web(peer)
        with one.file:
            while request := one.request():
                peer.send(script(one, request))
                if not keep:
                    return

    return serve


def ok(body: bytes, *fields: bytes) -> bytes:
    """A response with a length."""
    head = b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *fields])
    return head + b"\r\n\r\n" + body


def chunked(body: bytes) -> bytes:
    """A response in chunks of three bytes, with an extension and a trailer."""
    chunks = [body[at : at + 3] for at in range(0, len(body), 3)]
    parts = [b"%x;a=b\r\n%b\r\n" % (len(each), each) for each in chunks]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(parts) + b"0\r\nX: y\r\n\r\n"


# -- what is sent ---------------------------------------------------------------------------------
def test_the_request(calls: Calls, rogue: Make) -> None:
    """It is a POST to the path, with the host, the type of the message, and our own headers."""
    heads: list[list[bytes]] = []

    def script(one: Web, request: bytes) -> bytes:
        heads.append(one.head)
        return ok(one.pong(request))

    host, port = rogue(web(script)).endpoint
    options: Any = {"path": "/a?b=c", "http_headers": {"X-Key": "1", "User-Agent": "me"}}
    assert ["pong"] == calls((host, port), "ping", 1, **options)
    assert b"POST /a?b=c HTTP/1.1" == heads[0][0]
    expected = {
        b"Host: %b:%d" % (host.encode(), port),
        b"Content-Type: application/x-thrift",
        b"Accept: application/x-thrift",
        b"X-Key: 1",
        b"User-Agent: me",
    }
    assert expected <= set(heads[0])


@pytest.mark.parametrize(
    ("protocol", "kind"),
    [
        (TCompactProtocol.TCompactProtocolAccelerated, b"compact"),
        (TJSONProtocol.TJSONProtocol, b"json"),
    ],
)
def test_the_type_tells_the_protocol(calls: Calls, rogue: Make, protocol: Any, kind: bytes) -> None:
    """Other protocols have types of their own."""
    heads: list[list[bytes]] = []

    def script(one: Web, request: bytes) -> bytes:
        heads.append(one.head)
        return ok(b"")

    endpoint = rogue(web(script)).endpoint
    [error] = calls(endpoint, "ping", 1, path="/", protocol_class=protocol)
    assert isinstance(error, BadReply)
    assert b"Content-Type: application/vnd.apache.thrift." + kind in heads[0]


# -- what comes back ------------------------------------------------------------------------------
@pytest.mark.parametrize("respond", [ok, chunked])
def test_the_connection_is_kept(calls: Calls, rogue: Make, respond: Any) -> None:
    """With a length or in chunks, the connection is used again."""
    server = rogue(web(lambda one, request: respond(one.pong(request))))
    assert ["pong"] * 3 == calls(server.endpoint, "ping", 3, path="/")
    assert 1 == server.connections


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    ],
)
def test_a_body_up_to_the_end(calls: Calls, rogue: Make, head: bytes) -> None:
    """Without a length the end of the connection is that of the body."""
    server = rogue(web(lambda one, request: head + one.pong(request), keep=False))
    assert ["pong"] * 2 == calls(server.endpoint, "ping", 2, path="/")
    assert 2 == server.connections


def test_a_server_that_says_close(calls: Calls, rogue: Make) -> None:
    """A connection that is to end after the response is not used again."""
    server = rogue(web(lambda one, request: ok(one.pong(request), b"Connection: close")))
    assert ["pong"] * 2 == calls(server.endpoint, "ping", 2, path="/")
    assert 2 == server.connections


@pytest.mark.parametrize("status", [b"500 Oh No", b"302 Found", b"204 Nothing"])
def test_another_status(calls: Calls, rogue: Make, status: bytes) -> None:
    """Any other status than 200 is an error that tells it, and what the page says."""
    page = b"" if status.startswith(b"204") else b"<h1>what\n a page</h1>"
    head = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status, len(page))
    server = rogue(web(lambda one, request: head + page))
    [error] = calls(server.endpoint, "ping", 1, path="/")
    assert isinstance(error, BadStatus)
    assert int(status[:3]) == error.status_code
    assert error.maybe_run
    assert f"answered with the status {status.decode()}" in str(error)
    assert page in (b"", b"<h1>what\n a page</h1>")
    assert ("<h1>what a page</h1>" in str(error)) == bool(page)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "is no HTTP"),
        (b"\x80\x01\x00\x02", "is no HTTP"),
        (b"HTTP/1.1 abc\r\n\r\n", "is no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", "max_frame_size"),
        (b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 20_000, "max_frame_size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n" + b"x" * 70_000, "max_f"),
        (ok(b"<html>"), "is no answer"),
        (ok(b""), "is no answer"),
    ],
)
def test_nonsense(calls: Calls, rogue: Make, response: bytes, message: str) -> None:
    """What is no HTTP, no Thrift, or too much of either is told as that."""
    server = rogue(web(lambda one, request: response, keep=False))
    [error] = calls(server.endpoint, "ping", 1, path="/", max_frame_size=10_000)
    assert isinstance(error, BadReply)
    assert re.search(message, str(error))


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Len",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal",
    ],
)
def test_a_response_that_breaks_off(calls: Calls, rogue: Make, response: bytes) -> None:
    """Half a response is a lost connection, and a call that is idempotent is repeated."""

    def serve(peer: Any) -> None:
        whole = web(lambda one, request: ok(one.pong(request)))
        broken = web(lambda one, request: response, keep=False)
        (whole if peer.number == 2 else broken)(peer)

    server = rogue(serve)
    [error] = calls(server.endpoint, "ping", 1, path="/")
    assert isinstance(error, ConnectionLost)
    options: Any = {"path": "/", "idempotent": {"ping"}, "retry": QUICK}
    assert ["pong"] == calls(server.endpoint, "ping", 1, **options)
    assert 3 == server.connections


def test_a_kept_connection_that_ends(calls: Calls, rogue: Make) -> None:
    """A server may close a kept connection without a word; the next call makes a new one."""

    def serve(peer: Any) -> None:
        web(lambda one, request: ok(one.pong(request)), keep=False)(peer)
        peer.sock.shutdown(socket.SHUT_RDWR)
        ended.set()

    ended = threading.Event()
    server = rogue(serve)
    options: Any = {"path": "/", "retry": RetryPolicy(9, Backoff(0.01, 0.01))}
    first = calls(server.endpoint, "ping", 1, **options)
    assert ["pong"] == first
    assert ended.wait(DEADLINE)


def test_oneway(calculator: Any, rogue: Make) -> None:
    """Of a oneway call the status is waited for, not the end of the response."""
    over = threading.Event()

    def script(one: Web, request: bytes) -> bytes:
        one.peer.send(b"HTTP/1.0 200 OK\r\n\r\n")
        over.wait(DEADLINE)
        return b""

    server = rogue(web(script, keep=False))
    with ThriftClient(server.endpoint, module=calculator, path="/") as client:
        assert client.note("word") is None

    async def main() -> None:
        async with AsyncThriftClient(server.endpoint, module=calculator, path="/") as client:
            assert await client.note("word") is None

    asyncio.run(main())
    over.set()


# -- pieces ---------------------------------------------------------------------------------------
HERE = Endpoint("http", "h", 80, "/")


@pytest.mark.parametrize("whole", [ok(b"body"), chunked(b"body and more")])
def test_a_response_in_pieces(whole: bytes) -> None:
    """However the bytes of a response are cut, it is whole with the last one, not before."""
    reply = HttpReply(HERE, 1000)
    assert [None] * (len(whole) - 1) == [reply.feed(bytes([each])) for each in whole[:-1]]
    assert reply.feed(whole[-1:]) in (b"body", b"body and more")
    assert reply.keeps


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: -1",
        b"Content-Length: 1_0",
        b"Content-Length: 1\r\nContent-Length: 2",
        b"Content-Length : 1",
        b" Content-Length: 1",
        b"Content-Length",
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: gzip, chunked",
    ],
)
def test_a_bad_head(fields: bytes) -> None:
    """A head that may mean two things is refused."""
    with pytest.raises(BadReply, match="is no HTTP"):
        HttpReply(HERE, 1000).feed(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n\r\n")


@pytest.mark.parametrize(
    "chunk", [b"x\r\n", b"\r\n", b"-1\r\n", b"1\r\nab\r\n", b"0_1\r\n", b"f" * 70_000]
)
def test_a_bad_chunk(chunk: bytes) -> None:
    """So is a chunk that is none."""
    reply = HttpReply(HERE, 1000)
    assert reply.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n") is None
    with pytest.raises(BadReply, match="is no HTTP"):
        reply.feed(chunk)


def test_heads_and_trailers_have_a_limit() -> None:
    """Lines without end are not kept for ever."""
    with pytest.raises(BadReply):
        HttpReply(HERE, 1000).feed(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000)
    reply = HttpReply(HERE, 1000)
    reply.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    with pytest.raises(BadReply):
        reply.feed(b"0\r\nA: " + b"x" * 70_000)


def test_more_than_a_response() -> None:
    """Bytes after the response are refused, as nobody asked for them."""
    with pytest.raises(BadReply, match="more came back"):
        HttpReply(HERE, 1000).feed(ok(b"body") + b"x")


def test_a_frame_in_pieces() -> None:
    """A frame is whole with its last byte."""
    reply = FramedReply(HERE, 10)
    whole = b"\x00\x00\x00\x03abc"
    assert [None] * 6 == [reply.feed(bytes([each])) for each in whole[:-1]]
    assert whole == reply.feed(whole[-1:])
    for size in (b"\x00\x00\x00\x0b", b"\xff\xff\xff\xff"):
        with pytest.raises(BadReply, match="max_frame_size"):
            FramedReply(HERE, 10).feed(size)
    with pytest.raises(BadReply, match="more came back"):
        FramedReply(HERE, 10).feed(whole + b"x")

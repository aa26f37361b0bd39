"""The server: what it serves, over TLS too, and how it drains."""

import asyncio
import errno
import gc
import logging
import socket
import ssl
import time
import weakref
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import tornado.web
import tornado.websocket

from sparts.http.connection import Connection, Phase
from sparts.http.server import HTTPServer, Limits
from sparts.net.tls import server_context

DEADLINE = 10.0


class Hello(tornado.web.RequestHandler):
    def get(self) -> None:
        self.write("Hello, world")

    def post(self) -> None:
        self.write(self.request.body)


class Gate(tornado.web.RequestHandler):
    """Answers when the test says so."""

    entered: asyncio.Event
    release: asyncio.Event

    async def get(self) -> None:
        if self.get_argument("early", ""):
            self.write("early ")
            await self.flush()
        self.entered.set()
        await self.release.wait()
        self.write("done")


@tornado.web.stream_request_body
class Upload(tornado.web.RequestHandler):
    def prepare(self) -> None:
        self.size = 0

    def data_received(self, chunk: bytes) -> None:
        self.size += len(chunk)

    def post(self) -> None:
        self.write(str(self.size))


class Echo(tornado.websocket.WebSocketHandler):
    codes: list[int | None]

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message)

    def on_close(self) -> None:
        self.codes.append(self.close_code)


class Take(tornado.web.RequestHandler):
    """Takes the stream over for a protocol of its own."""

    def get(self) -> None:
        stream = self.detach()
        stream.write(b"mine")


@pytest.fixture
def routes() -> list[Any]:
    """Routes with handlers of this test's own."""
    gate = type("G", (Gate,), {"entered": asyncio.Event(), "release": asyncio.Event()})
    echo = type("E", (Echo,), {"codes": []})
    return [("/", Hello), ("/gate", gate), ("/up", Upload), ("/echo", echo), ("/take", Take)]


def wait_for(served: Any, event: asyncio.Event) -> None:
    """Wait until *event* is set on the loop."""
    asyncio.run_coroutine_threadsafe(event.wait(), served.loop).result(DEADLINE)


# -- serving --------------------------------------------------------------------------------------
def test_many_requests_on_a_connection(serve: Any, routes: Any) -> None:
    """Requests of all kinds follow each other on one connection."""
    served = serve(routes)
    peer = served.connect()
    assert (200, b"Hello, world") == peer.get()[::2]
    assert (200, b"sent") == peer.get(body=b"sent")[::2]
    assert 404 == peer.get("/nowhere").status
    assert (200, b"300000") == peer.get("/up", b"x" * 300_000)[::2]
    assert (200, b"Hello, world") == peer.get()[::2]
    assert 1 == len(served.server.connections)


def test_pipelined_requests(serve: Any, routes: Any) -> None:
    """Requests that come at once are answered in order."""
    peer = serve(routes).connect()
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
    peer.send(b"".join(post + digit for digit in (b"1", b"2", b"3")))
    data = b""
    while data.count(b"\r\n\r\n") < 3 or not data.endswith(b"3"):
        data += peer.read(1)
    assert [b"1", b"2", b"3"] == [part[:1] for part in data.split(b"\r\n\r\n")[1:]]


def test_a_websocket(serve: Any, routes: Any) -> None:
    """A websocket works, and is not a request in flight."""
    served = serve(routes)
    peer = served.connect()
    peer.upgrade("/echo")
    peer.send(b"\x81\x82\0\0\0\0hi")
    assert b"\x81\x02hi" == peer.read(4)
    assert (1, 0) == served.call(lambda: (len(served.server.connections), served.server.in_flight))
    peer.sock.close()
    served.connected(0)


def test_nodelay(serve: Any, routes: Any) -> None:
    """Connections send without delay from the beginning; a websocket's handler may change that."""
    served = serve(routes)
    peer = served.connect()
    peer.get()
    [connection] = served.server.connections
    option = socket.IPPROTO_TCP, socket.TCP_NODELAY
    assert 0 != connection.stream.socket.getsockopt(*option)
    connection.stream.set_nodelay(False)
    assert 0 != connection.stream.socket.getsockopt(*option)
    peer.ask("/take")
    peer.read(4)
    served.call(lambda: connection.stream.set_nodelay(False))
    assert 0 == connection.stream.socket.getsockopt(*option)


def test_a_handler_may_take_the_stream(serve: Any, routes: Any) -> None:
    """A stream that a handler detached stays open, counts, and is closed at the end."""
    served = serve(routes)
    peer = served.connect()
    peer.ask("/take")
    assert b"mine" == peer.read(4)
    assert (1, 0) == served.call(lambda: (len(served.server.connections), served.server.in_flight))


def test_callback_applications(serve: Any, routes: Any) -> None:
    """A plain callback, as Tornado's server takes too, is served."""
    served = serve(routes)

    def answer(request: Any) -> None:
        headers = tornado.httputil.HTTPHeaders({"Content-Length": "2"})
        line = tornado.httputil.ResponseStartLine("HTTP/1.1", 200, "OK")
        request.connection.write_headers(line, headers, b"ok")
        request.connection.finish()

    served.server.request_callback = answer
    assert b"ok" == served.connect().get().body


def test_tornados_own_settings(loop_kind: str) -> None:
    """Settings are Tornado's, and its sizes win over the limits."""
    server = HTTPServer(tornado.web.Application(), Limits(), xheaders=True, max_body_size=5)
    assert (True, 5, 32768) == (
        server.xheaders,
        server.conn_params.max_body_size,
        server.conn_params.max_header_size,
    )


def test_in_flight(serve: Any, routes: Any) -> None:
    """A request is in flight from its head to its answer, or until the client goes."""
    served = serve(routes)
    gate = routes[1][1]
    peer, other = served.connect(), served.connect()
    peer.ask("/gate")
    wait_for(served, gate.entered)
    assert 1 == served.server.in_flight
    gate.entered.clear()
    other.ask("/gate")
    wait_for(served, gate.entered)
    assert 2 == served.server.in_flight
    before = set(served.server.connections)
    timers = {connection: connection._timer for connection in before}
    other.sock.close()
    served.connected(1)
    assert 1 == served.server.in_flight
    served.call(gate.release.set)
    assert b"done" == peer.answer().body
    assert 0 == served.call(lambda: served.server.in_flight)
    [gone] = before - served.server.connections
    assert (Phase.CLOSED, None) == (gone.phase, gone._timer)
    assert timers[gone].cancelled()


@pytest.mark.parametrize("who", ["client", "server"])
def test_no_garbage(serve: Any, routes: Any, who: str) -> None:
    """A connection that is over is gone at once: to collect cycles would cost a fifth more."""
    served = serve(routes)
    peer = served.connect()
    peer.get()
    [gone] = map(weakref.ref, served.server.connections)
    gc.disable()
    try:
        if who == "server":
            peer.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert peer.is_closed()
        peer.sock.close()
        served.connected(0)
        served.call(lambda: None)
        assert gone() is None
    finally:
        gc.enable()


def test_a_head_read_just_before_the_end(
    serve: Any, routes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that is parsed when its connection is closed already is not counted in flight."""
    served = serve(routes)
    seen: list[Connection] = []
    first_byte = Connection.first_byte

    def read_and_cut(self: Connection) -> None:
        first_byte(self)
        seen.append(self)
        served.loop.call_soon(self.cut)

    monkeypatch.setattr(Connection, "first_byte", read_and_cut)
    peer = served.connect()
    served.connected(1)
    served.call(lambda: None)  # by now the server waits for the head
    peer.ask()
    assert peer.is_closed()
    assert 0 == served.call(lambda: served.server.in_flight)
    [gone] = seen
    assert (Phase.CLOSED, None) == (gone.phase, gone._timer)


def test_a_request_and_the_end_at_once(serve: Any, routes: Any) -> None:
    """A client that sends its request and is gone leaves nothing counted."""
    served = serve(routes)
    for _ in range(20):
        peer = served.connect()
        peer.ask("/gate")
        peer.sock.close()
    served.call(routes[1][1].release.set)
    assert 200 == served.connect().get().status  # accepted after all of them
    served.connected(1)
    assert 0 == served.call(lambda: served.server.in_flight)


def test_one_that_is_gone_before_it_is_looked_at(
    serve: Any, routes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that cannot be made a stream of is closed, and the next is served."""
    served = serve(routes)
    with monkeypatch.context() as patch:
        error = OSError(errno.EINVAL, "gone")
        patch.setattr(served.server, "_stream", lambda sock: (_ for _ in ()).throw(error))
        assert served.connect().is_closed()
    assert 200 == served.connect().get().status
    assert 1 == len(served.server.connections)


# -- TLS ------------------------------------------------------------------------------------------
@pytest.fixture
def secure(serve: Any, routes: Any, certificate: Path) -> Any:
    """``secure(**limits)``: a server with TLS."""
    context = server_context(str(certificate / "cert.pem"), str(certificate / "key.pem"), "test")
    return lambda **limits: serve(routes, ssl_options=context, **limits)


@pytest.fixture
def trusting(certificate: Path) -> ssl.SSLContext:
    """A client's context that trusts the certificate."""
    return ssl.create_default_context(cafile=str(certificate / "cert.pem"))


def test_tls(secure: Any, trusting: ssl.SSLContext) -> None:
    """TLS serves as plain sockets do, with a large answer and a large body too."""
    served = secure()
    peer = served.connect(trusting)
    assert b"Hello, world" == peer.get().body
    body = b"x" * 3_000_000
    assert body == peer.get(body=body).body


def test_a_handshake_that_does_not_come_is_cut(secure: Any) -> None:
    """The handshake counts in with the header timeout."""
    assert secure(header_timeout=0.25).connect().is_closed()


@pytest.mark.parametrize("as_dict", [False, True])
def test_a_plain_client_of_a_tls_server(
    serve: Any, certificate: Path, trusting: ssl.SSLContext, caplog: Any, as_dict: bool
) -> None:
    """Who speaks no TLS is closed, with a line for debugging only, and the others go on."""
    caplog.set_level(logging.DEBUG)
    files = str(certificate / "cert.pem"), str(certificate / "key.pem")
    context = server_context(*files, "test")
    options = dict(zip(("certfile", "keyfile"), files, strict=True)) if as_dict else context
    served = serve([("/", Hello)], ssl_options=options)
    wrong = served.connect()
    wrong.ask()
    assert wrong.is_closed()
    assert 200 == served.connect(trusting).get().status
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    assert "A TLS handshake failed" in caplog.text


def test_draining_tls(secure: Any, trusting: ssl.SSLContext) -> None:
    """Idle TLS connections close too."""
    served = secure()
    peer = served.connect(trusting)
    peer.get()
    served.drain().result(DEADLINE)
    assert peer.is_closed()


# -- draining -------------------------------------------------------------------------------------
def test_draining_nobody(serve: Any, routes: Any) -> None:
    """Without connections the drain is done at once, in the same turn of the loop."""
    served = serve(routes)
    assert served.drain().done()


def test_draining_closes_the_idle(serve: Any, routes: Any) -> None:
    """Idle and silent connections close, and new ones are refused."""
    served = serve(routes)
    idle, silent = served.connect(), served.connect()
    idle.get()
    served.connected(2)
    served.drain().result(DEADLINE)
    assert idle.is_closed()
    assert silent.is_closed()
    with pytest.raises(ConnectionRefusedError):
        served.connect()


def test_an_idle_connection_gets_a_moment(serve: Any, routes: Any) -> None:
    """A request that comes just after the drain began, on a connection just used, is answered."""
    served = serve(routes)
    peer = served.connect()
    peer.get()
    served.drain()
    answer = peer.get()
    assert (200, "close") == (answer.status, answer.headers["Connection"])
    assert peer.is_closed()


def test_a_request_that_waits_to_be_read_is_answered(serve: Any, routes: Any) -> None:
    """What is in the socket when the drain begins is read, however long the connection idled."""
    served = serve(routes)
    peer = served.connect()
    peer.get()

    def late() -> None:
        [connection] = served.server.connections
        connection.since -= 3600
        peer.ask()
        served.server.drain(DEADLINE, lambda: served.drained.set_result(None))

    served.call(late)
    answer = peer.answer()
    assert (200, "close") == (answer.status, answer.headers["Connection"])
    served.drained.result(DEADLINE)


def test_a_request_that_came_at_the_last_moment(serve: Any, routes: Any) -> None:
    """A request that has come when an idle connection's moment is over is answered."""
    served = serve(routes)
    peer = served.connect()
    peer.get()
    served.drain()

    def over() -> None:
        peer.ask()  # the loop, being here, cannot have looked at it
        [connection] = served.server.connections
        connection.since -= 3600
        connection._on_time()

    served.call(over)
    answer = peer.answer()
    assert (200, "close") == (answer.status, answer.headers["Connection"])


def test_who_waits_in_the_backlog_is_served(serve: Any, routes: Any) -> None:
    """Connections that the system took before the drain are accepted and answered."""
    served = serve(routes)
    peers: list[Any] = []

    def late() -> None:
        for _ in range(20):  # the loop is busy here, so it accepts none of them
            peers.append(served.connect())
            peers[-1].ask()
        served.server.drain(DEADLINE, lambda: served.drained.set_result(None))

    served.call(late)
    assert [(200, "close")] * 20 == [
        (answer.status, answer.headers["Connection"]) for answer in (p.answer() for p in peers)
    ]
    served.drained.result(DEADLINE)


def test_who_waits_at_the_limit_is_served(serve: Any, routes: Any) -> None:
    """A drain at the limit of connections answers also those who wait for room."""
    served = serve(routes, max_connections=5)
    gate = routes[1][1]
    peers = [served.connect() for _ in range(10)]
    for peer in peers:
        peer.ask("/gate")
    served.connected(5)
    drained = served.drain()
    served.connected(10)
    assert not drained.done()
    served.call(gate.release.set)
    assert [(200, b"done")] * 10 == [peer.answer()[::2] for peer in peers]
    drained.result(DEADLINE)


def test_who_waits_for_a_descriptor_has_until_the_timeout(serve: Any, routes: Any) -> None:
    """Where descriptors stay short, the drain ends at its timeout and the socket is closed."""
    served = serve(routes)

    def short(*_: Any) -> Any:
        raise OSError(errno.EMFILE, "none left")

    def begin() -> None:
        [sock] = served.server._listener._sockets
        served.server._listener._sockets = [Mock(wraps=sock, accept=short)]
        served.server.drain(0.2, lambda: served.drained.set_result(None))
        assert not served.drained.done()

    served.call(begin)
    served.drained.result(DEADLINE)
    assert not served.server._listener.is_open


@pytest.mark.parametrize("early", ["", "?early=1"])
def test_a_request_in_flight_is_finished(serve: Any, routes: Any, early: str) -> None:
    """What is under way is answered in full; an answer not yet begun says that it is the last."""
    served = serve(routes)
    gate = routes[1][1]
    peer = served.connect()
    peer.ask(f"/gate{early}")
    wait_for(served, gate.entered)
    drained = served.drain()
    assert not drained.done()
    served.call(gate.release.set)
    answer = peer.answer()
    assert (200, b"early done" if early else b"done") == answer[::2]
    assert (None if early else "close") == answer.headers["Connection"]
    assert peer.is_closed()
    drained.result(DEADLINE)


def test_after_an_answer_that_began_before(serve: Any, routes: Any) -> None:
    """Where the answer's head was out before the drain, the client's next request is answered."""
    served = serve(routes)
    gate = routes[1][1]
    peer = served.connect()
    peer.ask("/gate?early=1")
    wait_for(served, gate.entered)
    served.drain()
    served.call(gate.release.set)
    assert b"early done" == peer.answer().body
    answer = peer.get()
    assert (200, "close") == (answer.status, answer.headers["Connection"])


def test_a_body_under_way_is_finished(serve: Any, routes: Any) -> None:
    """A request whose body is still coming is taken in and answered."""
    served = serve(routes)
    peer = served.connect()
    peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nha")
    while not served.server.in_flight:
        served.call(lambda: None)
    served.drain()
    peer.send(b"lf")
    answer = peer.answer()
    assert (b"half", "close") == (answer.body, answer.headers["Connection"])


def test_a_head_under_way_is_finished(serve: Any, routes: Any) -> None:
    """A request whose head is still coming is taken in and answered."""
    served = serve(routes)
    peer = served.connect()
    peer.send(b"GET / HTTP/1.1\r\nHo")
    served.connected(1)
    served.drain()
    peer.send(b"st: x\r\n\r\n")
    assert "close" == peer.answer().headers["Connection"]


def test_what_outlasts_the_drain_is_cut(serve: Any, routes: Any, caplog: Any) -> None:
    """Past the drain timeout connections are closed, and their number is logged as a warning."""
    served = serve(routes)
    gate = routes[1][1]
    peer = served.connect()
    peer.ask("/gate")
    wait_for(served, gate.entered)
    began = time.monotonic()
    served.drain(0.2).result(DEADLINE)
    assert 0.2 <= time.monotonic() - began
    assert peer.is_closed()
    assert ["Closing 1 connections that are still open after 0.2 s (drain-timeout)"] == [
        record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
    ]
    served.call(gate.release.set)


def test_a_handler_that_does_not_notice(serve: Any) -> None:
    """A handler that waits in ``prepare`` for good does not hold up the end of the drain."""
    entered, release = asyncio.Event(), asyncio.Event()

    @tornado.web.stream_request_body
    class Stuck(tornado.web.RequestHandler):
        async def prepare(self) -> None:
            entered.set()
            await release.wait()

        def data_received(self, chunk: bytes) -> None:
            pass

    served = serve([("/", Stuck)])
    served.connect().ask(body=b"x")
    wait_for(served, entered)
    served.drain(0.1).result(DEADLINE)
    assert set() == served.server.connections
    served.call(release.set)


def test_websockets_are_told(serve: Any, routes: Any) -> None:
    """A websocket is closed as going away, and the handler hears of it."""
    served = serve(routes)
    peer = served.connect()
    peer.upgrade("/echo")
    drained = served.drain()
    assert b"\x88\x02\x03\xe9" == peer.read(4)
    peer.send(b"\x88\x82\0\0\0\0\x03\xe9")
    drained.result(DEADLINE)
    assert [1001] == routes[3][1].codes


def test_draining_twice(serve: Any, routes: Any) -> None:
    """Only the first drain counts."""
    served = serve(routes)
    served.drain().result(DEADLINE)
    served.call(lambda: served.server.drain(0.0, lambda: pytest.fail("called")))


def test_stop_only_stops_listening(serve: Any, routes: Any) -> None:
    """Tornado's ``stop`` closes the listening sockets and leaves the connections."""
    served = serve(routes)
    peer = served.connect()
    peer.get()
    served.call(served.server.stop)
    assert 200 == peer.get().status
    with pytest.raises(ConnectionRefusedError):
        served.connect()

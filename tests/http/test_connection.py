"""Time and size limits of one connection, against raw clients."""

import asyncio
import contextlib
import socket
import threading
import time
from typing import Any

import pytest
import tornado.web
import tornado.websocket

from sparts.http.connection import Phase

DEADLINE = 10.0
#: Seconds; short enough to wait for, long enough for a busy machine to stay within.
LIMIT = 0.25
LONG = 60.0


class Hello(tornado.web.RequestHandler):
    def get(self) -> None:
        self.write("Hello, world")

    def post(self) -> None:
        self.write(str(len(self.request.body)))


class Big(tornado.web.RequestHandler):
    SIZE = 64 * 1024 * 1024

    def get(self) -> None:
        self.write(b"x" * self.SIZE)


class Slow(tornado.web.RequestHandler):
    async def get(self) -> None:
        await asyncio.sleep(3 * LIMIT)
        self.write("at last")


@tornado.web.stream_request_body
class Upload(tornado.web.RequestHandler):
    """Takes its time in ``prepare``, and allows for a long body if asked to."""

    prepared = threading.Event()

    async def prepare(self) -> None:
        self.size = 0
        await asyncio.sleep(2 * LIMIT)
        self.prepared.set()
        if self.get_argument("patient", ""):
            self.request.connection.set_body_timeout(LONG)  # type: ignore[union-attr]

    def data_received(self, chunk: bytes) -> None:
        self.size += len(chunk)

    def post(self) -> None:
        self.write(str(self.size))


class Echo(tornado.websocket.WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(message)


class Flood(tornado.websocket.WebSocketHandler):
    """Sends without being asked."""

    async def open(self, *args: str, **kwargs: str) -> None:
        with contextlib.suppress(tornado.websocket.WebSocketClosedError):
            await self.write_message(b"x" * Big.SIZE, binary=True)


ROUTES = [("/", Hello), ("/big", Big), ("/slow", Slow), ("/up", Upload)]
ROUTES += [("/echo", Echo), ("/flood", Flood)]
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
ENDLESS = b"GET / HTTP/1.1\r\nHost: " + 1000 * b"x"


@pytest.fixture
def loop_kind() -> str:
    """One will do here: the other modules try both."""
    return "auto"


def dripping(peer: Any, data: bytes, pause: float = LIMIT / 25) -> bool:
    """Send *data* a byte at a time; whether the connection was closed before the end of it."""
    peer.sock.settimeout(pause)
    for byte in data:
        try:
            peer.send(bytes([byte]))
            if not peer.sock.recv(1, socket.MSG_PEEK):
                return True
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    peer.sock.settimeout(DEADLINE)
    return False


# -- the head -------------------------------------------------------------------------------------
def test_a_silent_client_is_cut(serve: Any) -> None:
    """Who connects and sends nothing is cut after the header timeout, not before."""
    served = serve(ROUTES, header_timeout=LIMIT)
    began = time.monotonic()
    assert served.connect().is_closed()
    assert LIMIT - 0.05 <= time.monotonic() - began


def test_a_dripping_head_is_cut(serve: Any) -> None:
    """A head that comes a byte at a time is cut however regularly the bytes come."""
    served = serve(ROUTES, header_timeout=LIMIT)
    assert dripping(served.connect(), ENDLESS)


def test_a_dripping_second_head_is_cut(serve: Any) -> None:
    """The time of a later request's head counts from its first byte, not from the idling before."""
    served = serve(ROUTES, header_timeout=LIMIT, idle_timeout=LONG)
    peer = served.connect()
    assert 200 == peer.get().status
    assert dripping(peer, ENDLESS)


def test_idling_is_not_the_next_heads_time(serve: Any) -> None:
    """A client that idled longer than a head may take has all that time for its next head."""
    served = serve(ROUTES, header_timeout=4 * LIMIT, idle_timeout=LONG)
    peer = served.connect()
    peer.get()
    [connection] = served.server.connections
    served.call(lambda: setattr(connection, "since", connection.since - 30))
    peer.send(HEAD[:9])
    while connection.phase is not Phase.HEAD:
        served.call(lambda: None)
    served.call(connection._on_time)
    peer.send(HEAD[9:])
    assert 200 == peer.answer().status


def test_a_slow_but_timely_head_is_served(serve: Any) -> None:
    """A head that comes a byte at a time within its time is answered."""
    served = serve(ROUTES, header_timeout=LONG)
    peer = served.connect()
    assert not dripping(peer, HEAD, 0.001)
    assert b"Hello, world" == peer.answer().body


def test_a_long_head_is_refused(serve: Any) -> None:
    """A head longer than the limit ends the connection; one that fits does not."""
    served = serve(ROUTES, max_header_size=2000)
    fits, too_long = served.connect(), served.connect()
    fits.send(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 1500 + b"\r\n\r\n")
    assert 200 == fits.answer().status
    too_long.send(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 3000 + b"\r\n\r\n")
    assert too_long.is_closed()


# -- the body -------------------------------------------------------------------------------------
def test_a_dripping_body_is_cut(serve: Any) -> None:
    """A body that comes a byte at a time is cut, though each byte is progress."""
    served = serve(ROUTES, body_timeout=LIMIT)
    peer = served.connect()
    peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    assert dripping(peer, b"x" * 1000)


def test_a_dripping_chunked_body_is_cut(serve: Any) -> None:
    """So is one in chunks, which has no length."""
    served = serve(ROUTES, body_timeout=LIMIT)
    peer = served.connect()
    peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert dripping(peer, b"1\r\nx\r\n" * 200)


def test_preparing_is_not_the_clients_time(serve: Any) -> None:
    """A streaming handler's slow ``prepare`` does not use up the client's time for the body."""
    served = serve(ROUTES, body_timeout=LIMIT)
    peer = served.connect()
    Upload.prepared.clear()
    peer.send(b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
    assert Upload.prepared.wait(DEADLINE)
    served.call(lambda: None)
    peer.send(b"12345")
    assert b"5" == peer.answer().body


def test_a_streamed_body_is_cut(serve: Any) -> None:
    """A streaming handler's client is cut too, once prepared."""
    served = serve(ROUTES, body_timeout=LIMIT)
    peer = served.connect()
    peer.send(b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    assert dripping(peer, b"x" * 1000)


def test_a_handler_may_allow_longer_bodies(serve: Any) -> None:
    """``set_body_timeout`` of a handler is what holds for its request."""
    served = serve(ROUTES, body_timeout=LIMIT)
    peer = served.connect()
    peer.send(b"POST /up?patient=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
    assert not dripping(peer, b"x" * 100, 5 * LIMIT / 100)
    assert b"100" == peer.answer().body


def test_a_long_body_is_refused(serve: Any) -> None:
    """A body longer than the limit gets a 400 and the end; one that fits is taken."""
    served = serve(ROUTES, max_body_size=1000)
    peer = served.connect()
    assert b"1000" == peer.get(body=b"x" * 1000).body
    peer.ask(body=b"x" * 1001)
    assert 400 == peer.answer().status
    assert peer.is_closed()


# -- the answer -----------------------------------------------------------------------------------
def test_a_client_that_never_reads_is_cut(serve: Any) -> None:
    """Who asks for much and reads nothing is cut, and what it did not read is dropped."""
    served = serve(ROUTES, write_timeout=LIMIT, idle_timeout=LONG)
    peer = served.connect()
    peer.ask("/big")
    served.connected(1)
    served.connected(0)
    with pytest.raises(ConnectionResetError):
        peer.read(Big.SIZE)


def test_a_slow_reader_is_served(serve: Any) -> None:
    """Who reads slowly but on and on gets all, though it takes many times the write timeout."""
    served = serve(ROUTES, write_timeout=1.0)
    peer = served.connect()
    peer.ask("/big")
    peer.read(1)
    left = Big.SIZE
    began = time.monotonic()
    pause = threading.Event()
    while left > 0:
        pause.wait(0.05)  # the client's own slowness
        left -= len(peer.read(min(left, 3 * 1024 * 1024)))
    assert 1.0 < time.monotonic() - began


def test_a_slow_handler_is_waited_for(serve: Any) -> None:
    """What the handler takes is not the client's time."""
    limits = ["header_timeout", "body_timeout", "idle_timeout", "write_timeout"]
    served = serve(ROUTES, **dict.fromkeys(limits, 2 * LIMIT))
    assert b"at last" == served.connect().get("/slow").body


def test_an_idle_connection_is_closed(serve: Any) -> None:
    """A kept connection without another request is closed after the idle timeout, not before."""
    served = serve(ROUTES, idle_timeout=LIMIT, header_timeout=LONG)
    peer = served.connect()
    peer.get()
    began = time.monotonic()
    assert peer.is_closed()
    assert LIMIT - 0.05 <= time.monotonic() - began


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_clock_that_jumps(serve: Any, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    """Wall time set back or forth an hour neither cuts a connection nor keeps one."""
    served = serve(ROUTES, header_timeout=4 * LIMIT, idle_timeout=LONG)
    silent, busy = served.connect(), served.connect()
    busy.get()
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + jump)
    assert silent.is_closed()
    assert 200 == busy.get().status


def test_zero_is_no_limit(serve: Any) -> None:
    """A time of 0 sets no timer at all."""
    served = serve(ROUTES, header_timeout=0, body_timeout=0, idle_timeout=0, write_timeout=0)
    peer = served.connect()
    assert not dripping(peer, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", 0.001)
    assert not dripping(peer, b"123456789", 0.001)
    assert b"9" == peer.answer().body
    [connection] = served.server.connections
    assert connection._timer is None


# -- upgraded -------------------------------------------------------------------------------------
def test_a_quiet_websocket_stays(serve: Any) -> None:
    """A websocket is under no time limit but that of writing."""
    limits = {"header_timeout": LIMIT, "body_timeout": LIMIT, "idle_timeout": LIMIT}
    served = serve(ROUTES, write_timeout=LIMIT, **limits)
    peer = served.connect()
    peer.upgrade("/echo")
    peer.sock.settimeout(3 * LIMIT)
    with pytest.raises(TimeoutError):
        peer.sock.recv(1)
    peer.sock.settimeout(DEADLINE)
    peer.send(b"\x81\x82\0\0\0\0hi")
    assert b"\x81\x02hi" == peer.read(4)
    assert 0 == served.call(lambda: served.server.in_flight)


def test_a_websocket_that_never_reads_is_cut(serve: Any) -> None:
    """A websocket whose client reads nothing is cut when the write timeout is over."""
    served = serve(ROUTES, write_timeout=LIMIT)
    peer = served.connect()
    peer.upgrade("/flood")
    served.connected(0)


# -- its cost -------------------------------------------------------------------------------------
def test_requests_set_no_timers(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many requests come, a busy connection's one timer is set again only as it fires."""
    served = serve(ROUTES, header_timeout=30, body_timeout=60, idle_timeout=90)
    peer = served.connect()
    peer.get()
    [connection] = served.server.connections
    first = connection._timer
    for number in range(300):
        peer.get(body=None if number % 2 else b"x")
    assert first is connection._timer


def test_the_names_of_tornado_that_it_looks_at(serve: Any) -> None:
    """The private names of Tornado that refine the limits and the drain are there as expected."""
    seen: list[Any] = []

    class Look(tornado.web.RequestHandler):
        def get(self) -> None:
            connection: Any = self.request.connection
            names = ["_body_timeout", "_response_start_line", "_disconnect_on_finish"]
            seen.extend(getattr(connection, name) for name in names)

    serve([("/", Look)]).connect().get()
    assert [None, None, False] == seen

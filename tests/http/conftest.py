"""A bare HTTPServer on a loop of its own in a thread, and raw clients for it."""

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from http.client import HTTPResponse
from typing import Any, NamedTuple

import pytest
import tornado.web
from tornado.ioloop import IOLoop

from sparts.http.server import HTTPServer, Limits
from sparts.net.sockets import bind_tcp
from sparts.tasks.asyncio import new_loop

DEADLINE = 10.0

# The first uvloop of a process makes a pipe that libuv keeps for good: let no test be blamed.
new_loop("uvloop").close()


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Any
    body: bytes


class Peer:
    """A client's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(DEADLINE)

    def send(self, data: bytes) -> None:
        """Send all of *data*."""
        self.sock.sendall(data)

    def ask(self, path: str = "/", body: bytes | None = None) -> None:
        """Send a GET, or a POST of *body*."""
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        method = "GET" if body is None else "POST"
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{length}\r\n"
        self.send(head.encode() + (body or b""))

    def answer(self) -> Answer:
        """Read one answer."""
        response = HTTPResponse(self.sock)
        response.begin()
        with response:
            return Answer(response.status, response.headers, response.read())

    def get(self, path: str = "/", body: bytes | None = None) -> Answer:
        """Ask, and read the answer."""
        self.ask(path, body)
        return self.answer()

    def upgrade(self, path: str) -> None:
        """Become a websocket."""
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        head += "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        self.send(head.encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += self.read(1)
        assert answer.startswith(b"HTTP/1.1 101")

    def read(self, size: int) -> bytes:
        """Exactly *size* bytes."""
        data = b""
        while len(data) < size:
            more = self.sock.recv(size - len(data))
            assert more, f"closed after {data!r}"
            data += more
        return data

    def is_closed(self) -> bool:
        """Wait for the end of the connection, reading what comes; False past the deadline."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True


class Served:
    """A server on a loop in a thread."""

    def __init__(self, app: Any, loop: asyncio.AbstractEventLoop, settings: Any) -> None:
        self.loop = loop
        self.server = HTTPServer(app, **settings)
        self.drained: Future[None] = Future()
        self._peers: list[Peer] = []
        self._thread = threading.Thread(target=self._run, name="served", daemon=True)
        [self._sock] = bind_tcp("127.0.0.1", 0, "the test")
        self._sock.listen(128)
        self.address = self._sock.getsockname()
        self._thread.start()
        self.call(lambda: self.server.add_sockets([self._sock]))

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        IOLoop(make_current=False, asyncio_loop=self.loop)
        self.loop.run_forever()
        asyncio.set_event_loop(None)

    def call(self, function: Callable[[], Any]) -> Any:
        """What *function()* returns, called on the loop."""

        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(DEADLINE)

    def connect(self, tls: ssl.SSLContext | None = None) -> Peer:
        """A new connection; closed at the end of the test."""
        sock = socket.create_connection(self.address, DEADLINE)
        peer = Peer(sock if tls is None else tls.wrap_socket(sock, server_hostname="localhost"))
        self._peers.append(peer)
        return peer

    def connected(self, count: int) -> None:
        """Wait until the server has *count* connections."""
        reached = threading.Event()

        def look() -> None:
            if len(self.server.connections) == count:
                reached.set()
            else:
                self.loop.call_later(0.005, look)

        self.loop.call_soon_threadsafe(look)
        assert reached.wait(DEADLINE), f"never had {count} connections"

    def drain(self, timeout: float = DEADLINE) -> Future[None]:
        """Begin to drain; the future is done when the server is."""
        self.call(lambda: self.server.drain(timeout, lambda: self.drained.set_result(None)))
        return self.drained

    def close(self) -> None:
        """End everything; fails if the server leaves something behind."""
        try:
            self.drain(0.0)
            self.drained.result(DEADLINE)
            left = asyncio.run_coroutine_threadsafe(self._left(), self.loop).result(DEADLINE)
            assert (set(), 0, set()) == (self.server.connections, self.server.in_flight, left)
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(DEADLINE)
            self.loop.close()
            for peer in self._peers:
                peer.sock.close()

    async def _left(self) -> set[Any]:
        return {t for t in asyncio.all_tasks() if t is not asyncio.current_task()}


Serve = Callable[..., Served]


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_kind(request: pytest.FixtureRequest) -> str:
    """Both loops."""
    return str(request.param)


@pytest.fixture
def serve(loop_kind: str) -> Iterator[Serve]:
    """``serve(routes, header_timeout=1.0)``: a running server with those limits."""
    running: list[Served] = []

    def start(routes: Any, ssl_options: Any = None, logger: Any = None, **limits: Any) -> Served:
        settings = {"limits": Limits(**limits), "ssl_options": ssl_options, "logger": logger}
        app = tornado.web.Application(routes)
        running.append(Served(app, new_loop(loop_kind), settings))
        return running[-1]

    yield start
    for served in running:
        served.close()


@pytest.fixture
def logger() -> logging.Logger:
    """A logger for servers."""
    return logging.getLogger("served")

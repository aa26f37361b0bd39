"""Thrift servers of others, framed binary with the fastest codec each has: KIND PORT CONNECTIONS.

KIND is the name of a function below. The pools have a worker for each of CONNECTIONS, as a worker
serves one connection until it ends; where a server has threads for calls, it has ten.
"""

import asyncio
import contextlib
import ctypes
import multiprocessing
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from thrift.protocol.TBinaryProtocol import TBinaryProtocolAcceleratedFactory
from thrift.transport.TSocket import TServerSocket
from thrift.transport.TTransport import TFramedTransportFactory

from benchmarks.gen.bench import Bench

HOST = "127.0.0.1"
BINDINGS = Path(__file__).resolve().parent.parent / "bench.thrift"
#: Option of prctl(2): the signal to get when the parent has died.
PR_SET_PDEATHSIG = 1


class Handler:
    """``bench.thrift`` by plain methods."""

    def ping(self) -> str:
        return "pong"

    def echo(self, value: Any) -> Any:
        return value

    def wait(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    def compute(self, seconds: float) -> float:
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            pass
        return seconds

    def note(self, n: int) -> None:
        pass


class AsyncHandler:
    """The same by coroutines."""

    async def ping(self) -> str:
        return "pong"

    async def echo(self, value: Any) -> Any:
        return value

    async def wait(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    async def compute(self, seconds: float) -> float:
        return Handler().compute(seconds)

    async def note(self, n: int) -> None:
        pass


# -- Apache's -------------------------------------------------------------------------------------
def _apache(server: Any, port: int) -> Any:
    return server(
        Bench.Processor(Handler()),
        TServerSocket(HOST, port),
        TFramedTransportFactory(),
        TBinaryProtocolAcceleratedFactory(),
    )


def threaded(port: int, connections: int) -> None:
    """A thread for each connection."""
    from thrift.server.TServer import TThreadedServer

    _apache(TThreadedServer, port).serve()


def threadpool(port: int, connections: int) -> None:
    """A pool of threads, each of which serves a connection until it ends."""
    from thrift.server.TServer import TThreadPoolServer

    server = _apache(TThreadPoolServer, port)
    server.setNumThreads(connections)
    server.serve()


def nonblocking(port: int, connections: int) -> None:
    """One thread for the sockets, and ten for calls."""
    from thrift.server.TNonblockingServer import TNonblockingServer

    TNonblockingServer(
        Bench.Processor(Handler()),
        TServerSocket(HOST, port),
        TBinaryProtocolAcceleratedFactory(),
        threads=10,
    ).serve()


def processpool(port: int, connections: int) -> None:
    """A pool of processes, each of which serves a connection until it ends."""
    from thrift.server.TProcessPoolServer import TProcessPoolServer

    multiprocessing.set_start_method("fork")
    server = _apache(TProcessPoolServer, port)
    server.setNumWorkers(connections)
    server.setPostForkCallback(_die_with_parent)
    server.serve()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def tornado(port: int, connections: int) -> None:
    """On Tornado's loop; the usual bindings, behind an answer that Tornado can wait for."""
    from thrift.TTornado import TTornadoServer

    class Processor(Bench.Processor):  # type: ignore[misc]  # generated code is not typed
        def process(self, iprot: Any, oprot: Any) -> "Future[None]":
            super().process(iprot, oprot)
            return done

    done: Future[None] = Future()
    done.set_result(None)

    async def main() -> None:
        server = TTornadoServer(Processor(Handler()), TBinaryProtocolAcceleratedFactory())
        server.listen(port, HOST)
        await asyncio.Event().wait()

    asyncio.run(main())


# -- thriftpy2's ----------------------------------------------------------------------------------
def thriftpy2_threaded(port: int, connections: int) -> None:
    """A thread for each connection, with the codec and the transport in C."""
    import thriftpy2
    from thriftpy2.protocol import TCyBinaryProtocolFactory
    from thriftpy2.rpc import make_server
    from thriftpy2.transport import TCyFramedTransportFactory

    make_server(
        thriftpy2.load(str(BINDINGS), module_name="bench_thrift").Bench,
        Handler(),
        HOST,
        port,
        proto_factory=TCyBinaryProtocolFactory(),
        trans_factory=TCyFramedTransportFactory(),
        client_timeout=None,  # idle ones are to stay
    ).serve()


def thriftpy2_asyncio(port: int, connections: int) -> None:
    """On asyncio, whose codec it has in Python only."""
    import thriftpy2
    from thriftpy2.contrib.aio.protocol.binary import TAsyncBinaryProtocolFactory
    from thriftpy2.contrib.aio.rpc import make_server
    from thriftpy2.contrib.aio.transport.framed import TAsyncFramedTransportFactory

    make_server(
        thriftpy2.load(str(BINDINGS), module_name="bench_thrift").Bench,
        AsyncHandler(),
        HOST,
        port,
        proto_factory=TAsyncBinaryProtocolFactory(),
        trans_factory=TAsyncFramedTransportFactory(),
        client_timeout=None,  # idle ones are to stay
        loop=asyncio.new_event_loop(),
    ).serve()


# -- the floor ------------------------------------------------------------------------------------
def canned(port: int, connections: int) -> None:
    """No Thrift at all: one thread on epoll that knows the reply of each frame."""
    from benchmarks.thriftcalls import ECHO, PING

    replies = {call.frame: call.reply for call in (PING, ECHO)}
    listener = socket.create_server((HOST, port), backlog=4096)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    while True:
        for number, _ in epoll.poll():
            client = clients.get(number)
            if client is None:
                client, _address = listener.accept()
                clients[client.fileno()] = client
                epoll.register(client, select.EPOLLIN)
                continue
            try:
                client.send(replies[client.recv(65536)])
            except (KeyError, ConnectionError):  # it has ended, at best
                clients.pop(number).close()


KINDS: dict[str, Callable[[int, int], None]] = {
    serve.__name__: serve
    for serve in (
        threaded,
        threadpool,
        nonblocking,
        processpool,
        tornado,
        thriftpy2_threaded,
        thriftpy2_asyncio,
        canned,
    )
}

if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        KINDS[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]))

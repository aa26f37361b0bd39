"""The asyncio client; what it shares with the blocking one is tested there."""

import asyncio
import contextlib
import functools
import inspect
import operator
import socket
import ssl
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from example.ttypes import Item, Refused
from thrift.protocol import TBinaryProtocol, TCompactProtocol, THeaderProtocol, TJSONProtocol
from thrift.Thrift import TApplicationException
from thrift.transport import THeaderTransport, TTransport, TZlibTransport

from sparts.errors import OptionError
from sparts.thrift.async_client import AsyncThriftClient
from sparts.thrift.clients.retry import Backoff, RetryPolicy
from sparts.thrift.errors import (
    BadReply,
    CallTimeout,
    ClientClosed,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    Overloaded,
    PoolExhausted,
)

DEADLINE = 10.0
QUICK = RetryPolicy(3, Backoff(0.001, 0.002))
ITEM = Item(id=1, name="é", numbers=[1, 2], raw=b"\x00\xff", marks={1, 2})

Make = Callable[..., Any]
#: Runs a coroutine on a loop of its own.
Run = Callable[[Coroutine[Any, Any, Any]], Any]


def run_asyncio(main: Coroutine[Any, Any, Any]) -> Any:
    """On asyncio's loop."""
    return asyncio.run(main)


def run_uvloop(main: Coroutine[Any, Any, Any]) -> Any:
    """On uvloop's."""
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


@pytest.fixture(params=[run_asyncio, run_uvloop])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine, on each kind of loop."""
    runner: Run = request.param
    return runner


async def failure(awaited: Awaitable[Any]) -> Exception:
    """What it raises."""
    try:
        await awaited
    except Exception as error:
        return error
    raise AssertionError("it did not fail")


async def until(true: Callable[[], Any]) -> None:
    """Let the others have their turn until that is so."""
    end = time.monotonic() + DEADLINE
    await asyncio.sleep(0)
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.001)


# -- calls ----------------------------------------------------------------------------------------
def test_values(run: Run, apache: Any, calculator: Any) -> None:
    """Values come and go, errors come as themselves, and a connection is kept for all."""

    async def main() -> None:
        async with AsyncThriftClient(apache.endpoint(), module=calculator) as client:
            assert "pong" == await client.ping()
            assert (3, 11) == (await client.add(1, b=2), await client.add(1))
            assert ITEM == await client.echo(ITEM)
            assert await client.nothing() is None
            await client.note("async")
            assert "async" in await client.noted()
            assert b"x" * 3_000_000 == await client.blob(b"x" * 3_000_000)
            assert Refused("by zero", 7) == await failure(client.divide(1, 0))
            told = await failure(client.fail("anything"))
            assert isinstance(told, TApplicationException)
            missing: Any = await failure(client.fail("none"))
            assert TApplicationException.MISSING_RESULT == missing.type
            assert isinstance(await failure(client.add()), TypeError)
            assert 1 == client._caller._pools[0].size

    run(main())


@pytest.mark.parametrize(
    ("server", "options"),
    [
        ("framed", {"protocol_class": TBinaryProtocol.TBinaryProtocol}),
        ("framed-compact", {"protocol_class": TCompactProtocol.TCompactProtocolAccelerated}),
        ("framed-json", {"protocol_class": TJSONProtocol.TJSONProtocol}),
        ("header", {"protocol_class": THeaderProtocol.THeaderProtocol}),
        ("header", {"transport_class": THeaderTransport.THeaderTransport}),
        ("multiplexed", {"multiplex_service": "calc"}),
        ("http", {"path": "/thrift"}),
        ("http-compact", {"path": "", "protocol_class": TCompactProtocol.TCompactProtocol}),
        ("http-json", {"path": "/", "protocol_class": TJSONProtocol.TJSONProtocol}),
        ("unix", {}),
        ("simple", {}),
    ],
)
def test_every_transport(run: Run, apache: Any, calculator: Any, server: str, options: Any) -> None:
    """Over every transport that tells where messages end, with every protocol."""

    async def main() -> None:
        async with AsyncThriftClient(
            apache.endpoint(server), module=calculator, **options
        ) as client:
            assert "pong" == await client.ping()
            assert ITEM == await client.echo(ITEM)
            assert isinstance(await failure(client.divide(1, 0)), Refused)
            await client.note(server)
            assert server in await client.noted()
            assert "x" * 40_000 == await client.text("x" * 40_000)

    run(main())


@pytest.mark.parametrize(
    "transport", [TTransport.TBufferedTransport, TZlibTransport.TZlibTransport]
)
def test_unframed(calculator: Any, transport: Any) -> None:
    """A transport that does not tell where messages end is refused, with what to give instead."""
    with pytest.raises(OptionError, match="give AsyncThriftClient TFramedTransport"):
        AsyncThriftClient("h:1", module=calculator, transport_class=transport)


def test_tls(run: Run, apache: Any, calculator: Any, folder: Path) -> None:
    """TLS, with the same options and the same errors."""
    _, port = apache.endpoint("tls")
    ca = str(folder / "cert.pem")

    async def main() -> None:
        async with AsyncThriftClient(("127.0.0.1", port), module=calculator, ca=ca) as client:
            assert "pong" == await client.ping()
            assert "x" * 1_000_000 == await client.text("x" * 1_000_000)
        async with AsyncThriftClient(f"tls://127.0.0.1:{port}", module=calculator) as client:
            error = await failure(client.with_timeout(0.5).ping())
            assert "certificate is not trusted: self-signed" in str(error)

    run(main())


def test_the_face(calculator: Any) -> None:
    """Methods show themselves as the blocking client's do, and are coroutine functions."""
    client: Any = AsyncThriftClient.for_localhost(1, module=calculator)
    assert {"ping", "add", "close", "with_timeout"} < set(dir(client))
    assert "(a, b=10)" == str(inspect.signature(client.add))
    assert inspect.iscoroutinefunction(client.add)
    assert "<AsyncThriftClient of Calculator at localhost:1>" == repr(client)
    with pytest.raises(AttributeError, match="did you mean 'ping'"):
        _ = client.pong


def test_many_at_once(run: Run, apache: Any, calculator: Any) -> None:
    """Coroutines that share a client never get each other's answers, nor too many connections."""

    async def main() -> None:
        options: Any = {"module": calculator, "max_connections": 7}
        async with AsyncThriftClient(apache.endpoint(), **options) as client:
            texts = [f"{number}" * (number % 50 + 1) for number in range(600)]
            assert texts == await asyncio.gather(*map(client.text, texts))
            assert 7 == client._caller._pools[0].size

    run(main())


def test_not_lazy(run: Run, apache: Any, calculator: Any, refused: Any) -> None:
    """Without laziness entering connects, to the first endpoint that it can."""

    async def main() -> None:
        both = [refused, apache.endpoint()]
        async with AsyncThriftClient(both, module=calculator, lazy=False) as client:
            assert [0, 1] == [pool.size for pool in client._caller._pools]
        with pytest.raises(ConnectFailed):
            await AsyncThriftClient(refused, module=calculator, lazy=False).__aenter__()

    run(main())


# -- deadlines and cancelling ---------------------------------------------------------------------
def test_no_answer(run: Run, calculator: Any, rogue: Make) -> None:
    """A call is waited for until its deadline, asked once, and its connection is closed."""
    server = rogue(lambda peer: peer.until_end())

    async def main() -> None:
        options: Any = {"idempotent": {"ping"}, "call_timeout": 0.1}
        async with AsyncThriftClient(server.endpoint, module=calculator, **options) as client:
            began = time.monotonic()
            error: Any = await failure(client.ping())
            assert 0.09 <= time.monotonic() - began < 1.0
            assert isinstance(error, CallTimeout)
            assert error.maybe_run
            assert "ping(): no answer from 127.0.0.1" in str(error)
            assert 0 == client._caller._pools[0].size

    run(main())
    assert 1 == server.connections


def test_a_call_that_is_not_taken(run: Run, calculator: Any, rogue: Make) -> None:
    """A oneway call to a server that does not read ends, too, and keeps no memory."""
    over = threading.Event()
    server = rogue(lambda peer: over.wait(DEADLINE))

    async def main() -> None:
        async with AsyncThriftClient(
            server.endpoint, module=calculator, call_timeout=0.1
        ) as client:
            assert isinstance(await failure(client.note("x" * 10_000_000)), CallTimeout)
            assert 0 == client._caller._pools[0].size

    run(main())
    over.set()


def test_a_connect_that_hangs(run: Run, calculator: Any) -> None:
    """To connect has a limit of its own."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            waiting = [socket.socket() for _ in range(4)]
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(full.getsockname())
            options: Any = {"connect_timeout": 0.1, "retry": RetryPolicy(1)}
            async with AsyncThriftClient(
                full.getsockname(), module=calculator, **options
            ) as client:
                error = await failure(client.ping())
                assert "no answer in time (connect_timeout)" in str(error)
                late = await failure(client.with_timeout(0.05).ping())
                assert "no connection to" in str(late)
                assert isinstance(late, CallTimeout)
            for each in waiting:
                each.close()

    run(main())


def test_cancelling(run: Run, calculator: Any, rogue: Make) -> None:
    """A cancelled call closes its connection, so its answer is nobody else's."""
    asked, ended = threading.Event(), threading.Event()

    def serve(peer: Any) -> None:
        request = peer.frame()
        if peer.number == 0:
            asked.set()
            peer.until_end()
            ended.set()
        else:
            peer.text(request)
            peer.until_end()

    server = rogue(serve)

    async def main() -> None:
        async with AsyncThriftClient(server.endpoint, module=calculator) as client:
            call = asyncio.create_task(client.ping())
            await until(asked.is_set)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert 0 == client._caller._pools[0].size
            assert "pong" == await client.ping()
        await until(ended.is_set)

    run(main())
    assert 2 == server.connections


def test_the_pool_is_bounded(run: Run, calculator: Any, rogue: Make) -> None:
    """Calls wait for a connection in order; one that gives up leaves the queue in order."""
    go = threading.Event()

    def serve(peer: Any) -> None:
        while request := peer.frame():
            go.wait(DEADLINE)
            peer.text(request)

    server = rogue(serve)

    async def main() -> None:
        options: Any = {"module": calculator, "max_connections": 1}
        async with AsyncThriftClient(server.endpoint, **options) as client:
            calls = [asyncio.create_task(client.ping()) for _ in range(4)]
            await until(lambda: 3 == len(client._caller._pools[0]._waiting))
            calls[1].cancel()
            error = await failure(client.with_timeout(0.05).ping())
            assert isinstance(error, PoolExhausted)
            assert "all 1 connections" in str(error)
            go.set()
            assert ["pong"] * 3 == [await each for each in calls if each is not calls[1]]
            with contextlib.suppress(asyncio.CancelledError):
                await calls[1]

    run(main())
    assert 1 == server.connections


def test_one_served_as_it_is_cancelled(calculator: Any, apache: Any) -> None:
    """What a call gets in the moment in which it is cancelled goes to the next."""

    async def main() -> None:
        options: Any = {"module": calculator, "max_connections": 1}
        async with AsyncThriftClient(apache.endpoint(), **options) as client:
            await client.ping()
            pool = client._caller._pools[0]
            for end in (pool.give, pool.drop):
                held = await pool.take()
                waiting = [asyncio.create_task(pool.take()) for _ in range(2)]
                await until(lambda: 2 == len(pool._waiting))
                if held is None:
                    pool.drop(None)
                else:
                    end(held)
                waiting[0].cancel()
                got = await waiting[1]
                assert (held if end == pool.give else None) is got
                with contextlib.suppress(asyncio.CancelledError):
                    await waiting[0]
                pool.give(got) if got else pool.drop(None)
            assert 0 == pool.size

    asyncio.run(main())


def test_idle_connections_are_closed(run: Run, calculator: Any, rogue: Make) -> None:
    """After the idle time a connection is closed by the loop's timer, which then is gone."""
    ended = threading.Event()

    def serve(peer: Any) -> None:
        peer.text(peer.frame())
        peer.until_end()
        ended.set()

    server = rogue(serve)

    async def main() -> None:
        options: Any = {"module": calculator, "idle_timeout": 0.05}
        async with AsyncThriftClient(server.endpoint, **options) as client:
            assert "pong" == await client.ping()
            pool = client._caller._pools[0]
            assert 1 == pool.size
            await until(ended.is_set)
            assert 0 == pool.size
            assert pool._timer is None

    run(main())


# -- bad answers and lost connections -------------------------------------------------------------
BAD: dict[str, Callable[[Any, bytes], None]] = {
    "garbage": lambda peer, _: peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "huge": lambda peer, _: peer.send(struct.pack(">i", 2**31 - 1)),
    "noise": lambda peer, _: peer.send(struct.pack(">i", 20) + b"\xa5" * 20),
    "seqid": lambda peer, got: peer.reply(got, b"\x00", seqid=77),
    "method": lambda peer, got: peer.reply(got.replace(b"ping", b"pong"), b"\x00"),
    "cut": lambda peer, got: peer.reply(got, b"\x0b\x00\x00\x00\x00\x00\x09po"),
    "two": lambda peer, got: peer.send(2 * peer.replied(got, b"\x00")),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_replies(run: Run, calculator: Any, rogue: Make, name: str) -> None:
    """What is no answer to the call is told as that, and its connection not used again."""

    def serve(peer: Any) -> None:
        while request := peer.frame():
            if peer.number == 0:
                BAD[name](peer, request)
            else:
                peer.text(request)

    server = rogue(serve)

    async def main() -> None:
        async with AsyncThriftClient(server.endpoint, module=calculator) as client:
            assert isinstance(await failure(client.ping()), BadReply)
            assert "pong" == await client.ping()

    run(main())
    assert 2 == server.connections


def test_what_nobody_asked_for(run: Run, calculator: Any, rogue: Make) -> None:
    """Bytes between calls make the connection useless, and so does its end."""
    answered = threading.Semaphore(0)

    def serve(peer: Any) -> None:
        peer.text(peer.frame())
        answered.acquire(timeout=DEADLINE)
        if peer.number == 0:
            peer.send(b"x")
        if peer.number == 1:
            peer.sock.shutdown(socket.SHUT_WR)
        peer.until_end()

    server = rogue(serve)

    async def main() -> None:
        async with AsyncThriftClient(server.endpoint, module=calculator) as client:
            for number in range(3):
                assert "pong" == await client.ping()
                answered.release()
                if number < 2:
                    idle = client._caller._pools[0]._idle[0]
                    await until(functools.partial(operator.attrgetter("_useless"), idle))

    run(main())
    assert 3 == server.connections


@pytest.mark.parametrize("hard", [False, True])
def test_a_lost_call(run: Run, calculator: Any, rogue: Make, hard: bool) -> None:
    """A lost call is not repeated, unless the method is idempotent."""

    def serve(peer: Any) -> None:
        while request := peer.frame():
            if peer.number < 2:
                if hard:
                    peer.close_hard()
                return
            peer.text(request)

    server = rogue(serve)

    async def main() -> None:
        async with AsyncThriftClient(server.endpoint, module=calculator) as client:
            error: Any = await failure(client.ping())
            assert isinstance(error, ConnectionLost)
            assert error.maybe_run
        assert 1 == server.connections
        options: Any = {"idempotent": {"ping"}, "retry": QUICK}
        async with AsyncThriftClient(server.endpoint, module=calculator, **options) as client:
            assert "pong" == await client.ping()
        assert 3 == server.connections

    run(main())


def test_a_server_killed_in_a_call(mortal: Make, calculator: Any) -> None:
    """The kill of a server ends the call at once, and others serve what is idempotent."""
    one, other = mortal(), mortal()

    async def main() -> None:
        both = [one.endpoint(), other.endpoint()]
        options: Any = {"idempotent": {"ping", "wait"}, "retry": QUICK, "primary_first": True}
        async with AsyncThriftClient(both, module=calculator, **options) as client:
            assert "pong" == await client.ping()
            slow = [asyncio.create_task(client.wait(0.2)) for _ in range(4)]
            await asyncio.sleep(0.05)
            one.kill()
            assert [0.2] * 4 == await asyncio.gather(*slow)
            assert ["pong"] * 20 == [await client.ping() for _ in range(20)]

    asyncio.run(main())


def test_overloaded(run: Run, calculator: Any, rogue: Make) -> None:
    """A call that the server had no time for is repeated, and then told as that."""

    def serve(peer: Any) -> None:
        peer.error(peer.frame(), "overloaded: too much")
        peer.text(peer.frame())
        while request := peer.frame():
            peer.error(request, "overloaded: too much")

    server = rogue(serve)

    async def main() -> None:
        async with AsyncThriftClient(server.endpoint, module=calculator, retry=QUICK) as client:
            assert "pong" == await client.ping()
            assert isinstance(await failure(client.ping()), Overloaded)

    run(main())
    assert 1 == server.connections


# -- the end --------------------------------------------------------------------------------------
def test_close(run: Run, apache: Any, calculator: Any) -> None:
    """A closed client makes no calls and says so; to close it again, or unused, is fine."""

    async def main() -> None:
        client: Any = AsyncThriftClient(apache.endpoint(), module=calculator)
        assert "pong" == await client.ping()
        await client.close()
        await client.close()
        assert isinstance(await failure(client.ping()), ClientClosed)
        unused: Any = AsyncThriftClient(apache.endpoint(), module=calculator)
        await unused.close()
        assert isinstance(await failure(unused.ping()), ClientClosed)

    run(main())


def test_close_wakes_who_waits(run: Run, calculator: Any, rogue: Make, refused: Any) -> None:
    """Who waits for a connection or for another try is told; a call under way is answered."""
    asked, go = threading.Event(), threading.Event()

    def serve(peer: Any) -> None:
        request = peer.frame()
        asked.set()
        go.wait(DEADLINE)
        peer.text(request)

    server = rogue(serve)

    async def main() -> None:
        client: Any = AsyncThriftClient(server.endpoint, module=calculator, max_connections=1)
        under_way = asyncio.create_task(client.ping())
        await until(asked.is_set)
        waits = asyncio.create_task(client.ping())
        await until(lambda: client._caller._pools[0]._waiting)
        await client.close()
        assert isinstance(await failure(waits), ClientClosed)
        go.set()
        assert "pong" == await under_way
        patient = RetryPolicy(3, Backoff(8.0, 8.0))
        client = AsyncThriftClient(refused, module=calculator, retry=patient)
        waits = asyncio.create_task(client.ping())
        await until(lambda: client._caller._balancer._health[0].failures)
        await client.close()
        assert isinstance(await failure(waits), ClientClosed)

    run(main())


def test_another_loop(apache: Any, calculator: Any) -> None:
    """A client goes on in another loop when the first is closed, and says so when it is not."""
    client: Any = AsyncThriftClient(apache.endpoint(), module=calculator)

    async def main() -> None:
        assert "pong" == await client.ping()

    async def last() -> None:
        await main()
        error = await asyncio.to_thread(asyncio.run, failure(client.ping()))
        assert isinstance(error, ClientError)
        assert "in use in another event loop" in str(error)
        await client.close()

    async def first() -> None:
        await main()
        for pool in client._caller._pools:  # or asyncio tells of sockets that were left open
            await pool.close()

    asyncio.run(first())
    asyncio.run(last())


def test_tls_connection_that_ends(calculator: Any, rogue: Make, folder: Path) -> None:
    """The end of an idle TLS connection is noticed, and its close waits for nobody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    def serve(peer: Any) -> None:
        peer.sock = context.wrap_socket(peer.sock, server_side=True)
        peer.sock.settimeout(DEADLINE)
        peer.text(peer.frame())
        if peer.number:
            with contextlib.suppress(OSError):
                peer.until_end()

    server = rogue(serve)

    async def main() -> None:
        options: Any = {"module": calculator, "ca": str(folder / "cert.pem")}
        async with AsyncThriftClient(server.endpoint, **options) as client:
            assert "pong" == await client.ping()
            idle = client._caller._pools[0]._idle[0]
            await until(lambda: not idle.is_quiet())
            assert "pong" == await client.ping()
            began = time.monotonic()
        assert time.monotonic() - began < 2.0

    asyncio.run(main())
    assert 2 == server.connections

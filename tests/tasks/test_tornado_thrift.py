"""Thrift over HTTP: protocols, statuses, what runs where, limits, and a stop that loses nothing."""

import asyncio
import contextlib
import gc
import http.client
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import tornado.web
from thrift.protocol.TBinaryProtocol import TBinaryProtocol, TBinaryProtocolAccelerated
from thrift.protocol.TCompactProtocol import TCompactProtocol, TCompactProtocolAccelerated
from thrift.protocol.TJSONProtocol import TJSONProtocol
from thrift.protocol.TMultiplexedProtocol import TMultiplexedProtocol
from thrift.Thrift import TApplicationException, TProcessor
from thrift.TMultiplexedProcessor import TMultiplexedProcessor
from thrift.transport.THttpClient import THttpClient
from thrift.transport.TTransport import TMemoryBuffer

from sparts.gen.fb303 import FacebookService
from sparts.tasks.fb303 import FB303HandlerTask
from sparts.tasks.thrift import ThriftHandlerTask, current_client
from sparts.tasks.tornado import HelloWorldHandler, TornadoHTTPTask
from sparts.tasks.tornado_thrift import ThriftPoolTask, TornadoThriftHandler
from sparts.testing import running
from sparts.thrift.client import ThriftClient
from sparts.thrift.server.exchange import Exchange
from sparts.vservice import VService

GENERATED = str(pathlib.Path(__file__).resolve().parent.parent / "thrift" / "gen")
if GENERATED not in sys.path:
    sys.path.append(GENERATED)
from example import Calculator, Clock  # noqa: E402
from example.ttypes import Item, Refused, Tree  # noqa: E402

DEADLINE = 10.0
PROTOCOLS = [TBinaryProtocolAccelerated, TCompactProtocolAccelerated, TJSONProtocol]
THRIFT = {"Content-Type": "application/x-thrift"}
LOCAL = ("--http-host", "127.0.0.1")


def _nothing(self: Any, *args: Any) -> Any:
    return None


class Sums(ThriftHandlerTask):
    """Does what the tests need; its class attributes are made anew for each test."""

    MODULE = Calculator
    began: threading.Semaphore
    go_on: threading.Event
    noted_words: list[str]

    def ping(self) -> str:
        return threading.current_thread().name

    def add(self, a: int, b: int) -> int:
        return a + b

    def divide(self, a: int, b: int) -> int:
        if b == 0:
            raise Refused(why="by zero", code=5)
        return a // b

    def echo(self, item: Any) -> Any:
        return item

    def text(self, value: str) -> str:
        client = current_client()
        assert client is not None
        return f"{client.kind} {client.peer} {client.uid}"

    def wait(self, seconds: float) -> float:
        self.began.release()
        assert self.go_on.wait(DEADLINE)
        return seconds

    def fail(self, message: str) -> str:
        raise RuntimeError(message)

    def note(self, word: str) -> None:
        if word == "fail":
            raise RuntimeError(word)
        self.noted_words.append(word)

    def noted(self) -> list[str]:
        return self.noted_words

    blob = table = words = tree = paint = negate = nothing = _nothing


class Time(ThriftHandlerTask):
    """An async service."""

    MODULE = Clock

    async def now(self) -> int:
        return int(threading.current_thread().name == "AsyncioLoopTask")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Sums.began, Sums.go_on, Sums.noted_words = threading.Semaphore(0), threading.Event(), []


def web(
    route: Callable[[TornadoHTTPTask], dict[str, Any]] = lambda task: {"handler": Sums},
    deps: Any = (Sums, ThriftPoolTask),
    **settings: Any,
) -> type[TornadoHTTPTask]:
    """An HTTP task with a Thrift route at /thrift, and one that says hello at /."""

    class Web(TornadoHTTPTask):
        DEPS = list(deps)

        def getApplicationConfig(self) -> list[Any]:
            return [("/", HelloWorldHandler), ("/thrift", TornadoThriftHandler, route(self))]

        def getApplicationSettings(self) -> dict[str, Any]:
            return {**super().getApplicationSettings(), **settings}

    return Web


@contextlib.contextmanager
def served(*argv: object, task: type[TornadoHTTPTask] | None = None) -> Iterator["Server"]:
    """A service with it, running."""
    with running(task or web(), *LOCAL, *argv) as service:
        yield Server(service)


class Server:
    """How to reach it."""

    def __init__(self, service: VService) -> None:
        self.service = service
        self.task = service.requireTask(TornadoHTTPTask)
        self.port = self.task.bound_addrs[0][1]

    def client(
        self,
        protocol: Any = TBinaryProtocolAccelerated,
        service: str = "",
        module: Any = Calculator,
    ) -> Any:
        """A client of Apache's library."""
        transport = THttpClient(f"http://127.0.0.1:{self.port}/thrift")
        transport.setTimeout(DEADLINE * 1000)
        made = protocol(transport)
        return _closing(module.Client(TMultiplexedProtocol(made, service) if service else made))

    def ask(
        self, body: Any = b"", headers: Any = THRIFT, method: str = "POST", **more: Any
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """One request on a connection of its own, and its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        with contextlib.closing(connection):
            connection.request(method, "/thrift", body, headers, **more)
            response = connection.getresponse()
            return response, response.read()


@contextlib.contextmanager
def _closing(client: Any) -> Iterator[Any]:
    try:
        yield client
    finally:
        if client._iprot.trans.isOpen():
            client._iprot.trans.close()


def message(name: str, *args: Any, protocol: Any = PROTOCOLS[0], module: Any = Calculator) -> bytes:
    """The message of a call."""
    buffer = TMemoryBuffer()
    getattr(module.Client(protocol(buffer)), f"send_{name}")(*args)
    return bytes(buffer.getvalue())


def answer(name: str, body: bytes, protocol: Any = PROTOCOLS[0], module: Any = Calculator) -> Any:
    """What an answer says."""
    return getattr(module.Client(protocol(TMemoryBuffer(body))), f"recv_{name}")()


# -- calls ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_calls_of_apaches_client(protocol: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Values, structs, declared and undeclared exceptions and oneway calls, in each protocol."""
    with served() as server, server.client(protocol) as client:
        item = Item(id=5, name="é", numbers=[1, 2], weights={"a": 0.5}, raw=b"\0\xff")
        assert (7, item) == (client.add(3, 4), client.echo(item))
        with pytest.raises(Refused, match="by zero"):
            client.divide(1, 0)
        with pytest.raises(TApplicationException) as caught:
            client.fail("secret")
        assert (TApplicationException.INTERNAL_ERROR, "Internal error") == (
            caught.value.type,
            caught.value.message,
        )
        client.note("a")
        client.note("fail")
        assert ["a"] == client.noted()
        assert 200 == client._iprot.trans.code
    assert "fail() failed, called by 127.0.0.1:" in caplog.text


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_unknown_method(protocol: Any) -> None:
    """It is answered with UNKNOWN_METHOD."""
    with served() as server, server.client(protocol, module=Clock) as client:
        with pytest.raises(TApplicationException, match="Unknown function now") as caught:
            client.now()
        assert (TApplicationException.UNKNOWN_METHOD, 200) == (
            caught.value.type,
            client._iprot.trans.code,
        )


def test_bad_arguments() -> None:
    """They are answered with PROTOCOL_ERROR."""
    with served() as server:
        response, body = server.ask(message("add", 1, 2)[:-3])
        with pytest.raises(TApplicationException, match="bad arguments") as caught:
            answer("add", body)
        assert (TApplicationException.PROTOCOL_ERROR, 200) == (caught.value.type, response.status)


KINDS = {
    "application/x-thrift": TCompactProtocol,
    "application/vnd.apache.thrift.binary": TBinaryProtocol,
    "Application/VND.Apache.Thrift.Compact": TCompactProtocol,
    "application/vnd.apache.thrift.json; charset=utf-8": TJSONProtocol,
    "application/json;charset=utf-8": TJSONProtocol,
    "": TBinaryProtocol,
}


@pytest.mark.parametrize(("kind", "protocol"), KINDS.items())
def test_content_types(kind: str, protocol: Any) -> None:
    """Each is accepted, and none at all, and answered as application/x-thrift in its protocol."""
    with served() as server:
        headers = {"Content-Type": kind} if kind else {}
        response, body = server.ask(message("add", 1, 2, protocol=protocol), headers)
        assert (200, 3) == (response.status, answer("add", body, protocol))
        assert "application/x-thrift" == response.headers["Content-Type"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_content_type_that_lies(protocol: Any) -> None:
    """The first bytes tell the protocol, whatever the Content-Type says."""
    with served() as server:
        for kind in ("binary", "compact", "json"):
            headers = {"Content-Type": f"application/vnd.apache.thrift.{kind}"}
            response, body = server.ask(message("add", 1, 2, protocol=protocol), headers)
            assert (200, 3) == (response.status, answer("add", body, protocol))


def test_an_old_client() -> None:
    """A binary message without a version is answered without one."""

    def old(transport: Any) -> Any:
        return TBinaryProtocol(transport, False, False)

    with served() as server:
        _, body = server.ask(message("add", 1, 2, protocol=old))
        assert (b"\0\0\0\x03add", 3) == (body[:7], answer("add", body, old))


def test_oneway() -> None:
    """The answer to a oneway call is empty, its status 200, when it was run, also if it failed."""
    with served() as server:
        for word in ("x", "fail"):
            response, body = server.ask(message("note", word))
            assert (200, b"", "0") == (response.status, body, response.headers["Content-Length"])
        assert ["x"] == Sums.noted_words


def test_our_own_client() -> None:
    """The project's client speaks with it."""
    with served() as server:
        where = f"http://127.0.0.1:{server.port}/thrift"
        with ThriftClient(where, module=Calculator) as client:
            assert (3, Item(id=1)) == (client.add(1, 2), client.echo(Item(id=1)))
            with pytest.raises(Refused):
                client.divide(1, 0)
            client.note("b")
            assert ["b"] == client.noted()


# -- statuses -------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_other_methods(method: str) -> None:
    """Only POST is allowed, and the answer says so; nobody is told that other sites may ask."""
    with served() as server:
        response, body = server.ask(b"x" * 100, THRIFT, method)
        assert (405, "POST") == (response.status, response.headers["Allow"])
        assert len(body) < 100
        assert not [name for name in response.headers if name.startswith("Access-Control")]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "text/plain; a=application/x-thrift"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/octet-stream"},
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
def test_what_a_page_may_send_unasked(headers: dict[str, str]) -> None:
    """What a page can send to another site without asking first is refused, and not run."""
    with served() as server:
        response, body = server.ask(message("note", "x"), headers)
        assert (415, []) == (response.status, Sums.noted_words)
        assert b"accepted: application/json, application/vnd.apache.thrift.binary" in body
        headers = {**headers, **THRIFT}
        assert 200 == server.ask(message("note", "x"), headers)[0].status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"\x80",
        b"\x80\x01",
        b"\x80\x01\x00\x01\x00\x00\x00\xffping",
        b"\x82\x21",
        b"\x82\x22xxxx",
        b"[",
        b"[1,<script>",
        b"[" * 5000,
        b"{}",
        b"\x00\x00\x00\x09ping",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 100_000,
    ],
)
def test_garbage(body: bytes) -> None:
    """What is no message gets the status 400, with a line that tells why and repeats nothing."""
    with served() as server:
        response, said = server.ask(body)
        assert (400, "text/plain; charset=utf-8") == (
            response.status,
            response.headers["Content-Type"],
        )
        assert re.fullmatch(rb"the body is no Thrift message.{1,60}\n", said)


def test_garbage_for_a_processor_of_ones_own() -> None:
    """The same, where the messages are for a processor that knows no HTTP."""
    with served(task=web(lambda task: {"processor": Doubling()})) as server:
        for body in (b"\x80\x01\x00\x01\x00\x00\x00\xffping", b"\x82\x21", b"[1"):
            assert 400 == server.ask(body)[0].status


def test_no_length() -> None:
    """A request that does not tell its length, and is not chunked, gets the status 411."""
    with served() as server, socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"POST /thrift HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n")
        response = http.client.HTTPResponse(sock)
        response.begin()
        with response:
            assert 411 == response.status


@pytest.mark.parametrize("how", ["frame", "body", "chunked"])
def test_too_large(how: str) -> None:
    """A message over either limit gets the status 413, and the connection serves the next one."""
    argv = ["--http-max-body-size" if how == "body" else "--thrift-http-max-frame-size", 1000]
    with served(*argv) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE)
        with contextlib.closing(connection):
            body: Any = b"x" * 3_000_000
            if how == "chunked":
                body = iter([b"x" * 999, b"x", b"x", b"x" * 2_000_000])
            connection.request("POST", "/thrift", body, THRIFT, encode_chunked=how == "chunked")
            with connection.getresponse() as response:
                assert b"a message has at most 1000 bytes\n" == response.read()
                assert 413 == response.status
            sock = connection.sock
            connection.request("POST", "/thrift", message("text", "x" * 900), THRIFT)
            with connection.getresponse() as response:
                assert "http" in answer("text", response.read())
            assert sock is connection.sock


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Content-Length: 2000\r\nContent-Type: application/json\r\nExpect: 100-continue", b"413"),
        ("Content-Length: 99999999999\r\nContent-Type: application/json", b"413"),
        ("Content-Length: 10\r\nContent-Type: text/plain\r\nExpect: 100-continue", b"415"),
    ],
)
def test_refused_before_the_body(headers: str, status: bytes) -> None:
    """Who waits to be told to send the body, or would send very much, is refused without it."""
    with served("--thrift-http-max-frame-size", 1000) as server:
        with socket.create_connection(("127.0.0.1", server.port), DEADLINE) as sock:
            sock.sendall(f"POST /thrift HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n".encode())
            said = b""
            while more := sock.recv(65536):
                said += more
        assert said.startswith(b"HTTP/1.1 " + status)
        assert 1 == said.count(b"HTTP/1.1")


def test_a_container_that_is_announced() -> None:
    """A few bytes that announce a billion elements are refused."""
    with served("--thrift-http-max-container-size", 10) as server, server.client() as client:
        assert 10 == len(client.echo(Item(id=1, numbers=[1] * 10)).numbers)
        with pytest.raises(TApplicationException, match="bad arguments"):
            client.echo(Item(id=1, numbers=[1] * 11))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_nested_too_deep(protocol: Any) -> None:
    """What is nested deeper than it may be is no message."""
    tree = Tree(1, [Tree(2, [Tree(3, [])])])
    with served("--thrift-http-max-depth", 10) as server:
        assert 200 == server.ask(message("tree", tree, protocol=protocol))[0].status
    with served("--thrift-http-max-depth", 3) as server:
        assert 400 == server.ask(message("tree", tree, protocol=protocol))[0].status


def test_a_bug_of_ours_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A route that was given nothing to serve has the status 500, and only the log says why."""
    for given in (
        {},
        {"handler": Sums, "processor": Doubling()},
        {"handler": Time},
        {"handler": 5},
    ):
        caplog.clear()
        with served(task=web(lambda task, given=given: given, serve_traceback=True)) as server:  # type: ignore[misc]
            response, body = server.ask(message("ping"))
            assert (500, b"Internal Server Error\n") == (response.status, body)
        assert re.search("TaskError: .*handler=|KeyError: .*no task 'Time'", caplog.text)


# -- what runs where ------------------------------------------------------------------------------
def threads(count: int) -> list[str]:
    return ["--thrift-http-threads", str(count)]


def test_a_blocking_method_holds_up_nobody() -> None:
    """While plain methods block, the loop and an async method answer."""
    task = web(lambda task: {"handler": [Sums, Time]}, [Sums, Time, ThriftPoolTask])
    with served(*threads(2), task=task) as server, ThreadPoolExecutor() as pool:

        def wait(seconds: float) -> Any:
            with server.client(service="Calculator") as client:
                return client.wait(seconds)

        waits = [pool.submit(wait, seconds) for seconds in (1.5, 2.5)]
        try:
            assert Sums.began.acquire(timeout=DEADLINE)
            assert Sums.began.acquire(timeout=DEADLINE)
            with server.client(service="Clock", module=Clock) as client:
                assert 1 == client.now()
            assert 405 == server.ask(method="GET")[0].status
            assert 2 == server.service.getCounters()["ThriftPoolTask.in_flight"]()
            assert 2 == server.service.getCounters()["Sums.wait.in_flight"]()
        finally:
            Sums.go_on.set()
        assert [1.5, 2.5] == [each.result(DEADLINE) for each in waits]


def test_plain_methods_have_threads() -> None:
    """They run in the pool's threads, however large and in whatever protocol the message is."""
    with served() as server:
        for protocol in PROTOCOLS:
            with server.client(protocol) as client:
                assert client.ping().startswith("ThriftPoolTask-")


def test_a_pool_without_a_task() -> None:
    """Without a pool task a service has threads for it all the same, and they end with it."""
    with served(task=web(deps=[Sums])) as server, server.client() as client:
        assert client.ping().startswith("ThriftPool-")
        assert 3 == client.add(1, 2)


def test_what_never_blocks_runs_on_the_loop() -> None:
    """A plain method that is marked so needs no thread."""

    class Quick(Sums):
        def ping(self) -> str:
            return threading.current_thread().name

        ping.never_blocks = True  # type: ignore[attr-defined]

    task = web(lambda task: {"handler": Quick}, [Quick])
    with served(task=task) as server, server.client() as client:
        assert "AsyncioLoopTask" == client.ping()


def test_large_messages_are_read_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may take long to decode is decoded in a thread; an async method still has the loop."""
    readers: list[str] = []

    class Echo(Sums):
        async def echo(self, item: Any) -> Any:
            assert "AsyncioLoopTask" == threading.current_thread().name
            return item

    def read(self: Exchange, *args: Any) -> Any:
        readers.append(threading.current_thread().name.partition("-")[0])
        return plain_read(self, *args)

    plain_read = Exchange._read
    monkeypatch.setattr(Exchange, "_read", read)
    task = web(lambda task: {"handler": Echo}, [Echo, ThriftPoolTask])
    with served(task=task) as server:
        for protocol in PROTOCOLS:
            for length in (10, 20_000):
                item = Item(id=1, numbers=list(range(length)))
                with server.client(protocol) as client:
                    assert item == client.echo(item)
    loop, pool = "AsyncioLoopTask", "ThriftPoolTask"
    assert [loop, pool, loop, pool, pool, pool] == readers


def test_twenty_at_once() -> None:
    """As many plain calls run at the same time as there are threads."""
    together = threading.Barrier(20)

    class Meeting(Sums):
        def add(self, a: int, b: int) -> int:
            together.wait(DEADLINE)
            return a + b

    task = web(lambda task: {"handler": Meeting}, [Meeting, ThriftPoolTask])
    with served(*threads(20), task=task) as server, ThreadPoolExecutor(20) as pool:

        def add(number: int) -> Any:
            with server.client(PROTOCOLS[number % 3]) as client:
                return client.add(number, 1)

        assert list(range(1, 21)) == list(pool.map(add, range(20)))
        assert 20 == server.service.getCounters()["Meeting.add.calls"]()


# -- overload -------------------------------------------------------------------------------------
def overloaded(server: Server, body: bytes) -> tuple[str, bytes]:
    """What a call is told that is not run."""
    response, said = server.ask(body)
    assert (503, "1") == (response.status, response.headers["Retry-After"])
    return response.headers["Content-Type"], said


@contextlib.contextmanager
def busy(server: Server) -> Iterator[None]:
    """While a call is under way."""

    def wait() -> Any:
        with server.client() as client:
            return client.wait(1.0)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        try:
            assert Sums.began.acquire(timeout=DEADLINE)
            yield
        finally:
            Sums.go_on.set()
        assert 1.0 == waiting.result(DEADLINE)


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["--thrift-http-max-calls", 1], "1 calls wait or are under way"),
        (["--thrift-http-queue-timeout", 0.01], "no thread was free for 0.01 s"),
    ],
)
def test_overloaded(argv: list[object], why: str, caplog: pytest.LogCaptureFixture) -> None:
    """Too many calls, or one that waits too long, get the status 503 and are told so in Thrift."""
    with served(*threads(1), *argv) as server:
        with busy(server):
            kind, said = overloaded(server, message("add", 1, 2))
            with pytest.raises(TApplicationException, match=f"^overloaded: {why}$"):
                answer("add", said)
            assert ("application/x-thrift", 1) == (
                kind,
                server.service.getCounters()["Sums.add.overloaded"](),
            )
            # Of a message that was not read, and of a oneway call, text tells it.
            for body in (message("add", 1, 2, protocol=TJSONProtocol), message("note", "x")):
                expected = ("text/plain; charset=utf-8", f"overloaded: {why}\n".encode())
                assert expected == overloaded(server, body)
        with server.client() as client:
            assert [] == client.noted()
            assert 0 == server.service.requireTask(ThriftPoolTask).pool.load


def test_async_calls_are_counted_too(caplog: pytest.LogCaptureFixture) -> None:
    """The limit of calls under way holds for async methods."""
    go_on = threading.Event()

    class Waiting(Time):
        async def now(self) -> int:
            Sums.began.release()
            return int(await asyncio.get_running_loop().run_in_executor(None, go_on.wait, DEADLINE))

    task = web(lambda task: {"handler": Waiting}, [Waiting, ThriftPoolTask])
    with served("--thrift-http-max-calls", 1, task=task) as server, ThreadPoolExecutor(1) as pool:

        def now() -> Any:
            with server.client(module=Clock) as client:
                return client.now()

        first = pool.submit(now)
        try:
            assert Sums.began.acquire(timeout=DEADLINE)
            with pytest.raises(TApplicationException, match="overloaded"):
                now()
        finally:
            go_on.set()
        assert (1, 1) == (first.result(DEADLINE), now())


# -- fb303 ----------------------------------------------------------------------------------------
class Told(FB303HandlerTask):
    """Tells of the service."""


def told(task: TornadoHTTPTask) -> dict[str, Any]:
    return {"processor": require(task, Told).processor}


@pytest.mark.parametrize("argv", [[], ["--fb303-allow-control"]])
def test_fb303(argv: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """It tells all, and lets nobody control the service who comes over HTTP, unless told to."""
    task = web(told, [Told])
    with served(*argv, task=task) as server, server.client(module=FacebookService) as client:
        assert ("TestService", 2) == (client.getName(), client.getStatus())
        assert 1 == client.getCounter("Told.getStatus.calls")
        if argv:
            client.setOption("level", "INFO")
        else:
            client.shutdown()
            with pytest.raises(TApplicationException, match="refused over HTTP"):
                client.setOption("level", "INFO")
        assert ("INFO" if argv else "DEBUG") == client.getOption("level")


# -- what is served -------------------------------------------------------------------------------
class Doubling(TProcessor):  # type: ignore[misc]
    """A processor that nobody generated."""

    def process(self, iprot: Any, oprot: Any) -> bool:
        name, _, seqid = iprot.readMessageBegin()
        if name == "fail":
            raise RuntimeError("secret")
        args = Calculator.add_args()
        args.read(iprot)
        iprot.readMessageEnd()
        oprot.writeMessageBegin(name, 2, seqid)
        Calculator.add_result(success=2 * (args.a + args.b)).write(oprot)
        oprot.writeMessageEnd()
        return True


class Doubled(Sums):
    """A handler with such a processor."""

    def initTask(self) -> None:
        super().initTask()
        self.processor = Doubling()


def require(task: TornadoHTTPTask, cls: type[ThriftHandlerTask]) -> ThriftHandlerTask:
    return task.service.requireTask(cls)


@pytest.mark.parametrize(
    "route",
    [
        lambda task: {"processor": require(task, Sums).processor},
        lambda task: {"processor": Calculator.Processor(require(task, Sums))},
        lambda task: {"handler": require(task, Sums)},
        lambda task: {"handler": "Sums"},
        lambda task: {"handler": [Sums]},
    ],
)
def test_a_handler_task(route: Any) -> None:
    """A generated processor of a handler task stands for the task: its methods are counted."""
    with served(task=web(route)) as server, server.client() as client:
        assert 3 == client.add(1, 2)
        counters = server.service.getCounters()
        assert (1, 0) == (counters["Sums.add.calls"](), counters["Sums.add.errors"]())
        assert 1 == counters["Sums.add.duration_ms.count.60"]()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("route", "deps"),
    [
        (lambda task: {"processor": Doubling()}, ()),
        (lambda task: {"processor": require(task, Doubled).processor}, [Doubled]),
        (lambda task: {"handler": Doubled}, [Doubled]),
    ],
)
def test_a_processor_of_ones_own(
    route: Any, deps: Any, protocol: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Any TProcessor is served, in threads; its failures are internal errors."""
    with served(task=web(route, deps)) as server, server.client(protocol) as client:
        assert 6 == client.add(1, 2)
        with pytest.raises(TApplicationException, match="Internal error"):
            client.fail("x")


def multiplexed(task: TornadoHTTPTask) -> dict[str, Any]:
    processor = TMultiplexedProcessor()
    for name, cls in (("Calculator", Sums), ("Clock", Time)):
        processor.registerProcessor(name, require(task, cls).processor)
    return {"processor": processor}


def multiplexed_with_ones_own(task: TornadoHTTPTask) -> dict[str, Any]:
    processor = TMultiplexedProcessor()
    processor.registerProcessor("Calculator", Doubling())
    return {"processor": processor}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("route", [multiplexed, lambda task: {"handler": [Sums, Time]}])
def test_multiplexed(route: Any, protocol: Any) -> None:
    """Several handlers are served by the names of their services, async ones too."""
    with served(task=web(route, [Sums, Time])) as server:
        with server.client(protocol, "Calculator") as client:
            assert 3 == client.add(1, 2)
        with server.client(protocol, "Clock", Clock) as client:
            assert 1 == client.now()
        unknown = pytest.raises(TApplicationException, match="Unknown function Other:now")
        with server.client(protocol, "Other", Clock) as client, unknown:
            client.now()


@pytest.mark.parametrize(
    ("route", "deps"),
    [
        (multiplexed_with_ones_own, ()),
        (lambda task: {"handler": [Time, Doubled]}, [Time, Doubled]),
    ],
)
def test_multiplexed_with_a_processor_of_ones_own(route: Any, deps: Any) -> None:
    """One of several may have a processor of its own."""
    with served(task=web(route, deps)) as server, server.client(service="Calculator") as client:
        assert 6 == client.add(1, 2)


def test_a_default_service() -> None:
    """What a multiplexed processor has for clients that name no service is served by itself."""

    def route(task: TornadoHTTPTask) -> dict[str, Any]:
        given = multiplexed(task)
        given["processor"].registerDefault(require(task, Sums).processor)
        return given

    with served(task=web(route, [Sums, Time])) as server, server.client() as client:
        assert 3 == client.add(1, 2)


def test_two_of_one_name(caplog: pytest.LogCaptureFixture) -> None:
    """Two handlers cannot be told apart by one name, and the log says so."""
    task = web(lambda task: {"handler": [Sums, Doubled]}, [Sums, Doubled])
    with served(task=task) as server:
        assert 500 == server.ask(message("ping"))[0].status
    assert "Sums is 'Calculator', Doubled is 'Calculator'" in caplog.text


# -- who asks, and Tornado's ways -----------------------------------------------------------------
def test_who_asks() -> None:
    """The handler sees that a call came by HTTP, and from where."""
    with served() as server, socket.create_connection(("127.0.0.1", server.port)) as sock:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.sock = sock
        connection.request("POST", "/thrift", message("text", ""), THRIFT)
        with connection.getresponse() as response:
            said = answer("text", response.read())
        assert f"http 127.0.0.1:{sock.getsockname()[1]} None" == said


def test_who_asks_a_proxy() -> None:
    """Behind a proxy that is trusted it is the one that the proxy names."""

    class Web(web()):  # type: ignore[misc]
        def getServerSettings(self) -> dict[str, Any]:
            return {"xheaders": True}

    with served(task=Web) as server:
        _, body = server.ask(message("text", ""), {**THRIFT, "X-Real-IP": "192.0.2.7"})
        assert "http 192.0.2.7 None" == answer("text", body)


def test_who_asks_on_a_unix_socket(tmp_path: pathlib.Path) -> None:
    """By HTTP over a unix socket it is HTTP all the same: no user is trusted for it."""
    path = str(tmp_path / "web.sock")
    with running(web(), "--http-sock", path), socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        connection = http.client.HTTPConnection("x")
        connection.sock = sock
        connection.request("POST", "/thrift", message("text", ""), THRIFT)
        with connection.getresponse() as response:
            assert "http a unix socket None" == answer("text", response.read())


def test_compression() -> None:
    """An application that compresses its answers does so with these."""
    with served(task=web(compress_response=True)) as server:
        body = message("echo", Item(id=1, name="x" * 5000))
        response, zipped = server.ask(body, {**THRIFT, "Accept-Encoding": "gzip"})
        assert ("gzip", True) == (response.headers["Content-Encoding"], len(zipped) < 200)
        response, plain = server.ask(body)
        assert (None, 5000) == (
            response.headers["Content-Encoding"],
            len(answer("echo", plain).name),
        )


def test_cookies_against_forgery() -> None:
    """An application that asks its pages for a cookie does not ask Thrift clients for one."""
    with served(task=web(xsrf_cookies=True)) as server, server.client() as client:
        assert 3 == client.add(1, 2)


def test_without_a_service() -> None:
    """In a bare Tornado application it works, too; its threads end with the application."""
    from tornado.httpserver import HTTPServer
    from tornado.testing import bind_unused_port

    async def main() -> int:
        given = {"processor": Doubling()}
        app = tornado.web.Application([("/thrift", TornadoThriftHandler, given)])
        sock, port = bind_unused_port()
        server = HTTPServer(app)
        server.add_sockets([sock])
        where = ("127.0.0.1", port)
        with ThriftClient(where, module=Calculator, path="/thrift") as client:
            added = await asyncio.to_thread(client.add, 1, 2)
        server.stop()
        await server.close_all_connections()
        return int(added)

    assert 6 == asyncio.run(main())
    gc.collect()


# -- the end --------------------------------------------------------------------------------------
PROGRAM = f"""
import sys; sys.path.append({GENERATED!r})
import time
from example import Clock
from sparts.tasks.thrift import ThriftHandlerTask
from sparts.tasks.tornado import TornadoHTTPTask
from sparts.tasks.tornado_thrift import ThriftPoolTask, TornadoThriftHandler
from sparts.vservice import VService

class Time(ThriftHandlerTask):
    MODULE = Clock
    def now(self):
        time.sleep(0.005)
        return 42

class Web(TornadoHTTPTask):
    OPT_PREFIX = "http"
    DEPS = [Time, ThriftPoolTask]
    def getApplicationConfig(self):
        processor = self.service.requireTask(Time).processor
        return [("/thrift", TornadoThriftHandler, {{"processor": processor}})]

class MyService(VService):
    ALL_TASKS = [Web]

MyService.initFromCLI()
"""


def _call_on(port: int, answered: threading.Semaphore) -> list[str]:
    """Call again and again until the server takes no more; the calls that were lost."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        with contextlib.closing(connection):
            try:
                connection.connect()
            except ConnectionRefusedError:
                return []
            kept, last = 0, time.monotonic()
            while connection.sock is not None:
                idle = time.monotonic() - last
                try:
                    connection.request("POST", "/thrift", message("now", module=Clock), THRIFT)
                    with connection.getresponse() as response:
                        assert 42 == answer("now", response.read(), module=Clock)
                except (OSError, http.client.HTTPException) as error:
                    # A connection that was never accepted, or that this machine was too slow to
                    # use, is none on which a call was taken.
                    return [repr(error)] if kept and idle < 0.05 else []
                kept, last = kept + 1, time.monotonic()
                answered.release()


def test_a_stop_loses_no_reply() -> None:
    """A SIGTERM in the midst of calls loses not one that was sent, and the exit status is 0."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, "--http-port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stderr is not None
    with process, process.stderr, ThreadPoolExecutor(8) as pool:
        try:
            log = ""
            while "All tasks started" not in log:
                log += process.stderr.readline()
            found = re.search(r"Server Started on \S+:(\d+)", log)
            assert found is not None
            answered = threading.Semaphore(0)
            lost = [pool.submit(_call_on, int(found[1]), answered) for _ in range(8)]
            for _ in range(100):
                assert answered.acquire(timeout=DEADLINE)
            process.send_signal(signal.SIGTERM)
            assert [[]] * 8 == [each.result(DEADLINE) for each in lost]
            log += process.stderr.read()
            assert 0 == process.wait(DEADLINE), log
        finally:
            process.kill()
    assert "ERROR" not in log


def test_a_stop_waits_for_calls_under_way() -> None:
    """A call that is under way when the service stops is answered, and then the threads end."""
    with running(web(), *LOCAL) as service, ThreadPoolExecutor(1) as pool:
        server = Server(service)

        def wait() -> Any:
            with server.client() as client:
                return client.wait(1.0)

        waiting = pool.submit(wait)
        assert Sums.began.acquire(timeout=DEADLINE)
        service.stop()
        assert not service.join(0.2)
        Sums.go_on.set()
        assert 1.0 == waiting.result(DEADLINE)
        assert service.join(DEADLINE)

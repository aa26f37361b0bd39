"""Handlers: which methods they have, what errors become, and what a misfit is told at the start."""

import asyncio
import logging
import threading
from typing import Any

import pytest
from thrift.Thrift import TApplicationException, TMessageType

from sparts.errors import SpartsError, TaskError
from sparts.tasks.asyncio import AsyncioLoopTask
from sparts.tasks.thrift import ThriftHandlerTask, ThriftServerTask, current_client
from sparts.testing import ServiceFailed, running
from sparts.thrift.interface import InterfaceError
from tests.thrift.server.kit import (
    LOCAL,
    Async,
    Calculator,
    Clock,
    Mixed,
    Now,
    Plain,
    Refused,
    Served,
    framed,
    message,
)

Serve = Any


def failure_of(*tasks: Any, argv: Any = LOCAL) -> BaseException:
    """What a service of *tasks* fails with when it starts."""
    with pytest.raises(ServiceFailed) as failed, running(list(tasks), *argv):
        pass
    assert failed.value.__cause__ is not None
    return failed.value.__cause__


# -- which methods --------------------------------------------------------------------------------
class Part(ThriftHandlerTask):
    """Has some of the methods."""

    MODULE = Calculator
    add = Plain.add
    ping = Plain.ping


def test_missing_methods() -> None:
    """A handler that lacks methods fails at the start, with the names of all of them."""
    error = failure_of(ThriftServerTask, Part)
    assert isinstance(error, TaskError)
    assert "Part lacks methods of Calculator: divide(), echo(), text(), blob()" in str(error)
    assert "noted()" in str(error)
    assert "add()" not in str(error)
    assert "ping()" not in str(error)


def test_methods_of_the_generated_class_are_none() -> None:
    """Deriving from the generated Iface does not give its empty methods."""

    class Derived(Part, Calculator.Iface):  # type: ignore[misc]
        pass

    error = failure_of(ThriftServerTask, Derived)
    assert "Derived lacks methods of Calculator: divide(), echo()" in str(error)


@pytest.mark.parametrize("module", [42, "example.Calculator", Calculator.Iface, logging])
def test_module_that_is_none(module: Any) -> None:
    """A MODULE that the Thrift compiler did not make is told at the start, with what it is."""

    class Wrong(ThriftHandlerTask):
        MODULE = module

    error = failure_of(ThriftServerTask, Wrong)
    assert isinstance(error, InterfaceError)
    assert "give the module that the Thrift compiler made" in str(error)


def test_no_module() -> None:
    """A handler without MODULE fails, and is told what to set."""

    class Nameless(ThriftHandlerTask):
        pass

    error = failure_of(ThriftServerTask, Nameless)
    assert isinstance(error, TaskError)
    assert "Nameless.MODULE is None" in str(error)


def test_handler_alone() -> None:
    """A handler runs without a server: something else may serve it."""
    with running(Plain) as service:
        task = service.requireTask(Plain)
        assert "Calculator" == task.service_name
        assert isinstance(task.processor, Calculator.Processor)
        assert not task.has_own_processor


def test_default_service_name() -> None:
    """The name for multiplexing clients is the module's by default."""
    with running(Now) as service:
        assert "Clock" == service.requireTask(Now).service_name


def test_methods_elsewhere(serve: Serve) -> None:
    """Methods may lie in other objects."""

    class Elsewhere(ThriftHandlerTask):
        MODULE = Clock

        def getHandlers(self) -> list[Any]:
            class Object:
                def now(self) -> int:
                    return 99

            return [Object()]

    assert 99 == serve(Elsewhere).connect().ask("now")


def test_coroutines_elsewhere() -> None:
    """Methods in other objects that are async need the loop, which the handler must ask for."""

    class Object:
        async def now(self) -> int:
            return 99

    class Elsewhere(ThriftHandlerTask):
        MODULE = Clock

        def getHandlers(self) -> list[Any]:
            return [Object()]

    class Asking(Elsewhere):
        DEPS = [AsyncioLoopTask]

    error = failure_of(ThriftServerTask, Elsewhere)
    assert isinstance(error, SpartsError), repr(error)
    assert "AsyncioLoopTask" in str(error)
    with running([ThriftServerTask, Asking], *LOCAL) as service:
        served = Served(service, ThriftServerTask)
        assert 99 == served.connect().ask("now")
        served.see_off()


def test_loop_where_needed() -> None:
    """A handler that has an async method brings the loop along; another one does not."""
    with running(Plain) as service:
        assert None is service.getTask(AsyncioLoopTask)
    with running(Mixed) as service:
        assert service.getTask(AsyncioLoopTask) is not None


# -- where they run -------------------------------------------------------------------------------
class Where(Plain):
    """Tells in which thread each call ran."""

    def text(self, value: str) -> str:
        return threading.current_thread().name


class AsyncWhere(Async):  # type: ignore[misc]
    async def text(self, value: str) -> str:
        assert asyncio.get_running_loop() is not None
        return threading.current_thread().name


class MixedWhere(Where):
    async def ping(self) -> str:
        return threading.current_thread().name


def test_where_plain_methods_run(serve: Serve) -> None:
    """Plain methods run in the server's threads, of which there is one with --thrift-threads 0."""
    assert serve(Where).connect().ask("text", "").startswith("ThriftServerTask-")
    inline = serve(Where, "--thrift-threads", 0)
    assert "ThriftServerTask" == inline.connect().ask("text", "")
    assert 1 == len(inline.task.threads)


def test_number_of_threads(serve: Serve) -> None:
    """Ten methods may block by default, and one thread more waits for clients."""
    assert 11 == len(serve(Plain).task.threads)
    assert 4 == len(serve(Plain, "--thrift-threads", 3).task.threads)


def test_where_coroutines_run(serve: Serve) -> None:
    """async def methods run on the service's loop, and where all are, the server has no thread."""
    served = serve(AsyncWhere)
    assert "AsyncioLoopTask" == served.connect().ask("text", "")
    assert [] == served.task.threads


@pytest.mark.parametrize("threads", [0, 10])
def test_where_both_run(serve: Serve, threads: int) -> None:
    """Plain methods beside async ones run in threads of the server, and those on the loop."""
    peer = serve(MixedWhere, "--thrift-threads", threads).connect()
    assert "AsyncioLoopTask" == peer.ask("ping")
    assert peer.ask("text", "").startswith("ThriftServerTask")


class Asked(Plain):
    """Tells who asks."""

    def text(self, value: str) -> str:
        client = current_client()
        assert client is not None
        return f"{client.kind} {client.peer} {client.uid}"


class AsyncAsked(Async):  # type: ignore[misc]
    async def text(self, value: str) -> str:
        await asyncio.sleep(0)
        return Asked.text(self, value)


@pytest.mark.parametrize("handler", [Asked, AsyncAsked])
def test_current_client(serve: Serve, handler: Any) -> None:
    """A method can tell who calls; each caller is told apart."""
    served = serve(handler)
    for _ in range(2):
        peer = served.connect()
        host, port = peer.sock.getsockname()
        assert f"tcp {host}:{port} None" == peer.ask("text", "")
    assert None is current_client()


# -- errors ---------------------------------------------------------------------------------------
def heard(caplog: pytest.LogCaptureFixture, level: int) -> list[logging.LogRecord]:
    """What the server has logged at that level or above."""
    return [
        each
        for each in caplog.records
        if each.levelno >= level and each.name.endswith("ServerTask")
    ]


def test_undeclared_exception(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """It is an internal error to the client, who learns nothing of it, and one error line here."""
    peer = served.connect()
    host, port = peer.sock.getsockname()
    peer.call("fail", "a secret")
    answer = peer.answer()
    assert (TMessageType.EXCEPTION, "fail") == (answer.kind, answer.name)
    for word in (b"secret", b"RuntimeError", b"Traceback", b".py"):
        assert word not in answer.data
    error = answer.error()
    assert (TApplicationException.INTERNAL_ERROR, "Internal error") == (error.type, error.message)
    [line] = heard(caplog, logging.WARNING)
    assert (logging.ERROR, f"fail() failed, called by {host}:{port}") == (
        line.levelno,
        line.getMessage(),
    )
    assert line.exc_info is not None
    assert "a secret" == str(line.exc_info[1])
    assert "pong" == peer.ask("ping")


def test_declared_exception(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """It is an answer like any other: nothing is logged, no error is counted."""
    before = served.counter("divide.errors")
    with pytest.raises(Refused, match="division by zero"):
        served.connect().ask("divide", 1, 0)
    assert before == served.counter("divide.errors")
    assert [] == heard(caplog, logging.WARNING)


def test_application_exception(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """A TApplicationException that a method raises reaches the client as it is."""
    before = served.counter("fail.errors")
    with pytest.raises(TApplicationException) as raised:
        served.connect().ask("fail", "refuse this")
    assert TApplicationException.INVALID_TRANSFORM == raised.value.type
    assert "refuse this" == raised.value.message
    assert before + 1 == served.counter("fail.errors")
    assert [] == heard(caplog, logging.ERROR)


def test_oneway_that_raises(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is answered to it, which would be taken for the next call's answer; it is logged."""
    before = served.counter("note.errors")
    peer = served.connect()
    peer.send(framed(message("note", "raise", kind=TMessageType.ONEWAY)))
    assert "pong" == peer.ask("ping")
    served.until_counter("note.errors", before + 1)
    [line] = heard(caplog, logging.ERROR)
    assert line.getMessage().startswith("note() failed, called by 127.0.0.1:")


class Odd(Plain):
    """Returns what does not fit."""

    def add(self, a: int, b: int) -> Any:
        return "three"

    def text(self, value: str) -> Any:
        return None

    def echo(self, item: Any) -> Any:
        return 5

    def words(self) -> Any:
        return 7

    def divide(self, a: int, b: int) -> Any:
        raise Refused(why=5, code="five")

    def nothing(self) -> Any:
        return "something"


class AsyncOdd(Odd):
    """The same, as coroutines."""


for _name in ("add", "text", "echo", "words", "divide", "nothing"):

    def _bind(function: Any) -> Any:
        async def run(*args: Any) -> Any:
            return function(*args)

        return run

    setattr(AsyncOdd, _name, _bind(getattr(Odd, _name)))
AsyncOdd.DEPS = [AsyncioLoopTask]


@pytest.mark.parametrize("handler", [Odd, AsyncOdd])
def test_wrong_results(serve: Serve, handler: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A result, or a declared exception, that does not fit is an internal error, logged here."""
    peer = serve(handler).connect()
    for name, args in [("add", (1, 2)), ("echo", (None,)), ("words", ()), ("divide", (1, 0))]:
        caplog.clear()
        with pytest.raises(TApplicationException, match="Internal error") as raised:
            peer.ask(name, *args)
        assert TApplicationException.INTERNAL_ERROR == raised.value.type
        [line] = heard(caplog, logging.WARNING)
        assert line.getMessage().startswith(f"{name}() failed, called by 127.0.0.1:")
    assert None is peer.ask("nothing")


@pytest.mark.parametrize("handler", [Odd, AsyncOdd])
def test_none_for_a_value(serve: Serve, handler: Any) -> None:
    """None where there is a value to return makes an answer without one, as Apache's servers do."""
    served = serve(handler)
    peer = served.connect()
    peer.call("text", "x")
    answer = peer.answer()
    assert (TMessageType.REPLY, None) == (answer.kind, answer.value("text"))


# -- a processor of one's own ---------------------------------------------------------------------
class Counting(Calculator.Processor):  # type: ignore[misc]
    """A processor that counts."""

    def __init__(self, handler: Any) -> None:
        super().__init__(handler)
        self.seen: list[str] = []
        self.on_message_begin(lambda name, kind, seqid: self.seen.append(name))


class Processed(Plain):
    """Has a processor of its own."""

    def initTask(self) -> None:
        super().initTask()
        self.processor = Counting(self)


@pytest.mark.parametrize("threads", [0, 10])
def test_own_processor(serve: Serve, threads: int) -> None:
    """A processor that the handler has put in place gets every message."""
    served = serve(Processed, "--thrift-threads", threads)
    peer = served.connect()
    assert "pong" == peer.ask("ping")
    assert 3 == peer.ask("add", 1, 2)
    with pytest.raises(Refused):
        peer.ask("divide", 1, 0)
    with pytest.raises(TApplicationException):
        peer.ask("fail", "x")
    peer.send(framed(message("note", "word", kind=TMessageType.ONEWAY)))
    assert ["word"] == peer.ask("noted")
    assert ["ping", "add", "divide", "fail", "note", "noted"] == served.handler.processor.seen
    assert 6 == served.counter("process.calls")


class Broken(Plain):
    """Has a processor that fails."""

    def initTask(self) -> None:
        super().initTask()
        self.processor = self

    def process(self, iprot: Any, oprot: Any) -> None:
        iprot.readMessageBegin()
        raise OSError("a secret")


def test_processor_that_raises(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """What a processor raises is an internal error to the client; to a oneway call it is none."""
    served = serve(Broken)
    peer = served.connect()
    peer.send(framed(message("note", "word", kind=TMessageType.ONEWAY)))
    peer.call("ping", seqid=77)
    answer = peer.answer()
    assert ("ping", 77) == (answer.name, answer.seqid)
    assert b"secret" not in answer.data
    assert "Internal error" == answer.error().message
    assert 2 == len(heard(caplog, logging.ERROR))
    assert 2 == served.counter("process.errors")


def test_own_processor_and_nonsense(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Arguments that make no sense are a client's fault, of which a log is not to be full."""
    served = serve(Processed)
    peer = served.connect()
    peer.send(framed(message("add", 1, 2)[:-9]))
    assert TApplicationException.PROTOCOL_ERROR == peer.answer().error().type
    assert peer.is_closed()
    assert [] == heard(caplog, logging.INFO)
    assert "pong" == served.connect().ask("ping")


# -- handlers that end the world ------------------------------------------------------------------
class Exiting(Plain):
    """Has a method that ends the process."""

    def text(self, value: str) -> Any:
        raise SystemExit(3)


class AsyncExiting(Async):  # type: ignore[misc]
    async def text(self, value: str) -> Any:
        raise SystemExit(3)


@pytest.mark.parametrize(
    ("handler", "argv"),
    [
        (Exiting, ["--thrift-threads", "0"]),
        (Exiting, []),
        (AsyncExiting, ["--asyncio-loop", "asyncio"]),
        (AsyncExiting, ["--asyncio-loop", "uvloop"]),
    ],
)
def test_system_exit(handler: Any, argv: list[str]) -> None:
    """A method that raises SystemExit ends the service with that status; clients are let go."""
    with pytest.raises(ServiceFailed), running([ThriftServerTask, handler], *LOCAL, *argv) as s:
        served = Served(s, ThriftServerTask)
        peer, other = served.connect(), served.connect()
        assert "pong" == other.ask("ping")
        peer.call("text", "x")
        assert peer.is_closed()
        assert other.is_closed()
        assert s.join(10)
        assert 3 == s.exit_status
        served.see_off()

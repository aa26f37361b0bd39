"""fb303: what clients are told, who may do what, and services that extend the interface."""

import contextlib
import logging
import os
import pwd
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.Thrift import TApplicationException
from thrift.transport.THttpClient import THttpClient
from thrift.transport.TSocket import TSocket
from thrift.transport.TTransport import TFramedTransport, TMemoryBuffer

from sparts import cli
from sparts.counters import Average, CallbackCounter, counter
from sparts.errors import TaskError
from sparts.gen.fb303 import FacebookService
from sparts.gen.fb303.ttypes import fb_status
from sparts.lifecycle import State
from sparts.options import option
from sparts.tasks.fb303 import FB303HandlerTask
from sparts.tasks.thrift import ThriftHandlerTask, ThriftServerTask
from sparts.tasks.tornado import TornadoHTTPTask
from sparts.tasks.tornado_thrift import ThriftPoolTask, TornadoThriftHandler
from sparts.testing import running
from sparts.thrift.compiler import CompileContext
from sparts.vservice import VService
from sparts.vtask import VTask

DEADLINE = 10.0
LOCAL = "--thrift-host=127.0.0.1"
TASKS = [ThriftServerTask, FB303HandlerTask]
FB303 = Path(__file__).resolve().parents[2] / "thrift/fb303.thrift"


class Waited(threading.Event):
    """An event that tells when somebody began to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.begun.set()
        return super().wait(timeout)


def waiting(service: VService) -> Waited:
    """An event in the place of that which ends the service's profiles at its stop."""
    waited = service.requireTask(FB303HandlerTask)._stopping = Waited()
    service.lifecycle.on_stop_request(waited.set)
    return waited


@contextlib.contextmanager
def client_of(service: VService, module: Any = FacebookService) -> Iterator[Any]:
    """Apache's client of the service's server."""
    (address,) = service.requireTask(ThriftServerTask).bound_addrs
    sock = TSocket(unix_socket=address) if isinstance(address, str) else TSocket(*address)
    sock.setTimeout(DEADLINE * 1000)
    transport = TFramedTransport(sock)
    transport.open()
    try:
        yield module.Client(TBinaryProtocol(transport))
    finally:
        transport.close()


@contextlib.contextmanager
def refused(said: str) -> Iterator[None]:
    """The block's call is refused with a message that has *said* in it."""
    with pytest.raises(TApplicationException) as caught:
        yield
    assert said in caught.value.message


class Shop(VService):
    """A service that has everything that fb303 tells of."""

    ALL_TASKS = TASKS
    VERSION = "1.2"
    password: str = option(type=str, default="hunter2", secret=True)


# -- who it is ------------------------------------------------------------------------------------
def test_who_it_is() -> None:
    """Name, version and the second of the start are the service's."""
    with running(Shop, LOCAL) as service, client_of(service) as client:
        service.name = "corner"
        assert "corner" == client.getName()
        assert "1.2" == client.getVersion()
        assert int(service.start_time) == client.aliveSince()


# -- the status -----------------------------------------------------------------------------------
def test_alive() -> None:
    """A service of which all is well is ALIVE, and there is nothing to say about it."""
    with running(TASKS, LOCAL) as service, client_of(service) as client:
        assert (fb_status.ALIVE, "") == (client.getStatus(), client.getStatusDetails())


def test_registered_warnings() -> None:
    """Registered warnings are told, not without end, until they are cleared."""
    with running(TASKS, LOCAL) as service, client_of(service) as client:
        number = service.registerWarning("the disk is full")
        assert fb_status.WARNING == client.getStatus()
        assert "the disk is full" == client.getStatusDetails()
        service.clearWarning(number)
        assert fb_status.ALIVE == client.getStatus()
        for _ in range(100):
            service.registerWarning("x" * 1000)
        assert client.getStatusDetails().endswith("x; and 80 more")
        assert 7000 > len(client.getStatusDetails())


def test_a_dead_thread() -> None:
    """A thread that ended, though nobody asked for a stop, is a warning that names it."""

    class Workers(VTask):
        workers = 2
        OVER = threading.Event()

        def _runloop(self) -> None:
            if threading.current_thread().name == "Workers-1":
                self.OVER.wait()

        def stop(self) -> None:
            self.OVER.set()

    with running([*TASKS, Workers], LOCAL) as service, client_of(service) as client:
        service.requireTask(Workers).threads[1].join(DEADLINE)
        assert fb_status.WARNING == client.getStatus()
        assert "Workers: 1 of 2 threads ended (Workers-2)" == client.getStatusDetails()


def test_starting() -> None:
    """Until all tasks are ready it is STARTING, and what it waits for is told."""

    class Slow(VTask):
        AUTO_READY = False
        LOOPLESS = True
        DEPS = [ThriftServerTask]

    class Waits(VTask):
        LOOPLESS = True
        DEPS = [Slow]

    service_class = type("Starting", (VService,), {"ALL_TASKS": [*TASKS, Waits]})
    service = service_class(cli.parse(service_class, [LOCAL]))
    thread = service.startBG()
    assert service.lifecycle.wait_for(lambda: bool(service.tasks), DEADLINE)
    assert service.requireTask(Slow) is not None
    server = service.requireTask(ThriftServerTask)
    assert server.waitReady(DEADLINE)
    with client_of(service) as client:
        assert fb_status.STARTING == client.getStatus()
        assert "not ready: Slow, Waits" == client.getStatusDetails()
        service.requireTask(Slow).setReady()
        assert service.waitReady(DEADLINE)
        assert fb_status.ALIVE == client.getStatus()
    service.stop()
    thread.join(DEADLINE)


def test_before_and_after() -> None:
    """In the process itself: DEAD before the start, STOPPED after the end, DEAD after a failure."""

    class Fails(VTask):
        FAILS = False
        LOOPLESS = True

        def stop(self) -> None:
            if self.FAILS:
                raise RuntimeError("no")

    service_class = type("Ends", (VService,), {"ALL_TASKS": [*TASKS, Fails]})
    for fails, status, words in (
        (False, fb_status.STOPPED, ""),
        (True, fb_status.DEAD, "Fails failed; the log tells why"),
    ):
        Fails.FAILS = fails
        service = service_class(cli.parse(service_class, [LOCAL]))
        early = FB303HandlerTask(service)
        assert (fb_status.DEAD, "not started") == (early.getStatus(), early.getStatusDetails())
        thread = service.startBG()
        assert service.waitReady(DEADLINE)
        task = service.requireTask(FB303HandlerTask)
        service.stop()
        thread.join(DEADLINE)
        assert (status, words) == (task.getStatus(), task.getStatusDetails())


# -- counters -------------------------------------------------------------------------------------
def _no_luck() -> int:
    raise RuntimeError("no luck")


def _always(value: Any) -> Callable[[], Any]:
    return lambda: value


class Counts(VTask):
    LOOPLESS = True
    sold = counter()
    mean = Average()

    def initTask(self) -> None:
        super().initTask()
        self.broken = CallbackCounter(_no_luck)
        for name, value in {
            "fraction": -2.9,
            "nan": float("nan"),
            "endless": float("inf"),
            "text": "12",
            "much": 2**63 - 1,
            "too_much": 2**63,
        }.items():
            setattr(self, name, CallbackCounter(_always(value)))


def test_counters(caplog: pytest.LogCaptureFixture) -> None:
    """All counters are told by dotted names, towards zero; what has no number is left out, and
    what fails is, logged once."""
    with running([*TASKS, Counts], LOCAL) as service, client_of(service) as client:
        task = service.requireTask(Counts)
        task.sold.add(3)
        told = client.getCounters()
        assert {"sold": 3, "fraction": -2, "much": 2**63 - 1} == {
            name.removeprefix("Counts."): value
            for name, value in told.items()
            if name.startswith("Counts.")
        }
        task.mean.add(2.5)
        assert 2 == client.getCounters()["Counts.mean"]
        assert 2 == client.getCounters()["ThriftServerTask.getCounters.calls"]
    assert 1 == caplog.text.count("The counter Counts.broken fails; it is left out")


def test_one_counter() -> None:
    """One counter by its name; 0 where there is none, or no value; an error where it fails."""
    with running([*TASKS, Counts], LOCAL) as service, client_of(service) as client:
        service.requireTask(Counts).sold.add(3)
        assert 3 == client.getCounter("Counts.sold")
        assert [0, 0, 0] == [client.getCounter(f"Counts.{name}") for name in ("mean", "no", "nan")]
        with refused("Internal error"):
            client.getCounter("Counts.broken")


# -- options --------------------------------------------------------------------------------------
def test_reading_options() -> None:
    """All declared options are told as texts; a secret one is hidden, an unknown one an error."""
    with running(Shop, LOCAL) as service, client_of(service) as client:
        told = client.getOptions()
        assert set(service.getOptions()) == set(told)
        assert ("127.0.0.1", "false", "") == (
            told["thrift_host"],
            told["fb303_allow_control"],
            told["logfile"],
        )
        assert "********" == told["password"] == client.getOption("password")
        assert "127.0.0.1" == client.getOption("thrift-host")
        with refused("no option 'thrift_hots'; did you mean 'thrift_host'?"):
            client.getOption("thrift_hots")


def test_setting_options(caplog: pytest.LogCaptureFixture) -> None:
    """A value is converted as declared, and nonsense refused with what is accepted; who sets what
    is logged, but no secret."""
    caplog.set_level(logging.INFO)
    with (
        running(Shop, LOCAL, "--fb303-allow-control") as service,
        client_of(service) as client,
    ):
        client.setOption("stop-timeout", "2.5")
        assert 2.5 == service.stop_timeout
        assert "2.5" == client.getOption("stop_timeout")
        client.setOption("password", "swordfish")
        assert "swordfish" == service.password
        with refused("--level: 'LOUD' is not one of DEBUG, INFO"):
            client.setOption("level", "loud")
        with refused("no option 'passwort'; did you mean 'password'?"):
            client.setOption("passwort", "x")
        with pytest.raises(TApplicationException) as caught:
            client.setOption("stop-timeout", "x" * 100_000)
        assert 1000 == len(caught.value.message)
    assert "Option stop-timeout set to '2.5' by 127.0.0.1:" in caplog.text
    assert "swordfish" not in caplog.text


# -- control --------------------------------------------------------------------------------------
ONEWAY = ["reinitialize", "shutdown"]


def test_control_is_refused_over_tcp(caplog: pytest.LogCaptureFixture) -> None:
    """Over TCP, from this machine too, whoever would change or stop the service is told of the
    option; where there is no answer the log has it with the peer; each is counted."""
    with running(TASKS, LOCAL) as service, client_of(service) as client:
        with refused("setOption() is refused over TCP: start the service with --fb303-allow-con"):
            client.setOption("fb303_allow_control", "true")
        with refused("getCpuProfile() is refused over TCP"):
            client.getCpuProfile(1)
        client.shutdown()
        client.reinitialize()
        assert fb_status.ALIVE == client.getStatus()
        task = service.requireTask(FB303HandlerTask)
        assert 4 == task.control_refused()
        assert not task.allow_control
        assert not service.lifecycle.stop_requested
    for name in ONEWAY:
        assert f"{name}() of 127.0.0.1:" in caplog.text
        assert f"{name}() is refused over TCP: start the service with" in caplog.text


def test_control_is_refused_over_http(caplog: pytest.LogCaptureFixture) -> None:
    """Over HTTP it is as over TCP."""

    class Web(TornadoHTTPTask):
        DEPS = [FB303HandlerTask, ThriftPoolTask]

        def getApplicationConfig(self) -> Any:
            return [("/", TornadoThriftHandler, {"handler": FB303HandlerTask})]

    with running(Web, "--http-host=127.0.0.1") as service:
        (address,) = service.requireTask(Web).bound_addrs
        transport = THttpClient("http://{}:{}/".format(*address))
        client = FacebookService.Client(TBinaryProtocol(transport))
        assert fb_status.ALIVE == client.getStatus()
        assert 0 == client.getCounters()["FB303HandlerTask.control_refused"]
        with refused("setOption() is refused over HTTP: start the service with --fb303-allow-con"):
            client.setOption("level", "INFO")
        client.shutdown()
        transport.close()
        assert not service.lifecycle.stop_requested
        assert 2 == service.requireTask(FB303HandlerTask).control_refused()
    assert "shutdown() is refused over HTTP" in caplog.text


def test_a_shutdown() -> None:
    """Where it is allowed, a client over TCP stops the service."""
    with running(TASKS, LOCAL, "--fb303-allow-control") as service:
        with client_of(service) as client:
            client.shutdown()
            assert service.join(DEADLINE)
        assert State.STOPPED is service.lifecycle.state


def test_a_restart(tmp_path: Path) -> None:
    """A client on a unix socket of the service's user has it start anew."""
    fresh = threading.Semaphore(0)

    class Restarts(VService):
        ALL_TASKS = TASKS

        def initService(self) -> None:
            fresh.release()

    with running(Restarts, "--thrift-sock", tmp_path / "s") as service:
        assert fresh.acquire(timeout=DEADLINE)
        with client_of(service) as client:
            client.reinitialize()
            assert fresh.acquire(timeout=DEADLINE)


def test_the_same_user_may(tmp_path: Path) -> None:
    """A client on a unix socket of the service's user may without the option."""
    with running(Shop, "--thrift-sock", tmp_path / "s") as service, client_of(service) as client:
        client.setOption("level", "info")
        assert "INFO" == service.level
        assert "# Profile of process" in client.getCpuProfile(1)
        client.shutdown()
        assert service.join(DEADLINE)


#: Becomes another user once all is imported, for that user may not read the interpreter's files.
ANOTHER = """
import os, sys, encodings.idna
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.Thrift import TApplicationException
from thrift.transport.TSocket import TSocket
from thrift.transport.TTransport import TFramedTransport
from sparts.gen.fb303 import FacebookService
os.setgroups([])
os.setgid(int(sys.argv[3]))
os.setuid(int(sys.argv[2]))
transport = TFramedTransport(TSocket(unix_socket=sys.argv[1]))
transport.open()
client = FacebookService.Client(TBinaryProtocol(transport))
print(client.getStatus())
try:
    client.setOption("level", "INFO")
except TApplicationException as error:
    print(error)
client.shutdown()
print(client.getStatus())
"""


def test_another_user_may_not() -> None:
    """A client of another user reads over a unix socket, and is refused control."""
    if os.geteuid() != 0:
        pytest.skip("not here: only root can become another user")
    other = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        argv = ["--thrift-sock", f"{place}/s", "--thrift-sock-mode", "666"]
        with running(TASKS, *argv) as service:
            client = [sys.executable, "-c", ANOTHER, f"{place}/s"]
            done = subprocess.run(
                [*client, str(other.pw_uid), str(other.pw_gid)],
                capture_output=True,
                text=True,
                timeout=DEADLINE,
            )
            assert not service.lifecycle.stop_requested
            assert 2 == service.requireTask(FB303HandlerTask).control_refused()
    first, refusal, last = done.stdout.splitlines()
    assert [str(fb_status.ALIVE)] * 2 == [first, last]
    assert f"setOption() is refused to user {other.pw_uid}: start the service" in refusal


def test_code_in_the_process_may() -> None:
    """Whoever has the task at hand needs no permission."""
    with running(TASKS, LOCAL) as service:
        task = service.requireTask(FB303HandlerTask)
        task.setOption("level", "info")
        assert "INFO" == service.level
        task.shutdown()
        assert service.join(DEADLINE)


def test_a_processor_in_another_server() -> None:
    """The generated processor, in whatever server, answers in numbers and grants no control."""
    with running(TASKS, LOCAL) as service:
        processor = service.requireTask(FB303HandlerTask).processor

        def call(name: str, *args: Any) -> Any:
            given, taken = TMemoryBuffer(), TMemoryBuffer()
            getattr(FacebookService.Client(TBinaryProtocol(given)), f"send_{name}")(*args)
            sent = TMemoryBuffer(given.getvalue())
            processor.process(TBinaryProtocol(sent), TBinaryProtocol(taken))
            answer = TBinaryProtocol(TMemoryBuffer(taken.getvalue()))
            return getattr(FacebookService.Client(answer), f"recv_{name}")()

        assert "TestService" == call("getName")
        assert 0 == call("getCounters")["FB303HandlerTask.control_refused"]
        with refused("setOption() is refused over TCP"):
            call("setOption", "level", "INFO")


# -- profiles -------------------------------------------------------------------------------------
@pytest.mark.parametrize("seconds", [0, -5, 61])
def test_a_profile_of_no_length(seconds: int) -> None:
    """A profile of no time, or of more than a minute, is refused with what is accepted."""
    with (
        running(TASKS, LOCAL, "--fb303-allow-control") as service,
        client_of(service) as client,
        refused("ask for 1 to 60"),
    ):
        client.getCpuProfile(seconds)


@pytest.mark.parametrize("threads", [0, 1])
def test_a_profile_holds_up_nobody(threads: int) -> None:
    """During a profile others are answered, whatever threads there are; a second one is refused;
    a stop ends it early, and its client has the report."""
    argv = [LOCAL, "--fb303-allow-control", f"--thrift-threads={threads}"]
    with running(TASKS, *argv) as service, client_of(service) as client:
        waited = waiting(service)
        client.send_getCpuProfile(60)
        assert waited.begun.wait(DEADLINE)
        with client_of(service) as other:
            assert fb_status.ALIVE == other.getStatus()
            assert 1 == other.getCounters()["ThriftServerTask.getCpuProfile.in_flight"]
            with refused("another profile is under way"):
                other.getCpuProfile(1)
        service.stop()
        assert "ended early by the service's stop" in client.recv_getCpuProfile()


# -- services that extend it ----------------------------------------------------------------------
@pytest.fixture(scope="module")
def shop(need: Callable[[str], str]) -> ModuleType:
    """The bindings of a service that extends fb303."""
    need("thrift")
    if not FB303.is_file():
        pytest.skip("not here: thrift/fb303.thrift")
    with CompileContext() as context:
        context.addDependentFilePath(FB303)
        package = context.importThriftStr(
            'include "fb303.thrift"\n'
            "namespace py shop\n"
            "service Shop extends fb303.FacebookService { string buy(1: string what) }"
        )
    module: ModuleType = package.Shop
    return module


def test_a_service_that_extends_it(shop: ModuleType) -> None:
    """A handler has its own methods, inherits the others, and may extend an inherited one."""

    class Handler(FB303HandlerTask):
        MODULE = shop
        sold = counter()

        def buy(self, what: str) -> str:
            self.sold.increment()
            return f"a {what}"

        def getStatusDetails(self) -> str:
            return f"{super().getStatusDetails()}, {self.sold()} sold"

    with running([ThriftServerTask, Handler], LOCAL) as service:
        with client_of(service, shop) as client:
            assert "a pear" == client.buy("pear")
            assert 1 == client.getCounter("Handler.sold") == client.getCounters()["Handler.sold"]
            service.registerWarning("few pears")
            assert "few pears, 1 sold" == client.getStatusDetails()
        with client_of(service) as tool:
            assert fb_status.WARNING == tool.getStatus()


def test_stopping(shop: ModuleType) -> None:
    """While the server drains, the status that it tells is STOPPING."""
    begun = threading.Event()

    class Handler(FB303HandlerTask):
        MODULE = shop

        def buy(self, what: str) -> str:
            begun.set()
            self.service.lifecycle.wait_for(lambda: self.service.lifecycle.stop_requested)
            return what

    with (
        running([ThriftServerTask, Handler], LOCAL) as service,
        client_of(service, shop) as client,
    ):
        client.send_buy("time")
        client.send_getStatus()
        assert begun.wait(DEADLINE)
        service.stop()
        assert "time" == client.recv_buy()
        assert fb_status.STOPPING == client.recv_getStatus()


def test_async_handlers_stay_on_the_loop(shop: ModuleType) -> None:
    """A service whose own methods are all async def is served on the loop, and a profile there
    holds up nobody."""

    class Handler(FB303HandlerTask):
        MODULE = shop

        async def buy(self, what: str) -> str:
            return f"{what} in {threading.current_thread().name}"

    argv = [LOCAL, "--fb303-allow-control"]
    with (
        running([ThriftServerTask, Handler], *argv) as service,
        client_of(service, shop) as client,
        client_of(service, shop) as other,
    ):
        waited = waiting(service)
        client.send_getCpuProfile(60)
        assert waited.begun.wait(DEADLINE)
        assert "pears in AsyncioLoopTask" == other.buy("pears")
        assert 1 == other.getCounters()["ThriftServerTask.getCpuProfile.in_flight"]
        with refused("another profile is under way"):
            other.getCpuProfile(1)
        waited.set()
        assert "# Profile of process" in client.recv_getCpuProfile()


def test_a_service_that_does_not(need: Callable[[str], str]) -> None:
    """A handler of a service that does not extend fb303 fails, with the cure."""
    need("thrift")
    with CompileContext() as context:
        package = context.importThriftStr("service Plain { void nothing() }")

    class Handler(FB303HandlerTask):
        MODULE = package.Plain

        def nothing(self) -> None:
            pass

    class Tested(VService):
        ALL_TASKS = [Handler]

    service = Tested(cli.parse(Tested, []))
    service.startBG().join(DEADLINE)
    assert service.lifecycle.failure is not None
    assert isinstance(service.lifecycle.failure.error, TaskError)
    assert "Plain does not extend fb303.FacebookService" in str(service.lifecycle.failure.error)


def test_every_method_is_there() -> None:
    """The task has every method of the interface that Thrift's tools know."""
    assert issubclass(FB303HandlerTask, ThriftHandlerTask)
    methods = [name for name in vars(FacebookService.Iface) if not name.startswith("_")]
    assert 13 == len(methods)
    assert [] == [name for name in methods if not callable(getattr(FB303HandlerTask, name, None))]

"""Tornado's tasks in services: the loop, the HTTP server, its options, its faults and its end."""

import asyncio
import contextlib
import http.client
import logging
import os
import re
import resource
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import tornado.web
from tornado.ioloop import IOLoop
from tornado.iostream import StreamClosedError

from sparts import cli
from sparts.lifecycle import State
from sparts.tasks.asyncio import AsyncioLoopTask, new_loop
from sparts.tasks.tornado import (
    HelloWorldHandler,
    TornadoHTTPTask,
    TornadoIOLoopTask,
    TornadoTask,
)
from sparts.vservice import VService
from sparts.vtask import VTask

DEADLINE = 10.0
HELLO = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LOCAL = ["--http-host", "127.0.0.1"]

# The first uvloop of a process makes a pipe that libuv keeps for good: let no test be blamed.
new_loop("uvloop").close()


def service_of(*tasks: type[VTask], argv: Any = (), **attributes: Any) -> VService:
    """A service of *tasks* with the options *argv*."""
    cls: Any = type("Tested", (VService,), {"ALL_TASKS": list(tasks), **attributes})
    service: VService = cls(cli.parse(cls, list(argv)))
    return service


@contextlib.contextmanager
def running(*tasks: type[VTask], argv: Any = LOCAL, **attributes: Any) -> Iterator[VService]:
    """It, running in the background."""
    service = service_of(*tasks, argv=argv, **attributes)
    thread = service.startBG()
    try:
        assert service.waitReady(DEADLINE), service.lifecycle.failure
        yield service
    finally:
        service.stop()
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert service.lifecycle.state is State.STOPPED


def failure_of(*tasks: type[VTask], argv: Any = (), **attributes: Any) -> tuple[str, str, int]:
    """Which task fails, with what message, when such a service starts; and the exit status."""
    service = service_of(*tasks, argv=argv, **attributes)
    thread = service.startBG()
    thread.join(DEADLINE)
    failure = service.lifecycle.failure
    assert failure is not None
    return failure.source, str(failure.error), service.exit_status


def fetch(task: TornadoHTTPTask, path: str = "/", tls: ssl.SSLContext | None = None) -> bytes:
    """What a GET on a connection of its own gives."""
    sock = socket.create_connection(task.bound_addrs[0][:2], DEADLINE)
    if tls is not None:
        sock = tls.wrap_socket(sock, server_hostname="localhost")
    with sock:
        return exchange(sock, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


def exchange(sock: socket.socket, request: bytes = HELLO) -> bytes:
    """Send *request*; the body of the answer."""
    return answer(sock, request)[1]


def answer(sock: socket.socket, request: bytes = HELLO) -> tuple[http.client.HTTPResponse, bytes]:
    """Send *request*; the answer and its body."""
    sock.settimeout(DEADLINE)
    sock.sendall(request)
    response = http.client.HTTPResponse(sock)
    response.begin()
    with response:
        return response, response.read()


# -- the loop -------------------------------------------------------------------------------------
class OnLoop(TornadoTask):
    """Asks the loop for its IOLoop."""

    def start(self) -> None:
        self.current: Any = None
        self.seen = threading.Event()
        self.ioloop.add_callback(self._look)
        super().start()

    def _look(self) -> None:
        self.current = IOLoop.current(), asyncio.get_running_loop()
        self.seen.set()


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_one_loop(kind: str) -> None:
    """The IOLoop is the service's one asyncio loop, of the kind asked for."""
    with running(OnLoop, argv=["--tornado-loop", kind]) as service:
        task = service.requireTask(OnLoop)
        assert task.seen.wait(DEADLINE)
        loop = service.requireTask(AsyncioLoopTask).loop
        assert (task.ioloop, loop) == task.current
        assert loop is task.ioloop.asyncio_loop  # type: ignore[attr-defined]
        assert ("uvloop" in type(loop).__module__) == (kind == "uvloop")


def test_two_kinds_of_loop() -> None:
    """A service that is asked for two kinds of loop says so."""
    argv = ["--tornado-loop", "asyncio", "--asyncio-loop", "uvloop"]
    source, message, status = failure_of(OnLoop, argv=argv)
    assert ("AsyncioLoopTask", 2) == (source, status)
    assert "--tornado-loop asyncio" in message


def test_left_out_where_nobody_needs_it(caplog: pytest.LogCaptureFixture) -> None:
    """The IOLoop task leaves itself out of a service whose tasks do without."""
    caplog.set_level(logging.INFO)

    class Other(VTask):
        LOOPLESS = True

    with running(TornadoIOLoopTask, Other, argv=[]) as service:
        assert service.getTask(TornadoIOLoopTask) is None
    assert "Left out: no task needs it" in caplog.text


def test_required_all_the_same() -> None:
    """``REQUIRE_TORNADO`` keeps it."""
    with running(TornadoIOLoopTask, argv=[], REQUIRE_TORNADO=True) as service:
        assert service.requireTask(TornadoIOLoopTask).ioloop


def test_needed_by_another_kind_of_task() -> None:
    """A task of any kind that names it in DEPS keeps it, and so does what needs that task."""

    class Direct(VTask):
        LOOPLESS = True
        DEPS = [TornadoIOLoopTask]

    class Indirect(VTask):
        LOOPLESS = True
        DEPS = [Direct]

    with running(Indirect, argv=[]) as service:
        assert service.requireTask(TornadoIOLoopTask).ioloop


def test_a_subclass_with_deps_of_its_own() -> None:
    """A Tornado task that names what else it needs keeps the loop."""

    class Database(VTask):
        LOOPLESS = True

    class Web(TornadoHTTPTask):
        DEPS = [Database]

    with running(Web) as service:
        assert b"Hello, world" == fetch(service.requireTask(Web))
        assert service.getTask(Database) is not None


# -- serving --------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["auto", "asyncio", "uvloop"])
def test_hello(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The task by itself answers ``Hello, world``, and logs where it listens."""
    caplog.set_level(logging.INFO)
    with running(TornadoHTTPTask, argv=["--tornado-loop", kind]) as service:
        task = service.requireTask(TornadoHTTPTask)
        [(host, port)] = task.bound_v4_addrs
        assert ("0.0.0.0", [(host, port)], []) == (host, task.bound_addrs, task.bound_v6_addrs)
        assert b"Hello, world" == fetch(task)
    line = f"TornadoHTTPTask Server Started on 0.0.0.0:{port}"
    assert ("Tested.TornadoHTTPTask", logging.INFO, line) in caplog.record_tuples


class Settings(tornado.web.RequestHandler):
    def get(self) -> None:
        self.write(f"{self.settings['service'].name} {self.settings['task'].name} ")
        self.write(f"{self.settings['extra']} {self.request.remote_ip}")


class Own(TornadoHTTPTask):
    """Uses every override point."""

    def getApplicationConfig(self) -> list[Any]:
        return [("/", Settings)]

    def getApplicationSettings(self) -> dict[str, Any]:
        return {**super().getApplicationSettings(), "extra": "more"}

    def getServerSettings(self) -> dict[str, Any]:
        return {"xheaders": True}


def test_override_points() -> None:
    """Routes and settings of application and server are the subclass's; handlers see the task."""
    with (
        running(Own) as service,
        socket.create_connection(service.requireTask(Own).bound_addrs[0]) as sock,
    ):
        request = b"GET / HTTP/1.1\r\nHost: x\r\nX-Real-Ip: 9.9.9.9\r\n\r\n"
        assert b"Tested Own more 9.9.9.9" == exchange(sock, request)


def test_two_servers() -> None:
    """Two servers with prefixes of their own serve in one service, with options of their own."""

    class Public(TornadoHTTPTask):
        OPT_PREFIX = "public"

    class Admin(Own):
        OPT_PREFIX = "admin-http"

    argv = ["--public-host", "127.0.0.1", "--admin-http-host", "127.0.0.2"]
    with running(Public, Admin, argv=argv) as service:
        public, admin = service.requireTask(Public), service.requireTask(Admin)
        assert ("127.0.0.1", "127.0.0.2") == (public.bound_addrs[0][0], admin.bound_addrs[0][0])
        assert b"Hello, world" == fetch(public)
        assert b"Tested Admin more 127.0.0.1" == fetch(admin)
        assert 1 == public.requests() == admin.requests()


def test_default_port() -> None:
    """The service's ``DEFAULT_PORT`` is the port, and the flag goes before it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running(TornadoHTTPTask, DEFAULT_PORT=port) as service:
        assert [("127.0.0.1", port)] == service.requireTask(TornadoHTTPTask).bound_addrs
    argv = [*LOCAL, "--http-port", "0"]
    with running(TornadoHTTPTask, DEFAULT_PORT=1, argv=argv) as service:
        assert 1 != service.requireTask(TornadoHTTPTask).bound_addrs[0][1]


def test_both_families(caplog: pytest.LogCaptureFixture) -> None:
    """``--http-host ''`` is IPv4 and IPv6 on one port, each with its line in the log."""
    caplog.set_level(logging.INFO)
    with running(TornadoHTTPTask, argv=["--http-host", ""]) as service:
        task = service.requireTask(TornadoHTTPTask)
        [(_, port)], [six] = task.bound_v4_addrs, task.bound_v6_addrs
        assert port == six[1]
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, port)) as sock:
                assert b"Hello, world" == exchange(sock)
    for address in (f"0.0.0.0:{port}", f"[::]:{port}"):
        assert f"TornadoHTTPTask Server Started on {address}" in caplog.messages


def test_unix_socket(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A unix socket has its mode and group, serves, is logged by its path, and goes at the end."""
    caplog.set_level(logging.INFO)
    path = tmp_path / "web.sock"
    argv = ["--http-sock", str(path), "--http-sock-mode", "606", "--http-sock-group"]
    with running(TornadoHTTPTask, argv=[*argv, str(os.getgid())]) as service:
        task = service.requireTask(TornadoHTTPTask)
        assert ([str(path)], [], []) == (task.bound_addrs, task.bound_v4_addrs, task.bound_v6_addrs)
        assert 0o606 == stat.S_IMODE(path.stat().st_mode)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            assert b"Hello, world" == exchange(sock)
    assert not path.exists()
    assert f"TornadoHTTPTask Server Started on {path}" in caplog.messages


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory, need: Callable[[str], str]) -> list[str]:
    """A self-signed certificate for localhost, and its key."""
    where = tmp_path_factory.mktemp("tls")
    paths = [str(where / "cert.pem"), str(where / "key.pem")]
    subprocess.run(
        [need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        + ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext"]
        + ["subjectAltName=DNS:localhost", "-out", paths[0], "-keyout", paths[1]],
        check=True,
        capture_output=True,
    )
    return paths


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_tls(certificate: list[str], kind: str) -> None:
    """With ``--http-cert`` and ``--http-key`` it serves TLS."""
    cert, key = certificate
    argv = [*LOCAL, "--tornado-loop", kind, "--http-cert", cert, "--http-key", key]
    with running(TornadoHTTPTask, argv=argv) as service:
        trusting = ssl.create_default_context(cafile=cert)
        task = service.requireTask(TornadoHTTPTask)
        assert b"Hello, world" == fetch(task, tls=trusting)


def test_no_tls_is_counted(certificate: list[str]) -> None:
    """Clients of a TLS server that speak no TLS are counted."""
    cert, key = certificate
    argv = [*LOCAL, "--http-cert", cert, "--http-key", key]
    with running(TornadoHTTPTask, argv=argv) as service:
        task = service.requireTask(TornadoHTTPTask)
        with socket.create_connection(task.bound_v4_addrs[0], DEADLINE) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                while sock.recv(100):
                    pass
    assert 1 == task.failed_handshakes()


def test_counters() -> None:
    """What it did and does is counted, under the task's name."""
    argv = [*LOCAL, "--http-idle-timeout", "0.05"]
    with running(TornadoHTTPTask, argv=argv) as service:
        task = service.requireTask(TornadoHTTPTask)
        with socket.create_connection(task.bound_addrs[0]) as sock:
            exchange(sock)
            exchange(sock)
            assert b"" == sock.recv(1)  # idle too long
        after = threading.Event()
        task.ioloop.add_callback(after.set)
        assert after.wait(DEADLINE)
        counters = service.getCounters()
        assert 2 == counters["TornadoHTTPTask.requests"]()
        assert 1 == counters["TornadoHTTPTask.timed_out"]()
        assert 0 == counters["TornadoHTTPTask.in_flight"]()
        assert 0 == counters["TornadoHTTPTask.connections"]()
        assert 0 < counters["TornadoHTTPTask.request_duration_ms.max.60"]() < 10_000


# -- what a user can get wrong --------------------------------------------------------------------
def test_a_used_port() -> None:
    """A used port is one line with the address, the task, the flag and the cure."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        argv = [*LOCAL, "--http-port", str(port)]
        source, message, status = failure_of(TornadoHTTPTask, argv=argv)
    assert ("TornadoHTTPTask", 1) == (source, status)
    asked_by = f"--http-host 127.0.0.1 --http-port {port}"
    assert message.startswith(f"{asked_by}: 127.0.0.1:{port} is in use; ")
    assert "choose another port" in message


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--http-host", "no.such.invalid"], "--http-host no.such.invalid --http-port 0: the host"),
        (["--http-cert", "/no/cert.pem"], "--http-cert /no/cert.pem: cannot read /no/cert.pem"),
        (["--http-key", "/no/key.pem"], "--http-key /no/key.pem: give its certificate too"),
        (["--http-sock", "/no/s"], "--http-sock /no/s: cannot make the unix socket /no/s"),
        (
            ["--http-sock", "/tmp/s", "--http-sock-group", "nobodys"],
            "--http-sock /tmp/s --http-sock-group nobodys: there is no group 'nobodys'",
        ),
    ],
)
def test_wrong_options(argv: list[str], message: str) -> None:
    """Wrong options end the service with a message that names the task, the flag and the value."""
    source, found, status = failure_of(TornadoHTTPTask, argv=argv)
    assert "TornadoHTTPTask" == source
    assert found.startswith(message)
    assert status in (1, 2)
    assert "\n" not in found


@pytest.mark.parametrize(
    "argv", [["--http-port", "70000"], ["--http-body-timeout", "-1"], ["--http-sock-mode", "9"]]
)
def test_impossible_values(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Values out of range are refused by the command line, naming the flag."""
    with pytest.raises(SystemExit) as caught:
        service_of(TornadoHTTPTask, argv=argv)
    assert 2 == caught.value.code
    assert f"argument {argv[0]}: {argv[1]!r} is not" in capsys.readouterr().err


def test_a_live_unix_socket(tmp_path: Path) -> None:
    """A second service on the same unix socket is refused, and the first goes on."""
    argv = ["--http-sock", str(tmp_path / "s")]
    with running(TornadoHTTPTask, argv=argv), socket.socket(socket.AF_UNIX) as sock:
        assert "a process answers on it" in failure_of(TornadoHTTPTask, argv=argv)[1]
        sock.connect(argv[1])
        assert b"Hello, world" == exchange(sock)


# -- the end --------------------------------------------------------------------------------------
def test_a_failure_elsewhere_before_the_start(tmp_path: Path) -> None:
    """Stopped without having started, it lets go of its sockets and its file."""

    class Broken(VTask):
        LOOPLESS = True
        DEPS = [TornadoHTTPTask]

        def initTask(self) -> None:
            super().initTask()
            raise ValueError("broken")

    assert "Broken" == failure_of(Broken, argv=["--http-sock", str(tmp_path / "s")])[0]
    assert [] == list(tmp_path.iterdir())


def test_a_port_taken_between_init_and_start(tmp_path: Path) -> None:
    """A port that another began to listen on meanwhile fails the start, named."""

    class Thief(VTask):
        LOOPLESS = True

        def start(self) -> None:
            super().start()
            self.sock = socket.socket()
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.sock.bind(self.service.requireTask(Victim).bound_addrs[0])
            self.sock.listen()

        def join(self) -> None:
            self.sock.close()

    class Victim(TornadoHTTPTask):
        DEPS = [Thief, TornadoIOLoopTask]

    source, message, status = failure_of(Victim, argv=LOCAL)
    assert ("Victim", 1) == (source, status)
    assert "is in use" in message


def test_stopping_the_task_twice() -> None:
    """The task can be stopped by itself, from any thread, and again."""
    with running(TornadoHTTPTask) as service:
        task = service.requireTask(TornadoHTTPTask)
        states = [task.running]
        task.stop()
        task.stop()
        task.join()
        assert [True, False] == [*states, task.running]
        with pytest.raises(ConnectionRefusedError):
            fetch(task)


class Never(tornado.web.RequestHandler):
    """Does not answer."""

    entered = threading.Event()

    async def get(self) -> None:
        self.entered.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_request_that_outlasts_the_drain(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is cut, which is a warning with the number; its handler is cancelled, a 500 in the log."""

    class Stubborn(TornadoHTTPTask):
        def getApplicationConfig(self) -> list[Any]:
            return [("/", Never)]

    Never.entered.clear()
    argv = [*LOCAL, "--http-drain-timeout", "0.1", "--tornado-loop", kind]
    with running(Stubborn, argv=argv) as service:
        sock = socket.create_connection(service.requireTask(Stubborn).bound_addrs[0], DEADLINE)
        sock.sendall(HELLO)
        assert Never.entered.wait(DEADLINE)
    with sock:
        assert b"" == sock.recv(1)
    closing, *rest = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert "Closing 1 connections that are still open after 0.1 s (drain-timeout)" == closing
    assert all(line.startswith("500 GET / ") for line in rest)


def test_a_loop_that_died() -> None:
    """When the loop ends under it, the stop does not wait for it."""
    service = service_of(TornadoHTTPTask, argv=LOCAL)
    thread = service.startBG()
    assert service.waitReady(DEADLINE)
    service.requireTask(AsyncioLoopTask).stop()
    service.requireTask(AsyncioLoopTask).join()
    service.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()


def test_a_loop_that_dies_amid_the_drain() -> None:
    """When the loop ends while connections drain, nobody waits for it either."""
    service = service_of(TornadoHTTPTask, argv=LOCAL)
    thread = service.startBG()
    assert service.waitReady(DEADLINE)
    task, loop_task = service.requireTask(TornadoHTTPTask), service.requireTask(AsyncioLoopTask)
    with socket.create_connection(task.bound_addrs[0]) as sock:
        sock.sendall(HELLO[:9])
        while not task.server.connections:
            threading.Event().wait(0.001)
        task.stop()
        loop_task.stop()
        task.join()
        loop_task.join()
        service.stop()
        thread.join(DEADLINE)
        assert not thread.is_alive()
        for connection in task.server.connections:
            connection.stream.socket.close()


class Stream(tornado.web.RequestHandler):
    """Sends without end."""

    async def get(self) -> None:
        with contextlib.suppress(StreamClosedError):
            while True:
                self.write(b"x" * 262_144)
                await self.flush()


class Store(tornado.web.RequestHandler):
    def post(self) -> None:
        self.write("stored")


class Mixed(TornadoHTTPTask):
    def getApplicationConfig(self) -> list[Any]:
        return [("/", HelloWorldHandler), ("/stream", Stream), ("/store", Store)]


async def _drip(address: Any, request: bytes, byte: bytes) -> bool:
    """Send *request*, then a byte at a time; whether the connection was closed."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(request)
        ended = asyncio.ensure_future(reader.read())
        for _ in range(200):
            writer.write(byte)
            if (await asyncio.wait([ended], timeout=0.05))[0]:
                return ended.exception() is not None or b"200 OK" not in ended.result()
        ended.cancel()
        return False
    finally:
        await _close(writer)


async def _never_read(address: Any) -> bool:
    """Ask for a stream and do not read it; whether the connection was reset."""
    _, writer = await asyncio.open_connection(*address, limit=1024)
    try:
        writer.write(HELLO.replace(b"/", b"/stream", 1))
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(200):
            await asyncio.sleep(0.05)
            writer.write(b"x")  # what tells that the other side is gone
            if writer.is_closing():
                return True
        return False
    finally:
        await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def _served_meanwhile(address: Any, until: asyncio.Event) -> int:
    """How many requests of a well-behaved client were answered until then."""
    reader, writer = await asyncio.open_connection(*address)
    served = 0
    while not until.is_set():
        writer.write(HELLO)
        assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"Hello, world"), DEADLINE)
        served += 1
        await asyncio.sleep(0.01)
    await _close(writer)
    return served


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_slow_clients(kind: str) -> None:
    """Fifty each of dripping heads, dripping bodies and non-readers are cut; others are served."""
    argv = [*LOCAL, "--tornado-loop", kind, "--http-header-timeout", "1"]
    argv += ["--http-body-timeout", "1", "--http-write-timeout", "1"]
    post = b"POST /store HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n"

    async def main(address: Any) -> tuple[list[bool], int]:
        over = asyncio.Event()
        good = asyncio.ensure_future(_served_meanwhile(address, over))
        slow = [_drip(address, b"GET / HTTP/1.1\r\nX: ", b"x") for _ in range(50)]
        slow += [_drip(address, post, b"x") for _ in range(50)]
        slow += [_never_read(address) for _ in range(50)]
        cut = await asyncio.gather(*slow)
        over.set()
        return cut, await good

    with running(Mixed, argv=argv) as service:
        task = service.requireTask(Mixed)
        cut, served = asyncio.run(main(task.bound_addrs[0]))
        assert [True] * 150 == cut
        assert served > 10
        assert 150 == task.timed_out()


# -- in a process of its own ----------------------------------------------------------------------
PROGRAM = """
from sparts.vservice import VService
from sparts.tasks.tornado import TornadoIOLoopTask, TornadoHTTPTask

class MyService(VService):
    ALL_TASKS = [TornadoIOLoopTask, TornadoHTTPTask]
    DEFAULT_PORT = 0

MyService.initFromCLI()
"""


class Program:
    """The service in a process, with what it logs."""

    def __init__(self, *argv: str, descriptors: int | None = None) -> None:
        def limit() -> None:
            if descriptors is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *argv],
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=limit,
        )
        self.lines: list[str] = []
        self._arrived = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._arrived:
                self.lines.append(line.rstrip())
                self._arrived.notify_all()

    def line(self, pattern: str) -> re.Match[str]:
        """Wait for a line that matches *pattern*."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found[:] = [m for m in map(re.compile(pattern).search, self.lines) if m]
            return bool(found)

        with self._arrived:
            assert self._arrived.wait_for(look, DEADLINE), self.lines
        return found[0]

    def address(self) -> tuple[str, int]:
        """Where it listens, once it runs."""
        self.line("DEBUG:MyService:All tasks started")
        return "127.0.0.1", int(self.line(r"Server Started on \S+:(\d+)")[1])

    def end(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """The exit status."""
        try:
            return self.process.wait(DEADLINE)
        finally:
            self.process.kill()
            self._reader.join(DEADLINE)
            assert self.process.stderr is not None
            self.process.stderr.close()


def test_the_program() -> None:
    """The program of the contract logs what it should, answers, and ends with 0 at a SIGTERM."""
    program = Program("--http-port", "0")
    try:
        with socket.create_connection(program.address()) as sock:
            assert b"Hello, world" == exchange(sock)
    finally:
        assert 0 == program.end(), program.lines
    line = r"^INFO:MyService.TornadoHTTPTask:TornadoHTTPTask Server Started on 0.0.0.0:\d+$"
    assert program.line(line)
    assert "INFO:MyService:Instance shut down gracefully" == program.lines[-1]


def test_the_program_on_a_used_port() -> None:
    """On a used port it ends with 1, one line saying why, and no traceback."""
    with socket.create_server(("0.0.0.0", 0)) as other:
        program = Program("--http-port", str(other.getsockname()[1]))
        assert 1 == program.wait()
    why = [line for line in program.lines if "is in use" in line]
    assert 1 == len(why)
    assert why[0].startswith(
        "ERROR:MyService:TornadoHTTPTask failed: --http-host 0.0.0.0 --http-port "
    )
    assert not any("Traceback" in line for line in program.lines)


def test_out_of_descriptors() -> None:
    """With 60 descriptors and 100 clients it neither spins nor floods the log, and recovers."""
    program = Program("--level", "DEBUG", descriptors=60)
    clients: list[socket.socket] = []
    try:
        address = program.address()
        clients += [socket.create_connection(address, DEADLINE) for _ in range(100)]
        program.line("Cannot accept .*Too many open files")
        assert b"Hello, world" == exchange(clients[0])
        process, lines = psutil.Process(program.process.pid), len(program.lines)
        before, began = sum(process.cpu_times()[:2]), time.monotonic()
        threading.Event().wait(2.0)  # what is measured is how little happens in that time
        spent = sum(process.cpu_times()[:2]) - before
        elapsed = time.monotonic() - began
        assert spent < elapsed / 5
        assert len(program.lines) - lines < 10 * elapsed
        last = clients.pop()
        for client in clients:
            client.close()
        began = time.monotonic()
        assert b"Hello, world" == exchange(last)
        with socket.create_connection(address, DEADLINE) as sock:
            assert b"Hello, world" == exchange(sock)
        assert time.monotonic() - began < 1.0
        last.close()
        program.line("Accepting connections again")
    finally:
        for client in clients:
            client.close()
        assert 0 == program.end(), program.lines


class Load:
    """Clients that ask on and on over kept connections, until the server is gone."""

    def __init__(self, address: tuple[str, int], clients: int) -> None:
        self._address = address
        self.answered = 0
        self.lost: list[str] = []
        self._lock = threading.Condition()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        with contextlib.suppress(ConnectionRefusedError):
            while True:
                with socket.create_connection(self._address, DEADLINE) as sock:
                    if not self._ask_on(sock):
                        return

    def _ask_on(self, sock: socket.socket) -> bool:
        """Ask until told to close; whether to connect again."""
        kept, last = 0, time.monotonic()
        while True:
            idle = time.monotonic() - last
            try:
                response, body = answer(sock)
            except (OSError, http.client.HTTPException) as error:
                # A connection that was never accepted, or that this machine was too slow to use.
                if kept and idle < 0.05:
                    self.lost.append(f"{error!r} after {kept} answers and {idle:g} s")
                return False
            last = time.monotonic()
            kept += 1
            if b"Hello, world" != body:
                self.lost.append(f"answered {body!r}")
            with self._lock:
                self.answered += 1
                self._lock.notify_all()
            if response.headers["Connection"] == "close":
                return True

    def wait_for(self, number: int) -> None:
        """Wait until that many were answered."""
        with self._lock:
            assert self._lock.wait_for(lambda: self.answered >= number, DEADLINE)

    def join(self) -> None:
        """Wait for all clients."""
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_stopping_under_load(kind: str) -> None:
    """A SIGTERM in the midst of requests loses not one that was accepted."""
    program = Program("--tornado-loop", kind, "--level", "DEBUG")
    try:
        load = Load(program.address(), clients=12)
        load.wait_for(300)
    finally:
        status = program.end()
    load.join()
    assert (0, []) == (status, load.lost)
    assert not [line for line in program.lines if line.startswith(("ERROR", "WARNING"))]


# -- again and again ------------------------------------------------------------------------------
def _cycle(argv: list[str]) -> float:
    """Start, serve connected clients, stop; the seconds of the stop."""
    service = service_of(TornadoHTTPTask, argv=argv)
    thread = service.startBG()
    assert service.waitReady(DEADLINE), service.lifecycle.failure
    address = service.requireTask(TornadoHTTPTask).bound_addrs[0]
    with contextlib.ExitStack() as clients:
        socks = [clients.enter_context(socket.create_connection(address)) for _ in range(3)]
        assert b"Hello, world" == exchange(socks[0])
        socks[1].sendall(b"GET / HT")
        began = time.monotonic()
        service.stop()
        socks[1].sendall(b"TP/1.1\r\nHost: x\r\n\r\n")
        thread.join(DEADLINE)
        took = time.monotonic() - began
    assert not thread.is_alive()
    assert service.lifecycle.state is State.STOPPED
    return took


def test_two_hundred_cycles(caplog: pytest.LogCaptureFixture) -> None:
    """Two hundred starts and stops with connected clients: each stop is quick, no error is logged.

    That no thread, descriptor or asyncio task is left, every test checks.
    """
    argv = [*LOCAL, "--level", "WARNING"]
    took: list[float] = []

    def fifty(kind: str) -> None:
        took.extend(_cycle([*argv, "--tornado-loop", kind]) for _ in range(50))

    threads = [threading.Thread(target=fifty, args=(k,)) for k in ("asyncio", "uvloop") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 200 == len(took)
    assert max(took) < 1.0
    assert [] == [record for record in caplog.records if record.levelno >= logging.WARNING]

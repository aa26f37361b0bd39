"""The end of a server: what was received is answered, nobody new comes in, and it takes no longer
than it may."""

import contextlib
import select
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sparts.testing import ServiceFailed
from tests.thrift.server import kit
from tests.thrift.server.kit import PING, Async, Mixed, Plain, framed, message

Serve = Callable[..., kit.Served]
PROGRAM = """
    import sys
    sys.path[:0] = {path!r}
    from sparts.tasks.thrift import ThriftServerTask
    from sparts.vservice import VService
    from tests.thrift.server import kit

    class Drained(VService):
        ALL_TASKS = [ThriftServerTask, kit.{handler}]

    Drained.initFromCLI()
"""


@contextlib.contextmanager
def process(tmp_path: Path, handler: str, *argv: str) -> Iterator[tuple[Any, tuple[str, int]]]:
    """A service in a process of its own, and where it serves."""
    root = str(Path(__file__).resolve().parents[3])
    program = tmp_path / "drained.py"
    program.write_text(textwrap.dedent(PROGRAM.format(path=[root, *sys.path], handler=handler)))
    words = [sys.executable, str(program), "--thrift-host", "127.0.0.1", *argv]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stderr is not None
            port = 0
            for line in running.stderr:
                if "Server Started on" in line:
                    port = int(line.rpartition(":")[2])
                if "All tasks started" in line:
                    break
            yield running, ("127.0.0.1", port)
        finally:
            running.kill()


class Caller(threading.Thread):
    """Calls again and again, until the server says goodbye; counts what became of its calls."""

    def __init__(self, address: tuple[str, int], begun: threading.Barrier) -> None:
        super().__init__()
        self.peer = kit.Peer(socket.create_connection(address, kit.DEADLINE))
        self.begun = begun
        self.answered = self.lost = 0

    def run(self) -> None:
        with self.peer:
            while not self.said_goodbye():
                try:
                    assert "pong" == self.peer.ask("ping")
                except (OSError, EOFError):
                    self.lost += 1
                    return
                self.answered += 1
                if self.answered == 20:
                    self.begun.wait(kit.DEADLINE)

    def said_goodbye(self) -> bool:
        """Whether the connection has ended; looked at before each call."""
        ready, _, _ = select.select([self.peer.sock], [], [], 0)
        return bool(ready) and self.peer.sock.recv(1, socket.MSG_PEEK) == b""


@pytest.mark.parametrize("handler", ["Plain", "Async", "Mixed"])
def test_no_call_is_lost(tmp_path: Path, handler: str) -> None:
    """SIGTERM amid the calls of eight clients: each call that was sent is answered."""
    with process(tmp_path, handler) as (running, address):
        begun = threading.Barrier(9)
        callers = [Caller(address, begun) for _ in range(8)]
        for caller in callers:
            caller.start()
        begun.wait(kit.DEADLINE)
        running.send_signal(signal.SIGTERM)
        for caller in callers:
            caller.join(kit.DEADLINE)
        assert 0 == running.wait(kit.DEADLINE)
    assert [0] * 8 == [caller.lost for caller in callers]


@pytest.mark.parametrize("handler", [Plain, Async, Mixed])
def test_calls_under_way(serve: Serve, handler: Any) -> None:
    """A call under way, those behind it, and those that nobody has read yet are answered."""
    served = serve(handler)
    peer, idle = served.connect(), served.connect()
    peer.send(framed(message("wait", 0.3)) + PING * 20)
    served.until(lambda: served.counter("wait.in_flight") == 1)
    served.service.stop()
    assert 0.3 == peer.answer().value("wait")
    assert ["pong"] * 20 == [peer.answer().value("ping") for _ in range(20)]
    assert peer.is_closed()
    assert idle.is_closed()
    assert served.service.join(kit.DEADLINE)


@pytest.mark.parametrize("handler", [Plain, Async])
def test_nobody_new(serve: Serve, handler: Any) -> None:
    """While it drains, nobody is let in."""
    served = serve(handler)
    peer = served.connect()
    peer.call("wait", 0.5)
    served.until(lambda: served.counter("wait.in_flight") == 1)
    address = served.address
    served.service.stop()
    served.until(lambda: served.task._front.gate.draining)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, kit.DEADLINE)
    assert 0.5 == peer.answer().value("wait")


@pytest.mark.parametrize("handler", [Plain, Async])
def test_drain_timeout(serve: Serve, caplog: pytest.LogCaptureFixture, handler: Any) -> None:
    """Past its time what is still open is closed, and that is told."""
    served = serve(handler, "--thrift-drain-timeout", 0.2)
    stuck = served.connect()
    stuck.send(struct.pack(">i", 100) + b"\x80\x01")
    served.until(lambda: served.task._front.gate._held > 0)
    served.service.stop()
    assert stuck.is_closed()
    assert served.service.join(kit.DEADLINE)
    assert "still open after 0.2 s (drain-timeout)" in caplog.text


def test_idle_clients_do_not_keep_it(serve: Serve) -> None:
    """Clients that do nothing, not even close, do not hold up the end."""
    served = serve(Plain, "--thrift-drain-timeout", 9)
    peers = [served.connect() for _ in range(50)]
    assert ["pong"] * 50 == [peer.ask("ping") for peer in peers]
    served.service.stop()
    assert served.service.join(5)


def test_never_started(serve: Serve) -> None:
    """A server that was only initialised lets go of what it holds."""

    class Broken(Plain):
        def start(self) -> None:
            raise RuntimeError("this one does not start")

    with pytest.raises(ServiceFailed):
        serve(Broken)

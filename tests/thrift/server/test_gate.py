"""The limits of a server: what is beyond is cut, refused or waits, and nobody else is hurt."""

import contextlib
import logging
import resource
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from thrift.protocol.TCompactProtocol import TCompactProtocol
from thrift.Thrift import TApplicationException
from thrift.transport.TTransport import TMemoryBuffer

from tests.thrift.server import kit
from tests.thrift.server.kit import PING, Async, Plain, framed, message

Serve = Callable[..., kit.Served]


class Held(Plain):
    """Its ``wait`` holds a thread until the test lets go."""

    def initTask(self) -> None:
        super().initTask()
        self.inside = threading.Semaphore(0)
        self.let_go = threading.Event()

    def wait(self, seconds: float) -> Any:
        self.inside.release()
        assert self.let_go.wait(kit.DEADLINE)
        return seconds

    def stop(self) -> None:
        super().stop()
        if self.initialised:
            self.let_go.set()


# -- sizes ----------------------------------------------------------------------------------------
def test_frame_size(serve: Serve) -> None:
    """A frame that is announced larger than the limit is refused before any of it is sent."""
    served = serve(Plain, "--thrift-max-frame-size", 1000)
    peer = served.connect()
    assert "x" * 900 == peer.ask("text", "x" * 900)
    peer.send(struct.pack(">i", 1001))
    assert peer.is_closed()
    assert 1 == served.counter("refused")


def test_container_size(serve: Serve) -> None:
    """Twenty bytes that announce two billion elements cost an error, not memory."""
    served = serve(Plain)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for size in (2_000_000_000, 2**31 - 1, -1):
        peer = served.connect()
        head = message("table", {})[: -len(b"\x00\x00\x00\x00\x00")]
        peer.send(framed(head + struct.pack(">i", size) + b"\x00"))
        assert TApplicationException.PROTOCOL_ERROR == peer.answer().error().type
        assert peer.is_closed()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    assert "pong" == served.connect().ask("ping")


@pytest.mark.parametrize(
    ("argv", "passes", "fails"), [([], 30, 70), (["--thrift-max-depth", "10"], 4, 12)]
)
def test_depth(serve: Serve, argv: list[Any], passes: int, fails: int) -> None:
    """What is nested too deep is refused; the limit is an option."""
    served = serve(Plain, *argv)
    assert kit.tree(passes) == served.connect().ask("tree", kit.tree(passes))
    peer = served.connect()
    peer.call("tree", kit.tree(fails))
    with contextlib.suppress(EOFError):
        assert TApplicationException.PROTOCOL_ERROR == peer.answer().error().type
    assert peer.is_closed()
    assert "pong" == served.connect().ask("ping")


def test_deep_json(serve: Serve) -> None:
    """Brackets without end do not reach a parser that recurses."""
    served = serve(Plain)
    peer = served.connect()
    peer.send(b'[1,"tree",1,0,' + b"[" * 100_000)
    assert peer.is_closed()
    assert "pong" == served.connect().ask("ping")


def test_bytes_in_part(serve: Serve) -> None:
    """Messages that came in part are held up to a limit in all."""
    served = serve(Plain, "--thrift-max-buffered", 300_000)
    peers = [served.connect() for _ in range(3)]
    for peer in peers[:2]:
        peer.send(struct.pack(">i", 200_000) + b"\x80\x01\x00\x01" + b"x" * 140_000)
    served.until(lambda: served.task._front.gate._held > 270_000)
    peers[2].send(struct.pack(">i", 200_000) + b"\x80\x01\x00\x01" + b"x" * 100_000)
    assert peers[2].is_closed()
    assert "pong" == served.connect().ask("ping")


# -- number ---------------------------------------------------------------------------------------
def test_connections(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """At the limit others wait; each that closes lets one in."""
    served = serve(Plain, "--thrift-max-connections", 2)
    first, second, third = (served.connect() for _ in range(3))
    assert "pong" == first.ask("ping")
    assert "pong" == second.ask("ping")
    third.send(PING)
    served.until(lambda: "At the limit of connections" in caplog.text)
    first.close()
    assert "pong" == third.answer().value("ping")


def test_calls_that_wait(serve: Serve) -> None:
    """With all threads busy a call waits for one, and quick ones go on."""
    served = serve(Held, "--thrift-threads", 2)
    quick = served.connect()
    for _ in range(64):
        assert "pong" == quick.ask("ping")
    slow = [served.connect() for _ in range(3)]
    for peer in slow:
        peer.call("wait", 1.5)
    for _ in range(2):
        assert served.handler.inside.acquire(timeout=kit.DEADLINE)
    served.until(lambda: served.counter("wait.in_flight") == 3)
    assert "pong" == quick.ask("ping")
    served.handler.let_go.set()
    assert [1.5] * 3 == [peer.answer().value("wait") for peer in slow]


def test_queue_timeout(serve: Serve) -> None:
    """A call that waits too long is answered "overloaded", and never run."""
    served = serve(Held, "--thrift-threads", 1, "--thrift-queue-timeout", 0.1)
    first, second = served.connect(), served.connect()
    first.call("wait", 1.0)
    assert served.handler.inside.acquire(timeout=kit.DEADLINE)
    second.call("wait", 2.0)
    with pytest.raises(TApplicationException, match=r"^overloaded: no thread was free for 0\.1 s"):
        second.answer().value("wait")
    served.handler.let_go.set()
    assert 1.0 == first.answer().value("wait")
    assert 1 == served.counter("wait.overloaded")
    assert 1 == served.counter("wait.calls")


@pytest.mark.parametrize("handler", [Held, Async])
def test_max_calls(serve: Serve, handler: Any) -> None:
    """More calls than that are answered "overloaded" at once, in their turn."""
    served = serve(handler, "--thrift-max-calls", 1)
    busy, other = served.connect(), served.connect()
    busy.call("wait", 0.3)
    served.until(lambda: served.counter("wait.in_flight") == 1)
    other.call("wait", 0.1)
    with pytest.raises(TApplicationException, match=r"^overloaded: "):
        other.answer().value("wait")
    if handler is Held:
        served.handler.let_go.set()
    assert 0.3 == busy.answer().value("wait")
    assert 0.1 == other.ask("wait", 0.1)


def test_ten_at_once(serve: Serve) -> None:
    """As many calls block at the same time as there are threads, be it the first such calls."""
    barrier = threading.Barrier(10)

    class Together(Plain):
        def wait(self, seconds: float) -> Any:
            barrier.wait(kit.DEADLINE)
            return seconds

    served = serve(Together)
    peers = [served.connect() for _ in range(10)]
    for peer in peers:
        peer.call("wait", 2.5)
    assert [2.5] * 10 == [peer.answer().value("wait") for peer in peers]


def test_first_time_that_it_blocks(serve: Serve) -> None:
    """A method that was always quick and then blocks holds up nobody."""
    served = serve(Held)
    served.handler.let_go.set()
    blocked, quick = served.connect(), served.connect()
    for _ in range(100):
        assert 1.0 == blocked.ask("wait", 1.0)
    served.handler.let_go.clear()
    blocked.call("wait", 2.0)
    assert "pong" == quick.ask("ping")
    served.handler.let_go.set()
    assert 2.0 == blocked.answer().value("wait")


# -- clients that do not read, or do not write ----------------------------------------------------
def test_reads_nothing(served: kit.Served) -> None:
    """Ten thousand calls of a client that reads no answer stay with it until it does."""
    greedy, other = served.connect(), served.connect()
    count, text = 10_000, "y" * 200
    call = framed(message("text", text))
    writer = threading.Thread(target=lambda: greedy.sock.sendall(call * count))
    greedy.sock.settimeout(15)
    writer.start()
    for _ in range(20):
        assert "pong" == other.ask("ping")
    for _ in range(count):
        assert text == greedy.answer().value("text")
    writer.join()


@pytest.mark.parametrize(
    ("option", "sent"),
    [("idle", b""), ("idle", PING), ("read", PING[:10]), ("read", PING + PING[:3])],
)
@pytest.mark.parametrize("handler", [Plain, Async])
def test_times(serve: Serve, handler: Any, option: str, sent: bytes) -> None:
    """A client that is idle, or slow to send, is cut in time; others go on."""
    served = serve(handler, f"--thrift-{option}-timeout", 0.2)
    slow = served.connect()
    slow.send(sent)
    assert slow.is_closed()
    served.until_counter("timed_out", 1)
    assert "pong" == served.connect().ask("ping")


@pytest.mark.parametrize("handler", [Plain, Async])
def test_write_timeout(serve: Serve, handler: Any) -> None:
    """A client that never reads its large answer is cut, and held no thread meanwhile."""
    served = serve(handler, "--thrift-write-timeout", 0.3, "--thrift-threads", 1)
    deaf = served.connect()
    deaf.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.call("blob", b"z" * 8_000_000)
    served.until(lambda: served.counter("blob.calls") == 1)
    assert "pong" == served.connect().ask("ping")
    served.until_counter("timed_out", 1)


def test_client_that_vanishes(served: kit.Served, caplog: pytest.LogCaptureFixture) -> None:
    """A client that resets its connection amid a frame or a call leaves no trace but counters."""
    for sent in (PING[:9], framed(message("wait", 0.05)), PING * 50 + PING[:5]):
        peer = served.connect()
        peer.send(sent)
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
    served.until_counter("open_connections", 0)
    served.until(lambda: served.counter("in_flight") == 0)
    assert [] == [each for each in caplog.records if each.levelno > logging.DEBUG]
    assert "pong" == served.connect().ask("ping")


def test_many_idle_beside_busy(serve: Serve) -> None:
    """Two thousand idle connections are let in fast, and sixteen busy ones served beside them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"not here: only {hard} descriptors are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        served = serve(Plain)
        idle = [served.connect() for _ in range(2000)]
        busy = [served.connect() for _ in range(16)]
        for _ in range(20):
            for peer in busy:
                peer.send(PING)
            assert ["pong"] * 16 == [peer.answer().value("ping") for peer in busy]
        served.until_counter("open_connections", 2016)
        assert "pong" == idle[1234].ask("ping")
        served.see_off()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- bytes that are none of ours ------------------------------------------------------------------
@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"\xff" * 100]
)
def test_other_protocols(served: kit.Served, caplog: pytest.LogCaptureFixture, sent: bytes) -> None:
    """Who speaks something else is closed, told of for debugging only, and counted."""
    before = served.counter("refused")
    with caplog.at_level(logging.DEBUG):
        peer = served.connect()
        peer.send(sent)
        assert peer.is_closed()
    assert before + 1 == served.counter("refused")
    assert any("Parting with" in each.getMessage() for each in caplog.records)
    assert [] == [each for each in caplog.records if each.levelno > logging.DEBUG]


def test_compact_garbage(served: kit.Served) -> None:
    """Arguments that make no sense in another protocol are answered in it."""
    buffer = TMemoryBuffer()
    protocol = TCompactProtocol(buffer)
    protocol.writeMessageBegin("add", 1, 5)
    peer = served.connect()
    peer.send(framed(buffer.getvalue() + b"\x16"))
    assert b"\x82" == peer.frame()[:1]
    assert peer.is_closed()


# -- TLS and unix sockets -------------------------------------------------------------------------
@pytest.fixture
def tls(certificate: Path) -> list[str]:
    return ["--thrift-cert", f"{certificate}/cert.pem", "--thrift-key", f"{certificate}/key.pem"]


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate / "cert.pem"))


@pytest.mark.parametrize("handler", [Plain, Async])
def test_tls(serve: Serve, tls: list[str], certificate: Path, handler: Any) -> None:
    """Calls over TLS, small, pipelined and larger than a record."""
    served = serve(handler, *tls)
    peer = served.connect(trusting(certificate))
    assert "pong" == peer.ask("ping")
    peer.send(PING * 500)
    assert ["pong"] * 500 == [peer.answer().value("ping") for _ in range(500)]
    blob = bytes(range(256)) * 4000
    assert blob == peer.ask("blob", blob)


@pytest.mark.parametrize("handler", [Plain, Async])
def test_no_tls_on_its_port(serve: Serve, tls: list[str], handler: Any) -> None:
    """Who speaks no TLS there is closed and counted."""
    served = serve(handler, *tls)
    peer = served.connect()
    peer.send(PING)
    assert peer.is_closed()
    served.until_counter("failed_handshakes", 1)


def test_client_certificates(serve: Serve, tls: list[str], certificate: Path) -> None:
    """With a CA for clients, only who has a certificate of it is served."""
    served = serve(Plain, *tls, "--thrift-client-ca", certificate / "cert.pem")
    known = trusting(certificate)
    known.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    assert "pong" == served.connect(known).ask("ping")
    with pytest.raises((ssl.SSLError, OSError, EOFError)):
        served.connect(trusting(certificate)).ask("ping")
    served.until_counter("failed_handshakes", 1)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.mark.parametrize("handler", [Plain, Async])
def test_unix_socket(serve: Serve, place: Path, handler: Any) -> None:
    """On a unix socket, with the rights that were asked for, gone at the end."""
    served = serve(handler, "--thrift-sock", place, "--thrift-sock-mode", "600")
    assert 0o600 == place.stat().st_mode & 0o777
    assert "pong" == served.connect().ask("ping")


def test_ipv6(serve: Serve) -> None:
    """On IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("not here: no IPv6")
    served = serve(Plain, "--thrift-host", "::1")
    assert "pong" == served.connect().ask("ping")

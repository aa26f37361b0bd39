"""The benchmarks' load of Thrift: the generator in C, and the bytes that it sends."""

import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # the benchmarks are no part of what is installed

from benchmarks import thriftload  # noqa: E402
from benchmarks.harness import BenchmarkError  # noqa: E402
from benchmarks.thriftload import Call, Load, measure  # noqa: E402

CALL = Call(b"\0\0\0\4ping", b"\0\0\0\4pong")
SLOW = Call(b"\0\0\0\4wait", b"\0\0\0\6waited")


@pytest.fixture(autouse=True)
def _compiler(need: Callable[[str], str]) -> None:
    need("cc")


@contextmanager
def server(answer: Callable[[bytes], bytes | None], step: int = 0) -> Iterator[int]:
    """A server on a port, a thread for each connection, until the block ends.

    *answer* is given a frame; None ends the connection. With *step* it sends so many bytes at once.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
    threads: list[threading.Thread] = []

    def serve(client: socket.socket) -> None:
        with client, suppress(ConnectionError):  # the load ends with a call under way
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while frame := client.recv(65536):
                if (reply := answer(frame)) is None:
                    return
                for start in range(0, len(reply), step or len(reply)):
                    client.sendall(reply[start : start + (step or len(reply))])

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            if ended.is_set():
                client.close()
                return
            threads.append(threading.Thread(target=serve, args=(client,)))
            threads[-1].start()

    ended = threading.Event()
    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield listener.getsockname()[1]
    finally:
        ended.set()
        socket.create_connection(listener.getsockname()).close()
        for thread in (acceptor, *threads):
            thread.join(10)
        listener.close()


def load(port: int, *, busy: int = 2, timeout: float = 10.0, **others: Any) -> thriftload.Measured:
    return measure(port, Load(CALL, busy, **others), 0.2, warmup=0.05, timeout=timeout)


# -- what is measured -----------------------------------------------------------------------------
def test_every_answer_is_counted_once() -> None:
    """The calls counted are among those that the server has answered; none is wrong or broken."""
    answered: list[bytes] = []  # appending is atomic

    def answer(frame: bytes) -> bytes:
        answered.append(frame)
        return CALL.reply

    with server(answer) as port:
        found = load(port).check()
    assert {CALL.frame} == set(answered)
    assert 0 < found.busy.answered < len(answered)
    assert found.busy.answered / found.seconds == found.rate
    assert (0, 0, 0) == (found.mismatches, found.broken, found.busy.silent)
    assert 0.2 <= found.seconds
    assert 0 < found.busy.p50 <= found.busy.p99 <= found.busy.p999 <= found.busy.worst * 1.01


def test_latencies_are_in_milliseconds() -> None:
    """A server that takes 10 ms has a median of 10 or little more, neither 0.01 nor 10,000."""
    clock = threading.Event()

    def answer(frame: bytes) -> bytes:
        clock.wait(0.01)  # what is measured
        return CALL.reply

    with server(answer) as port:
        found = load(port, busy=1).check()
    assert 10 <= found.busy.p50 < 1000


def test_side_connections_are_measured_apart() -> None:
    """Calls of the side connections have their own count and latencies."""
    clock = threading.Event()

    def answer(frame: bytes) -> bytes:
        if frame == CALL.frame:
            return CALL.reply
        clock.wait(0.02)  # what is measured
        return SLOW.reply

    with server(answer) as port:
        found = load(port, side=3, side_call=SLOW).check()
    assert 5 == found.connections
    assert 0 < found.side.answered <= 3 * (found.seconds / 0.02 + 1)
    assert 20 <= found.side.p50
    assert found.busy.p50 < found.side.p50
    assert found.side_rate < found.rate


def test_idle_connections_call_once() -> None:
    """An idle connection sends one frame, so that the server has it, and keeps still then."""
    threads: list[int] = []

    def answer(frame: bytes) -> bytes:
        threads.append(threading.get_ident())
        return CALL.reply

    with server(answer) as port:
        found = load(port, busy=1, idle=50).check()
    calls = sorted(threads.count(ident) for ident in set(threads))
    assert [1] * 50 == calls[:50]
    assert 51 == len(calls)
    assert 51 == found.connections
    assert 0 < found.connected < found.answered < 10


def test_few_may_wait_at_once() -> None:
    """With ``at_once`` 1 each connection is opened after the one before has had its answer."""
    threads: dict[int, int] = {}

    def answer(frame: bytes) -> bytes:
        threads.setdefault(threading.get_ident(), threading.active_count())
        return CALL.reply

    with server(answer) as port:
        found = load(port, busy=1, idle=20, at_once=1).check()
    assert 21 == found.connections
    first, *others = threads.values()
    assert list(range(first + 1, first + 21)) == others


def test_reply_may_come_in_pieces() -> None:
    """A reply is complete when its last byte has come, however it was cut."""
    with server(lambda frame: CALL.reply, step=3) as port:
        assert load(port).check().busy.answered > 0


# -- what goes wrong ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "reply",
    [b"\0\0\0\4pang", b"\0\0\0\4ponging", b"\0\0\0\5p"],
    ids=["another byte", "more bytes", "another length"],
)
def test_wrong_reply_is_told(reply: bytes) -> None:
    """A reply of other bytes is counted and quoted, and its figures are refused."""
    answered: list[bytes] = []

    def answer(frame: bytes) -> bytes:
        answered.append(frame)
        return reply if len(answered) > 10 else CALL.reply

    with server(answer) as port:
        found = load(port, busy=1)
    assert (1, reply) == (found.mismatches, found.wrong)
    with pytest.raises(BenchmarkError, match=re.escape(f"1 wrong replies, the first: {reply!r}")):
        found.check()


def test_wrong_first_reply_is_told() -> None:
    """A server that never gave a right answer is told apart from one that gave none."""
    with server(lambda frame: b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        found = load(port)
    assert (2, b"HTTP/1.1 400") == (found.mismatches, found.wrong[:12])


def test_server_that_never_answers_is_given_up() -> None:
    """Without a first answer on each connection the load ends after its timeout, and says so."""
    held = threading.Event()

    def answer(frame: bytes) -> bytes:
        held.wait(10)
        return CALL.reply

    said = "of 2 connections 2 had no first answer within 0.3 s, and 0 broke off"
    with server(answer) as port:
        with pytest.raises(BenchmarkError, match=said):
            load(port, timeout=0.3)
        held.set()


def test_server_that_hangs_later_has_silent_connections() -> None:
    """A connection without an answer while it was measured is told; its wait is the worst."""
    held = threading.Event()
    greeted: set[int] = set()

    def answer(frame: bytes) -> bytes:
        if threading.get_ident() in greeted:
            held.wait(10)
        greeted.add(threading.get_ident())
        return CALL.reply

    with server(answer) as port:
        found = load(port)
        held.set()
    assert (0, 2) == (found.busy.answered, found.busy.silent)
    assert 200 <= found.busy.worst
    with pytest.raises(BenchmarkError, match="2 had no answer"):
        found.check()


def test_server_that_ends_connections_is_told() -> None:
    """Connections that the server ends are counted, and end the load when none is left."""
    greeted: set[int] = set()

    def answer(frame: bytes) -> bytes | None:
        if threading.get_ident() in greeted:
            return None
        greeted.add(threading.get_ident())
        return CALL.reply

    with server(answer) as port:
        found = load(port, busy=3)
    assert 3 == found.broken
    with pytest.raises(BenchmarkError, match="of 3 connections the server ended 3"):
        found.check()


def test_port_without_a_server_is_told() -> None:
    """A refused connect is an error that names the port."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(BenchmarkError, match=f"cannot connect to port {port}: Connection refused"):
        load(port)


def test_no_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a C compiler the error names those that would do."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BenchmarkError, match="needs a C compiler: cc, gcc, clang"):
        thriftload.generator.__wrapped__()


def test_source_has_no_warnings(need: Callable[[str], str], tmp_path: Path) -> None:
    """The generator compiles with all warnings as errors."""
    source = str(ROOT / "benchmarks" / "load.c")
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-o", str(tmp_path / "made")]
    subprocess.run([need("cc"), *flags, source], check=True)


# -- the frames -----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["PING", "ECHO", "WAIT", "COMPUTE"])
def test_frames_are_what_the_accelerated_server_says(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The expected replies are those of Apache's processor with its codec in C."""
    from thrift.protocol.TBinaryProtocol import TBinaryProtocolAcceleratedFactory
    from thrift.transport.TTransport import TMemoryBuffer

    from benchmarks import thriftcalls
    from benchmarks.gen.bench import Bench
    from benchmarks.peers import thrift_peers

    monkeypatch.setattr("time.sleep", lambda seconds: None)
    call: Call = getattr(thriftcalls, name)
    factory = TBinaryProtocolAcceleratedFactory(fallback=False)
    out = TMemoryBuffer()
    given = factory.getProtocol(TMemoryBuffer(call.frame[4:]))
    Bench.Processor(thrift_peers.Handler()).process(given, factory.getProtocol(out))
    assert call.reply == struct.pack("!I", len(out.getvalue())) + out.getvalue()
    assert len(call.frame) == 4 + struct.unpack("!I", call.frame[:4])[0]


@pytest.mark.parametrize("word", ["threaded", "canned"])
def test_peer_is_measured(word: str) -> None:
    """A peer comes up, answers every call as it should, and its CPU and memory are seen."""
    from benchmarks.thriftcalls import ECHO, PING
    from benchmarks.thriftservers import peers

    [chosen] = peers(2, word)
    with chosen.running() as (process, port):
        for call in (PING, ECHO):
            found = measure(port, Load(call, 2), 0.1, warmup=0, server=process).check()
            assert 0 < found.busy.answered
            assert 2**20 < found.server_rss

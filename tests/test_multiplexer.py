"""The engine under SelectTask, with epoll and with poll: readiness, and descriptors gone astray."""

import contextlib
import logging
import os
import resource
import select
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from sparts.multiplexer import EXCEPT, READ, WRITE, DescriptorError, Multiplexer

DEADLINE = 10.0
LOGGER = logging.getLogger("multiplexer")
Pair = tuple[int, int]


@pytest.fixture(params=["epoll", "poll"])
def loop(request: pytest.FixtureRequest) -> Iterator[Multiplexer]:
    """One that no thread runs yet."""
    loop = Multiplexer(LOGGER, poll=request.param == "poll")
    yield loop
    loop.close()


@pytest.fixture
def pipe() -> Iterator[Pair]:
    """A pipe's reading and writing end, non-blocking."""
    ends = os.pipe()
    for fd in ends:
        os.set_blocking(fd, False)
    yield ends
    for fd in ends:
        with contextlib.suppress(OSError):
            os.close(fd)


def turns(loop: Multiplexer, number: int = 1) -> None:
    """Run the loop for *number* turns that do not wait, and see that it waits for nothing."""
    left = [number]

    def until() -> bool:
        left[0] -= 1
        loop.wake()
        loop.call_soon(lambda: None)  # so that the next turn does not wait
        return left[0] < 0

    loop.run(until)


def until(loop: Multiplexer, condition: Callable[[], object]) -> None:
    """Run the loop until *condition* or the deadline."""
    late: list[bool] = []
    timer = loop.call_later(DEADLINE, lambda: late.append(True))
    loop.run(lambda: bool(condition() or late))
    timer.cancel()
    assert not late


def test_ready_again_and_again(loop: Multiplexer, pipe: Pair) -> None:
    """A callback gets the descriptor, and is called until what is there was read."""
    calls: list[int] = []
    loop.register(pipe[0], READ, calls.append)
    turns(loop)
    assert [] == calls
    os.write(pipe[1], b"x")
    until(loop, lambda: len(calls) == 3)
    assert [pipe[0]] * 3 == calls
    os.read(pipe[0], 10)
    turns(loop, 3)
    assert 3 == len(calls)


def test_end_of_file_and_broken_pipe(loop: Multiplexer, pipe: Pair) -> None:
    """The other end's closing is readiness to read, and to write."""
    ended: list[int] = []
    loop.register(pipe[0], READ, ended.append)
    os.close(pipe[1])
    until(loop, lambda: ended)
    loop.unregister(pipe[0], READ)

    broken: list[int] = []
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(65536))
    loop.register(writer, WRITE, broken.append)
    turns(loop, 2)
    assert [] == broken
    os.close(reader)
    until(loop, lambda: broken)
    loop.unregister(writer, WRITE)
    os.close(writer)


def test_urgent_data(loop: Multiplexer) -> None:
    """EXCEPT is urgent data on a TCP connection, which is not READ; its end is READ alone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    with client, accepted:
        heard: list[str] = []
        loop.register(accepted.fileno(), READ, lambda fd: heard.append("read"))
        loop.register(accepted.fileno(), EXCEPT, lambda fd: heard.append("except"))
        client.send(b"!", socket.MSG_OOB)
        until(loop, lambda: heard)
        assert {"except"} == set(heard)
        assert b"!" == accepted.recv(1, socket.MSG_OOB)
        heard.clear()
        client.close()
        until(loop, lambda: heard)
        assert {"read"} == set(heard)
        loop.unregister(accepted.fileno(), READ)
        loop.unregister(accepted.fileno(), EXCEPT)


def test_except_alone_hears_of_a_hang_up(loop: Multiplexer, pipe: Pair) -> None:
    """What nobody else could be told, and epoll tells for ever, goes to the only callback."""
    heard: list[int] = []

    def hung_up(fd: int) -> None:
        heard.append(fd)
        loop.unregister(fd, EXCEPT)

    loop.register(pipe[0], EXCEPT, hung_up)
    os.close(pipe[1])
    until(loop, lambda: heard)
    turns(loop, 2)
    assert [pipe[0]] == heard


def test_read_and_write_of_one_descriptor(loop: Multiplexer) -> None:
    """The kinds are registered apart, and one goes on when the other is taken back."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        calls: list[str] = []
        fd = ours.fileno()
        loop.register(fd, READ, lambda fd: calls.append("read"))
        loop.register(fd, WRITE, lambda fd: calls.append("write"))
        theirs.send(b"x")
        until(loop, lambda: len(calls) >= 2)
        assert ["read", "write"] == calls[-2:]
        assert loop.unregister(fd, READ)
        calls.clear()
        until(loop, lambda: calls)
        assert {"write"} == set(calls)
        assert loop.unregister(fd, WRITE)
        assert not loop.unregister(fd, WRITE)
        calls.clear()
        turns(loop, 2)
        assert [] == calls


def test_duplicate(loop: Multiplexer, pipe: Pair) -> None:
    """A second callback of one kind is refused with the cure, and the first stays."""
    calls: list[int] = []
    loop.register(pipe[0], READ, calls.append)
    message = rf"fd {pipe[0]} has a read callback already; unregister_read\({pipe[0]}\) first"
    with pytest.raises(DescriptorError, match=message):
        loop.register(pipe[0], READ, lambda fd: None)
    os.write(pipe[1], b"x")
    until(loop, lambda: calls)


@pytest.mark.parametrize("fd", [-1, 10**9, 2**70])
def test_not_open(loop: Multiplexer, fd: int) -> None:
    """A descriptor that is not open is refused, by its number."""
    with pytest.raises(DescriptorError, match=f"fd {fd} is not open"):
        loop.register(fd, READ, lambda fd: None)


@pytest.mark.parametrize("path", [__file__, os.path.dirname(__file__)])
def test_what_is_always_ready(loop: Multiplexer, path: str) -> None:
    """A regular file and a directory are refused, with what is accepted."""
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(DescriptorError, match=r"always ready.* sockets, pipes"):
            loop.register(fd, READ, lambda fd: None)
    finally:
        os.close(fd)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="not here: no epoll")
def test_a_device_that_epoll_refuses(pipe: Pair) -> None:
    """What only the kernel knows to be always ready is refused in the same words."""
    loop = Multiplexer(LOGGER)
    fd = os.open(os.devnull, os.O_RDONLY)
    try:
        with pytest.raises(DescriptorError, match=r"always ready.* sockets, pipes"):
            loop.register(fd, READ, lambda fd: None)
    finally:
        os.close(fd)
        loop.close()


def test_taken_back_by_the_callback_before(loop: Multiplexer) -> None:
    """Of two that are ready at once, the first takes the second's callback back: not called."""
    pipes = [os.pipe(), os.pipe()]
    called: list[int] = []

    def first(fd: int) -> None:
        called.append(fd)
        for reader, _ in pipes:
            loop.unregister(reader, READ)

    for reader, writer in pipes:
        loop.register(reader, READ, first)
        os.write(writer, b"x")
    until(loop, lambda: called)
    turns(loop, 2)
    assert 1 == len(called)
    for fd in pipes[0] + pipes[1]:
        os.close(fd)


def test_an_event_of_the_one_before_is_not_told(loop: Multiplexer) -> None:
    """A callback closes another descriptor and registers a new one of its number: not ready yet."""
    pipes = [os.pipe(), os.pipe()]
    called: list[str] = []
    fresh: list[int] = []

    def first(fd: int) -> None:
        other = next(reader for reader, _ in pipes if reader != fd)
        for reader, _ in pipes:
            loop.unregister(reader, READ)
        again, writer = os.pipe()
        os.dup2(again, other)
        os.close(again)
        fresh.extend([other, writer])
        loop.register(other, READ, lambda fd: called.append("second"))

    for reader, writer in pipes:
        loop.register(reader, READ, first)
        os.write(writer, b"x")
    until(loop, lambda: fresh)
    turns(loop, 3)
    assert [] == called
    os.write(fresh[1], b"x")
    until(loop, lambda: called)
    for fd in {*pipes[0], *pipes[1], *fresh}:
        os.close(fd)


def test_changes_from_another_thread(loop: Multiplexer, pipe: Pair) -> None:
    """A registration, a call and a timer are noticed by a loop that waits without limit."""
    heard = threading.Event()
    order: list[str] = []
    stop = threading.Event()
    thread = threading.Thread(target=loop.run, args=(stop.is_set,))
    thread.start()

    def tell(what: str) -> None:
        order.append(what)
        heard.set()

    def read(fd: int) -> None:
        os.read(fd, 10)
        tell("read")

    def expect(*what: str) -> None:
        assert heard.wait(DEADLINE)
        heard.clear()
        assert list(what) == order

    try:
        loop.call_soon(lambda: tell("call"))
        expect("call")
        os.write(pipe[1], b"x")
        loop.register(pipe[0], READ, read)
        expect("call", "read")
        loop.call_later(0.01, lambda: tell("timer"))
        expect("call", "read", "timer")
    finally:
        stop.set()
        loop.wake()
        thread.join(DEADLINE)
    assert not thread.is_alive()


def test_no_callback_begins_after_unregister(loop: Multiplexer, pipe: Pair) -> None:
    """Another thread takes back a callback that is being called all the time: it ends."""
    stop, calls = threading.Event(), [0]
    busy = threading.Event()

    def count(fd: int) -> None:
        calls[0] += 1
        busy.set()

    os.write(pipe[1], b"x")
    thread = threading.Thread(target=loop.run, args=(stop.is_set,))
    thread.start()
    try:
        for _ in range(200):
            busy.clear()
            loop.register(pipe[0], READ, count)
            assert busy.wait(DEADLINE)
            assert loop.unregister(pipe[0], READ)
            passed = threading.Event()
            loop.call_soon(passed.set)  # behind the one that may run just now
            assert passed.wait(DEADLINE)
            before = calls[0]
            passed.clear()
            loop.call_soon(passed.set)
            assert passed.wait(DEADLINE)
            assert before == calls[0]
    finally:
        stop.set()
        loop.wake()
        thread.join(DEADLINE)
    assert not thread.is_alive()


def test_a_full_wake_up_is_enough(loop: Multiplexer) -> None:
    """However often a loop is woken that does not run, nothing blocks and it wakes."""
    for _ in range(20_000):
        loop.wake()
    called: list[bool] = []
    loop.call_soon(lambda: called.append(True))
    until(loop, lambda: called)


def test_an_error_leaves_and_the_loop_goes_on(loop: Multiplexer, pipe: Pair) -> None:
    """What a callback raises leaves run(), which can be run again."""

    def fail(fd: int) -> None:
        raise LookupError("callback")

    os.write(pipe[1], b"x")
    loop.register(pipe[0], READ, fail)
    for _ in range(2):
        with pytest.raises(LookupError, match="callback"):
            loop.run(lambda: False)


def test_lasting_ones_stay(loop: Multiplexer, pipe: Pair) -> None:
    """unregister_all and shut leave the lasting ones; after shut, others are ignored."""
    calls: list[str] = []
    os.write(pipe[1], b"x")
    loop.register(pipe[0], READ, lambda fd: calls.append("lasting"), lasting=True)
    loop.register(pipe[1], WRITE, lambda fd: calls.append("passing"))
    loop.unregister_all()
    until(loop, lambda: calls)
    assert {"lasting"} == set(calls)
    loop.shut()
    loop.register(pipe[1], WRITE, lambda fd: calls.append("ignored"))
    turns(loop, 2)
    assert {"lasting"} == set(calls)


def test_after_the_close(pipe: Pair) -> None:
    """A closed loop takes nothing more; calls that were left were made, all of them."""
    loop = Multiplexer(LOGGER)
    made: list[int] = []

    def fail() -> None:
        raise LookupError

    for call in (lambda: made.append(1), fail, lambda: made.append(2)):
        loop.call_soon(call)
    with pytest.raises(LookupError):
        loop.close()
    assert [1, 2] == made
    assert not loop.call_soon(lambda: None)
    loop.register(pipe[0], READ, lambda fd: None)
    assert not loop.unregister(pipe[0], READ)
    loop.shut()
    loop.wake()


# -- closed behind our back -----------------------------------------------------------------------
def test_closed_while_registered(loop: Multiplexer, pipe: Pair) -> None:
    """A closed descriptor does not keep the loop busy, and the others go on."""
    calls: list[int] = []
    gone, writer = os.pipe()
    loop.register(gone, READ, calls.append)
    loop.register(pipe[0], READ, calls.append)
    os.close(gone)
    os.close(writer)
    os.write(pipe[1], b"x")
    until(loop, lambda: calls)
    assert {pipe[0]} == set(calls)
    loop.unregister(pipe[0], READ)
    quiet(loop)
    loop.unregister(gone, READ)


def test_closed_with_a_living_duplicate(
    loop: Multiplexer, pipe: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """epoll goes on to tell of it, and has no way to unregister it: it is left behind."""
    calls: list[int] = []
    os.write(pipe[1], b"x")
    loop.register(pipe[0], READ, calls.append)
    duplicate = os.dup(pipe[0])
    os.close(pipe[0])
    other, writer = os.pipe()
    try:
        if other != pipe[0]:
            os.dup2(other, pipe[0])
        os.write(writer, b"y")
        turns(loop, 3)
        assert [] == calls
        assert f"fd {pipe[0]} was closed while registered" in caplog.text
        assert 1 == caplog.text.count("was closed")
        quiet(loop)
        loop.register(pipe[0], READ, calls.append)
        until(loop, lambda: calls)
        loop.unregister(pipe[0], READ)
    finally:
        for fd in {duplicate, other, writer} - {pipe[0]}:
            os.close(fd)


def test_closed_with_a_duplicate_and_unregistered(loop: Multiplexer, pipe: Pair) -> None:
    """Unregistered too late, and its number used anew: the old one's events are not told."""
    calls: list[str] = []
    os.write(pipe[1], b"x")
    loop.register(pipe[0], READ, lambda fd: calls.append("old"))
    duplicate = os.dup(pipe[0])
    reader, writer = os.pipe()
    os.dup2(reader, pipe[0])  # which closes it
    try:
        assert loop.unregister(pipe[0], READ)
        loop.register(pipe[0], READ, lambda fd: calls.append("new"))
        turns(loop, 3)
        assert [] == calls
        os.write(writer, b"x")
        until(loop, lambda: calls)
        assert {"new"} == set(calls)
        loop.unregister(pipe[0], READ)
        quiet(loop)
    finally:
        for fd in (duplicate, reader, writer):
            os.close(fd)


def test_number_used_anew_without_unregistering(loop: Multiplexer, pipe: Pair) -> None:
    """A registration that was forgotten is not in the way of another file of its number."""
    calls: list[str] = []
    loop.register(pipe[0], READ, lambda fd: calls.append("old"))
    reader, writer = os.pipe()
    os.dup2(reader, pipe[0])
    try:
        os.write(writer, b"x")
        loop.register(pipe[0], READ, lambda fd: calls.append("new"))
        until(loop, lambda: calls)
        assert {"new"} == set(calls)
        loop.unregister(pipe[0], READ)
    finally:
        for fd in (reader, writer):
            os.close(fd)


def test_no_descriptor_left_for_a_new_epoll(pipe: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where epoll is to be left behind and no other can be had, poll takes its place."""
    loop = Multiplexer(LOGGER)
    calls: list[int] = []
    os.write(pipe[1], b"x")
    loop.register(pipe[0], READ, calls.append)
    duplicate = os.dup(pipe[0])
    gone, end = os.pipe()
    os.write(end, b"x")
    loop.register(gone, READ, calls.append)
    alive = os.dup(gone)
    os.close(gone)

    def refuse() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(loop, "_make", refuse)
    until(loop, lambda: calls)
    loop.unregister(pipe[0], READ)
    quiet(loop)
    loop.close()
    for fd in (duplicate, end, alive):
        os.close(fd)


def quiet(loop: Multiplexer) -> None:
    """See that a turn waits for its time: that nothing which is ready ends it."""
    late: list[bool] = []
    number = [0]

    def until() -> bool:
        number[0] += 1
        return bool(late)

    turns(loop, 3)
    loop.call_later(0.1, lambda: late.append(True))
    loop.run(until)
    assert number[0] < 10


def test_many_descriptors(loop: Multiplexer) -> None:
    """More than select() could take, each told apart."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    number = 600
    if hard != resource.RLIM_INFINITY and hard < 2 * number + 100:
        pytest.skip("not here: too few descriptors are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * number + 100), hard))
    pipes = [os.pipe() for _ in range(number)]
    heard: set[int] = set()

    def read(fd: int) -> None:
        os.read(fd, 1)
        heard.add(fd)

    try:
        for reader, writer in pipes:
            loop.register(reader, READ, read)
            os.write(writer, b"x")
        until(loop, lambda: len(heard) == number)
        assert {reader for reader, _ in pipes} == heard
        loop.unregister_all()
    finally:
        for reader, writer in pipes:
            os.close(reader)
            os.close(writer)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

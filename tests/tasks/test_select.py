"""SelectTask: descriptors, child processes to their end, and their output as it comes."""

import argparse
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from typing import Any

import pytest

from sparts.errors import SpartsError, TaskError
from sparts.lifecycle import State
from sparts.tasks.select import (
    DescriptorError,
    ProcessFailed,
    ProcessResult,
    ProcessStreamHandler,
    SelectTask,
)
from sparts.testing import running
from sparts.vservice import VService

DEADLINE = 10.0
PYTHON = sys.executable
pidfd_open = os.pidfd_open


class Select(SelectTask):
    """One that has little patience with children."""

    KILL_TIMEOUT = 0.2


class Patient(SelectTask):
    """One that has more patience than a short stop allows."""

    KILL_TIMEOUT = 3600.0


@pytest.fixture
def task() -> Iterator[Select]:
    """The running task of a service."""
    with running(Select) as service:
        yield service.requireTask(Select)


@pytest.fixture(params=["pidfd", "thread"])
def any_task(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Select]:
    """The same with and without pidfds."""
    if request.param == "thread":
        monkeypatch.delattr(os, "pidfd_open")
    with running(Select) as service:
        yield service.requireTask(Select)


def script(text: str) -> list[str]:
    """The command for a Python script; -S -E for a quick start."""
    return [PYTHON, "-S", "-E", "-c", text]


def failure(future: "Future[ProcessResult[Any]]") -> ProcessFailed:
    """The error that *future* has failed with."""
    error = future.exception(DEADLINE)
    assert isinstance(error, ProcessFailed), error
    return error


def gone(pid: int) -> bool:
    """Whether there is no such process, or it has ended and is somebody else's zombie."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return True


def eventually_gone(pid: int) -> bool:
    """Wait for the end of a process that is not ours."""
    with suppress(ProcessLookupError):
        pidfd = pidfd_open(pid)
        try:
            return bool(select.select([pidfd], [], [], DEADLINE)[0])
        finally:
            os.close(pidfd)
    return True


# -- descriptors ----------------------------------------------------------------------------------
def test_callbacks_run_in_the_tasks_thread(task: Select) -> None:
    """What is registered anywhere is called with the descriptor, in the one thread of the task."""
    heard: Future[tuple[int, str]] = Future()
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def read(fd: int) -> None:
            assert task.unregister_read(fd)
            heard.set_result((fd, threading.current_thread().name))

        task.register_read(ours, read)
        theirs.send(b"x")
        assert (ours.fileno(), "Select") == heard.result(DEADLINE)


def test_all_three_kinds(task: Select) -> None:
    """Reading, writing and urgent data of one socket each have their callback."""
    heard = {kind: threading.Event() for kind in ("read", "write", "except")}
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    with client, accepted:
        fd = accepted.fileno()

        def once(kind: str) -> Callable[[int], None]:
            def callback(fd: int) -> None:
                getattr(task, f"unregister_{kind}")(fd)
                heard[kind].set()

            return callback

        for kind in heard:
            getattr(task, f"register_{kind}")(fd, once(kind))
        assert heard["write"].wait(DEADLINE)
        client.send(b"!", socket.MSG_OOB)
        assert heard["except"].wait(DEADLINE)
        assert not heard["read"].is_set()
        client.send(b"x")
        assert heard["read"].wait(DEADLINE)
        for kind in heard:
            assert not getattr(task, f"unregister_{kind}")(fd)


@pytest.mark.parametrize("kind", ["read", "except"])
def test_a_second_registration_names_the_cure(task: Select, kind: str) -> None:
    """One callback a kind and descriptor; the error tells which call takes the first back."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        register = getattr(task, f"register_{kind}")
        register(ours, lambda fd: None)
        with pytest.raises(DescriptorError, match=rf"unregister_{kind}\({ours.fileno()}\) first"):
            register(ours, lambda fd: None)
        task.unregister_all()
        register(ours, lambda fd: None)
        assert getattr(task, f"unregister_{kind}")(ours)


def test_what_is_no_descriptor(task: Select) -> None:
    """A closed descriptor, a file and other things are refused where they are registered."""
    closed = socket.socket()
    closed.close()
    with pytest.raises(DescriptorError, match="fd -1 is not open"):
        task.register_read(closed, lambda fd: None)
    with (
        open(__file__) as file,
        pytest.raises(DescriptorError, match="read files in a thread"),
    ):
        task.register_read(file, lambda fd: None)
    other: Any = "7"
    with pytest.raises(DescriptorError, match="'7' is no file descriptor"):
        task.register_read(other, lambda fd: None)
    assert issubclass(DescriptorError, SpartsError)
    assert issubclass(DescriptorError, ValueError)


def test_before_init() -> None:
    """A task that is not initialised says what to do."""
    task = SelectTask(VService(argparse.Namespace()))
    with pytest.raises(TaskError, match="SelectTask is not initialised; have it in DEPS"):
        task.register_read(0, lambda fd: None)
    task.stop()


def test_a_failing_callback_fails_the_service() -> None:
    """What a callback raises stops the service, and is its failure; children end with it."""
    ours, theirs = socket.socketpair()
    error = LookupError("callback")
    calls: list[int] = []

    def fail(fd: int) -> None:
        calls.append(fd)
        raise error

    ours_fd = ours.fileno()
    with ours, theirs:
        service = type("Tested", (VService,), {"ALL_TASKS": [Select]})(argparse.Namespace())
        thread = service.startBG()
        assert service.waitReady(DEADLINE)
        task = service.requireTask(Select)
        child = task.popen_communicate(["sleep", "1000"])
        task.register_write(ours, fail)
        assert service.join(DEADLINE)
        thread.join(DEADLINE)
    assert "Select" == service.lifecycle.failure.source
    assert error is service.lifecycle.failure.error
    assert failure(child).killed
    assert [ours_fd] == calls


def test_a_call_in_the_tasks_thread() -> None:
    """call_soon runs in the task's thread, and tells when it never will."""
    name: Future[str] = Future()
    with running(Select) as service:
        task = service.requireTask(Select)
        assert task.call_soon(lambda: name.set_result(threading.current_thread().name))
        assert "Select" == name.result(DEADLINE)
    assert not task.call_soon(lambda: None)


def test_nothing_is_called_after_the_stop() -> None:
    """Once stopped, a ready descriptor has no callback, and a new one is ignored without error."""
    calls: list[int] = []
    reached, go_on = threading.Event(), threading.Event()

    def block(fd: int) -> None:
        calls.append(fd)
        reached.set()
        go_on.wait(DEADLINE)

    ours, theirs = socket.socketpair()
    with ours, theirs, running(Select) as service:
        task = service.requireTask(Select)

        def register() -> None:  # both are ready at the same turn
            task.register_write(ours, block)
            task.register_write(theirs, block)

        task.call_soon(register)
        assert reached.wait(DEADLINE)
        task.stop()
        task.stop()
        task.register_write(ours, block)
        go_on.set()
        task.join()
        assert not task.running
        assert not task.unregister_write(ours)
    assert 1 == len(calls)


def test_stopped_without_a_start() -> None:
    """A task that was only initialised frees everything at its stop, children too."""
    task = Select(VService(argparse.Namespace()))
    task.initTask()
    child = task.popen_communicate(["sleep", "1000"])
    task.stop()
    assert failure(child).killed
    task.stop()
    task.join()


# -- a child process to its end -------------------------------------------------------------------
def test_bytes(any_task: Select) -> None:
    """The result has what was written to both, and the return code."""
    text = "import sys; sys.stdout.write('out'); sys.stderr.write('err')"
    future = any_task.popen_communicate(script(text))
    assert ProcessResult(b"out", b"err", 0) == future.result(DEADLINE)


def test_text(task: Select) -> None:
    """With an encoding input and output are text; what is none is replaced, not an error."""
    text = "import os; os.write(1, os.read(0, 100) + b' \\xff')"
    future = task.popen_communicate(script(text), input="héllo", encoding="utf-8")
    assert "héllo \N{REPLACEMENT CHARACTER}" == future.result(DEADLINE).stdout


def test_status(any_task: Select) -> None:
    """A status other than 0 is ProcessFailed: the command, the status, the last words."""
    text = "import sys; print('out'); sys.exit('first\\nlast words')"
    error = failure(any_task.popen_communicate(script(text)))
    assert ProcessResult(b"out\n", b"first\nlast words\n", 1) == error.result
    assert not error.killed
    assert str(error).startswith(PYTHON)
    assert str(error).endswith("ended with status 1: last words")


def test_signal(any_task: Select) -> None:
    """A process that a signal ended, not ours, is not killed by us; the signal has its name."""
    error = failure(any_task.popen_communicate("kill -SEGV $$", shell=True))
    assert (-signal.SIGSEGV, False) == (error.result.returncode, error.killed)
    assert "kill -SEGV $$ ended by SIGSEGV" == str(error)


def test_much_in_and_out_at_once(any_task: Select) -> None:
    """More than any pipe holds goes in and comes back while it does, without a deadlock."""
    data = os.urandom(1 << 16) * 48
    future = any_task.popen_communicate(["cat"], input=data)
    assert data == future.result(DEADLINE).stdout


@pytest.mark.parametrize("given", [None, b"", "", bytearray(), memoryview(b"")])
def test_no_input(task: Select, given: Any) -> None:
    """Without input a process that reads finds the end."""
    assert b"" == task.popen_communicate(["cat"], input=given).result(DEADLINE).stdout


def test_input_that_is_not_read(any_task: Select) -> None:
    """A process that does not want its input is no failure."""
    assert 0 == any_task.popen_communicate(["true"], input=bytes(1 << 20)).result(DEADLINE)[2]


def test_timeout(any_task: Select) -> None:
    """Past its time the process is killed, by SIGTERM where that is enough."""
    error = failure(any_task.popen_communicate(["sleep", "1000"], timeout=0.1))
    assert (-signal.SIGTERM, True) == (error.result.returncode, error.killed)
    assert "sleep 1000 took longer than 0.1 s (timeout) and was killed" == str(error)


def test_one_that_ignores_sigterm(any_task: Select) -> None:
    """What does not end at SIGTERM is ended by SIGKILL, with what it started."""
    text = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "1000"])
print(child.pid, flush=True)
os.write(1, b"x" * 1000)
signal.pause()
"""
    error = failure(any_task.popen_communicate(script(text), max_output=500))
    assert (-signal.SIGKILL, True) == (error.result.returncode, error.killed)
    assert "wrote more than 500 bytes (max_output) and was killed" in str(error)
    assert 500 == len(error.result.stdout)
    assert eventually_gone(int(error.result.stdout.split()[0]))


def test_a_grandchild_that_ignores_sigterm(any_task: Select) -> None:
    """When the child has ended at SIGTERM, the rest of its group is killed."""
    grandchild = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(f"{os.getpid():<20}", flush=True)
signal.pause()
"""
    text = f"import subprocess; subprocess.run({script(grandchild)!r})"
    error = failure(any_task.popen_communicate(script(text), max_output=20))
    assert (-signal.SIGTERM, True) == (error.result.returncode, error.killed)
    assert eventually_gone(int(error.result.stdout))


def test_endless_output(any_task: Select) -> None:
    """No more is kept than the limit, of both pipes together, and the writer is stopped."""
    error = failure(any_task.popen_communicate("yes & yes >&2", shell=True, max_output=100_000))
    assert error.killed
    assert 100_000 == len(error.result.stdout) + len(error.result.stderr)
    assert 0 == len(any_task.loop._timers)


def test_timers_end_with_the_process(any_task: Select) -> None:
    """Neither its time limit nor the time until SIGKILL is waited for after its end."""
    assert any_task.popen_communicate(["true"], timeout=1000.0).result(DEADLINE)
    assert failure(any_task.popen_communicate(["sleep", "1000"], timeout=0.01))
    assert 0 == len(any_task.loop._timers)


def test_a_long_command_is_shortened(task: Select) -> None:
    """A message quotes no more of the command than one can read."""
    error = failure(task.popen_communicate(["false", "x" * 1000]))
    assert f"false {'x' * 191}... ended with status 1" == str(error)


def test_output_just_within_the_limit(task: Select) -> None:
    """The limit itself is allowed."""
    future = task.popen_communicate(["printf", "12345"], max_output=5)
    assert b"12345" == future.result(DEADLINE).stdout
    assert failure(task.popen_communicate(["printf", "123456"], max_output=5)).killed


def test_a_grandchild_with_the_pipes(any_task: Select) -> None:
    """One who holds the pipes open is not waited for, and lives on."""
    text = """
import subprocess, sys
child = subprocess.Popen(["sleep", "1000"])
print(child.pid)
"""
    result = any_task.popen_communicate(script(text)).result(DEADLINE)
    pid = int(result.stdout)
    try:
        assert not gone(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_grandchild_that_writes_on(any_task: Select) -> None:
    """What it adds after the child's end is not waited for, however fast it comes."""
    future = any_task.popen_communicate("yes & echo $! >&2", shell=True)
    result = future.result(DEADLINE)
    assert eventually_gone(int(result.stderr))  # as its pipe was closed


def test_one_that_closes_its_pipes(any_task: Select) -> None:
    """The end of its output is not its own end, which alone counts."""
    text = "import os; os.close(1); os.close(2); os.write(0, b'x'); os.read(0, 1); os._exit(3)"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        future = any_task.popen_communicate(script(text), stdin=theirs)
        assert b"x" == ours.recv(1)
        for _ in range(2):  # the loop has looked by then
            looked = threading.Event()
            any_task.call_soon(looked.set)
            assert looked.wait(DEADLINE)
        assert not future.done()
        ours.send(b"x")
        assert 3 == failure(future).result.returncode


def test_redirected(task: Select) -> None:
    """Popen's own arguments hold: stderr into stdout, or nowhere, an environment, a directory."""
    both = task.popen_communicate(
        "echo $X; pwd >&2", shell=True, env={"X": "y"}, cwd="/", stderr=-2
    )
    assert ProcessResult(b"y\n/\n", b"", 0) == both.result(DEADLINE)
    none = task.popen_communicate(["echo", "x"], stdout=subprocess.DEVNULL)
    assert ProcessResult(b"", b"", 0) == none.result(DEADLINE)


def test_a_session_of_its_own(task: Select) -> None:
    """So that it is killed with all it started, unless it is told to stay in another group."""
    text = "import os; print(os.getpgrp() == os.getpid())"
    assert b"True\n" == task.popen_communicate(script(text)).result(DEADLINE).stdout
    stays = task.popen_communicate(script(text), start_new_session=False)
    assert b"False\n" == stays.result(DEADLINE).stdout
    grouped = task.popen_communicate(script(text), process_group=0)
    assert b"True\n" == grouped.result(DEADLINE).stdout
    killed = task.popen_communicate(["sleep", "1000"], start_new_session=False, timeout=0.1)
    assert failure(killed).killed  # and not our own group


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"args": ["/no/such/program"]}, FileNotFoundError, "/no/such/program"),
        ({"args": ["true"], "cwd": "/no/such"}, FileNotFoundError, "/no/such"),
        ({"args": ["true"], "timeout": 0}, ValueError, "timeout=0 is not a number of seconds"),
        ({"args": ["true"], "max_output": 0}, ValueError, "max_output=0 is not a number of bytes"),
        ({"args": ["true"], "encoding": "no-such"}, LookupError, "no-such"),
        ({"args": ["true"], "text": True}, ValueError, "text= is not accepted; give encoding="),
        ({"args": ["true"], "input": b"", "stdin": 0}, ValueError, "input= or stdin=, not both"),
        ({"args": ["true"], "input": 5}, TypeError, "int"),
        ({"args": ["true"], "no_such": 1}, TypeError, "no_such"),
    ],
)
def test_what_cannot_be_started(
    task: Select, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Whatever is wrong is in the future, never raised and never left out."""
    future = task.popen_communicate(**arguments)
    assert future.done()
    with pytest.raises(error, match=message):
        future.result()


def test_pipes_that_cannot_be_waited_for(task: Select, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is started but cannot be watched is ended, and the future tells why."""
    register = task.loop.register

    def refuse(fd: int, kind: int, callback: Any, lasting: bool = False) -> None:
        if len(seen := [*seen_kinds, kind]) == 3:
            raise DescriptorError("no more")
        seen_kinds[:] = seen
        register(fd, kind, callback, lasting)

    seen_kinds: list[int] = []
    monkeypatch.setattr(task.loop, "register", refuse)
    future = task.popen_communicate(["sleep", "1000"], input=b"x" * 10)
    with pytest.raises(DescriptorError, match="no more"):
        future.result(DEADLINE)
    assert 0 == len(task.children)


def test_it_cannot_be_cancelled(task: Select) -> None:
    """A future that others may rely on runs to its end."""
    future = task.popen_communicate(["true"])
    assert not future.cancel()
    assert 0 == future.result(DEADLINE).returncode


def test_many_at_once(any_task: Select) -> None:
    """A hundred children from several threads, each with its own result."""
    futures: dict[int, Future[ProcessResult[bytes]]] = {}

    def begin(first: int) -> None:
        for number in range(first, 100, 4):
            futures[number] = any_task.popen_communicate(["echo", str(number)], timeout=DEADLINE)

    threads = [threading.Thread(target=begin, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, future in futures.items():
        assert b"%d\n" % number == future.result(DEADLINE).stdout
    assert 100 == len(futures)


def test_the_stop_kills_them() -> None:
    """At the stop running children are killed, also stubborn ones, and their futures fail."""
    stubborn = "trap '' TERM; echo; while :; do sleep 1000; done"
    with running(Select) as service:
        task = service.requireTask(Select)
        quick = task.popen_communicate(["sleep", "1000"])
        begun = threading.Event()
        popen = subprocess.Popen(
            stubborn, shell=True, stdout=subprocess.PIPE, start_new_session=True
        )
        exits: list[int] = []
        ProcessStreamHandler(popen, task, lambda data: begun.set(), on_exit=exits.append)
        assert begun.wait(DEADLINE)
    assert (True, -signal.SIGTERM) == (failure(quick).killed, failure(quick).result.returncode)
    assert "sleep 1000 was killed, as the service stops" == str(failure(quick))
    assert [-signal.SIGKILL] == exits
    late = task.popen_communicate(["true"])
    with pytest.raises(TaskError, match="was stopped"):
        late.result(0)


@pytest.mark.parametrize("before", [False, True])
def test_the_stop_has_its_deadline(before: bool) -> None:
    """A stubborn child is killed in time for a short --stop-timeout, so the stop is graceful.

    So is one that, *before* the stop, began to be killed with all the time of ``KILL_TIMEOUT``.
    """
    stubborn = "import os, signal, time; signal.signal(15, lambda *_: os.write(1, b'no '))"
    stubborn += "; os.write(1, b'up ')\nwhile True: time.sleep(1000)"
    seen = {b"up": threading.Event(), b"no": threading.Event()}
    exits: list[int] = []

    def see(data: bytes) -> None:
        for word in data.split():
            seen[word].set()

    with running(Patient, "--stop-timeout", "4") as service:
        task = service.requireTask(Patient)
        popen = subprocess.Popen(script(stubborn), stdout=subprocess.PIPE, start_new_session=True)
        ProcessStreamHandler(popen, task, see, on_exit=exits.append)
        assert seen[b"up"].wait(DEADLINE)
        if before:
            [child] = task.children._living
            task.call_soon(lambda: child.kill("for the test"))
            assert seen[b"no"].wait(DEADLINE)
    assert [-signal.SIGKILL] == exits
    assert State.STOPPED is service.lifecycle.state


def test_one_that_cannot_be_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who outlives SIGKILL, as in a dead file system, is given up: the stop comes to its end."""
    signals: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda pid, signum: signals.append(signum))
    with running(Select) as service:
        popen = sleeper()
        _, code = collect(popen, service.requireTask(Select))
    assert [signal.SIGTERM, signal.SIGKILL] == signals
    assert -signal.SIGKILL == code.result(0)
    assert f"Process {popen.pid} outlives its SIGKILL" in caplog.text
    popen.kill()
    popen.wait(DEADLINE)


def test_one_that_may_not_be_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process of another user is said to be so, and given up like one that does not end."""

    def refuse(pid: int, signum: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "killpg", refuse)
    with running(Select) as service:
        popen = sleeper()
        _, code = collect(popen, service.requireTask(Select))
    assert -signal.SIGKILL == code.result(0)
    assert f"Process {popen.pid} cannot be sent SIGTERM" in caplog.text
    popen.kill()
    popen.wait(DEADLINE)


def sleeper() -> "subprocess.Popen[bytes]":
    """A process that does not end by itself."""
    return subprocess.Popen(["sleep", "1000"], stdout=subprocess.PIPE, start_new_session=True)


def test_one_that_somebody_else_waited_for(task: Select) -> None:
    """A child that was waited for already has ended: its output and on_exit are delivered."""
    popen = subprocess.Popen(["echo", "x"], stdout=subprocess.PIPE)
    popen.wait(DEADLINE)
    got, code = collect(popen, task)
    assert (0, [b"x\n"]) == (code.result(DEADLINE), got)

    popen = subprocess.Popen(["true"])
    popen.wait(DEADLINE)
    popen.pid = os.getpid()  # its number may be anybody's now
    code = Future()
    ProcessStreamHandler(popen, task, on_exit=code.set_result)
    assert 0 == code.result(DEADLINE)

    popen = subprocess.Popen(["echo", "y"], stdout=subprocess.PIPE)
    os.waitpid(popen.pid, 0)  # behind Popen's back, which then takes it for a success
    got, code = collect(popen, task)
    assert (0, [b"y\n"]) == (code.result(DEADLINE), got)


# -- its output as it comes -----------------------------------------------------------------------
def collect(popen: Any, task: Select, **keywords: Any) -> tuple[list[Any], "Future[int]"]:
    """What a process writes to stdout, piece by piece, and its return code."""
    got: list[Any] = []
    code: Future[int] = Future()
    ProcessStreamHandler(popen, task, got.append, on_exit=code.set_result, **keywords)
    return got, code


def test_output_as_it_comes(any_task: Select) -> None:
    """Each piece is delivered when it was written, while the process goes on."""
    popen = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    pieces: list[bytes] = []
    arrived = threading.Semaphore(0)
    code: Future[int] = Future()

    def take(data: bytes) -> None:
        pieces.append(data)
        arrived.release()

    ProcessStreamHandler(popen, any_task, take, on_exit=code.set_result)
    assert popen.stdin is not None
    for number in range(3):
        popen.stdin.write(b"%d" % number)
        assert arrived.acquire(timeout=DEADLINE)
    assert [b"0", b"1", b"2"] == pieces
    popen.stdin.close()
    assert 0 == code.result(DEADLINE)


def test_both_outputs_before_the_exit(any_task: Select) -> None:
    """stdout and stderr go their own ways; on_exit comes once, when all was delivered."""
    text = "import os; os.write(1, b'o' * 300000); os.write(2, b'e' * 300000); os._exit(7)"
    popen = subprocess.Popen(script(text), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    sizes = {"out": 0, "err": 0}
    seen: list[tuple[dict[str, int], int]] = []
    done = threading.Event()

    def add(name: str) -> Callable[[bytes], None]:
        def take(data: bytes) -> None:
            assert {ord(name[0])} == set(data)
            sizes[name] += len(data)

        return take

    def exited(code: int) -> None:
        seen.append((dict(sizes), code))
        done.set()

    ProcessStreamHandler(popen, any_task, add("out"), add("err"), exited)
    assert done.wait(DEADLINE)
    assert [({"out": 300000, "err": 300000}, 7)] == seen
    assert 7 == popen.returncode


def test_characters_that_were_cut_in_two(task: Select) -> None:
    """A character that arrives in pieces is delivered whole; the rest of one at last replaced."""
    popen = subprocess.Popen(
        ["sh", "-c", r"printf 'a\303'; read x; printf '\251\377\303'"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    got: list[str] = []
    first, code = threading.Event(), Future[int]()

    def take(data: str) -> None:
        got.append(data)
        first.set()

    ProcessStreamHandler(popen, task, take, on_exit=code.set_result, encoding="utf-8")
    assert first.wait(DEADLINE)
    assert ["a"] == got
    assert popen.stdin is not None
    popen.stdin.write(b"\n")
    assert 0 == code.result(DEADLINE)
    assert "aé\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}" == "".join(got)


def test_output_that_nobody_wants(task: Select) -> None:
    """A pipe without a callback is emptied, so that the process does not wait for ever."""
    popen = subprocess.Popen("yes | head -c 1000000", shell=True, stdout=subprocess.PIPE)
    code: Future[int] = Future()
    ProcessStreamHandler(popen, task, on_exit=code.set_result)
    assert 0 == code.result(DEADLINE)


def test_streams_of_a_grandchild(any_task: Select) -> None:
    """on_exit does not wait for one who holds the pipe, and comes after what the child wrote."""
    popen = subprocess.Popen(
        "sleep 1000 & echo $!", shell=True, stdout=subprocess.PIPE, start_new_session=True
    )
    got, code = collect(popen, any_task)
    assert 0 == code.result(DEADLINE)
    os.kill(int(b"".join(got)), signal.SIGKILL)


def test_a_failing_stream_callback() -> None:
    """What on_stdout raises is the service's failure; no more is delivered, on_exit still is."""
    popen = subprocess.Popen(["yes"], stdout=subprocess.PIPE, start_new_session=True)
    calls: list[bytes] = []
    code: Future[int] = Future()

    def fail(data: bytes) -> None:
        calls.append(data)
        raise LookupError("stream")

    service = type("Tested", (VService,), {"ALL_TASKS": [Select]})(argparse.Namespace())
    thread = service.startBG()
    assert service.waitReady(DEADLINE)
    ProcessStreamHandler(popen, service.requireTask(Select), fail, on_exit=code.set_result)
    assert -signal.SIGTERM == code.result(DEADLINE)
    assert service.join(DEADLINE)
    thread.join(DEADLINE)
    assert "LookupError('stream')" == repr(service.lifecycle.failure.error)
    assert 1 == len(calls)


def test_a_pipe_that_has_a_handler(task: Select) -> None:
    """A second handler of a process is refused, and the first goes on."""
    popen = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    got, code = collect(popen, task)
    with pytest.raises(DescriptorError, match="has a read callback already"):
        ProcessStreamHandler(popen, task)
    assert popen.stdin is not None
    popen.stdin.write(b"x")
    popen.stdin.close()
    assert (0, [b"x"]) == (code.result(DEADLINE), got)


def test_a_pipe_that_somebody_reads(task: Select) -> None:
    """Where one pipe cannot be had, the other is left alone too, and the process goes on."""
    pipe = subprocess.PIPE
    with subprocess.Popen(["cat"], stdin=pipe, stdout=pipe, stderr=pipe) as popen:
        assert popen.stderr is not None
        task.register_read(popen.stderr, lambda fd: None)
        with pytest.raises(DescriptorError, match="has a read callback already"):
            ProcessStreamHandler(popen, task)
        assert popen.stdout is not None
        assert not task.unregister_read(popen.stdout)
        assert task.unregister_read(popen.stderr)
        assert popen.poll() is None
        popen.communicate(timeout=DEADLINE)


def test_a_handler_on_a_stopped_task() -> None:
    """The process stays its caller's."""
    with running(Select) as service:
        task = service.requireTask(Select)
    with subprocess.Popen(["echo", "x"], stdout=subprocess.PIPE) as popen:
        with pytest.raises(TaskError, match="was stopped"):
            ProcessStreamHandler(popen, task)
        assert b"x\n" == popen.communicate(timeout=DEADLINE)[0]


def test_unregister_all_leaves_children(task: Select) -> None:
    """Children are not descriptors that one registered: their output still comes."""
    popen = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    got, code = collect(popen, task)
    task.unregister_all()
    assert popen.stdin is not None
    popen.stdin.write(b"x")
    popen.stdin.close()
    assert (0, [b"x"]) == (code.result(DEADLINE), got)


def test_no_process_is_left(any_task: Select) -> None:
    """Whichever way children ended, none is left as a zombie."""
    futures = [
        any_task.popen_communicate(["true"]),
        any_task.popen_communicate(["false"]),
        any_task.popen_communicate(["sleep", "1000"], timeout=0.01),
        any_task.popen_communicate(["yes"], max_output=10),
    ]
    wait_for(futures, timeout=DEADLINE)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)

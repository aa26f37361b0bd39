"""Processes by pid: alive or not, waited for and signalled, with pidfds and without."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from sparts.ops import process
from sparts.ops.process import Process, start_of
from sparts.timer import run_until_true

DEADLINE = 10.0


@pytest.fixture(params=["pidfd", "no pidfd", "refused"], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that has pidfds, one that has none, and a container that refuses them."""

    def refuse(pid: int) -> int:
        raise PermissionError(errno.EPERM, "not in here")

    if request.param == "no pidfd":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    elif request.param == "refused":
        monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("not here: this system has no pidfds")


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that sleeps."""
    with subprocess.Popen(["sleep", "60"]) as popen:
        yield popen
        popen.kill()


def test_alive(child: "subprocess.Popen[bytes]") -> None:
    """A live process can be held, by its pid alone or with its start."""
    with Process(child.pid) as held:
        assert not held.wait(0.0)
    with Process(child.pid, start_of(child.pid)) as held:
        assert child.pid == held.pid


def test_signal_and_wait(child: "subprocess.Popen[bytes]") -> None:
    """It gets the signal, and its end is noticed before anyone has asked for its status."""
    with Process(child.pid) as held:
        held.signal(signal.SIGUSR1)
        assert held.wait(DEADLINE)
    assert -signal.SIGUSR1 == child.wait(DEADLINE)


def test_wait_times_out(child: "subprocess.Popen[bytes]") -> None:
    """A wait for what goes on ends at its timeout."""
    with Process(child.pid) as held:
        assert not held.wait(0.01)


def test_zombie(child: "subprocess.Popen[bytes]") -> None:
    """A process that has ended but was not waited for is not alive."""
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessLookupError):
        Process(child.pid)


def test_ended(child: "subprocess.Popen[bytes]") -> None:
    """A pid that nobody has is not alive."""
    child.kill()
    child.wait(DEADLINE)
    with pytest.raises(ProcessLookupError):
        Process(child.pid)


def test_signal_after_the_end(child: "subprocess.Popen[bytes]") -> None:
    """A signal to what has ended meanwhile is a ProcessLookupError."""
    with Process(child.pid) as held:
        child.kill()
        child.wait(DEADLINE)
        with pytest.raises(ProcessLookupError):
            held.signal(signal.SIGTERM)


def test_pid_of_another(child: "subprocess.Popen[bytes]") -> None:
    """A process that has the pid but another start is not the one that is meant."""
    with pytest.raises(ProcessLookupError):
        Process(child.pid, "1@another-boot")


@pytest.mark.parametrize("pid", [0, -1, -os.getpid(), 2**31, 2**70])
def test_pids_that_are_none(pid: int) -> None:
    """What means a group to kill(2), or nothing at all, is never a process."""
    with pytest.raises(ProcessLookupError):
        Process(pid)


@pytest.mark.parametrize("kernel", ["pidfd"], indirect=True)
def test_thread_is_no_process() -> None:
    """The id of a thread is not taken for a pid, where the kernel can tell."""
    go = threading.Event()
    thread = threading.Thread(target=go.wait, args=(DEADLINE,))
    thread.start()
    try:
        assert thread.native_id is not None
        with pytest.raises(ProcessLookupError):
            Process(thread.native_id)
    finally:
        go.set()
        thread.join(DEADLINE)


def test_start(child: "subprocess.Popen[bytes]") -> None:
    """A process's start stays the same and is not another's; nobody's is unknown."""
    assert start_of(child.pid) == start_of(child.pid) != start_of(os.getpid())
    assert "" == start_of(2**30)


def test_start_of_a_name_with_brackets() -> None:
    """The process's name may hold what it is set apart by."""
    code = "import os; open('/proc/self/comm', 'w').write('a) Z (b'); os.write(1, b'x'); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as popen:
        assert popen.stdout is not None
        assert b"x" == popen.stdout.read(1)
        before = start_of(popen.pid)
        with Process(popen.pid, before) as held:
            assert not held.wait(0.0)
        popen.communicate(b"\n", DEADLINE)
    assert before.partition("@")[0].isdigit()


def test_without_proc(child: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be known of a process's start, its pid is taken at its word."""
    known = start_of(child.pid)
    monkeypatch.setattr(process, "_stat", lambda pid: [])
    assert "" == start_of(child.pid)
    Process(child.pid, known).close()
    child.kill()
    child.wait(DEADLINE)
    assert run_until_true(lambda: not process._runs(child.pid), DEADLINE)

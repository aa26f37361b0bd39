"""Signals: heard whatever the main thread is about, and left as they were."""

import queue
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import pytest

from sparts.signals import Signals

DEADLINE = 10.0
HEARD = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]


def state() -> list[Any]:
    """The handlers of the process, and where its signals are written."""
    descriptor = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(descriptor)
    return [descriptor, *(signal.getsignal(each) for each in HEARD)]


@pytest.mark.parametrize("signum", HEARD)
def test_a_signal_is_told(signum: signal.Signals) -> None:
    """Each of the service's signals is told by its number, once."""
    box: queue.SimpleQueue[int] = queue.SimpleQueue()
    with Signals(box.put, True):
        signal.raise_signal(signum)
        assert signum == box.get(timeout=DEADLINE)
    assert box.empty()


def test_a_signal_of_another_thread_is_told_while_the_main_one_waits() -> None:
    """What the system hands to another thread is heard though the main thread runs no code."""
    box: queue.SimpleQueue[int] = queue.SimpleQueue()
    told = threading.Lock()
    told.acquire()

    def put(signum: int) -> None:
        box.put(signum)
        told.release()

    def raise_here() -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    with Signals(put, True):
        thread = threading.Thread(target=raise_here)
        thread.start()
        assert told.acquire(timeout=DEADLINE)
        thread.join(DEADLINE)
    assert signal.SIGTERM == box.get_nowait()


def test_all_is_as_before() -> None:
    """Afterwards the handlers, and where signals are written, are those from before."""
    before = state()
    with Signals(lambda signum: None, True):
        assert before != state()
    assert before == state()


def test_a_handler_of_the_program_is_the_only_one() -> None:
    """A signal that the program takes over meanwhile is not told."""
    box: queue.SimpleQueue[int] = queue.SimpleQueue()
    taken: list[int] = []
    with Signals(box.put, True):
        signal.signal(signal.SIGHUP, lambda signum, frame: taken.append(signum))
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGUSR1)
        assert signal.SIGUSR1 == box.get(timeout=DEADLINE)
    assert [signal.SIGHUP] == taken
    assert box.empty()


def test_under_nohup_a_hangup_stays_ignored() -> None:
    """Where SIGHUP is ignored from the beginning it is neither told nor changed."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals(lambda signum: None, True):
            assert signal.SIG_IGN == signal.getsignal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("where", ["unwanted", "another thread"])
def test_nothing_is_touched(where: str) -> None:
    """Not wanted, or in a thread that is not the main one, all signals stay as they are."""
    before = state()
    seen: list[Any] = []

    def enter() -> None:
        with Signals(lambda signum: None, where != "unwanted"):
            seen.extend(signal.getsignal(each) for each in HEARD)

    run_in(enter, new_thread=where != "unwanted")
    assert before[1:] == seen
    assert before == state()


def run_in(function: Callable[[], None], *, new_thread: bool) -> None:
    if not new_thread:
        return function()
    thread = threading.Thread(target=function)
    thread.start()
    return thread.join(DEADLINE)


def test_a_forked_child_tells_its_parent_nothing() -> None:
    """A signal to a forked child is not taken for one of the process that forked it."""
    code = """
        import os, queue, signal
        from sparts.signals import Signals
        box = queue.SimpleQueue()
        with Signals(box.put, True):
            child = os.fork()
            if not child:
                signal.raise_signal(signal.SIGTERM)
                os._exit(0)
            os.waitpid(child, 0)
            signal.raise_signal(signal.SIGUSR1)
            print(box.get(timeout=10) == signal.SIGUSR1 and box.empty())
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    assert "True\n" == done.stdout

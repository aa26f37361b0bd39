"""Races: wherever one thread comes into what another does, futures and work queues come out right.

Two calls are run with every interleaving that has one switch: the first up to some line, then the
second as far as it goes, then the rest of the first.
"""

import concurrent.futures
import functools
import itertools
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from math import inf
from types import FrameType
from typing import Any, TypeVar

import pytest

import sparts.futures
import sparts.workqueue.core
import sparts.workqueue.intake
from sparts.errors import NotRun
from sparts.futures import GONE, LazyFuture, Ticket
from sparts.workqueue import WorkQueue, new_nap

DEADLINE = 10.0
T = TypeVar("T")
#: The files at whose lines a switch may come.
OURS = {
    sparts.futures.__file__,
    sparts.workqueue.core.__file__,
    sparts.workqueue.intake.__file__,
    concurrent.futures._base.__file__,
}
#: Seconds after which a thread that makes no progress is taken to wait for a lock.
BLOCKED = 0.002


def outcome(function: Callable[[], Any]) -> Any:
    """What *function* returns, or the class of what it raises."""
    try:
        return function()
    except BaseException as error:
        return type(error)


class Preempted:
    """Runs *first* up to its line number *at*, there *second* as far as it goes, then the rest."""

    def __init__(self, first: Callable[[], Any], second: Callable[[], Any], at: int) -> None:
        self.lines = at
        self._first, self._second = first, second
        self._paused, self._resume = threading.Event(), threading.Event()
        self.results: list[Any] = [None, None]
        threads = [threading.Thread(target=self._run_first), threading.Thread(target=self._run)]
        threads[0].start()
        self._paused.wait(BLOCKED)  # it may be waiting for the second
        threads[1].start()
        threads[1].join(BLOCKED)
        self._resume.set()
        for thread in threads:
            thread.join(DEADLINE)
        assert not any(thread.is_alive() for thread in threads)

    def _run(self) -> None:
        self.results[1] = outcome(self._second)

    def _run_first(self) -> None:
        sys.settrace(self._trace)
        try:
            self.results[0] = outcome(self._first)
        finally:
            sys.settrace(None)
            self._paused.set()

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in OURS:
            return None
        if event == "line":
            self.lines -= 1
            if self.lines == -1:
                self._paused.set()
                assert self._resume.wait(DEADLINE)
        return self._trace


def interleaved(
    make: Callable[[], T], first: Callable[[T], Any], second: Callable[[T], Any]
) -> Iterator[tuple[T, Any, Any]]:
    """Each way in which *second* may come amid *first*, and the other way round: what they gave."""
    for swapped in (False, True):
        for at in itertools.count():
            subject = make()
            one, other = functools.partial(first, subject), functools.partial(second, subject)
            run = Preempted(other, one, at) if swapped else Preempted(one, other, at)
            yield subject, *run.results[:: -1 if swapped else 1]
            if run.lines >= 0:  # it was over before
                break


def ticket() -> "Ticket[str]":
    """One in a queue."""
    made: Ticket[str] = Ticket()
    made.item = "item"
    return made


@pytest.mark.parametrize(
    "wait",
    [
        lambda future: future.result(DEADLINE),
        lambda future: future.exception(DEADLINE) or future.result(0),
        lambda future: concurrent.futures.wait([future], DEADLINE).done.pop().result(0),
        lambda future: next(concurrent.futures.as_completed([future], DEADLINE)).result(0),
    ],
)
def test_set_result_against_waiting(wait: Callable[["Future[Any]"], Any]) -> None:
    """Wherever the result comes into waiting for it, it is heard, once."""
    for future, ended, waited in interleaved(LazyFuture, lambda it: it.set_result(5), wait):
        assert (None, 5) == (ended, waited)
        assert 5 == future.result(0)


@pytest.mark.parametrize(
    ("end", "arguments"),
    [("set_result", [1]), ("set_exception", [ValueError()]), ("cancel", [])],
)
def test_the_end_against_callbacks(end: str, arguments: list[Any]) -> None:
    """Wherever the end comes into adding a callback, that is called once, and after the end."""
    called: list[bool] = []
    runs = interleaved(
        LazyFuture,
        lambda it: getattr(it, end)(*arguments),
        lambda it: it.add_done_callback(lambda done: called.append(done.done())),
    )
    for count, (_, _, added) in enumerate(runs, 1):
        assert added is None
        assert [True] * count == called


def test_two_callbacks() -> None:
    """Of two callbacks that are added at once none is lost."""
    called: list[int] = []
    runs = interleaved(
        LazyFuture,
        lambda it: it.add_done_callback(lambda done: called.append(1)),
        lambda it: it.add_done_callback(lambda done: called.append(2)),
    )
    for future, _, _ in runs:
        future.set_result(None)
        assert [1, 2] == sorted(called)
        called.clear()


def test_one_of_two_ends_counts() -> None:
    """Of two who end it at once, one succeeds and the other hears so."""
    for future, result, error in interleaved(
        LazyFuture, lambda it: it.set_result(1), lambda it: it.set_exception(ValueError())
    ):
        assert {None, InvalidStateError} == {result, error}
        assert (result is None) == (future.exception(0) is None)


@pytest.mark.parametrize(
    ("make", "begin"),
    [
        (LazyFuture, lambda it: it.set_running_or_notify_cancel()),
        (ticket, lambda it: it.take() is not GONE),
    ],
)
def test_begun_or_cancelled(make: Any, begin: Callable[[Any], bool]) -> None:
    """Wherever the cancelling comes into the beginning, it is one or the other, and both know."""
    for future, begun, cancelled in interleaved(make, begin, lambda it: it.cancel()):
        assert begun is not cancelled
        assert (begun, cancelled) == (future.running(), future.cancelled())
        if cancelled:
            assert {future} == concurrent.futures.wait([future], 0).done


@pytest.mark.parametrize("make", [LazyFuture, ticket])
def test_both_who_cancel_hear_so(make: Any) -> None:
    """Of two who cancel at once, both hear that it is cancelled; callbacks come once."""
    for future, one, other in interleaved(make, lambda it: it.cancel(), lambda it: it.cancel()):
        assert (True, True, True) == (one, other, future.cancelled())


def test_one_condition_is_made() -> None:
    """Two who begin to wait at once wait for the same condition."""
    for future, one, other in interleaved(
        LazyFuture, lambda it: it._condition, lambda it: it._condition
    ):
        assert one is other is future._condition


# -- work queues --------------------------------------------------------------------------------
Work = tuple[WorkQueue, list[Any]]
locked = pytest.mark.parametrize("locked", [False, True])


def work_queue(locked: bool, *items: Any, maxsize: int = 0) -> Work:
    """A work queue with *items* in it, and the list of what it leaves."""
    left: list[Any] = []
    made = WorkQueue(maxsize, left=left.extend, locked=locked)
    for item in items:
        made.put(item)
    return made, left


def take(work: Work) -> Any:
    """Be a consumer until there is an entry; None at the end."""
    lock = new_nap()
    work[0].enlist()
    more = True
    while more:
        if time.monotonic() >= work[0].alarm:
            work[0].ring(time.monotonic())
        try:
            entry = work[0].pop()
        except IndexError:
            more = work[0].rest(lock)
            continue
        work[0].settle()
        return entry
    return None


@locked
def test_a_put_against_falling_asleep(locked: bool) -> None:
    """A consumer that is about to sleep hears of what is put."""
    for (made, _), taken, put in interleaved(
        lambda: work_queue(locked), take, lambda work: work[0].put("item")
    ):
        assert ("item", None) == (taken, put)
        assert made.join(0)


@locked
def test_a_put_against_the_sweep(locked: bool) -> None:
    """What is put as the end comes is refused, or left: one of them, and never lost."""
    for (made, left), put, _ in interleaved(
        lambda: work_queue(locked), lambda work: work[0].put("item"), lambda work: work[0].sweep()
    ):
        assert (NotRun, []) == (put, left) or (None, ["item"]) == (put, left)
        assert made.join(0)
        assert made.empty()


@locked
def test_a_put_against_the_close(locked: bool) -> None:
    """What is put as the queue closes is refused, or taken by a consumer that then ends."""
    for work, put, _ in interleaved(
        lambda: work_queue(locked), lambda work: work[0].put("item"), lambda work: work[0].close()
    ):
        assert take(work) == (None if put is NotRun else "item")
        assert take(work) is None


@locked
def test_the_close_against_falling_asleep(locked: bool) -> None:
    """A consumer that is about to sleep hears of the end."""
    for _, taken, _ in interleaved(lambda: work_queue(locked), take, lambda work: work[0].close()):
        assert taken is None


@locked
def test_a_pop_against_waiting_for_room(locked: bool) -> None:
    """A producer that is about to wait hears of the room, and gets it."""
    for (made, _), put, popped in interleaved(
        lambda: work_queue(locked, "first", maxsize=1),
        lambda work: work[0].put("second", timeout=DEADLINE),
        lambda work: work[0].pop(),
    ):
        assert (None, "first", 1) == (put, popped, made.qsize())
        assert "second" == made.pop()


@locked
@pytest.mark.parametrize("end", ["close", "sweep"])
def test_the_end_against_waiting_for_room(locked: bool, end: str) -> None:
    """A producer that is about to wait hears that the end has come."""
    for _, put, _ in interleaved(
        lambda: work_queue(locked, "first", maxsize=1),
        lambda work: work[0].put("second", timeout=DEADLINE),
        lambda work: getattr(work[0], end)(),
    ):
        assert put is NotRun


@locked
def test_the_last_place(locked: bool) -> None:
    """Of two who put at once where there is room for one, one finds the queue full."""
    for (made, _), one, other in interleaved(
        lambda: work_queue(locked, maxsize=1),
        lambda work: work[0].put_nowait(1),
        lambda work: work[0].put_nowait(2),
    ):
        assert {None, queue.Full} == {one, other}
        assert 1 == made.qsize()


@locked
def test_giving_up_against_room(locked: bool) -> None:
    """Whose time is up just as room is made takes it, or the next one hears of it."""
    called: list[bool] = []

    def wait_behind_and_pop(work: Work) -> None:
        assert not work[0].offer("third", lambda: called.append(True))
        work[0].pop()

    for (made, _), put, _ in interleaved(
        lambda: work_queue(locked, "first", maxsize=1),
        lambda work: work[0].put("second", timeout=0.001),
        wait_behind_and_pop,
    ):
        assert put in (None, queue.Full)
        assert put is None or called.pop()
        assert (put is None) == made.full()
        called.clear()


@locked
def test_a_retry_against_the_drain(locked: bool) -> None:
    """What is put back as a stop is asked for is left, once."""
    for (made, left), _, _ in interleaved(
        lambda: work_queue(locked),
        lambda work: work[0].retry("item", 100.0),
        lambda work: work[0].drain(),
    ):
        if time.monotonic() >= made.alarm:
            made.ring(time.monotonic())
        assert ["item"] == left
        assert made.empty()
        assert inf == made.alarm


@locked
def test_a_retry_against_falling_asleep(locked: bool) -> None:
    """A consumer that is about to sleep wakes when what was put back is due."""
    for _, taken, _ in interleaved(
        lambda: work_queue(locked), take, lambda work: work[0].retry("item", 0.001)
    ):
        assert "item" == taken


@locked
def test_join_against_the_last_item(locked: bool) -> None:
    """Who waits for the end of all work hears of it."""
    for _, joined, taken in interleaved(
        lambda: work_queue(locked, "item"), lambda work: work[0].join(DEADLINE), take
    ):
        assert (True, "item") == (joined, taken)

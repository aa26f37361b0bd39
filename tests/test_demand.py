"""Runs on demand: who shares a future, and that none is left waiting."""

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from sparts.demand import Demand, joined

DEADLINE = 10.0


@pytest.fixture
def demand() -> Demand:
    """One that takes requests."""
    made = Demand()
    made.open()
    return made


def failure(future: "Future[Any]") -> str:
    """What a future failed with, which is settled already."""
    assert future.done()
    return repr(future.exception())


def test_all_who_ask_before_a_run_share_it(demand: Demand) -> None:
    """Two who ask get one future; who asks after the run began gets another."""
    first = demand.ask()
    assert first is demand.ask()
    assert first is demand.take()
    assert first is not demand.ask()


def test_nobody_asked() -> None:
    """There is nothing to settle for a run that nobody asked for."""
    demand = Demand()
    assert not demand.pending
    assert demand.take() is None


def test_pending_until_taken(demand: Demand) -> None:
    """A run is pending from when it is asked for until it begins."""
    demand.ask()
    assert demand.pending
    demand.take()
    assert not demand.pending


def test_one_of_several_cannot_cancel(demand: Demand) -> None:
    """The future cannot be cancelled, so that nobody takes it from the others."""
    future = demand.ask()
    assert not future.cancel()
    assert not future.cancelled()


def test_before_the_opening_it_fails() -> None:
    """Asked too early the future has failed, and nothing is pending."""
    demand = Demand()
    assert "RuntimeError('Worker not running')" == failure(demand.ask())
    assert not demand.pending


def test_the_end_fails_what_waits_and_what_comes(demand: Demand) -> None:
    """At the end the future that waits fails, and every later one has failed at once."""
    waiting = demand.ask()
    demand.close()
    demand.close()
    assert "RuntimeError('Worker not running')" == failure(waiting)
    assert "RuntimeError('Worker not running')" == failure(demand.ask())


def test_the_end_is_for_good(demand: Demand) -> None:
    """Opened after its end it stays closed."""
    demand.close()
    demand.open()
    assert demand.closed
    assert "RuntimeError('Worker not running')" == failure(demand.ask())


def test_changes_are_told(demand: Demand) -> None:
    """Who waits for it hears of a request and of the end, when they can be seen."""
    heard = []
    demand.on_change = lambda: heard.append((demand.pending, demand.closed))
    demand.ask()
    demand.close()
    assert [(True, False), (False, True)] == heard


def test_a_callback_may_ask_again(demand: Demand) -> None:
    """What a future calls when it fails at the end may use the same object."""
    again: list[Future[Any]] = []
    demand.ask().add_done_callback(lambda _: again.append(demand.ask()))
    demand.close()
    assert "RuntimeError('Worker not running')" == failure(again[0])


def test_no_future_is_lost_between_threads(demand: Demand) -> None:
    """Whatever threads ask while others take and the end comes, every future is settled."""
    futures: list[Future[Any]] = []
    begin = threading.Barrier(5)

    def ask() -> None:
        begin.wait(DEADLINE)
        for _ in range(2000):
            futures.append(demand.ask())

    def take() -> None:
        begin.wait(DEADLINE)
        for _ in range(2000):
            taken = demand.take()
            if taken is not None:
                taken.set_result(None)
        demand.close()

    threads = [threading.Thread(target=each) for each in (ask, ask, ask, ask, take)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert 8000 == len(futures)
    assert all(future.done() for future in futures)


@pytest.mark.parametrize("error", [None, ValueError("bad")])
def test_joined_futures_have_one_outcome(error: Exception | None) -> None:
    """What settles the first settles the later one."""
    first, later = Future[Any](), Future[Any]()
    assert first is joined(first, later)
    if error is None:
        first.set_result(3)
        assert 3 == later.result(0)
    else:
        first.set_exception(error)
        assert error is later.exception(0)


def test_joined_with_none() -> None:
    """Where one of the two is missing the other stands alone."""
    future = Future[Any]()
    assert future is joined(future, None)
    assert future is joined(None, future)
    assert joined(None, None) is None

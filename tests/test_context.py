"""Contexts of runs: who is told of the outcome, the time it took, order by item; TryLater."""

import importlib.util
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from sparts.context import ExecuteContext, SkipTask, TryLater

DEADLINE = 10.0


class Deferred:
    """A small stand-in for Twisted's: callbacks in a chain, each error kept until one takes it."""

    def __init__(self) -> None:
        self._links: list[tuple[bool, Callable[[Any], Any]]] = []
        self._fired = self._failed = False
        self._value: Any = None

    def addCallback(self, function: Callable[[Any], Any]) -> "Deferred":
        return self._add(False, function)

    def addErrback(self, function: Callable[[Any], Any]) -> "Deferred":
        return self._add(True, function)

    def _add(self, for_errors: bool, function: Callable[[Any], Any]) -> "Deferred":
        self._links.append((for_errors, function))
        if self._fired:
            self._run()
        return self

    def callback(self, result: Any) -> None:
        self._fire(result, failed=False)

    def errback(self, error: Any) -> None:
        self._fire(error, failed=True)

    def _fire(self, value: Any, *, failed: bool) -> None:
        if self._fired:
            raise AssertionError("a deferred fires once")
        self._fired, self._value, self._failed = True, value, failed
        self._run()

    def _run(self) -> None:
        while self._links:
            for_errors, function = self._links.pop(0)
            if for_errors == self._failed:
                try:
                    self._value, self._failed = function(self._value), False
                except Exception as error:
                    self._value, self._failed = error, True


def twisted_deferred() -> Any:
    """Twisted's own."""
    return importlib.import_module("twisted.internet.defer").Deferred()


HAS_TWISTED = importlib.util.find_spec("twisted") is not None


@pytest.fixture(params=[Deferred, twisted_deferred] if HAS_TWISTED else [Deferred])
def deferred(request: pytest.FixtureRequest) -> Any:
    """Something with callback, errback and addErrback."""
    return request.param()


def error_in(failure: Any) -> Any:
    """The error itself, which Twisted wraps."""
    return getattr(failure, "value", failure)


# -- a run's data and its time --------------------------------------------------------------------
def test_a_new_context() -> None:
    """A context is the first attempt, with nothing else in it, and has not begun."""
    context = ExecuteContext()
    assert (1, None, None, None) == (
        context.attempt,
        context.item,
        context.deferred,
        context.future,
    )
    assert not context.running.is_set()
    assert 0.0 == context.elapsed


def test_its_text() -> None:
    """It is shown with its attempt and item."""
    assert "ExecuteContext(attempt=3, item='x')" == repr(ExecuteContext(3, "x"))


def test_elapsed_is_the_time_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elapsed grows while the run goes on, stands still after it, and begins anew with a retry."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    context = ExecuteContext()
    context.start()
    assert 0.0 == context.elapsed
    clock[0] = 103.0
    assert 3.0 == context.elapsed
    context.set_result(None)
    clock[0] = 110.0
    assert 3.0 == context.elapsed
    context.start()
    clock[0] = 111.0
    assert 1.0 == context.elapsed
    context.set_exception(ValueError("bad"))
    clock[0] = 120.0
    assert 1.0 == context.elapsed


def test_elapsed_heeds_no_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wall clock set back by an hour changes no duration."""
    context = ExecuteContext()
    context.start()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    context.set_result(None)
    assert 0.0 <= context.elapsed < DEADLINE


def test_running_is_set_by_the_start() -> None:
    """The event is set once the run has begun, also when first looked at after that."""
    early, late = ExecuteContext(), ExecuteContext()
    event = early.running
    early.start()
    late.start()
    assert event is early.running
    assert event.is_set()
    assert late.running.is_set()


def test_running_can_be_waited_for() -> None:
    """A thread that waits for the run to begin goes on when it has."""
    context = ExecuteContext()
    asked, heard = threading.Event(), []

    def wait() -> None:
        running = context.running
        asked.set()
        heard.append(running.wait(DEADLINE))

    thread = threading.Thread(target=wait)
    thread.start()
    assert asked.wait(DEADLINE)
    context.start()
    thread.join(DEADLINE)
    assert [True] == heard


# -- order ----------------------------------------------------------------------------------------
def test_they_are_ordered_by_item() -> None:
    """Contexts compare as their items do, whatever else is in them."""
    low, high = ExecuteContext(item=1, attempt=9), ExecuteContext(item=2)
    assert low < high
    assert low <= high
    assert high > low
    assert high >= low
    assert [low, high] == sorted([high, low])


def test_they_are_equal_by_item() -> None:
    """Contexts of equal items are equal, hash alike, and equal nothing that is no context."""
    one, same = ExecuteContext(item="x"), ExecuteContext(item="x", attempt=2)
    assert one == same
    assert hash(one) == hash(same)
    assert 1 == len({one, same})
    assert one != ExecuteContext(item="y")
    assert one != "x"


def test_items_without_an_order_have_none() -> None:
    """Contexts whose items do not compare do not either."""
    with pytest.raises(TypeError):
        _ = ExecuteContext(item=object()) < ExecuteContext(item=object())


# -- a future -------------------------------------------------------------------------------------
def test_a_future_gets_the_result() -> None:
    """set_result settles the future."""
    context = ExecuteContext(future=Future())
    context.set_result(3)
    assert context.future is not None
    assert 3 == context.future.result(0)


def test_a_future_takes_the_error() -> None:
    """set_exception settles the future, and the error counts as handled."""
    error = ValueError("bad")
    context = ExecuteContext(future=Future())
    assert context.set_exception(error)
    assert context.future is not None
    assert error is context.future.exception(0)


def test_a_settled_future_stays_as_it_is() -> None:
    """What the task settled itself, or the caller cancelled, is left alone."""
    done: Future[int] = Future()
    done.set_result(1)
    cancelled: Future[int] = Future()
    cancelled.cancel()
    for future in (done, cancelled):
        context = ExecuteContext(future=future)
        context.set_result(2)
        assert context.set_exception(ValueError("bad"))
    assert 1 == done.result(0)
    assert cancelled.cancelled()


def test_a_future_that_refuses() -> None:
    """What a future raises that has not ended is the caller's to hear."""

    class Refuses(Future[Any]):
        def set_result(self, result: Any) -> None:
            raise ZeroDivisionError

        set_exception = set_result  # type: ignore[assignment]

    with pytest.raises(ZeroDivisionError):
        ExecuteContext(future=Refuses()).set_result(1)
    with pytest.raises(ZeroDivisionError):
        ExecuteContext(future=Refuses()).set_exception(ValueError("bad"))


def test_a_claimed_future_cannot_be_cancelled() -> None:
    """Taking the item on, even twice, keeps its future from being cancelled."""
    future: Future[int] = Future()
    context = ExecuteContext(future=future)
    assert context.claim()
    assert context.claim()
    assert not future.cancel()
    context.set_result(1)
    assert context.claim()
    assert 1 == future.result(0)


def test_what_was_cancelled_cannot_be_claimed() -> None:
    """Work whose future was cancelled before is not to be done; without a future it always is."""
    future: Future[int] = Future()
    future.cancel()
    assert not ExecuteContext(future=future).claim()
    assert ExecuteContext().claim()


def test_with_nobody_to_tell_an_error_is_not_handled() -> None:
    """Without a future and a deferred nobody took the error, and a result goes nowhere."""
    context = ExecuteContext()
    context.set_result(1)
    assert not context.set_exception(ValueError("bad"))


# -- a deferred -----------------------------------------------------------------------------------
def test_a_deferred_gets_the_result(deferred: Any) -> None:
    """set_result calls the callbacks."""
    heard: list[Any] = []
    deferred.addCallback(heard.append)
    ExecuteContext(deferred=deferred).set_result(3)
    assert [3] == heard


def test_an_errback_takes_the_error(deferred: Any) -> None:
    """An error that an errback took counts as handled."""
    error = ValueError("bad")
    heard: list[Any] = []
    deferred.addErrback(heard.append)
    assert ExecuteContext(deferred=deferred).set_exception(error)
    assert [error] == [error_in(each) for each in heard]


def test_a_deferred_without_errbacks_takes_nothing(deferred: Any) -> None:
    """An error with nobody to take it is not handled, and no callback hears of it."""
    heard: list[Any] = []
    deferred.addCallback(heard.append)
    assert not ExecuteContext(deferred=deferred).set_exception(ValueError("bad"))
    assert [] == heard


def test_an_errback_that_fails_takes_nothing(deferred: Any) -> None:
    """An errback that raises, as one that only logs and raises again, has not handled it."""

    def again(failure: Any) -> None:
        raise KeyError("worse")

    deferred.addErrback(again)
    assert not ExecuteContext(deferred=deferred).set_exception(ValueError("bad"))


def test_an_errback_may_come_between(deferred: Any) -> None:
    """Of several in the chain any may take the error; what follows hears a result."""
    heard: list[Any] = []
    deferred.addCallback(heard.append)
    deferred.addErrback(lambda failure: "mended")
    deferred.addCallback(heard.append)
    assert ExecuteContext(deferred=deferred).set_exception(ValueError("bad"))
    assert ["mended"] == heard


def test_either_of_the_two_may_take_the_error(deferred: Any) -> None:
    """With a future and a deferred both are told, and one that takes the error is enough."""
    context = ExecuteContext(deferred=deferred, future=Future())
    assert context.set_exception(ValueError("bad"))
    assert context.future is not None
    assert "bad" == str(context.future.exception(0))


# -- the exceptions -------------------------------------------------------------------------------
def test_try_later_tells_why_and_when() -> None:
    """TryLater has a message and seconds, and neither is needed."""
    full = TryLater("no connection", after=2.5)
    assert ("no connection", 2.5, "no connection") == (full.message, full.after, str(full))
    bare = TryLater()
    assert (None, None) == (bare.message, bare.after)
    assert str(bare)
    assert 3.0 == TryLater(after=3).after


def test_skip_task_is_an_exception() -> None:
    """SkipTask has its reason as text."""
    assert "no tornado" == str(SkipTask("no tornado"))
    assert not issubclass(SkipTask, TryLater)

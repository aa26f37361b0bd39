"""The future without a condition: that of the standard library to everybody, and free of races."""

import asyncio
import concurrent.futures
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Any, TypeVar

import pytest

from sparts.futures import GONE, LazyFuture, Ticket

DEADLINE = 10.0
#: What the methods that end a future are called with.
ARGUMENTS: dict[str, list[Any]] = {
    "set_result": [1],
    "set_exception": [ValueError()],
    "cancel": [],
}
F = TypeVar("F", bound="Future[Any]")


@pytest.fixture(params=[Future, LazyFuture, Ticket])
def future(request: pytest.FixtureRequest) -> "Future[Any]":
    """A future of each kind: what holds for the standard one must hold for ours."""
    made: Future[Any] = request.param()
    if isinstance(made, Ticket):
        made.item = "item"
    return made


@pytest.fixture(params=["nobody has waited", "somebody has waited"])
def waited(request: pytest.FixtureRequest, future: "Future[Any]") -> None:
    """Each claim holds before and after the condition was made."""
    if request.param.startswith("somebody"):
        with pytest.raises(TimeoutError):
            future.result(0)


def test_the_standard_future_is_as_this_one_takes_it_to_be() -> None:
    """LazyFuture stands on the attributes of the standard class; another Python may change them."""
    expected = {
        "_condition",
        "_done_callbacks",
        "_exception",
        "_result",
        "_state",
        "_waiters",
    }
    assert expected == set(vars(Future()))


@pytest.mark.usefixtures("waited")
def test_a_result(future: "Future[Any]") -> None:
    """It goes from pending over running to finished, and has its result then."""
    assert (False, False, False) == (future.running(), future.done(), future.cancelled())
    assert future.set_running_or_notify_cancel()
    assert (True, False, False) == (future.running(), future.done(), future.cancelled())
    future.set_result(5)
    assert (False, True, False) == (future.running(), future.done(), future.cancelled())
    assert 5 == future.result(0)
    assert future.exception(0) is None
    assert "finished returned int" in repr(future)


@pytest.mark.usefixtures("waited")
def test_an_error(future: "Future[Any]") -> None:
    """The error that it ended with is raised by result, and returned by exception."""
    error = ValueError("bad")
    future.set_exception(error)
    assert error is future.exception(0)
    with pytest.raises(ValueError, match="bad"):
        future.result(0)
    assert "raised ValueError" in repr(future)


@pytest.mark.usefixtures("waited")
def test_it_ends_once(future: "Future[Any]") -> None:
    """A second end, and a beginning after the end, are errors and change nothing."""
    future.set_result(1)
    with pytest.raises(InvalidStateError):
        future.set_result(2)
    with pytest.raises(InvalidStateError):
        future.set_exception(ValueError())
    with pytest.raises(RuntimeError):
        future.set_running_or_notify_cancel()
    assert not future.cancel()
    assert 1 == future.result(0)


@pytest.mark.usefixtures("waited")
def test_a_cancelled_one(future: "Future[Any]") -> None:
    """A pending future can be cancelled, and is told so to the worker and to who waits."""
    assert future.cancel()
    assert future.cancel()
    assert (True, True) == (future.cancelled(), future.done())
    assert not future.set_running_or_notify_cancel()
    with pytest.raises(CancelledError):
        future.result(0)
    with pytest.raises(CancelledError):
        future.exception(0)
    with pytest.raises(InvalidStateError):
        future.set_result(1)


@pytest.mark.usefixtures("waited")
def test_a_running_one_is_not_cancelled(future: "Future[Any]") -> None:
    """What has begun goes on."""
    if isinstance(future, Ticket):
        assert "item" == future.take()
    else:
        future.set_running_or_notify_cancel()
    assert not future.cancel()
    assert not future.cancelled()
    future.set_result(1)
    assert 1 == future.result(0)


@pytest.mark.usefixtures("waited")
@pytest.mark.parametrize("end", ["set_result", "set_exception", "cancel"])
def test_callbacks(future: "Future[Any]", end: str) -> None:
    """Callbacks are called once, in order, with the future, whether added before or after."""
    called: list[Any] = []
    future.add_done_callback(lambda done: called.append((1, done, done.done())))
    future.add_done_callback(lambda done: called.append((2, done, done.done())))
    ending: Callable[..., Any] = getattr(future, end)
    arguments = ARGUMENTS[end]
    ending(*arguments)
    future.add_done_callback(lambda done: called.append((3, done, done.done())))
    assert [(1, future, True), (2, future, True), (3, future, True)] == called


@pytest.mark.usefixtures("waited")
def test_a_callback_that_fails_is_logged(
    future: "Future[Any]", caplog: pytest.LogCaptureFixture
) -> None:
    """It hinders neither the others nor the worker."""
    called: list[str] = []
    future.add_done_callback(lambda done: [][0])
    future.add_done_callback(lambda done: called.append("second"))
    future.set_result(1)
    assert ["second"] == called
    assert "IndexError" in caplog.text


def test_result_waits(future: "Future[Any]") -> None:
    """Who waits for the result gets it when it is there, or TimeoutError when time is up."""
    with pytest.raises(TimeoutError):
        future.result(0.001)
    thread = threading.Thread(target=future.set_result, args=["late"])
    thread.start()
    assert "late" == future.result(DEADLINE)
    thread.join()


def test_wait_and_as_completed() -> None:
    """The functions of concurrent.futures take ours and standard ones together."""

    def finish(*futures: "Future[Any]") -> None:
        for future in futures:
            future.set_result(1)

    futures: list[Future[Any]] = [LazyFuture(), Ticket(), Future(), LazyFuture()]
    futures[0].set_result(0)
    done, waiting = concurrent.futures.wait(futures, 0.001)
    assert ({futures[0]}, set(futures[1:])) == (done, waiting)
    thread = threading.Thread(target=finish, args=futures[1:])
    thread.start()
    assert set(futures) == set(concurrent.futures.as_completed(futures, DEADLINE))
    thread.join()


def test_in_asyncio() -> None:
    """A coroutine can wait for one, and cancelling there cancels it."""

    async def main() -> None:
        ours: LazyFuture[int] = LazyFuture()
        wrapped = asyncio.wrap_future(ours)
        thread = threading.Thread(target=ours.set_result, args=[7])
        thread.start()
        assert 7 == await asyncio.wait_for(wrapped, DEADLINE)
        thread.join()
        other: LazyFuture[int] = LazyFuture()
        asyncio.wrap_future(other).cancel()
        await asyncio.sleep(0)
        assert other.cancelled()

    asyncio.run(main())


def test_no_condition_is_made_for_nobody() -> None:
    """All of a life without a wait, callbacks included, makes no condition."""
    future: LazyFuture[int] = LazyFuture()
    future.add_done_callback(bool)
    future.set_running_or_notify_cancel()
    future.set_result(1)
    assert 1 == future.result()
    assert future.exception() is None
    assert future._made is None


def test_memory() -> None:
    """A waiting ticket takes less than 200 bytes, and no more once it has ended."""
    many = 10_000
    tickets: list[Any] = [None] * many
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(many):
            ticket: Ticket[Any] = Ticket()
            ticket.item, ticket.owner = None, tickets
            tickets[number] = ticket
        waiting = tracemalloc.get_traced_memory()[0] - before
        for ticket in tickets:
            ticket.take()
            ticket.set_result(None)
        ended = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert waiting < 200 * many
    assert ended < 200 * many


# -- tickets ------------------------------------------------------------------------------------
def test_a_ticket_gives_its_item_once() -> None:
    """Who takes the item runs it; from then on it cannot be cancelled, and keeps no item alive."""
    ticket: Ticket[str] = Ticket()
    ticket.item, ticket.owner = "item", "owner"
    assert "item" == ticket.take()
    assert ticket.running()
    assert not ticket.cancel()
    assert not hasattr(ticket, "item")
    assert ticket.owner is None


def test_a_cancelled_ticket_has_no_item() -> None:
    """The worker finds it gone, whereupon it counts as done for who waits."""
    ticket: Ticket[str] = Ticket()
    ticket.item = "item"
    assert ticket.cancel()
    assert ticket.take() is GONE
    assert {ticket} == concurrent.futures.wait([ticket], DEADLINE).done


def test_a_crowd() -> None:
    """Whoever waits or calls back while many results are set hears of each one, once."""
    futures: list[Future[int]] = [LazyFuture() for _ in range(2000)]
    called: list[int] = []

    def finish() -> None:
        for number, future in enumerate(futures):
            future.set_running_or_notify_cancel()
            future.set_result(number)

    def call_back() -> None:
        for future in reversed(futures):
            future.add_done_callback(lambda done: called.append(done.result(0)))

    work: list[Callable[[], Any]] = [
        finish,
        call_back,
        call_back,
        lambda: [each.result(DEADLINE) for each in futures],
        lambda: [each.exception(DEADLINE) for each in reversed(futures)],
        lambda: len(concurrent.futures.wait(futures, DEADLINE).done),
        lambda: len([*concurrent.futures.as_completed(futures, DEADLINE)]),
    ]
    many = len(futures)
    with concurrent.futures.ThreadPoolExecutor(len(work)) as pool:
        results = [*pool.map(lambda each: each(), work)]
    assert [None, None, None, [*range(many)], [None] * many, many, many] == results
    assert sorted([*range(many)] * 2) == sorted(called)

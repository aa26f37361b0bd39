"""Queue tasks: what becomes of each item, and of those that a stop finds waiting.

Most claims hold for tasks in threads, with and without the short cuts that the interpreter's lock
allows, and for those on the loop: ``kind`` is the one, then the others.
"""

import asyncio
import concurrent.futures
import contextlib
import gc
import itertools
import logging
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from sparts.collections import Duplicate
from sparts.context import ExecuteContext, TryLater
from sparts.errors import NotRun, OptionError, TaskError
from sparts.lifecycle import State
from sparts.tasks import queuework
from sparts.tasks.periodic import PeriodicTask
from sparts.tasks.queue import (
    AsyncioQueueTask,
    PriorityQueueTask,
    QueueTask,
    UniqueQueueTask,
)
from sparts.testing import running
from sparts.testing.background import ServiceFailed
from sparts.vservice import VService
from sparts.vtask import VTask
from sparts.workqueue import WorkQueue, backoff

DEADLINE = 10.0
#: Seconds after which an item is to be tried again, if ever: no test waits for that.
NEVER = 1000.0

Body = Callable[[Any, ExecuteContext], Any]


class LockedQueueTask(QueueTask):
    """As it is where the interpreter has no lock."""

    def _makeQueue(self, **settings: Any) -> WorkQueue:
        return WorkQueue(self.max_items, **settings, locked=True)


@pytest.fixture(params=[QueueTask, LockedQueueTask, AsyncioQueueTask])
def kind(request: pytest.FixtureRequest) -> Any:
    """The kind of queue task."""
    return request.param


def consumer(kind: Any, body: Body, **attributes: Any) -> Any:
    """A task class of that kind whose ``execute`` is *body*; a future from it is awaited."""

    def execute(self: Any, item: Any, context: ExecuteContext) -> Any:
        outcome = body(item, context)
        return outcome.result(DEADLINE) if isinstance(outcome, Future) else outcome

    async def execute_on_loop(self: Any, item: Any, context: ExecuteContext) -> Any:
        outcome = body(item, context)
        if isinstance(outcome, Future):
            return await asyncio.shield(asyncio.wrap_future(outcome))
        return outcome

    on_loop = issubclass(kind, AsyncioQueueTask)
    chosen = execute_on_loop if on_loop else execute
    return type("Consumer", (kind,), {"execute": chosen, **attributes})


def double(item: Any, context: ExecuteContext) -> Any:
    """A body: twice the item."""
    return item * 2


class Held:
    """A body that holds each item until it is let go, and then does as the item's entry says."""

    def __init__(self, **outcomes: BaseException) -> None:
        """*outcomes*: what an item raises; it returns itself where there is none."""
        self._outcomes = outcomes
        self.go_on: Future[None] = Future()
        self.begun: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def __call__(self, item: Any, context: ExecuteContext) -> Any:
        self.begun.put(item)
        outcome: Future[Any] = Future()
        self.go_on.add_done_callback(lambda _: self._end(item, outcome))
        return outcome

    def _end(self, item: Any, outcome: "Future[Any]") -> None:
        if item in self._outcomes:
            outcome.set_exception(self._outcomes[item])
        else:
            outcome.set_result(item)

    def next(self) -> Any:
        """Wait until one more item is begun; that item."""
        return self.begun.get(timeout=DEADLINE)

    def let_go(self) -> None:
        """Let all go on, also those to come."""
        self.go_on.set_result(None)


class Lingering(VTask):
    """Depends on the consumer, and ends when it is let go: until then that is not stopped."""

    LOOPLESS = True

    def __init__(self, service: VService) -> None:
        super().__init__(service)
        self.let_go = threading.Event()

    def join(self) -> None:
        assert self.let_go.wait(DEADLINE)


def lingering(task: Any) -> list[Any]:
    """*task*, and one that holds up its stop."""
    return [task, type("Lingers", (Lingering,), {"DEPS": [task]})]


def left_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was reported as left."""
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the time in which a stop still begins work very short."""
    monkeypatch.setattr(queuework, "_DRAIN_PART", 0.02)


@contextlib.contextmanager
def failing(task: Any, message: str, *argv: str) -> Iterator[Any]:
    """As ``running``, of a service that is to fail within the block, with *message*."""
    with (  # noqa: PT012
        pytest.raises(ServiceFailed) as raised,
        running(task, *argv) as service,
    ):
        yield service
        assert service.join(DEADLINE)
    assert message in str(raised.value)


def refused(task: Any, *argv: str) -> BaseException | None:
    """What keeps a service of *task* from starting."""
    with pytest.raises(ServiceFailed) as raised, running(task, *argv):
        pytest.fail("it started")
    return raised.value.__cause__


def failed(future: "Future[Any]") -> BaseException | None:
    """The error that *future* ends with."""
    return future.exception(DEADLINE)


# -- working off items ----------------------------------------------------------------------------
def test_a_timer_feeds_a_pool() -> None:
    """The contract's program: ten workers, fed by a periodic task through the service's tasks."""
    seen: queue.SimpleQueue[int] = queue.SimpleQueue()

    class Consumer(QueueTask):
        WORKERS = 10

        def execute(self, item: Any, context: ExecuteContext) -> None:
            seen.put(item)

    class Producer(PeriodicTask):
        INTERVAL = 0.001
        DEPS = [Consumer]
        numbers = itertools.count()

        def execute(self, context: ExecuteContext | None = None) -> None:
            self.service.tasks.Consumer.queue.put(next(self.numbers))

    service_class = type("Timed", (VService,), {"ALL_TASKS": [Producer]})
    service: Any
    with running(service_class) as service:
        got = [seen.get(timeout=DEADLINE) for _ in range(20)]
        assert [*range(20)] == sorted(got)
        names = sorted(thread.name for thread in service.requireTask(Consumer).threads)
        assert sorted(f"Consumer-{number}" for number in range(1, 11)) == names


def test_submit(kind: Any) -> None:
    """submit gives a standard future of what execute returns."""
    with running(consumer(kind, double)) as service:
        task = service.tasks.Consumer
        future = task.submit(21)
        assert isinstance(future, Future)
        assert 42 == future.result(DEADLINE)
        done, _ = concurrent.futures.wait([task.submit(1), task.submit(2)], DEADLINE)
        assert {2, 4} == {each.result(0) for each in done}


def test_in_order(kind: Any) -> None:
    """One worker takes the items in the order in which they came, however they were put."""
    seen: list[Any] = []
    with running(consumer(kind, lambda item, context: seen.append(item))) as service:
        task = service.tasks.Consumer
        for number in range(0, 300, 3):
            task.queue.put(number)
            task.submit(number + 1)
            task.queue.put(ExecuteContext(item=number + 2))
        assert task.queue.join(DEADLINE)
    assert [*range(300)] == seen


def test_put_with_a_context(kind: Any) -> None:
    """A context that was put is the one that execute gets; its future and deferred hear the end."""
    future: Future[Any] = Future()
    deferred = Deferred()
    context = ExecuteContext(attempt=3, item=5, deferred=deferred, future=future)
    seen: list[ExecuteContext] = []

    def body(item: Any, given: ExecuteContext) -> Any:
        seen.append(given)
        assert given.running.is_set()
        assert 0 <= given.elapsed < DEADLINE
        return item + 1

    with running(consumer(kind, body)) as service:
        service.tasks.Consumer.queue.put(context)
        assert context.running.wait(DEADLINE)
        assert 6 == future.result(DEADLINE)
        assert service.tasks.Consumer.queue.join(DEADLINE)
    assert ([context], [6], 3) == (seen, deferred.results, context.attempt)
    assert context.elapsed == context.elapsed


class Deferred:
    """What is used of Twisted's Deferred."""

    def __init__(self, takes: bool = True) -> None:
        self.takes = takes
        self.results: list[Any] = []

    def callback(self, result: Any) -> None:
        self.results.append(result)

    errback = callback

    def addErrback(self, function: Callable[[Any], Any]) -> None:
        if not self.takes:
            function(self.results[-1])


def test_execute_may_do_without_a_context() -> None:
    """``execute(self, item)`` is called without one."""

    class Without(QueueTask):
        def execute(self, item: Any) -> Any:  # type: ignore[override]
            return item + 1

    class WithoutOnLoop(AsyncioQueueTask):
        async def execute(self, item: Any) -> Any:  # type: ignore[override]
            return item + 1

    with running([Without, WithoutOnLoop]) as service:
        assert 2 == service.tasks.Without.submit(1).result(DEADLINE)
        assert 2 == service.tasks.WithoutOnLoop.submit(1).result(DEADLINE)


@pytest.mark.parametrize("kind", [QueueTask, PriorityQueueTask, UniqueQueueTask])
def test_workers_work_at_once(kind: Any) -> None:
    """As many items as there are workers are in hand together: none is kept by a busy worker."""
    barrier = threading.Barrier(3)

    def body(item: Any, context: ExecuteContext) -> int:
        return barrier.wait(DEADLINE)

    with running(consumer(kind, body, WORKERS=3)) as service:
        futures = [service.tasks.Consumer.submit(item) for item in range(9)]
        assert {0, 1, 2} == {future.result(DEADLINE) for future in futures}


def test_coroutines_work_at_once() -> None:
    """Each worker on the loop has an item in hand while others wait."""
    body = Held()
    with running(consumer(AsyncioQueueTask, body, WORKERS=3)) as service:
        futures = [service.tasks.Consumer.submit(item) for item in range(4)]
        assert [0, 1, 2] == [body.next() for _ in range(3)]
        assert 1 == service.tasks.Consumer.queue.qsize()
        body.let_go()
        assert [0, 1, 2, 3] == [future.result(DEADLINE) for future in futures]


def test_a_slow_item_holds_up_one_worker(kind: Any) -> None:
    """While one worker is held, the other takes all the rest, however many they are."""
    held: Future[None] = Future()
    body = consumer(kind, lambda item, context: held if item == 0 else item, WORKERS=2)
    with running(body) as service:
        first, *others = [service.tasks.Consumer.submit(item) for item in range(1000)]
        assert [*range(1, 1000)] == [future.result(DEADLINE) for future in others]
        assert not first.done()
        held.set_result(None)
        assert first.result(DEADLINE) is None


def test_many_producers(kind: Any) -> None:
    """Nothing is lost or run twice when many threads put and many take."""
    seen: list[int] = []
    many = 500

    def body(item: int, context: ExecuteContext) -> None:
        seen.append(item)

    with running(consumer(kind, body, WORKERS=4)) as service:
        task = service.tasks.Consumer

        def produce(first: int) -> None:
            for number in range(first, first + many, 2):
                task.queue.put(number)
                task.submit(number + 1)

        threads = [threading.Thread(target=produce, args=[many * n]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert task.queue.join(DEADLINE)
        assert (4 * many, 0) == (task.n_completed(), task.queue_depth())
    assert [*range(4 * many)] == sorted(seen)


def test_counters(kind: Any) -> None:
    """What a future tells of, the counters have counted; durations are in milliseconds."""
    errors = {1: ValueError("bad"), 2: TryLater(after=0)}

    def body(item: Any, context: ExecuteContext) -> None:
        if item in errors and context.attempt == 1:
            raise errors[item]

    with running(consumer(kind, body)) as service:
        task = service.tasks.Consumer
        for item in range(4):
            failed(task.submit(item))
        counters = {name: each() for name, each in task.getCounters().items()}
    expected = {
        "n_completed": 3,
        "n_trylater": 1,
        "n_failed": 1,
        "n_unhandled": 0,
        "queue_depth": 0,
        "execute_duration_ms.count.60": 5,
        "execute_duration_ms.count.240": 5,
    }
    assert expected == {name: counters[name] for name in expected}
    assert 0 <= counters["execute_duration_ms.min.60"] <= counters["execute_duration_ms.avg.60"]
    assert counters["execute_duration_ms.max.240"] < DEADLINE * 1000
    assert "Consumer.queue_depth" in service.getCounters()


def test_durations_are_of_execute_alone(kind: Any) -> None:
    """Neither the time in the queue nor what callbacks do counts as the next item's time."""
    body = Held()
    slow = 0.05
    with running(consumer(kind, body)) as service:
        task = service.tasks.Consumer
        first, second = task.submit("first"), task.submit("second")
        second.add_done_callback(lambda _: None)
        assert "first" == body.next()
        first.add_done_callback(lambda _: time.sleep(slow))
        body.let_go()
        second.result(DEADLINE)
        assert task.queue.join(DEADLINE)
        assert task.execute_duration_ms.getCounter("min.60") < slow * 1000


def test_nothing_keeps_the_items_alive(kind: Any) -> None:
    """When an item was run, or failed, neither its future nor the idle worker holds on to it."""

    class Item:
        bad = False

    def body(item: Item, context: ExecuteContext) -> None:
        if item.bad:
            raise ValueError("bad")

    with running(consumer(kind, body)) as service:
        task = service.tasks.Consumer
        good, bad, raw = Item(), Item(), Item()
        bad.bad = True
        refs = [weakref.ref(each) for each in (good, bad, raw)]
        futures = [task.submit(good), task.submit(bad)]
        task.queue.put(raw)
        assert task.queue.join(DEADLINE)
        del good, raw
        assert [None, None] == [refs[0](), refs[2]()]
        assert isinstance(failed(futures.pop()), ValueError)
        del bad
        gc.collect()
        assert refs[1]() is None
        assert futures[0].done()


def test_a_future_may_be_an_item(kind: Any) -> None:
    """What submit gave is an item as any other when it is put, in its own queue and in others."""
    seen: list[Any] = []
    with running(consumer(kind, lambda item, context: seen.append(item))) as service:
        task = service.tasks.Consumer
        future = task.submit("item")
        task.queue.put(future)
        assert task.queue.join(DEADLINE)
        assert ["item", future] == seen
        assert future.result(0) is None


# -- failures -------------------------------------------------------------------------------------
def test_a_failure_that_a_future_takes(kind: Any) -> None:
    """The error is the future's, and the service goes on."""
    error = ValueError("bad")

    def body(item: Any, context: ExecuteContext) -> Any:
        if item:
            raise error
        return "fine"

    with running(consumer(kind, body)) as service:
        task = service.tasks.Consumer
        assert error is failed(task.submit(True))
        task.queue.put(ExecuteContext(item=True, deferred=Deferred()))
        assert "fine" == task.submit(False).result(DEADLINE)
        assert (2, 0) == (task.n_failed(), task.n_unhandled())


@pytest.mark.parametrize(
    "entry", [True, ExecuteContext(item=True), ExecuteContext(item=True, deferred=Deferred(False))]
)
def test_a_failure_that_nobody_takes(
    kind: Any, entry: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It stops the service, which names the task; the items behind it are reported."""
    begin = threading.Event()

    def body(item: Any, context: ExecuteContext) -> Any:
        begin.wait(DEADLINE)
        raise ValueError(item)

    task = consumer(kind, body)
    left: list[Future[Any]] = []
    with failing(task, "Consumer failed: ValueError") as service:
        made = service.tasks.Consumer
        made.queue.put(entry)
        left += [made.submit("left"), made.submit("left")]
        made.queue.put("left")
        begin.set()
        assert isinstance(failed(left[0]), NotRun)
        assert service.join(DEADLINE)
        assert "Consumer" == service.lifecycle.failure.source
        assert (1, 1) == (made.n_failed(), made.n_unhandled())
        assert made.queue.join(0)
    assert isinstance(failed(left[1]), NotRun)
    assert "3 items were not run: 'left', 'left', 'left'" in caplog.text


def test_who_suffers_from_a_failure_is_not_its_cause() -> None:
    """The service's failure is the item's, not that of a producer whose put was refused."""

    def fail(item: Any, context: ExecuteContext) -> None:
        raise ValueError("the cause")

    consumers = consumer(QueueTask, fail)

    class Producer(PeriodicTask):
        INTERVAL = 0.0001
        DEPS = [consumers]

        def execute(self, context: ExecuteContext | None = None) -> None:
            self.service.tasks.Consumer.queue.put(1)

    with pytest.raises(ServiceFailed, match="the cause"), running(Producer) as service:
        service.join(DEADLINE)


@pytest.mark.parametrize("error", [SystemExit(5), KeyboardInterrupt(), GeneratorExit()])
def test_what_is_no_exception_stops_the_service(kind: Any, error: BaseException) -> None:
    """A BaseException is the future's too, but stops the service; SystemExit is its status."""

    def body(item: Any, context: ExecuteContext) -> None:
        raise error

    status = 5 if isinstance(error, SystemExit) else 1
    with failing(consumer(kind, body), type(error).__name__) as service:
        assert error is failed(service.tasks.Consumer.submit(1))
        assert service.join(DEADLINE)
        assert status == service.exit_status


def test_a_result_that_execute_set_itself(kind: Any) -> None:
    """A future that execute has ended stays as it is, whatever execute returns or raises."""

    def body(item: Any, context: ExecuteContext) -> Any:
        assert context.future is not None
        context.future.set_result("own")
        if item:
            raise ValueError("too late")
        return "other"

    with running(consumer(kind, body)) as service:
        task = service.tasks.Consumer
        assert "own" == task.submit(False).result(DEADLINE)
        assert "own" == task.submit(True).result(DEADLINE)
        assert task.queue.join(DEADLINE)


# -- cancelling -----------------------------------------------------------------------------------
def test_a_cancelled_item_is_not_run(kind: Any) -> None:
    """What was cancelled before its turn is passed over; what was begun cannot be cancelled."""
    body = Held()
    with running(consumer(kind, body)) as service:
        task = service.tasks.Consumer
        first, second, third = (task.submit(item) for item in ("one", "two", "three"))
        own: Future[Any] = Future()
        task.queue.put(ExecuteContext(item="four", future=own))
        assert "one" == body.next()
        assert (False, True, True) == (first.cancel(), second.cancel(), own.cancel())
        body.let_go()
        assert ("one", "three") == (first.result(DEADLINE), third.result(DEADLINE))
        assert task.queue.join(DEADLINE)
        assert 2 == task.n_completed()
        assert {second, own} == concurrent.futures.wait([second, own], DEADLINE).done
    assert "three" == body.next()
    assert body.begun.empty()


# -- how many may wait ----------------------------------------------------------------------------
def test_a_full_queue_blocks(kind: Any) -> None:
    """With max-items a put waits for room, up to its timeout, and put_nowait does not wait."""
    body = Held()
    with running(consumer(kind, body), "--Consumer-max-items", "2") as service:
        task = service.tasks.Consumer
        task.queue.put("in hand")
        body.next()
        assert (True, False) == (task.queue.empty(), task.queue.full())
        task.queue.put_nowait("first")
        task.submit("second")
        assert (2, 2, True) == (task.queue.qsize(), task.queue_depth(), task.queue.full())
        with pytest.raises(queue.Full, match="Consumer is full: 2 items"):
            task.queue.put_nowait("third")
        with pytest.raises(queue.Full):
            task.queue.put("third", timeout=0.001)
        with pytest.raises(queue.Full):
            task.queue.put("third", False)
        with pytest.raises(ValueError, match="negative"):
            task.queue.put("third", timeout=-1)
        thread = threading.Thread(target=task.queue.put, args=["third"])
        thread.start()
        body.let_go()
        thread.join(DEADLINE)
        assert not thread.is_alive()
        assert task.queue.join(DEADLINE)
        assert 4 == task.n_completed()


def test_a_full_queue_rejects(kind: Any) -> None:
    """With when-full set to reject, put and submit raise queue.Full, unless told to block."""
    body = Held()
    with running(consumer(kind, body, MAX_ITEMS=1, WHEN_FULL="reject")) as service:
        task = service.tasks.Consumer
        task.queue.put("in hand")
        body.next()
        task.queue.put("waiting")
        with pytest.raises(queue.Full):
            task.queue.put("too much")
        with pytest.raises(queue.Full):
            task.submit("too much")
        with pytest.raises(queue.Full):
            task.queue.put("too much", block=True, timeout=0.001)
        body.let_go()
        assert task.queue.join(DEADLINE)
        assert 2 == task.n_completed()


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("workers", "0", "--Consumer-workers: 0 is too few; give 1 or more"),
        ("max-items", "-1", "--Consumer-max-items: -1 is too few; give 0 or more"),
    ],
)
def test_options_that_make_no_sense(kind: Any, flag: str, value: str, message: str) -> None:
    """They are an error of the start that names the option, what was given and the cure."""
    error = refused(consumer(kind, double), f"--Consumer-{flag}={value}")
    assert isinstance(error, OptionError)
    assert message == str(error)


def test_options(kind: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Flags override the class attributes."""
    task = consumer(kind, double, WORKERS=7, MAX_ITEMS=8, WHEN_FULL="reject")
    with running(task) as service:
        made = service.tasks.Consumer
        assert (7, 8, "reject") == (made.workers, made.max_items, made.when_full)
        assert 8 == made.queue.maxsize
    flags = ["--Consumer-workers=2", "--Consumer-max-items=3", "--Consumer-when-full=block"]
    with running(task, *flags) as service:
        made = service.tasks.Consumer
        assert (2, 3, "block") == (made.workers, made.max_items, made.when_full)
    with pytest.raises(SystemExit), running(task, "--Consumer-when-full=explode"):
        pytest.fail("it started")
    assert "explode" in capsys.readouterr().err


def test_an_execute_is_needed(kind: Any) -> None:
    """A task that has none is told what to write."""
    with failing(type("Empty", (kind,), {}), "Empty needs an") as service:
        service.tasks.Empty.queue.put(1)


def test_an_execute_that_takes_no_item(kind: Any) -> None:
    """It keeps the service from starting, with what it must take."""

    def execute(self: Any) -> None:
        pass

    async def execute_on_loop(self: Any) -> None:
        pass

    chosen = execute_on_loop if kind is AsyncioQueueTask else execute
    error = refused(type("Wrong", (kind,), {"execute": chosen}))
    assert isinstance(error, TaskError)
    assert "Wrong.execute() -> None must take (self, item, context)" == str(error)


def test_a_coroutine_in_threads() -> None:
    """A QueueTask whose execute is a coroutine, which nobody would await, does not start."""

    class Wrong(QueueTask):
        async def execute(self, item: Any, context: ExecuteContext) -> None:
            pass

    error = refused(Wrong)
    assert isinstance(error, TaskError)
    assert "make the task an AsyncioQueueTask" in str(error)


# -- trying later ---------------------------------------------------------------------------------
def test_try_later(kind: Any) -> None:
    """The item comes again, with attempts counted, until it ends; its future hears only of that."""
    attempts: list[int] = []

    def body(item: Any, context: ExecuteContext) -> Any:
        attempts.append(context.attempt)
        if context.attempt < 5:
            raise TryLater(after=None if context.attempt % 2 else 0.001)
        return item

    with running(consumer(kind, body)) as service:
        task = service.tasks.Consumer
        assert "item" == task.submit("item").result(DEADLINE)
        task.queue.put("item")
        assert task.queue.join(DEADLINE)
        assert (8, 2) == (task.n_trylater(), task.n_completed())
    assert [1, 2, 3, 4, 5] * 2 == attempts


def test_try_later_waits_without_a_worker(kind: Any) -> None:
    """While an item waits its time, the only worker runs others, and then it, not before."""
    after = 0.05
    times: list[float] = []

    def body(item: Any, context: ExecuteContext) -> Any:
        if item == "waits":
            times.append(time.monotonic())
            if context.attempt == 1:
                raise TryLater(after=after)
        return item

    with running(consumer(kind, body)) as service:
        task = service.tasks.Consumer
        waits = task.submit("waits")
        assert [*range(100)] == [*task.map(range(100), DEADLINE)]
        assert "waits" == waits.result(DEADLINE)
    assert after <= times[1] - times[0] < DEADLINE


def test_what_waits_counts(kind: Any) -> None:
    """An item that waits to be tried again counts in the depth, fills the queue, holds up join."""
    held = Held()

    def body(item: Any, context: ExecuteContext) -> Any:
        if item == "waits":
            raise TryLater(after=NEVER)
        return held(item, context)

    with running(consumer(kind, body, MAX_ITEMS=2)) as service:
        task = service.tasks.Consumer
        task.submit("waits")
        task.submit("held")
        assert "held" == held.next()
        task.queue.put("full")
        assert (2, 2, True) == (task.queue.qsize(), task.queue_depth(), task.queue.full())
        with pytest.raises(queue.Full):
            task.queue.put_nowait("no room")
        assert not task.queue.join(0.001)
        held.let_go()


def test_try_later_on_a_full_queue(kind: Any) -> None:
    """An item that is put back takes no room from anybody, so nobody waits for anybody."""
    begun = threading.Semaphore(0)

    def body(item: Any, context: ExecuteContext) -> Any:
        begun.release()
        if context.attempt < 4:
            raise TryLater(after=0.001 if item % 2 else 0)
        return item

    with running(consumer(kind, body, MAX_ITEMS=1, WORKERS=3)) as service:
        task = service.tasks.Consumer
        futures = [task.submit(item) for item in range(50)]
        assert [*range(50)] == [future.result(DEADLINE) for future in futures]
        assert task.queue.join(DEADLINE)
        assert (0, 150) == (task.queue_depth(), task.n_trylater())


def test_several_are_due_at_once(kind: Any) -> None:
    """Each of several items that wait comes in its time, also while other workers are held."""
    held: Future[None] = Future()

    def body(item: Any, context: ExecuteContext) -> Any:
        if item == "held":
            return held
        if context.attempt < 3:
            raise TryLater(after=0.001 * (item % 3))
        return item

    with running(consumer(kind, body, WORKERS=3)) as service:
        task = service.tasks.Consumer
        blocked = [task.submit("held"), task.submit("held")]
        futures = [task.submit(item) for item in range(30)]
        assert [*range(30)] == [future.result(DEADLINE) for future in futures]
        held.set_result(None)
        assert [None, None] == [future.result(DEADLINE) for future in blocked]


def test_max_attempts(kind: Any) -> None:
    """With MAX_ATTEMPTS an item has failed, with the last TryLater, after so many."""
    errors: list[TryLater] = []

    def body(item: Any, context: ExecuteContext) -> None:
        errors.append(TryLater(f"attempt {context.attempt}"))
        raise errors[-1]

    with running(consumer(kind, body, MAX_ATTEMPTS=3)) as service:
        task = service.tasks.Consumer
        assert failed(task.submit(1)) is errors[2]
        assert (3, 3, 1, 0) == (
            len(errors),
            task.n_trylater(),
            task.n_failed(),
            task.n_unhandled(),
        )


def test_backoff() -> None:
    """From 1 ms it doubles to 1 s, at random between half and whole, for any number of attempts."""
    for attempt in [*range(1, 30), 10**6]:
        most = min(1.0, 0.001 * 2 ** (min(attempt, 30) - 1))
        waits = [backoff(attempt) for _ in range(50)]
        assert max(0.001, most / 2) <= min(waits)
        assert max(waits) <= most
        assert attempt == 1 or len(set(waits)) > 1


def test_after_is_a_number() -> None:
    """A TryLater whose after is none fails where it is made, in execute."""
    assert (None, 2.0) == (TryLater().after, TryLater(after=2).after)
    with pytest.raises(ValueError, match="soon"):
        TryLater(after="soon")  # type: ignore[arg-type]


# -- map ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "attributes", [{}, {"MAX_ITEMS": 2}, {"MAX_ITEMS": 2, "WHEN_FULL": "reject"}]
)
def test_map(kind: Any, attributes: Any) -> None:
    """map gives the results in order, of any number of items, however few may wait."""
    with running(consumer(kind, double, WORKERS=2, **attributes)) as service:
        task = service.tasks.Consumer
        assert [2 * n for n in range(3000)] == [*task.map(range(3000), DEADLINE)]
        endless = task.map(itertools.count())
        assert [0, 2, 4] == [*itertools.islice(endless, 3)]
        endless.close()
        assert [] == [*task.map([])]


def test_map_begins_at_once(kind: Any) -> None:
    """Items are submitted when map is called, not when its results are asked for."""
    body = Held()
    with running(consumer(kind, body)) as service:
        results = service.tasks.Consumer.map(["item"])
        assert "item" == body.next()
        body.let_go()
        assert ["item"] == [*results]


def test_map_with_a_timeout(kind: Any) -> None:
    """A result that is not there in time is a TimeoutError, and the rest is cancelled."""
    body = Held()
    with running(consumer(kind, body)) as service:
        task = service.tasks.Consumer
        with pytest.raises(TimeoutError):
            next(task.map(["in hand", "cancelled"], timeout=0.01))
        assert "in hand" == body.next()
        body.let_go()
        assert task.queue.join(DEADLINE)
        assert 1 == task.n_completed()


def test_map_without_room(kind: Any) -> None:
    """Time that passes in waiting for room counts too."""
    body = Held()
    with running(consumer(kind, body, MAX_ITEMS=1)) as service:
        task = service.tasks.Consumer
        task.queue.put("in hand")
        body.next()
        with pytest.raises(TimeoutError, match="no room in Consumer"):
            task.map(["waits", "no room"], timeout=0.01)
        body.let_go()
        assert task.queue.join(DEADLINE)
        assert 1 == task.n_completed()


def test_map_raises_the_first_error(kind: Any) -> None:
    """An item's error is raised in its place, and the items behind it are cancelled."""

    def body(item: Any, context: ExecuteContext) -> Any:
        if item == 1:
            raise ValueError("bad")
        return item

    with running(consumer(kind, body)) as service:
        results = service.tasks.Consumer.map(itertools.count())
        assert 0 == next(results)
        with pytest.raises(ValueError, match="bad"):
            next(results)
        with pytest.raises(StopIteration):
            next(results)


# -- the end --------------------------------------------------------------------------------------
def test_a_stop_finishes_what_is_queued(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What waits when a stop is asked for is run, and nothing is reported."""
    body = Held()
    with running(consumer(kind, body, WORKERS=2)) as service:
        task = service.tasks.Consumer
        futures = [task.submit(item) for item in range(100)]
        body.next()
        service.stop()
        body.let_go()
        assert service.join(DEADLINE)
        assert [*range(100)] == [future.result(0) for future in futures]
        assert task.queue.join(0)
    assert [] == left_in(caplog)


def test_after_the_stop(kind: Any) -> None:
    """submit gives a future that has failed with a RuntimeError, and put raises the same."""
    with running(consumer(kind, double)) as service:
        task = service.tasks.Consumer
        service.stop()
        assert service.join(DEADLINE)
        future = task.submit(1)
        error = failed(future)
        assert isinstance(error, NotRun)
        assert isinstance(error, RuntimeError)
        assert "Worker not running: Consumer was stopped" in str(error)
        assert not future.cancel()
        with pytest.raises(NotRun, match="DEPS"):
            task.queue.put(1)
        with pytest.raises(NotRun):
            task.queue.put_nowait(1)
        with pytest.raises(NotRun):
            next(task.map([1]))
        assert (0, True) == (task.queue_depth(), task.queue.join(0))
        task.stop()
        task.join()


def test_dependents_may_put_while_they_end(kind: Any) -> None:
    """Between the request for a stop and the task's own stop, what is put is run."""
    with running(lingering(consumer(kind, double))) as service:
        service.stop()
        assert 4 == service.tasks.Consumer.submit(2).result(DEADLINE)
        service.tasks.Lingers.let_go.set()


def test_what_is_to_be_tried_again_is_left(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    """At a stop, what waits to be tried again, or raises TryLater then, is reported as left."""
    body = Held(late=TryLater(after=0))

    def run(item: Any, context: ExecuteContext) -> Any:
        if item == "waits":
            raise TryLater(after=NEVER)
        return body(item, context)

    with running(lingering(consumer(kind, run))) as service:
        task = service.tasks.Consumer
        waits, late = task.submit("waits"), task.submit("late")
        assert "late" == body.next()
        raw = ExecuteContext(item="waits", deferred=Deferred(takes=False))
        task.queue.put(raw)
        service.stop()
        body.let_go()
        error = failed(waits)  # although the task itself is not stopped yet
        assert isinstance(error, NotRun)
        assert "Consumer was stopped before it could be tried again: 'waits'" == str(error)
        assert isinstance(failed(late), NotRun)
        assert task.queue.join(DEADLINE)
        service.tasks.Lingers.let_go.set()
        assert service.join(DEADLINE)
        assert [NotRun] == [type(each) for each in raw.deferred.results]
        assert (0, 0, 0) == (task.n_completed(), task.n_unhandled(), task.queue_depth())
    assert ["3 items were not run: 'late', 'waits', 'waits'"] == left_in(caplog)


def test_a_stop_with_a_full_queue(kind: Any) -> None:
    """A producer that waits for room in a dependent task gets it, and so the stop goes on."""
    body = Held()
    consumers = consumer(kind, body, MAX_ITEMS=1)
    numbers = itertools.count()

    class Producer(PeriodicTask):
        INTERVAL = 0.0001
        DEPS = [consumers]

        def execute(self, context: ExecuteContext | None = None) -> None:
            self.service.tasks.Consumer.queue.put(next(numbers))

    with running(Producer) as service:
        task = service.tasks.Consumer
        assert 0 == body.next()
        service.stop()
        body.let_go()
        assert service.join(DEADLINE)
        assert task.n_completed() == next(numbers)


def test_a_stop_with_a_queue_full_of_retries(kind: Any) -> None:
    """Items that wait to be tried again give up their room, so that nobody waits for them."""

    called = threading.Event()

    def body(item: Any, context: ExecuteContext) -> None:
        called.set()
        raise TryLater(after=NEVER)

    with running(consumer(kind, body, MAX_ITEMS=1, WORKERS=2)) as service:
        task = service.tasks.Consumer
        futures: list[Future[Any]] = []

        def produce() -> None:
            for number in range(10):
                futures.append(task.submit(number))

        thread = threading.Thread(target=produce)
        thread.start()
        assert called.wait(DEADLINE)
        service.stop()
        thread.join(DEADLINE)
        assert not thread.is_alive()
        assert [NotRun] * 10 == [type(failed(future)) for future in futures]


def test_time_is_up(
    kind: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be begun in time is reported in one line, and its futures fail.

    A run that a thread has in hand may still end; on the loop it is cancelled, and left too.
    """
    hurry(monkeypatch)
    cancels = kind is AsyncioQueueTask
    body = Held()
    own: Future[Any] = Future()
    with running(consumer(kind, body)) as service:
        task = service.tasks.Consumer
        in_hand = task.submit("in hand")
        body.next()
        task.queue.put("x" * 100)
        waiting = [task.submit(item) for item in range(10)]
        assert waiting.pop(3).cancel()
        task.queue.put(ExecuteContext(item="own", future=own))
        service.stop()
        assert {NotRun} == {type(failed(future)) for future in (*waiting, own)}
        assert "Consumer was stopped before it was run: 0" == str(failed(waiting[0]))
        if not cancels:
            body.let_go()
        assert service.join(DEADLINE)
        assert (NotRun if cancels else type(None)) is type(failed(in_hand))
        assert State.STOPPED is service.lifecycle.state
        assert task.queue.join(0)
        assert task.n_completed() == (0 if cancels else 1)
    counts = (12, 7) if cancels else (11, 6)
    shown = "'xxxxxxxxxxxx...xxxxxxxxxxxxx', 0, 1, 2, 4"
    expected = f"{counts[0]} items were not run: {shown} and {counts[1]} more"
    assert [expected] == left_in(caplog)


def test_a_dependent_that_waits_is_told_in_time(
    kind: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A task that waits for a result while it ends hears that it will not come."""
    hurry(monkeypatch)
    body = Held()
    errors: list[BaseException | None] = []

    class Waits(VTask):
        LOOPLESS = True

        def join(self) -> None:
            errors.append(failed(self.service.tasks.Consumer.submit("late")))
            body.let_go()

    Waits.DEPS = [consumer(kind, body)]
    with running(Waits) as service:
        in_hand = service.tasks.Consumer.submit("in hand")
        assert "in hand" == body.next()
        service.stop()
        assert service.join(DEADLINE)
        assert in_hand.done()
    assert [NotRun] == [type(each) for each in errors]
    assert "'late'" in " ".join(left_in(caplog))


def test_waiting_for_room_ends_with_the_time(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all workers hang, a put that waits for room is refused when time is up."""
    hurry(monkeypatch)
    body = Held()
    with running(lingering(consumer(kind, body, MAX_ITEMS=1))) as service:
        task = service.tasks.Consumer
        task.queue.put("hangs")
        body.next()
        task.queue.put("waits")
        service.stop()
        with pytest.raises(NotRun):
            task.queue.put("no room")
        assert isinstance(failed(task.submit("no room")), NotRun)
        body.let_go()
        service.tasks.Lingers.let_go.set()


def test_a_task_that_never_started(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What was put before a start that never came is reported, and its futures fail."""
    futures: list[Future[Any]] = []

    class Fails(VTask):
        LOOPLESS = True

        def initTask(self) -> None:
            super().initTask()
            futures.append(self.service.tasks.Consumer.submit("early"))
            raise ValueError("not today")

    Fails.DEPS = [consumer(kind, double)]
    assert isinstance(refused(Fails), ValueError)
    assert isinstance(failed(futures[0]), NotRun)
    assert ["1 item was not run: 'early'"] == left_in(caplog)


def test_an_init_that_failed_half_way(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Such a task is stopped quietly, with a queue or without one."""

    class After(kind):  # type: ignore[misc]
        def initTask(self) -> None:
            super().initTask()
            self.queue.put("early")
            raise ValueError("not today")

    with caplog.at_level(logging.DEBUG):
        assert isinstance(refused(consumer(After, double)), ValueError)
        assert isinstance(refused(consumer(kind, double, WORKERS=0)), OptionError)
    assert ["1 item was not run: 'early'"] == left_in(caplog)
    assert "Cannot stop" not in caplog.text


def test_an_idle_stop_is_quick(kind: Any) -> None:
    """Many workers that sleep end at once, and again in the next service."""
    for _ in range(10):
        began = time.monotonic()
        with running(consumer(kind, double, WORKERS=10)) as service:
            assert 2 == service.tasks.Consumer.submit(1).result(DEADLINE)
        assert time.monotonic() - began < DEADLINE / 2


def test_a_worker_that_fails_while_others_go_on(kind: Any) -> None:
    """The failure stops the service, and the other workers finish what is queued."""

    def body(item: Any, context: ExecuteContext) -> Any:
        if item == "bad":
            raise ValueError("bad")
        return item

    with failing(consumer(kind, body, WORKERS=2), "bad") as service:
        task = service.tasks.Consumer
        task.queue.put("bad")
        futures = [task.submit(item) for item in range(100)]
        for item, future in enumerate(futures):
            assert isinstance(failed(future), NotRun) or item == future.result(0)
    assert task.n_completed() + sum(1 for each in futures if failed(each)) == 100


# -- by priority ----------------------------------------------------------------------------------
def test_the_least_first() -> None:
    """Items come by priority, however they were put, and equal ones as they came."""
    body = Held()
    seen: list[Any] = []

    def run(item: Any, context: ExecuteContext) -> Any:
        seen.append(item)
        return body(item, context)

    task = consumer(PriorityQueueTask, run)
    with running(task) as service:
        made = service.tasks.Consumer
        made.queue.put((0, "first"))
        body.next()
        for item in [(3, "c"), (1, "a"), (2, "b")]:
            made.queue.put(item)
        futures = [made.submit((2, "bb")), made.submit((1, "aa"))]
        made.queue.put(ExecuteContext(item=(4, "d")))
        body.let_go()
        assert [(2, "bb"), (1, "aa")] == [future.result(DEADLINE) for future in futures]
        assert made.queue.join(DEADLINE)
    letters = [item[1] for item in seen]
    assert ["first", "a", "aa", "b", "bb", "c", "d"] == letters


def test_a_retry_keeps_its_priority() -> None:
    """An item that is put back comes by its priority again."""
    seen: list[Any] = []
    body = Held()

    def run(item: Any, context: ExecuteContext) -> Any:
        if item == 0:
            return body(item, context)
        seen.append((item, context.attempt))
        if context.attempt < 3:
            raise TryLater(after=0)
        return None

    with running(consumer(PriorityQueueTask, run)) as service:
        task = service.tasks.Consumer
        for item in (0, 2, 1):
            task.queue.put(item)
            body.next() if item == 0 else None
        body.let_go()
        assert task.queue.join(DEADLINE)
    assert [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)] == seen


class Incomparable:
    """Refuses to be compared in its own way."""

    def __lt__(self, other: object) -> bool:
        raise ZeroDivisionError


@pytest.mark.parametrize("timely", [True, False])
def test_priorities_of_any_type(timely: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items that do not compare, of mixed types, are all run, or all left, at a stop."""
    hurry(monkeypatch) if not timely else None
    body = Held()
    items = [
        None,
        1,
        "one",
        {},
        {"a": 1},
        [],
        object(),
        Incomparable(),
        Incomparable(),
        2.5,
        (),
        b"",
    ]
    with running(
        consumer(PriorityQueueTask, lambda item, context: body("any", context))
    ) as service:
        task = service.tasks.Consumer
        futures = [task.submit(item) for item in items]
        for item in items:
            task.queue.put(item)
        body.next()
        service.stop()
        if timely:
            body.let_go()
        else:
            failed(futures[-1])
            body.let_go()
        assert service.join(DEADLINE)
        ends = [type(failed(future)) for future in futures]
        assert [type(None) if timely else NotRun] * (len(items) - 1) == ends[1:]


# -- each once ------------------------------------------------------------------------------------
def test_a_duplicate_is_refused() -> None:
    """An item that waits or runs is not taken a second time; when it is done, it is."""
    body = Held()
    with running(consumer(UniqueQueueTask, body)) as service:
        task = service.tasks.Consumer
        first = task.submit("a")
        body.next()
        task.queue.put("b")
        for item in ("a", "b"):
            with pytest.raises(Duplicate, match=f"'{item}' is in Consumer already"):
                task.queue.put(item)
            assert isinstance(failed(task.submit(item)), Duplicate)
            with pytest.raises(Duplicate):
                task.queue.put(ExecuteContext(item=item))
        assert 1 == task.queue_depth()
        body.let_go()
        assert "a" == first.result(DEADLINE)
        assert "a" == task.submit("a").result(DEADLINE)
        assert task.queue.join(DEADLINE)
        assert 3 == task.n_completed()


def test_a_silent_duplicate() -> None:
    """With SILENT a put of what is there does nothing; a future that came with it has failed."""
    body = Held()
    with running(consumer(UniqueQueueTask, body, SILENT=True)) as service:
        task = service.tasks.Consumer
        task.queue.put("a")
        task.queue.put("a")
        assert isinstance(failed(task.submit("a")), Duplicate)
        future: Future[Any] = Future()
        task.queue.put(ExecuteContext(item="a", future=future))
        assert isinstance(failed(future), Duplicate)
        body.let_go()
        assert task.queue.join(DEADLINE)
        assert 1 == task.n_completed()


def test_a_retried_item_stays_seen() -> None:
    """While it waits to be tried again it is a duplicate, and when it has ended no more."""
    tried = threading.Event()

    def body(item: Any, context: ExecuteContext) -> Any:
        if context.attempt < 3:
            tried.set()
            raise TryLater(after=0.02)
        if item == "bad":
            raise ValueError("bad")
        return context.attempt

    with running(consumer(UniqueQueueTask, body)) as service:
        task = service.tasks.Consumer
        for item in ("good", "bad"):
            tried.clear()
            future = task.submit(item)
            assert tried.wait(DEADLINE)
            assert future.done() or isinstance(failed(task.submit(item)), Duplicate)
            assert (failed(future) is None) == (item == "good")
            again = task.submit(item)
            assert not isinstance(failed(again), Duplicate)


@pytest.mark.parametrize("end", ["cancelled", "left"])
def test_what_is_not_run_is_unseen(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item that was cancelled, or is left at the end, leaves no trace in the seen-set."""
    hurry(monkeypatch) if end == "left" else None
    body = Held()
    with running(consumer(UniqueQueueTask, body)) as service:
        task = service.tasks.Consumer
        task.queue.put("in hand")
        body.next()
        future = task.submit("a")
        if end == "cancelled":
            future.cancel()
            body.let_go()
            assert task.queue.join(DEADLINE)
            assert "a" == task.submit("a").result(DEADLINE)
        else:
            service.stop()
            assert isinstance(failed(future), NotRun)
            body.let_go()
            assert service.join(DEADLINE)
        assert {} == task.queue._seen


def test_unsee() -> None:
    """What is unseen as its work begins may be put again meanwhile, and each stays its own."""
    body = Held()

    def run(item: Any, context: ExecuteContext) -> Any:
        service.tasks.Consumer.queue.unsee(item)
        return body(item, context)

    with running(consumer(UniqueQueueTask, run)) as service:
        task = service.tasks.Consumer
        first = task.submit("a")
        body.next()
        second = task.submit("a")
        assert isinstance(failed(task.submit("a")), Duplicate)
        body.let_go()
        assert ("a", "a") == (first.result(DEADLINE), second.result(DEADLINE))
        assert task.queue.join(DEADLINE)
        assert {} == task.queue._seen


def test_unique_items_are_hashable() -> None:
    """Others are refused with what to do."""
    with running(consumer(UniqueQueueTask, double)) as service:
        with pytest.raises(TypeError, match="put something hashable"):
            service.tasks.Consumer.queue.put([])
        with pytest.raises(TypeError, match="put something hashable"):
            service.tasks.Consumer.submit([])
        assert 0 == service.tasks.Consumer.queue_depth()

"""Periodic tasks: when they run, and what becomes of each run.

Most claims hold for tasks in threads and on the loop: ``kind`` is the one, then the other.
"""

import functools
import itertools
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from sparts import cli
from sparts.context import ExecuteContext, TryLater
from sparts.errors import OptionError, TaskError
from sparts.lifecycle import Failure, State
from sparts.schedule import Cron, FixedRate
from sparts.tasks.periodic import AsyncioPeriodicTask, Periodic, PeriodicTask
from sparts.testing import running
from sparts.vservice import VService

DEADLINE = 10.0
#: An interval, in seconds, so long that there is no second run by itself.
NEVER = 1000.0
#: What makes a task run when asked, and only then: the schedule's next time is years away.
ON_DEMAND = {"INTERVAL": None, "SCHEDULE": "0 0 29 2 *"}

Body = Callable[[ExecuteContext], Any]


@pytest.fixture(params=[PeriodicTask, AsyncioPeriodicTask])
def kind(request: pytest.FixtureRequest) -> Any:
    """The kind of periodic task."""
    return request.param


def periodic(kind: type[Periodic], body: Body, **attributes: Any) -> Any:
    """A task class of that kind whose ``execute`` is *body*; it runs once, at the start."""

    def execute(self: Periodic, context: ExecuteContext) -> Any:
        return body(context)

    async def execute_on_loop(self: Periodic, context: ExecuteContext) -> Any:
        return body(context)

    chosen = execute if issubclass(kind, PeriodicTask) else execute_on_loop
    return type("Tested", (kind,), {"INTERVAL": NEVER, "execute": chosen, **attributes})


class Script:
    """A body whose attempts end as written: with an error that is raised, or a result."""

    def __init__(self, *outcomes: Any, held: bool = False) -> None:
        """*held*: each attempt waits to be let go."""
        self._outcomes = iter(outcomes)
        self._held = held
        self._go_on = threading.Semaphore(0)
        #: The number of each attempt, when it begins.
        self.attempts: queue.SimpleQueue[int] = queue.SimpleQueue()

    def __call__(self, context: ExecuteContext) -> Any:
        self.attempts.put(context.attempt)
        if self._held:
            assert self._go_on.acquire(timeout=DEADLINE)
        outcome = next(self._outcomes, None)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def next_attempt(self) -> int:
        """Wait until one more attempt begins; its number."""
        return self.attempts.get(timeout=DEADLINE)

    def let_go(self) -> None:
        """Let one attempt end."""
        self._go_on.release()


class Waits:
    """Stands in for ``stop_event``: each wait lasts until the test ends it."""

    def __init__(self) -> None:
        self._begun: queue.SimpleQueue[float] = queue.SimpleQueue()
        self._over = threading.Semaphore(0)

    def wait(self, seconds: float) -> None:
        self._begun.put(seconds)
        self._over.acquire(timeout=DEADLINE)

    def set(self) -> None:
        self._over.release()

    def next(self) -> float:
        """Wait until one more wait begins; how many seconds it is to last."""
        return self._begun.get(timeout=DEADLINE)

    def end_next(self) -> float:
        """The same, and end it."""
        seconds = self.next()
        self.set()
        return seconds


class Seam(PeriodicTask):
    """Has its waits ended by the test."""

    stop_event: Any

    def initTask(self) -> None:
        super().initTask()
        self.stop_event = self.waits = Waits()


class Clock:
    """A clock that stands still unless it is turned."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def initialised() -> Iterator[Callable[..., Any]]:
    """Of a task class and flags, the task, initialised and not started; stopped after the test."""
    services = []

    def make(task: type[Periodic], *argv: str) -> Periodic:
        services.append(made(task, *argv))
        services[-1].tasks.create(services[-1])
        services[-1].tasks.init()
        return services[-1].requireTask(task)

    yield make
    for service in services:
        service.tasks.end(lambda task, error: pytest.fail(f"{task.name}: {error!r}"))


def made(task: type[Periodic], *argv: str) -> VService:
    """A service of that task."""
    service_class = type("Made", (VService,), {"TASKS": [task]})
    service: VService = service_class(cli.parse(service_class, argv))
    return service


# -- when it runs ---------------------------------------------------------------------------------
def test_it_runs_at_once_and_again(kind: Any) -> None:
    """The first run comes with the start, and others follow at the interval."""
    script = Script()
    with running(periodic(kind, script, INTERVAL=0.001)):
        assert [1] * 5 == [script.next_attempt() for _ in range(5)]


def test_execute_may_do_without_a_context() -> None:
    """``execute(self)`` and ``execute(self, context=None)`` both work, and get what they take."""
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()

    class Without(PeriodicTask):
        INTERVAL = NEVER

        def execute(self) -> None:
            seen.put(None)

    class With(PeriodicTask):
        INTERVAL = NEVER

        def execute(self, context: ExecuteContext | None = None) -> None:
            seen.put(context)

    class WithoutOnLoop(AsyncioPeriodicTask):
        INTERVAL = NEVER

        async def execute(self) -> None:
            seen.put(None)

    for task in (Without, WithoutOnLoop):
        with running(task):
            assert seen.get(timeout=DEADLINE) is None
    with running(With):
        assert isinstance(seen.get(timeout=DEADLINE), ExecuteContext)


def test_a_context_goes_by_its_name() -> None:
    """An optional argument that is not named ``context`` keeps its default; a keyword is one."""
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()

    class Own(PeriodicTask):
        INTERVAL = NEVER

        def execute(self, n: int = 5) -> None:
            seen.put(n)

    class OnLoop(AsyncioPeriodicTask):
        INTERVAL = NEVER

        async def execute(self, *, context: Any) -> None:
            seen.put(type(context))

    for expected, task in ((5, Own), (ExecuteContext, OnLoop)):
        with running(task):
            assert expected == seen.get(timeout=DEADLINE)


def test_the_wrong_kind_of_execute_is_refused(initialised: Any) -> None:
    """``async def`` in a thread, a plain one on the loop and unknown arguments fail at the init."""

    def plain(self: Any) -> None: ...

    async def coroutine(self: Any) -> None: ...

    def two(self: Any, a: Any, b: Any) -> None: ...

    for kind, function, cure in (
        (PeriodicTask, coroutine, "AsyncioPeriodicTask"),
        (AsyncioPeriodicTask, plain, "async def execute"),
        (PeriodicTask, two, "context=None"),
    ):
        with pytest.raises(TaskError, match=f"^Tested.*{cure}"):
            initialised(type("Tested", (kind,), {"INTERVAL": NEVER, "execute": function}))


def test_execute_is_needed(kind: Any) -> None:
    """A task that has none is told what to write."""
    service = made(type("Empty", (kind,), {"INTERVAL": NEVER}))
    service.startBG().join(DEADLINE)
    assert "Empty needs an" in str(service.lifecycle.failure)


def test_waits_go_through_the_seam() -> None:
    """Between the runs ``stop_event.wait`` is asked to wait what is left of the interval."""
    script = Script()
    with running(periodic(Seam, script)) as service:
        for _ in range(3):
            assert 1 == script.next_attempt()
            assert NEVER - DEADLINE < service.tasks.Tested.waits.end_next() <= NEVER


def test_missed_runs_are_skipped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of 3.5 intervals is followed by half an interval's wait; three runs are lost."""
    clock = Clock()
    monkeypatch.setattr(
        "sparts.tasks.periodic.FixedRate", functools.partial(FixedRate, clock=clock)
    )
    script = Script(held=True)
    with running(periodic(Seam, script, INTERVAL=10.0)) as service:
        script.next_attempt()
        clock.now = 35.0
        script.let_go()
        task = service.tasks.Tested
        assert 5.0 == task.waits.end_next()
        assert 3 == task.n_skipped()
        clock.now = 40.0
        script.next_attempt()
        script.let_go()
        assert 10.0 == task.waits.end_next()
        assert 3 == task.n_skipped()
        script.let_go()


def test_slow_runs_are_counted(kind: Any) -> None:
    """Each run that took longer than the interval counts as slow, and is still one run."""
    script = Script()
    with running(periodic(kind, script, INTERVAL=1e-9)) as service:
        for _ in range(5):
            script.next_attempt()
        task = service.tasks.Tested
    assert task.n_iterations() == task.n_slow_iterations() >= 4


def test_a_wall_clock_set_back_changes_nothing(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the wall clock goes back an hour whenever it is read, the runs go on."""
    hours, wall = itertools.count(), time.time
    monkeypatch.setattr(time, "time", lambda: wall() - 3600 * next(hours))
    script = Script()
    with running(periodic(kind, script, INTERVAL=0.001)) as service:
        for _ in range(5):
            script.next_attempt()
        assert service.start_time - time.time() > 1800
        for _ in range(5):
            script.next_attempt()


def test_the_interval_may_change_while_it_runs() -> None:
    """An interval assigned at run time holds from the next wait on, also through the options."""
    script = Script(held=True)
    with running(periodic(Seam, script)) as service:
        task = service.tasks.Tested
        script.next_attempt()
        task.interval = 500.0
        script.let_go()
        assert 500.0 - DEADLINE < task.waits.end_next() <= 500.0
        script.next_attempt()
        service.setOption("Tested_interval", "200")
        script.let_go()
        assert 200.0 - DEADLINE < task.waits.next() <= 200.0


def test_jitter_delays_the_first_run_too() -> None:
    """With jitter the first run comes up to that much after the start."""
    script = Script()
    with running(periodic(Seam, script, JITTER=500.0)) as service:
        assert 0 < service.tasks.Tested.waits.end_next() <= 500.0
        script.next_attempt()


def test_the_schedule_and_its_zone_come_from_the_class(initialised: Any) -> None:
    """SCHEDULE and TIMEZONE make a cron schedule, and the flag replaces the former."""
    task = periodic(
        PeriodicTask, Script(), INTERVAL=None, SCHEDULE="0 9 * * *", TIMEZONE="Asia/Tokyo"
    )
    nine = initialised(task)._timetable.due
    ten = initialised(task, "--Tested-schedule", "0 10 * * *")._timetable.due
    assert (0, 3600) == (nine % 86400, ten % 86400)


def test_a_schedule_stands_before_an_interval(initialised: Any) -> None:
    """With both, the schedule holds; the flag turns it off, and the interval holds."""
    task = periodic(PeriodicTask, Script(), SCHEDULE="0 9 * * *")
    assert isinstance(initialised(task)._timetable, Cron)
    assert isinstance(initialised(task, "--Tested-schedule=")._timetable, FixedRate)


# -- options --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"INTERVAL": None}, "Tested has neither an interval nor a schedule; set INTERVAL or"),
        ({"INTERVAL": None, "SCHEDULE": ""}, "or give --Tested-interval or --Tested-schedule"),
        ({"INTERVAL": 0}, "--Tested-interval: 0 is not a number of seconds above 0"),
        ({"INTERVAL": -1.5}, "--Tested-interval: -1.5 is not a number of seconds above 0"),
        ({"INTERVAL": None, "SCHEDULE": "often"}, "SCHEDULE 'often' is no cron expression"),
        ({**ON_DEMAND, "TIMEZONE": "Mars"}, "TIMEZONE 'Mars' is no time zone"),
    ],
)
def test_wrong_timing_is_said_before_anything_runs(
    attributes: Any, said: str, initialised: Any
) -> None:
    """A task without a timing, or with a wrong one, does not start, and says why."""
    with pytest.raises(OptionError) as caught:
        initialised(periodic(PeriodicTask, Script(), **attributes))
    assert said in str(caught.value)


@pytest.mark.parametrize("given", ["0", "-1", "soon", "inf", "nan"])
def test_a_wrong_interval_is_refused(
    given: str, capsys: pytest.CaptureFixture[str], initialised: Any
) -> None:
    """An interval that is no positive number is refused by the flag and by the attribute."""
    task = periodic(PeriodicTask, Script())
    with pytest.raises(SystemExit) as caught:
        initialised(task, f"--Tested-interval={given}")
    assert 2 == caught.value.code
    said = f"{given!r} is not a number of seconds above 0"
    assert f"--Tested-interval: {said}" in capsys.readouterr().err
    with pytest.raises(OptionError, match=f"--Tested-interval.*{said}"):
        initialised(task).interval = given


def test_the_flags(kind: Any, initialised: Any) -> None:
    """Interval and jitter are the class's, or what the command line says."""
    task = periodic(kind, Script(), JITTER=2.0)
    plain = initialised(task)
    assert (NEVER, 2.0) == (plain.interval, plain.jitter)
    told = initialised(task, "--Tested-interval=0.5", "--Tested-jitter=0.25")
    assert (0.5, 0.25) == (told.interval, told.jitter)


# -- runs that are asked for ----------------------------------------------------------------------
def test_a_run_on_demand_comes_at_once(kind: Any) -> None:
    """execute_async ends the wait, and its future has what the run returned."""
    with running(periodic(kind, Script("first", "second"), **ON_DEMAND)) as service:
        task = service.tasks.Tested
        assert "first" == task.execute_async().result(DEADLINE)
        assert "second" == task.execute_async().result(DEADLINE)
        assert not task.has_pending()
        assert 2 == task.n_iterations()


def test_a_run_on_demand_leaves_the_schedule() -> None:
    """After a run in between the wait is for what is left of the interval, not for all of it."""
    script = Script()
    with running(periodic(Seam, script)) as service:
        task = service.tasks.Tested
        script.next_attempt()
        whole = task.waits.next()
        future = task.execute_async()
        task.waits.set()
        future.result(DEADLINE)
        left = task.waits.next()
        assert 0 < whole - left < DEADLINE
        assert 0 == task.n_skipped()


def test_who_asks_during_a_run_gets_the_next(kind: Any) -> None:
    """Two who ask while a run goes on share one run, which begins after it."""
    script = Script("first", "second", held=True)
    with running(periodic(kind, script, **ON_DEMAND)) as service:
        task = service.tasks.Tested
        first = task.execute_async()
        script.next_attempt()
        assert not task.has_pending()
        second, third = task.execute_async(), task.execute_async()
        assert task.has_pending()
        assert not second.done()
        script.let_go()
        script.let_go()
        assert ["first", "second", "second"] == [
            each.result(DEADLINE) for each in (first, second, third)
        ]
        assert 2 == task.n_iterations()


def test_an_error_goes_to_who_asked(kind: Any) -> None:
    """A failed run that somebody waits for is that caller's affair; the service goes on."""
    error = ValueError("bad")
    with running(periodic(kind, Script(error, "well"), **ON_DEMAND)) as service:
        task = service.tasks.Tested
        assert error is task.execute_async().exception(DEADLINE)
        assert "well" == task.execute_async().result(DEADLINE)
        assert State.RUNNING is service.lifecycle.state
        assert 2 == task.n_iterations()


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3), KeyboardInterrupt()])
def test_an_error_that_nobody_waits_for_stops_the_service(kind: Any, error: BaseException) -> None:
    """A failed run is the service's failure, and names the task."""
    service = made(periodic(kind, Script(error)))
    service.startBG().join(DEADLINE)
    assert Failure("Tested", error) == service.lifecycle.failure
    assert State.FAILED is service.lifecycle.state


def test_an_exit_stops_the_service_though_somebody_waits(kind: Any) -> None:
    """SystemExit goes to who asked for the run, and ends the service with its status too."""
    service = made(periodic(kind, Script(SystemExit(3)), **ON_DEMAND))
    thread = service.startBG()
    assert service.waitReady(DEADLINE)
    assert isinstance(service.tasks.Tested.execute_async().exception(DEADLINE), SystemExit)
    thread.join(DEADLINE)
    assert 3 == service.exit_status


# -- TryLater -------------------------------------------------------------------------------------
def test_try_later_runs_again_at_once(kind: Any) -> None:
    """The same run is made anew, as the next attempt, until it has a result."""
    script = Script(TryLater(), TryLater("not yet"), "at last")
    with running(periodic(kind, script, **ON_DEMAND)) as service:
        task = service.tasks.Tested
        assert "at last" == task.execute_async().result(DEADLINE)
        assert [1, 2, 3] == [script.next_attempt() for _ in range(3)]
        assert (2, 1) == (task.n_try_later(), task.n_iterations())


def test_attempts_are_counted_anew_for_each_run(kind: Any) -> None:
    """The run after one that was tried again is a first attempt."""
    script = Script(TryLater(), "first", "second")
    with running(periodic(kind, script, **ON_DEMAND)) as service:
        task = service.tasks.Tested
        for _ in range(2):
            task.execute_async().result(DEADLINE)
    assert [1, 2, 1] == [script.next_attempt() for _ in range(3)]


def test_try_later_waits_as_long_as_it_says() -> None:
    """``after`` is what ``stop_event.wait`` is asked to wait before the next attempt."""
    script = Script(TryLater(after=77.0), "done")
    with running(periodic(Seam, script)) as service:
        task = service.tasks.Tested
        assert 77.0 == task.waits.end_next()
        assert [1, 2] == [script.next_attempt() for _ in range(2)]
        assert task.waits.end_next() > NEVER - DEADLINE


def test_handle_try_later_is_a_seam(initialised: Any) -> None:
    """Called by itself it waits, through the stop event, as long as the error says."""
    task = initialised(periodic(Seam, Script()))
    task.waits.set()
    task._handle_try_later(TryLater(after=5.0))
    task._handle_try_later(TryLater())
    assert 5.0 == task.waits.end_next()


def test_who_asks_before_a_retry_shares_it(kind: Any) -> None:
    """A request ends the wait for the next attempt, and gets what that comes to."""
    script = Script(TryLater(after=NEVER), "done", "too much", held=True)
    with running(periodic(kind, script, **ON_DEMAND)) as service:
        task = service.tasks.Tested
        first = task.execute_async()
        script.next_attempt()
        second = task.execute_async()
        script.let_go()
        assert 2 == script.next_attempt()
        script.let_go()
        assert ["done", "done"] == [each.result(DEADLINE) for each in (first, second)]
        assert 1 == task.n_iterations()


# -- the end --------------------------------------------------------------------------------------
def test_a_stop_ends_the_wait(kind: Any) -> None:
    """A task amid a long wait ends at once, and takes no more requests."""
    script = Script()
    with running(periodic(kind, script)) as service:
        script.next_attempt()
        task = service.tasks.Tested
    assert not task.running
    assert "Worker not running" == str(task.execute_async().exception(0))
    assert not task.has_pending()


def test_a_stop_fails_what_waits_for_a_run() -> None:
    """A run that was asked for and has not begun fails with the stop, not when the present ends."""
    script = Script("present", held=True)
    with running(periodic(PeriodicTask, script, **ON_DEMAND)) as service:
        task = service.tasks.Tested
        present = task.execute_async()
        script.next_attempt()
        pending = task.execute_async()
        task.stop()
        task.stop()
        assert "Worker not running" == str(pending.exception(DEADLINE))
        assert not present.done()
        script.let_go()
        assert "present" == present.result(DEADLINE)


def test_a_run_is_not_tried_again_after_the_stop(kind: Any) -> None:
    """TryLater raised while the task is being stopped fails the future of the run."""
    script = Script(TryLater(), "too late", held=True)
    with running(periodic(kind, script, **ON_DEMAND)) as service:
        task = service.tasks.Tested
        future = task.execute_async()
        script.next_attempt()
        task.stop()
        script.let_go()
        assert "Worker not running" == str(future.exception(DEADLINE))
    assert script.attempts.empty()


def test_a_stop_ends_the_wait_for_a_retry(kind: Any) -> None:
    """A run that waits to be tried again is given up, and its future fails."""
    script = Script(TryLater(after=NEVER), "too late")
    with running(periodic(kind, script, **ON_DEMAND)) as service:
        future = service.tasks.Tested.execute_async()
        script.next_attempt()
    assert "Worker not running" == str(future.exception(DEADLINE))
    assert script.attempts.empty()


def test_a_task_that_never_started_can_be_stopped(kind: Any, initialised: Any) -> None:
    """A request before the start fails at once, and so after a stop, which may come twice."""
    task = initialised(periodic(kind, Script()))
    assert "Worker not running" == str(task.execute_async().exception(0))
    task.stop()
    task.stop()
    assert "Worker not running" == str(task.execute_async().exception(0))


@pytest.mark.parametrize("outcome", ["done", TryLater("not yet", after=1.0)])
def test_true_from_the_seam_ends_the_task(initialised: Any, outcome: Any) -> None:
    """Whatever stands in for ``stop_event``: False goes on, True ends, also a wait to try again."""
    script = Script(*[outcome] * 3)
    task = initialised(periodic(PeriodicTask, script))
    task.stop_event = Mock()
    task.stop_event.wait.side_effect = lambda seconds: script.attempts.qsize() > 0
    task.start()
    task.threads[0].join(DEADLINE)
    assert not task.running
    assert 1 == script.attempts.qsize()
    with pytest.raises(RuntimeError, match="Worker not running"):
        task.execute_async().result(DEADLINE)


def test_the_stop_event_is_set_by_the_stop_alone(initialised: Any) -> None:
    """A request ends a wait and leaves the event unset; the stop sets it, and it stops the task."""
    task = initialised(periodic(PeriodicTask, Script()))
    assert not task.stop_event.wait(0.001)
    task._demand.open()
    task._demand.ask()
    assert not task.stop_event.wait(DEADLINE)
    task.stop_event.set()
    assert task.stop_event.wait()
    assert task.stop_event.is_set()
    assert not task.has_pending()


def test_a_wait_may_be_longer_than_threads_know() -> None:
    """An interval of more seconds than a lock can wait is cut, no error."""
    script = Script()
    with running(periodic(PeriodicTask, script, INTERVAL=1e300)) as service:
        script.next_attempt()
        service.tasks.Tested.execute_async().result(DEADLINE)


# -- what it tells --------------------------------------------------------------------------------
def test_counters_are_listed(kind: Any) -> None:
    """The service lists the counters by the task's name, durations in milliseconds."""
    with running(periodic(kind, Script(), **ON_DEMAND)) as service:
        service.tasks.Tested.execute_async().result(DEADLINE)
        counters = {name: each() for name, each in service.getCounters().items()}
    assert 1 == counters["Tested.n_iterations"]
    assert 0 == counters["Tested.n_slow_iterations"] == counters["Tested.n_try_later"]
    for figure in ("avg", "max", "min", "p99"):
        for window in (60, 240):
            assert 0 < counters[f"Tested.execute_duration_ms.{figure}.{window}"] < DEADLINE * 1000
    assert 1 == counters["Tested.execute_duration_ms.count.60"]


def test_durations_are_in_milliseconds(kind: Any) -> None:
    """A run of a fiftieth of a second counts as one of 20 ms or more."""
    wait = threading.Event().wait
    with running(periodic(kind, lambda context: wait(0.02), **ON_DEMAND)) as service:
        task = service.tasks.Tested
        task.execute_async().result(DEADLINE)
        assert 20 <= task.execute_duration_ms.getCounter("max.60") < DEADLINE * 1000


def test_threads_need_no_asyncio() -> None:
    """A service of tasks in threads imports the module and no asyncio; the other kind is there."""
    code = (
        "import sys, sparts.tasks.periodic as periodic; assert 'asyncio' not in sys.modules;"
        "print(periodic.AsyncioPeriodicTask.__module__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert ("sparts.tasks.asyncio_periodic\n", "") == (done.stdout, done.stderr)
    assert not hasattr(sys.modules["sparts.tasks.periodic"], "Other")

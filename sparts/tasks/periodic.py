"""Tasks that run again and again: every so many seconds, by a cron schedule, or when asked."""

import argparse
import contextlib
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, ClassVar

from sparts.cli import seconds
from sparts.context import ExecuteContext, TryLater
from sparts.counters import SampleType, counter, samples
from sparts.demand import Demand, joined, not_running
from sparts.errors import OptionError
from sparts.options import option
from sparts.overrides import Passing, context_passing, require_plain
from sparts.schedule import Cron, FixedRate, Schedule
from sparts.vtask import VTask

if TYPE_CHECKING:
    from sparts.tasks.asyncio_periodic import AsyncioPeriodicTask
    from sparts.vservice import VService

__all__ = ["AsyncioPeriodicTask", "Periodic", "PeriodicTask", "StopEvent"]


def positive_seconds(text: str) -> float:
    """The type of an option that holds a duration above 0, in seconds."""
    with contextlib.suppress(argparse.ArgumentTypeError, ValueError):  # they would allow 0
        if value := seconds(text):
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")


class Periodic(VTask):
    """What periodic tasks share: options, counters, and what becomes of a run.

    The first run comes at once after the start, the next ones at multiples of the interval from it,
    whatever the runs take; those that it is too late for are skipped. With a SCHEDULE instead, runs
    come at its times and only then: see :class:`sparts.schedule.Cron`.
    """

    #: Seconds from run to run.
    INTERVAL: ClassVar[float | None] = None
    #: Each run comes up to so many seconds later, at random: not all machines' at one moment.
    JITTER: ClassVar[float] = 0.0
    #: A cron expression, ``"*/5 * * * *"``; where there is one the interval does not matter.
    SCHEDULE: ClassVar[str | None] = None
    #: The name of the time zone that SCHEDULE is in.
    TIMEZONE: ClassVar[str] = "UTC"

    # Assigned while the task runs, interval and jitter count from the next wait on.
    interval: float = option(
        type=positive_seconds,
        default=lambda cls: cls.INTERVAL,
        metavar="SECONDS",
        help="seconds from run to run, unless there is a schedule (default: %(default)s)",
    )
    jitter: float = option(
        type=seconds,
        default=lambda cls: cls.JITTER,
        metavar="SECONDS",
        help="run later by up to so much, at random (default: %(default)s)",
    )
    schedule: str | None = option(
        type=str,
        default=lambda cls: cls.SCHEDULE,
        metavar="CRON",
        help="run at the times of this cron expression; '' for none (default: %(default)s)",
    )

    #: Runs that ended, with a result or an error.
    n_iterations = counter()
    #: Those that took longer than the interval; with a schedule, none.
    n_slow_iterations = counter()
    #: Times that passed without a run, as the one before took too long or came too late.
    n_skipped = counter()
    #: Attempts that ended with TryLater.
    n_try_later = counter()
    execute_duration_ms = samples(
        types=[SampleType.AVG, SampleType.MAX, SampleType.MIN, SampleType.COUNT, SampleType.P99],
        windows=[60, 240],
    )

    #: From ``initTask`` on.
    _timetable: Schedule

    def __init__(self, service: "VService") -> None:
        super().__init__(service)
        self._demand = Demand()
        self._passing = Passing.NOT

    def initTask(self) -> None:
        """Work out the schedule.

        :raises OptionError: there is neither an interval nor a schedule, or a wrong one.
        :raises TaskError: ``execute`` is not of the kind that can be run.
        :raises MissingExtra: a schedule needs cronsim, which is not installed.
        """
        super().initTask()
        self._passing = context_passing(self.execute, self.name)
        self._timetable = self._make_timetable()

    def _make_timetable(self) -> Schedule:
        flag = f"--{self._optionPrefix()}-".replace("_", "-")
        if self.schedule:
            return Cron(self.schedule, self.TIMEZONE, self)
        if self.interval is None:
            raise OptionError(
                f"{self.name} has neither an interval nor a schedule; set INTERVAL or SCHEDULE, "
                f"or give {flag}interval or {flag}schedule"
            )
        if not self.interval > 0:  # the class's default has not passed through the type
            raise OptionError(f"{flag}interval: {self.interval} is not a number of seconds above 0")
        return FixedRate(self)

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Override, as ``execute(self)`` or ``execute(self, context=None)``: one run.

        *context* is the run's :class:`ExecuteContext`. What it returns is the result of
        :meth:`execute_async`. TryLater has it run again, as the next ``attempt``; any other error
        goes to the callers of ``execute_async``, and stops the service if there are none.
        """
        raise NotImplementedError(f"{self.name} needs an execute(self)")

    def execute_async(self) -> "Future[Any]":
        """Run now, or as soon as the present run has ended; the future of that run.

        From any thread. All who call it before the run begins share the run and the future, which
        cannot be cancelled. The schedule's own times stay. To wait for it within ``execute`` would
        be for ever. Before the start and after the stop it has failed with a RuntimeError.
        """
        return self._demand.ask()

    def has_pending(self) -> bool:
        """Whether a run was asked for and has not begun."""
        return self._demand.pending

    def start(self) -> None:
        """Begin to run."""
        self._demand.open()
        super().start()

    def stop(self) -> None:
        """Have no more runs; one that was asked for fails with a RuntimeError."""
        super().stop()
        self._demand.close()

    # -- one attempt at a run: what stands around the call of ``execute`` -------------------------
    def _call(self, context: ExecuteContext) -> Any:
        """Call ``execute``, with the context if it takes one."""
        if self._passing is Passing.KEYWORD:
            return self.execute(context=context)
        return self.execute(context) if self._passing is Passing.POSITION else self.execute()

    def _may_attempt(self, context: ExecuteContext) -> bool:
        """Whether the attempt is to be made: no more once the task was stopped."""
        if self._demand.closed:
            return False
        context.future = joined(context.future, self._demand.take())
        context.start()
        return True

    def _run_succeeded(self, context: ExecuteContext, result: Any) -> None:
        self._count_run(context)
        context.set_result(result)

    def _run_failed(self, context: ExecuteContext, error: BaseException) -> TryLater | None:
        """The wish to try later, or None; an error that no future took is raised again."""
        if isinstance(error, TryLater):
            self.n_try_later.increment()
            return error
        self._count_run(context)
        taken = context.set_exception(error)
        if not (taken and isinstance(error, Exception)):
            raise error
        return None

    def _run_over(self, context: ExecuteContext) -> None:
        """Leave no future of the run waiting, also where the wait for a retry was broken off."""
        if context.future is not None and not context.future.done():
            context.set_exception(not_running())

    def _count_run(self, context: ExecuteContext) -> None:
        self.n_iterations.increment()
        self.execute_duration_ms.add(context.elapsed * 1000)
        if not self.schedule and context.elapsed > self.interval:
            self.n_slow_iterations.increment()


class StopEvent:
    """A ``threading.Event`` that is set at the stop; a run that is asked for ends a wait too."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand
        self._changed = threading.Condition()
        demand.on_change = self._notify

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def is_set(self) -> bool:
        """Whether the task was stopped."""
        return self._demand.closed

    def set(self) -> None:
        """Stop the task."""
        self._demand.close()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the stop, for *timeout* seconds, or until a run is asked for; ``is_set()``."""
        if timeout is not None:
            timeout = min(timeout, threading.TIMEOUT_MAX)
        with self._changed:
            self._changed.wait_for(lambda: self._demand.closed or self._demand.pending, timeout)
        return self.is_set()


class PeriodicTask(Periodic):
    """Calls ``execute`` again and again, in one thread of its own; see :class:`Periodic`.

    Once a second::

        class PrintClock(PeriodicTask):
            INTERVAL = 1.0

            def execute(self):
                print(time.time())
    """

    def __init__(self, service: "VService") -> None:
        super().__init__(service)
        #: Tests may replace it: every wait is a ``wait(seconds)`` of it, and True is the stop.
        self.stop_event = StopEvent(self._demand)

    def initTask(self) -> None:
        """As :meth:`Periodic.initTask`."""
        require_plain(self.execute, self.name, "write def, or derive from AsyncioPeriodicTask")
        super().initTask()

    def stop(self) -> None:
        """Have no more runs, and end after the present one."""
        super().stop()
        self.stop_event.set()

    def _runloop(self) -> None:
        try:
            while self._wait_turn():
                self._run_once()
        finally:
            self._demand.close()

    def _wait_turn(self) -> bool:
        """Wait until a run is due or was asked for; False at the stop."""
        if missed := self._timetable.advance():
            self.n_skipped.add(missed)
        for delay in self._timetable.delays():
            self._pause(delay)
            if self._demand.closed or self._demand.pending:
                break
        return not self._demand.closed

    def _run_once(self) -> None:
        context = ExecuteContext()
        try:
            while (later := self._attempt(context)) is not None:
                self._handle_try_later(later)
                context.attempt += 1
        finally:
            self._run_over(context)

    def _attempt(self, context: ExecuteContext) -> TryLater | None:
        if not self._may_attempt(context):
            return None
        try:
            result = self._call(context)
        except BaseException as error:
            return self._run_failed(context, error)
        self._run_succeeded(context, result)
        return None

    def _handle_try_later(self, e: TryLater) -> None:
        """Wait ``e.after`` seconds before the next attempt, less if a run is asked for."""
        if e.after:
            self.logger.debug("%s; again in %g s", e, e.after)
            self._pause(e.after)

    def _pause(self, delay: float) -> None:
        if self.stop_event.wait(delay):
            self._demand.close()


def __getattr__(name: str) -> Any:
    """``AsyncioPeriodicTask``, imported when asked for: threads need no asyncio."""
    if name != "AsyncioPeriodicTask":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sparts.tasks.asyncio_periodic import AsyncioPeriodicTask

    return AsyncioPeriodicTask

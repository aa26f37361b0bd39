"""Pollers: what counts as a change, and who waits for the first value."""

import argparse
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sparts import cli
from sparts.context import ExecuteContext, TryLater
from sparts.errors import TaskError
from sparts.tasks.poller import PollerTask
from sparts.testing import running
from sparts.vservice import VService

DEADLINE = 10.0


def poller(*values: Any, hold: threading.Event | None = None) -> Any:
    """A poller that fetches those values, one for each time that it is asked.

    An error among them is raised. *hold*: what it waits for before each.
    """
    script: Iterator[Any] = iter(values)

    class Tested(PollerTask):
        INTERVAL = None
        SCHEDULE = "0 0 29 2 *"  # not by itself

        def initTask(self) -> None:
            super().initTask()
            self.changes: list[tuple[Any, Any]] = []

        def fetch(self) -> Any:
            if hold is not None:
                hold.wait(DEADLINE)
            value = next(script)
            if isinstance(value, Exception):
                raise value
            return value

        def onValueChanged(self, old: Any, new: Any) -> None:
            self.changes.append((old, new))

    return Tested


def test_it_polls_by_itself() -> None:
    """The first value is fetched at the start, and others at the interval."""
    told: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()

    class Counting(PollerTask):
        INTERVAL = 0.001
        count = 0

        def fetch(self) -> int:
            self.count += 1
            return self.count

        def onValueChanged(self, old: Any, new: Any) -> None:
            told.put((old, new))

    with running(Counting):
        assert [(None, 1), (1, 2), (2, 3)] == [told.get(timeout=DEADLINE) for _ in range(3)]


def test_changes_are_told_with_old_and_new() -> None:
    """The first value is a change from None; an equal one is none; then old and new differ."""
    with running(poller("a", "a", "b", None, "b")) as service:
        task = service.tasks.Tested
        fetched = [task.execute_async().result(DEADLINE) for _ in range(5)]
        assert ["a", "a", "b", None, "b"] == fetched
        assert [(None, "a"), ("a", "b"), ("b", None), (None, "b")] == task.changes


def test_a_first_none_is_a_value_and_no_change() -> None:
    """None fetched first does not differ from what was before, but it is there to get."""
    with running(poller(None)) as service:
        task = service.tasks.Tested
        task.execute_async().result(DEADLINE)
        assert [] == task.changes
        assert task.getValue(0) is None


def test_the_last_value_is_kept() -> None:
    """getValue tells the newest at once, and after the stop the last one."""
    with running(poller(1, 2)) as service:
        task = service.tasks.Tested
        for expected in (1, 2):
            task.execute_async().result(DEADLINE)
            assert expected == task.getValue()
    assert 2 == task.getValue()


def test_who_is_told_of_a_change_can_get_it() -> None:
    """While onValueChanged runs, the value is the new one."""
    seen = []

    class Looks(poller(5)):  # type: ignore[misc]
        def onValueChanged(self, old: Any, new: Any) -> None:
            seen.append(self.getValue(0))

    with running(Looks) as service:
        service.tasks.Looks.execute_async().result(DEADLINE)
    assert [5] == seen


def test_the_first_value_is_waited_for() -> None:
    """Asked before there is any, getValue returns when the first is fetched."""
    hold = threading.Event()
    with running(poller(7, hold=hold)) as service, ThreadPoolExecutor(2) as pool:
        task = service.tasks.Tested
        asked = [pool.submit(task.getValue), pool.submit(task.getValue, DEADLINE)]
        task.execute_async()
        hold.set()
        assert [7, 7] == [each.result(DEADLINE) for each in asked]


def test_a_wait_has_an_end() -> None:
    """With no value in time it is a TimeoutError that names the task."""
    with (
        running(poller()) as service,
        pytest.raises(TimeoutError, match=r"Tested has no value after 0\.01 s"),
    ):
        service.tasks.Tested.getValue(0.01)


def test_a_wait_ends_with_the_service() -> None:
    """Where the service stops before the first value, waiting without a timeout fails."""
    with running(poller()) as service, ThreadPoolExecutor(1) as pool:
        task = service.tasks.Tested
        asked = pool.submit(task.getValue)
        service.stop()
        assert "Worker not running" == str(asked.exception(DEADLINE))


def test_an_error_in_fetch_stops_the_service() -> None:
    """As with any periodic task, an error that nobody waits for is the service's failure."""

    class Broken(PollerTask):
        INTERVAL = 1000.0

        def fetch(self) -> Any:
            raise ValueError("bad")

    service_class = type("Made", (VService,), {"TASKS": [Broken]})
    service = service_class(cli.parse(service_class, []))
    service.startBG().join(DEADLINE)
    failure = service.lifecycle.failure
    assert failure is not None
    assert ("Broken", "bad") == (failure.source, str(failure.error))


def test_an_error_leaves_the_value() -> None:
    """A fetch that failed for who asked, or that is tried later, changes nothing."""
    error = ValueError("bad")
    with running(poller(1, error, TryLater(), 2)) as service:
        task = service.tasks.Tested
        task.execute_async().result(DEADLINE)
        assert error is task.execute_async().exception(DEADLINE)
        assert 1 == task.getValue()
        assert 2 == task.execute_async().result(DEADLINE)
        assert [(None, 1), (1, 2)] == task.changes


def test_fetch_is_needed() -> None:
    """A poller without one is told what to write."""

    class Empty(PollerTask):
        INTERVAL = 1000.0

    service_class = type("Made", (VService,), {"TASKS": [Empty]})
    service = service_class(cli.parse(service_class, []))
    service.startBG().join(DEADLINE)
    assert "Empty needs a fetch(self)" in str(service.lifecycle.failure)


def test_async_fetch_is_refused() -> None:
    """An ``async def fetch`` would fetch nothing: it fails at the init and names the class."""

    class Async(PollerTask):
        INTERVAL = 1.0

        async def fetch(self) -> int:
            return 1

    with pytest.raises(TaskError, match=r"^Async\.fetch is an async def.*AsyncioPeriodicTask"):
        Async(VService(argparse.Namespace())).initTask()


def test_execute_takes_a_context() -> None:
    """As any periodic task's, ``execute`` can be called with the context of the run or without."""
    task = poller(1, 2)(VService(argparse.Namespace()))
    task.initTask()
    assert 1 == task.execute()
    assert 2 == task.execute(context=ExecuteContext())

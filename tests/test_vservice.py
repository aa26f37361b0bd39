"""The container: its names, lists, warnings, exported values, stop in every phase, restart."""

import argparse
import logging
import re
import threading
import time
from typing import Any
from unittest import mock

import pytest

from sparts.errors import LifecycleError, TaskError
from sparts.lifecycle import State
from sparts.vservice import VService
from sparts.vtask import VTask

DEADLINE = 10.0


class Part(VTask):
    LOOPLESS = True


class Other(Part):
    pass


class Small(VService):
    ALL_TASKS = [Part]
    TASKS = [Other, Part]


def make(cls: type[VService] = Small, **options: Any) -> VService:
    return cls(argparse.Namespace(**options))


def ended(service: VService, thread: threading.Thread) -> State:
    """The state after the end, which must come."""
    thread.join(DEADLINE)
    assert not thread.is_alive()
    return service.lifecycle.state


def test_both_lists_count() -> None:
    """ALL_TASKS and TASKS are both honoured, in that order, duplicates once."""
    service = make()
    assert ["Part", "Other"] == [each.__name__ for each in service.tasks]
    assert ["Other"] == [each.__name__ for each in make(tasks=["Other"]).tasks]


def test_names() -> None:
    """The name is the class's until it is set; the logger has it."""
    service = make()
    assert ("Small", "Small") == (service.name, service.logger.name)
    service.name = "other"
    assert ("other", "other", "other") == (service.name, service._name, service.logger.name)
    assert "/var/run/Small.pid" == service.DEFAULT_PID(Small)
    assert abs(service.start_time - time.time()) < 60


def test_log_level() -> None:
    """--level takes any case; loglevel is its number."""
    assert logging.DEBUG == make().loglevel
    service = make()
    service.setOption("level", "warning")
    assert logging.WARNING == service.loglevel


def test_override_points_in_order() -> None:
    """preprocessOptions, then tasks are created, initService, tasks are initialised."""
    heard: list[str] = []

    class Telling(VTask):
        LOOPLESS = True

        def initTask(self) -> None:
            super().initTask()
            heard.append("initTask")

    class Override(VService):
        ALL_TASKS = [Telling]

        def preprocessOptions(self) -> None:
            heard.append(f"preprocessOptions {self.options.level}")

        def initService(self) -> None:
            heard.append(f"initService {self.requireTask(Telling).name}")

    service = make(Override)
    thread = service.startBG()
    assert service.waitReady(DEADLINE)
    assert service.isReady()
    service.stop()
    assert ended(service, thread) is State.STOPPED
    assert ["preprocessOptions DEBUG", "initService Telling", "initTask"] == heard
    assert not service.isReady()


def test_stop_before_the_start() -> None:
    """A stop before the start is remembered: the start ends at once, with no task made."""
    service = make()
    service.stop()
    service.stop()
    assert service._stop
    assert service.join(0)
    moves: list[tuple[State, State]] = []
    service.lifecycle.listen(lambda old, new: moves.append((old, new)))
    assert ended(service, service.startBG()) is State.STOPPED
    assert [(State.NEW, State.STOPPING), (State.STOPPING, State.STOPPED)] == moves
    assert service.getTask(Part) is None
    service.stop()
    assert service.join(DEADLINE)


def test_stop_during_init() -> None:
    """A stop while a task initialises starts nothing more, and ends gracefully."""
    started: list[str] = []

    class Asks(VTask):
        LOOPLESS = True

        def initTask(self) -> None:
            super().initTask()
            self.service.shutdown()

    class Later(Part):
        def initTask(self) -> None:
            started.append("init")
            super().initTask()

        def start(self) -> None:
            started.append("start")
            super().start()

    class Stops(VService):
        ALL_TASKS = [Asks, Later]

    service = make(Stops)
    assert ended(service, service.startBG()) is State.STOPPED
    assert [] == started


@pytest.mark.parametrize("phase", ["__init__", "initTask", "start"])
def test_a_failing_start_ends_what_had_started(phase: str, caplog: Any) -> None:
    """A task that cannot be made, initialised or started fails the service; the rest is ended."""
    stopped: list[str] = []

    class First(Part):
        def stop(self) -> None:
            super().stop()
            stopped.append(self.name)

    def fail(self: VTask, *args: Any) -> None:
        raise OSError("no luck")

    broken = type("Broken", (Part,), {phase: fail})

    class Breaks(VService):
        ALL_TASKS = [First, broken]

    service = make(Breaks)
    assert ended(service, service.startBG()) is State.FAILED
    assert service.lifecycle.failure is not None
    assert "no luck" == str(service.lifecycle.failure.error)
    assert 1 == service.exit_status
    assert (["First"] if phase != "__init__" else []) == stopped
    if phase != "__init__":
        assert "Broken" == service.lifecycle.failure.source
        assert "Instance failed in Broken" in caplog.text


def test_a_users_mistake_has_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """An error of ours is logged in one line."""

    class Wrong(Part):
        def initTask(self) -> None:
            raise TaskError("the cure is this")

    class Wronged(VService):
        ALL_TASKS = [Wrong]

    service = make(Wronged)
    assert ended(service, service.startBG()) is State.FAILED
    assert "Wrong failed: the cure is this" in caplog.text
    assert "Traceback" not in caplog.text


def test_it_starts_once() -> None:
    """An instance that was started cannot be started again."""
    service = make()
    thread = service.startBG()
    with pytest.raises(LifecycleError, match="was started before"):
        service.startBG()
    service.stop()
    ended(service, thread)
    with pytest.raises(LifecycleError, match="was started before"):
        service.startBG()


def test_restart_makes_a_fresh_instance_with_the_same_options() -> None:
    """A restart builds a new instance of the options that were given, and ends the old one."""
    made: list[VService] = []
    both = threading.Semaphore(0)

    class Restarts(VService):
        def initService(self) -> None:
            made.append(self)
            both.release()

    service = make(Restarts, level="INFO")
    service.name = "again"
    thread = service.startBG()
    assert both.acquire(timeout=DEADLINE)
    service.waitReady(DEADLINE)
    service.setOption("level", "ERROR")
    service.restart()
    assert both.acquire(timeout=DEADLINE)
    old, new = made
    assert old is service
    assert old.join(DEADLINE)
    assert ("INFO", "again") == (new.level, new.name)
    new.stop()
    assert ended(new, thread) is State.STOPPED is old.lifecycle.state


def test_the_old_instance_leads_to_the_fresh_one() -> None:
    """After a restart, who holds the old instance can still stop and restart the service."""
    made: list[VService] = []
    begun = threading.Semaphore(0)

    class Restarts(VService):
        def initService(self) -> None:
            made.append(self)
            begun.release()

    service = make(Restarts)
    thread = service.startBG()
    for _ in range(3):
        assert begun.acquire(timeout=DEADLINE)
        made[-1].waitReady(DEADLINE)
        if len(made) < 3:
            service.restart()
    service.stop()
    assert ended(made[2], thread) is State.STOPPED
    assert 3 == len(made)


def test_a_new_name_reaches_the_tasks() -> None:
    """A name that is set when the tasks are there is in their loggers too."""
    service = make()
    service.tasks.create(service)
    service.name = "night"
    assert "night.Part" == service.requireTask(Part).logger.name


def test_a_task_without_super_init() -> None:
    """A task whose __init__ does not call super's is told so."""

    class Lone(Part):
        def __init__(self, service: VService) -> None:
            pass

    class Lonely(VService):
        ALL_TASKS = [Lone]

    service = make(Lonely)
    assert ended(service, service.startBG()) is State.FAILED
    assert "Lone.__init__() did not call super().__init__(service)" in str(
        service.lifecycle.failure
    )


def test_a_stop_beats_a_restart() -> None:
    """A stop after a restart was asked for ends the service; a restart after a stop is ignored."""
    service = make()
    thread = service.startBG()
    service.waitReady(DEADLINE)
    service.stop()
    service.restart()
    assert ended(service, thread) is State.STOPPED
    assert not service.restarting


def test_a_hanging_stop_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """In the background, a task alive at the deadline is logged with its stack; the wait ends."""
    release = threading.Event()

    class Stuck(VTask):
        def _runloop(self) -> None:
            release.wait(DEADLINE)

    class Hangs(VService):
        ALL_TASKS = [Stuck, Part]

    service = make(Hangs, stop_timeout=0.05)
    thread = service.startBG()
    service.waitReady(DEADLINE)
    service.stop()
    assert ended(service, thread) is State.FAILED
    assert service.join(0)
    assert "Still not stopped after 0.05 s (--stop-timeout): Stuck\n" in caplog.text
    assert re.search(
        r"Stuck is still alive after \d+\.\d s\nThread Stuck:\n.*release\.wait",
        caplog.text,
        re.DOTALL,
    )
    release.set()
    service.requireTask(Stuck).join()


def test_warnings() -> None:
    """Warnings have ids of their own, and go one by one or together."""
    service, other = make(), make()
    first, second = service.registerWarning("a"), service.registerWarning("b")
    assert {first: "a", second: "b"} == service.getWarnings()
    assert service.clearWarning(first)
    assert not service.clearWarning(first)
    assert {second: "b"} == service.getWarnings()
    assert {} == other.getWarnings()
    service.clearWarnings()
    assert {} == service.getWarnings()
    assert service.registerWarning("c") not in (first, second)


def test_exported_values() -> None:
    """Exported values are read one, all, by a pattern or by a list; None deletes."""
    service = make()
    for name, value in {"build.rev": "abc", "build.user": "me", "x": "1"}.items():
        service.setExportedValue(name, value)
    assert "abc" == service.getExportedValue("build.rev")
    assert "" == service.getExportedValue("nothing")
    assert {"build.rev": "abc", "build.user": "me"} == service.getRegexExportedValues("build")
    assert {"x": "1"} == service.getSelectedExportedValues(["x", "y"])
    service.setExportedValue("x", None)
    service.setExportedValue("x", None)
    service.getExportedValues()["build.rev"] = "changed"
    assert {"build.rev": "abc", "build.user": "me"} == service.getExportedValues()
    with pytest.raises(re.error):
        service.getRegexExportedValues("(")


def test_the_wall_clock_does_not_matter() -> None:
    """With the wall clock set back an hour a service still starts, stops and keeps its deadline."""
    with mock.patch("time.time", return_value=time.time() - 3600):
        service = make()
        thread = service.startBG()
        assert service.waitReady(DEADLINE)
        assert service.requireTask(Part).age >= 0
        service.stop()
        assert ended(service, thread) is State.STOPPED


def test_two_services_apart() -> None:
    """Two services in one process share no option, warning, exported value or task."""
    one, two = make(level="INFO"), make()
    threads = [one.startBG(), two.startBG()]
    assert one.waitReady(DEADLINE)
    assert two.waitReady(DEADLINE)
    one.setOption("level", "ERROR")
    one.setExportedValue("a", "1")
    assert ("DEBUG", {}) == (two.level, two.getExportedValues())
    assert one.requireTask(Part) is not two.requireTask(Part)
    one.stop()
    assert ended(one, threads[0]) is State.STOPPED
    assert two.lifecycle.state is State.RUNNING
    two.stop()
    assert ended(two, threads[1]) is State.STOPPED


def test_children() -> None:
    """getChildren gives the tasks by name."""
    service = make()
    assert {} == service.getChildren()
    service.tasks.create(service)
    assert {"Part": service.tasks.Part, "Other": service.tasks.Other} == service.getChildren()

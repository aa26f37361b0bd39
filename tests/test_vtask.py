"""The task: threads and their names, readiness, failures in threads."""

import argparse
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sparts.lifecycle import State
from sparts.vservice import VService
from sparts.vtask import VTask

DEADLINE = 10.0


class Loop(VTask):
    """Runs until it is stopped."""

    def initTask(self) -> None:
        super().initTask()
        self.stopped = threading.Event()

    def _runloop(self) -> None:
        self.stopped.wait()

    def stop(self) -> None:
        super().stop()
        self.stopped.set()


@contextmanager
def running(*tasks: type[VTask]) -> Iterator[VService]:
    """A service of *tasks*, in the background."""
    service = type("Tested", (VService,), {"ALL_TASKS": list(tasks)})(argparse.Namespace())
    thread = service.startBG()
    try:
        yield service
    finally:
        service.stop()
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_one_thread_has_the_tasks_name() -> None:
    """A task with one worker runs it in a thread of its name, which is gone after the stop."""
    with running(Loop) as service:
        assert service.waitReady(DEADLINE)
        task = service.requireTask(Loop)
        assert ["Loop"] == [thread.name for thread in task.threads]
        assert task.running
        assert 0 < task.age < 100
        assert "_runloop" in task.stacks()
        assert "Tested.Loop" == task.logger.name
    assert not task.running
    assert "" == task.stacks()


def test_several_threads_are_numbered() -> None:
    """Each of several workers initialises itself in its own thread, before the task is ready."""
    seen: list[str] = []

    class Pool(Loop):
        workers = 3

        def initTaskThread(self) -> None:
            seen.append(threading.current_thread().name)

    with running(Pool) as service:
        assert service.waitReady(DEADLINE)
        assert ["Pool-1", "Pool-2", "Pool-3"] == sorted(seen)


def test_dependents_start_when_it_is_ready() -> None:
    """A task that defers its readiness holds back those that depend on it, and no others."""
    order: list[str] = []
    release = threading.Event()

    class Warm(Loop):
        AUTO_READY = False

        def _runloop(self) -> None:
            release.wait(DEADLINE)
            order.append("ready")
            self.setReady()
            super()._runloop()

    class Free(VTask):
        LOOPLESS = True

        def start(self) -> None:
            super().start()
            order.append("free")
            release.set()

    class Needs(VTask):
        LOOPLESS = True
        DEPS = [Warm]

        def start(self) -> None:
            super().start()
            order.append("needs")

    with running(Free, Needs) as service:
        warm_up = service.waitReady(DEADLINE)
        assert warm_up
        assert ["free", "ready", "needs"] == order
        assert service.requireTask(Warm).waitReady(0)


def test_waiting_for_readiness_ends_with_the_service() -> None:
    """waitReady returns False when the time is over, and when a stop comes meanwhile."""

    class Never(Loop):
        AUTO_READY = False

    class Needs(VTask):
        LOOPLESS = True
        DEPS = [Never]

    with running(Needs) as service:
        assert not service.waitReady(0.01)
        service.stop()
        assert not service.requireTask(Never).waitReady(DEADLINE)
        assert service.join(DEADLINE)
    assert service.lifecycle.state is State.STOPPED


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("bad"), 1),
        (SystemExit(3), 3),
        (SystemExit(0), 1),
        (SystemExit("text"), 1),
        (KeyboardInterrupt(), 1),
        (GeneratorExit(), 1),
    ],
)
@pytest.mark.parametrize("where", ["initTaskThread", "_runloop"])
def test_what_a_thread_raises_stops_the_service(
    error: BaseException, status: int, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever leaves a worker thread stops the whole service, names the task, is the status."""

    def fail(self: VTask) -> None:
        raise error

    broken = type("Broken", (Loop,), {where: fail})
    with running(broken, Loop) as service:
        assert service.join(DEADLINE)
        failure = service.lifecycle.failure
        assert failure is not None
        assert ("Broken", error) == (failure.source, failure.error)
        assert status == service.exit_status
        assert not service.requireTask(Loop).running
    assert service.lifecycle.state is State.FAILED
    assert "Unhandled exception in Broken" in caplog.text
    assert "Traceback" in caplog.text


def test_only_the_first_failure_counts() -> None:
    """A second failure, as of a task hurt by the first one's end, changes nothing."""

    class First(Loop):
        def _runloop(self) -> None:
            raise SystemExit(5)

    class Second(Loop):
        def join(self) -> None:
            super().join()
            raise SystemExit(6)

    with running(Second, First) as service:
        assert service.join(DEADLINE)
    assert 5 == service.exit_status


def test_a_loop_is_needed() -> None:
    """A task that is not LOOPLESS and has no _runloop is told what to do."""

    class Empty(VTask):
        pass

    with running(Empty) as service:
        assert service.join(DEADLINE)
    assert "Empty needs a _runloop()" in str(service.lifecycle.failure)


def test_a_loop_that_returns_ends_only_itself() -> None:
    """A worker that is done is no failure: the service goes on."""
    done = threading.Event()

    class Once(VTask):
        def _runloop(self) -> None:
            done.set()

    with running(Once) as service:
        assert done.wait(DEADLINE)
        assert service.waitReady(DEADLINE)
        service.requireTask(Once).join()
        assert service.lifecycle.state is State.RUNNING


def test_options_of_the_task() -> None:
    """getTaskOption and setTaskOption go by the name without the prefix."""
    service: Any = VService(argparse.Namespace(Loop_size=3))
    task = Loop(service)
    assert (3, "x") == (task.getTaskOption("size"), task.getTaskOption("other", "x"))
    task.setTaskOption("size", 4)
    assert 4 == service.options.Loop_size

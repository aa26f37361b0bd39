"""The service's asyncio loop, and tasks that are one coroutine on it."""

import asyncio
import contextlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sparts import cli
from sparts.errors import MissingExtra, TaskError
from sparts.lifecycle import State
from sparts.tasks.asyncio import AsyncioLoopTask, AsyncioTask, call_soon, new_loop
from sparts.vservice import VService
from sparts.vtask import VTask

DEADLINE = 10.0

# The first uvloop of a process makes a pipe that libuv keeps for good: let no test be blamed.
new_loop("uvloop").close()


def service_of(*tasks: type[VTask], argv: Any = ()) -> VService:
    """A service of *tasks* with the options *argv*."""
    cls: Any = type("Tested", (VService,), {"ALL_TASKS": list(tasks)})
    service: VService = cls(cli.parse(cls, list(argv)))
    return service


@contextlib.contextmanager
def running(*tasks: type[VTask], argv: Any = ()) -> Iterator[VService]:
    """It, running in the background; stopped and ended afterwards."""
    service = service_of(*tasks, argv=argv)
    thread = service.startBG()
    try:
        yield service
    finally:
        service.stop()
        thread.join(DEADLINE)
        assert not thread.is_alive()


class Worker(AsyncioTask):
    """Says that it began, waits for ever, and says how it ended."""

    def __init__(self, service: VService) -> None:
        super().__init__(service)
        self.began = threading.Event()
        self.heard: list[str] = []

    async def run(self) -> None:
        self.heard.append(threading.current_thread().name)
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            self.heard.append("cleaned up")
            raise


# -- the loop -------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_the_kind_of_loop(kind: str) -> None:
    """``--asyncio-loop`` chooses the loop; it runs in the thread of the task, and is closed."""
    with running(AsyncioLoopTask, argv=["--asyncio-loop", kind]) as service:
        assert service.waitReady(DEADLINE)
        task = service.requireTask(AsyncioLoopTask)
        assert ("uvloop" in type(task.loop).__module__) == (kind == "uvloop")

        async def where() -> tuple[str, bool]:
            return threading.current_thread().name, asyncio.get_running_loop() is task.loop

        assert ("AsyncioLoopTask", True) == task.runInLoop(where()).result(DEADLINE)
    assert task.loop.is_closed()
    assert task.closed.done()


def test_auto_is_uvloop_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The automatic loop is uvloop; without it, asyncio's; and by name it must be there."""
    for kind, installed in [("auto", "uvloop"), ("asyncio", "asyncio"), ("uvloop", "uvloop")]:
        with contextlib.closing(new_loop(kind)) as loop:
            assert type(loop).__module__.startswith(installed)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with contextlib.closing(new_loop("auto")) as loop:
        assert type(loop).__module__.startswith("asyncio")
    with pytest.raises(MissingExtra, match=r"pip install 'sparts\[uvloop\]'"):
        new_loop("uvloop")


@pytest.mark.parametrize(
    ("preferred", "asked", "module"),
    [
        ("asyncio", "auto", "asyncio"),
        ("auto", "asyncio", "asyncio"),
        ("uvloop", "uvloop", "uvloop"),
    ],
)
def test_a_preference(preferred: str, asked: str, module: str) -> None:
    """A task's preference counts where the option leaves it open, and both may agree."""

    class Picky(VTask):
        LOOPLESS = True
        DEPS = [AsyncioLoopTask]

        def __init__(self, service: VService) -> None:
            super().__init__(service)
            service.requireTask(AsyncioLoopTask).prefer(preferred, "--picky")

    with running(Picky, argv=["--asyncio-loop", asked]) as service:
        assert service.waitReady(DEADLINE)
        loop = service.requireTask(AsyncioLoopTask).loop
        assert type(loop).__module__.startswith(module)


def test_a_clash_of_preferences() -> None:
    """Two different wishes fail the service, with both flags in the message."""

    class Picky(VTask):
        LOOPLESS = True
        DEPS = [AsyncioLoopTask]

        def __init__(self, service: VService) -> None:
            super().__init__(service)
            service.requireTask(AsyncioLoopTask).prefer("uvloop", "--picky")

    with running(Picky, argv=["--asyncio-loop", "asyncio"]) as service:
        assert service.join(DEADLINE)
    assert 2 == service.exit_status
    message = str(service.lifecycle.failure)
    assert "--picky uvloop" in message
    assert "--asyncio-loop asyncio" in message


def test_what_is_left_on_the_loop_is_cancelled() -> None:
    """Tasks that nobody ended are cancelled and awaited, also those begun in the cleaning up."""
    heard: list[str] = []

    async def last() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            heard.append("last")

    async def lingering(began: threading.Event) -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            heard.append("lingering")
            self_made.append(asyncio.ensure_future(last()))
            await asyncio.sleep(0)

    self_made: list[Any] = []
    began = threading.Event()
    with running(AsyncioLoopTask) as service:
        assert service.waitReady(DEADLINE)
        service.requireTask(AsyncioLoopTask).runInLoop(lingering(began))
        assert began.wait(DEADLINE)
    assert ["lingering", "last"] == heard


def test_stopped_before_it_ran() -> None:
    """A loop that never ran is closed, when another task fails to initialise."""

    class Broken(VTask):
        LOOPLESS = True
        DEPS = [AsyncioLoopTask]

        def initTask(self) -> None:
            super().initTask()
            raise ValueError("broken")

    with running(Broken) as service:
        assert service.join(DEADLINE)
    assert service.requireTask(AsyncioLoopTask).loop.is_closed()


def test_call_soon() -> None:
    """``call_soon`` says whether the loop was still there to call it."""
    with running(AsyncioLoopTask) as service:
        assert service.waitReady(DEADLINE)
        loop = service.requireTask(AsyncioLoopTask).loop
        called = threading.Event()
        assert call_soon(loop, called.set)
        assert called.wait(DEADLINE)
    assert not call_soon(loop, called.clear)
    assert called.is_set()


# -- a coroutine as a task ------------------------------------------------------------------------
def test_a_coroutine_lives_with_the_service() -> None:
    """``run`` begins on the loop; at the stop it is cancelled, and its cleaning up awaited."""
    with running(Worker) as service:
        assert service.waitReady(DEADLINE)
        task = service.requireTask(Worker)
        assert task.began.wait(DEADLINE)
        assert (True, service.requireTask(AsyncioLoopTask).loop) == (task.running, task.loop)
        assert "Event().wait()" in task.stacks()
    assert ["AsyncioLoopTask", "cleaned up"] == task.heard
    assert (False, "") == (task.running, task.stacks())
    assert service.lifecycle.state is State.STOPPED


def test_all_share_the_loop() -> None:
    """Several tasks run on one loop, in one thread."""

    class Other(Worker):
        pass

    with running(Worker, Other) as service:
        assert service.waitReady(DEADLINE)
        both = [service.requireTask("Worker"), service.requireTask("Other")]
        assert all(isinstance(task, Worker) and task.began.wait(DEADLINE) for task in both)
        assert 1 == sum(thread.name == "AsyncioLoopTask" for thread in threading.enumerate())


def test_returning_ends_only_itself() -> None:
    """A coroutine that is done is no failure: the service goes on."""

    class Once(AsyncioTask):
        async def run(self) -> None:
            pass

    with running(Once) as service:
        assert service.waitReady(DEADLINE)
        service.requireTask(Once).join()
        assert service.lifecycle.state is State.RUNNING
    assert 0 == service.exit_status


@pytest.mark.parametrize(("error", "status"), [(ValueError("bad"), 1), (SystemExit(3), 3)])
def test_what_it_raises_fails_the_service(
    error: BaseException, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """What leaves ``run`` stops the service, names the task and is the exit status."""

    class Broken(AsyncioTask):
        async def run(self) -> None:
            raise error

    with running(Broken, Worker) as service:
        assert service.join(DEADLINE)
    failure = service.lifecycle.failure
    assert failure is not None
    assert ("Broken", error, status) == (failure.source, failure.error, service.exit_status)
    assert "Unhandled exception in Broken" in caplog.text


def test_a_cancellation_that_nobody_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    """A CancelledError that comes out of what ``run`` awaited fails the service, not in silence."""

    class Awaits(AsyncioTask):
        async def run(self) -> None:
            other = asyncio.get_running_loop().create_future()
            other.cancel()
            await other

    with running(Awaits) as service:
        assert service.join(DEADLINE)
    assert service.lifecycle.failure is not None
    assert "Awaits" == service.lifecycle.failure.source


def test_cancelling_itself_is_no_failure() -> None:
    """A coroutine that is cancelled by another hand ends, and the stop does not wait for it."""

    class Cancelled(AsyncioTask):
        async def run(self) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    with running(Cancelled) as service:
        assert service.waitReady(DEADLINE)
        service.requireTask(Cancelled).join()


def test_stopped_at_once() -> None:
    """A task whose stop comes before its coroutine began does not begin it any more."""
    with running(Worker, argv=["--asyncio-loop", "asyncio"]) as service:
        assert service.waitReady(DEADLINE)
        busy, go_on = threading.Event(), threading.Event()
        late = Worker(service)

        def block() -> None:
            busy.set()
            go_on.wait(DEADLINE)

        call_soon(late.loop, block)
        assert busy.wait(DEADLINE)
        late.start()
        late.stop()
        late.stop()
        go_on.set()
        late.join()
        assert [] == late.heard


def test_never_started() -> None:
    """Stop and join of a task that never started return at once."""
    service = service_of(Worker)
    task = Worker(service)
    task.stop()
    task.join()
    assert (False, "") == (task.running, task.stacks())


def test_a_loop_that_died() -> None:
    """When the loop ends under it, the join does not wait; nor where it starts afterwards."""
    with running(Worker) as service:
        assert service.waitReady(DEADLINE)
        task = service.requireTask(Worker)
        assert task.began.wait(DEADLINE)
        service.requireTask(AsyncioLoopTask).stop()
        service.requireTask(AsyncioLoopTask).join()
        task.join()
        assert "cleaned up" == task.heard[-1]
        late = Worker(service)
        late.start()
        late.join()
        assert [] == late.heard


def test_run_is_needed() -> None:
    """A task without a ``run`` is told what to write."""

    class Empty(AsyncioTask):
        pass

    with running(Empty) as service:
        assert service.join(DEADLINE)
    assert "Empty needs an async def run(self)" in str(service.lifecycle.failure)


def test_uvloop_is_not_loaded_unless_it_runs() -> None:
    """The module itself loads no uvloop."""
    assert "uvloop" not in vars(sys.modules["sparts.tasks.asyncio"])


def test_a_plain_run_is_refused() -> None:
    """A ``run`` that is no coroutine function fails at the init, and the error says the cure."""

    class Plain(AsyncioTask):
        def run(self) -> None:  # type: ignore[override]
            pass

    with pytest.raises(TaskError, match=r"^Plain\.run is no coroutine.*async def run"):
        Plain(service_of()).initTask()


def test_a_stop_without_a_loop() -> None:
    """Where ``initTask`` made no loop, the stop has nothing to end, and does no harm."""
    task = AsyncioLoopTask(service_of())
    task.stop()
    task.stop()
    task.join()
    assert not task.closed.done()

"""Periodic tasks on the loop: what is not as in threads; the rest is in test_periodic."""

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

from sparts import cli
from sparts.context import TryLater
from sparts.errors import TaskError
from sparts.lifecycle import State
from sparts.tasks.asyncio import AsyncioLoopTask
from sparts.tasks.periodic import AsyncioPeriodicTask
from sparts.testing import running
from sparts.vservice import VService

DEADLINE = 10.0


class Quiet(AsyncioPeriodicTask):
    """Runs at the start, and then when asked."""

    INTERVAL = 1000.0

    async def execute(self) -> Any:
        return "done"


def test_many_cost_one_thread() -> None:
    """Hundreds of them run in the loop's thread, and none in another."""
    ran: set[str] = set()
    over = threading.Event()

    async def execute(self: AsyncioPeriodicTask) -> None:
        ran.add(threading.current_thread().name)
        if self.name == "Task299":
            over.set()

    classes = [type(f"Task{n}", (Quiet,), {"execute": execute}) for n in range(300)]
    with running(classes) as service:
        assert over.wait(DEADLINE)
        assert 300 == len(service.tasks) - 1
        assert ["AsyncioLoopTask"] == [t.name for task in service.tasks for t in task.threads]
    assert {"AsyncioLoopTask"} == ran


def test_a_stop_cancels_a_run_that_cleans_up() -> None:
    """A run amid an await is cancelled, its finally is awaited, and who waits for it is told."""
    began, cleaned = threading.Event(), threading.Event()

    class Long(Quiet):
        async def execute(self) -> None:
            try:
                began.set()
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.set()

    with running(Long) as service:
        assert began.wait(DEADLINE)
        task = service.requireTask(Long)
        pending = task.execute_async()
    assert cleaned.is_set()
    assert not task.running
    assert "Worker not running" == str(pending.exception(0))


def test_who_waits_for_a_cancelled_run_is_told() -> None:
    """The future of the very run that the stop cancels fails as those that wait do."""
    began = threading.Event()

    class Long(AsyncioPeriodicTask):
        SCHEDULE = "0 0 29 2 *"  # not by itself

        async def execute(self) -> None:
            began.set()
            await asyncio.Event().wait()

    with running(Long) as service:
        future = service.requireTask(Long).execute_async()
        assert began.wait(DEADLINE)
        assert not future.done()
    assert "Worker not running" == str(future.exception(0))


def test_a_cancelled_await_is_a_failure() -> None:
    """When what a run awaits is cancelled, by others than the stop, the run has failed."""

    class Awaits(Quiet):
        async def execute(self) -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    service_class = type("Made", (VService,), {"TASKS": [Awaits]})
    service = service_class(cli.parse(service_class, []))
    service.startBG().join(DEADLINE)
    assert State.FAILED is service.lifecycle.state
    failure = service.lifecycle.failure
    assert failure is not None
    assert "Awaits" == failure.source
    assert isinstance(failure.error, TaskError)
    assert "what Awaits.execute() awaited was cancelled" == str(failure.error)


def test_others_have_their_turn() -> None:
    """Neither an interval of next to nothing nor a run tried again and again keeps the loop."""

    class Hasty(AsyncioPeriodicTask):
        INTERVAL = 1e-9

        async def execute(self) -> None:
            pass

    class Insists(Quiet):
        async def execute(self) -> None:
            raise TryLater

    with running([Hasty, Insists, Quiet]) as service:
        for _ in range(5):
            assert "done" == service.requireTask(Quiet).execute_async().result(DEADLINE)


def test_a_coroutine_may_await_a_run() -> None:
    """On the loop itself, the future of a run is awaited without blocking it."""
    heard: Future[Any] = Future()

    class Asks(Quiet):
        DEPS = [AsyncioLoopTask, Quiet]

        async def execute(self) -> None:
            run = self.service.requireTask("Quiet").execute_async()  # type: ignore[attr-defined]
            heard.set_result(await asyncio.wrap_future(run))

    with running([Asks, Quiet]):
        assert "done" == heard.result(DEADLINE)

"""The queue task on the loop: what it does beside what ``test_queue`` asks of every kind."""

import argparse
import asyncio
import concurrent.futures
import queue
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sparts.context import ExecuteContext
from sparts.errors import NotRun, TaskError
from sparts.tasks import queuework
from sparts.tasks.asyncio import AsyncioLoopTask
from sparts.tasks.asyncio_queue import AsyncioQueueTask
from sparts.testing import running
from sparts.vservice import VService

DEADLINE = 10.0


class Consumer(AsyncioQueueTask):
    """Holds each item until it is let go, from whatever thread."""

    def initTask(self) -> None:
        super().initTask()
        self.begun: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.ended: list[Any] = []
        self.gate: concurrent.futures.Future[None] = concurrent.futures.Future()

    async def execute(self, item: Any, context: ExecuteContext) -> Any:
        self.begun.put(item)
        try:
            await asyncio.shield(asyncio.wrap_future(self.gate))
        finally:
            self.ended.append(item)
        return item

    def next(self) -> Any:
        """Wait until one more item is begun; that item."""
        return self.begun.get(timeout=DEADLINE)

    def let_go(self) -> None:
        self.gate.set_result(None)


class Narrow(Consumer):
    """Lets one item wait."""

    MAX_ITEMS = 1


def on_loop(service: VService, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of *coroutine*, run on the service's loop."""
    return service.requireTask(AsyncioLoopTask).runInLoop(coroutine).result(DEADLINE)


def begin(service: VService, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run *coroutine* on the service's loop; its future."""
    return service.requireTask(AsyncioLoopTask).runInLoop(coroutine)


def test_it_is_imported_where_it_is_looked_for() -> None:
    """``sparts.tasks.queue`` has it too, and nothing else that it has not."""
    import sparts.tasks.queue

    assert AsyncioQueueTask is sparts.tasks.queue.AsyncioQueueTask
    with pytest.raises(AttributeError, match="NoSuchTask"):
        sparts.tasks.queue.NoSuchTask  # noqa: B018


def test_submit_on_the_loop() -> None:
    """A coroutine submits and awaits, on the loop that the workers share."""
    with running(Consumer) as service:
        task = service.requireTask(Consumer)
        task.let_go()

        async def main() -> list[Any]:
            assert asyncio.get_running_loop() is task.loop
            first = asyncio.wrap_future(task.submit(1))
            second = await task.submit_async(2)
            task.queue.put(3)
            return [await first, await second]

        assert [1, 2] == on_loop(service, main())
        assert task.queue.join(DEADLINE)
        assert [1, 2, 3] == task.ended


def test_a_full_queue_on_the_loop() -> None:
    """There a put cannot wait, and says what can; submit_async waits for room and gets it."""
    with running(Narrow) as service:
        task = service.requireTask(Narrow)

        async def fill() -> None:
            task.queue.put("in hand")
            while task.begun.empty():
                await asyncio.sleep(0)
            task.queue.put("waits")
            for put in (task.queue.put, task.submit):
                with pytest.raises(queue.Full, match=r"await Narrow.submit_async\(\)"):
                    put("too much")

        on_loop(service, fill())

        async def wait() -> Any:
            return await (await task.submit_async("third"))

        async def elsewhere() -> Any:
            return await asyncio.wait_for(wait(), DEADLINE)

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            waiting = [begin(service, wait()), pool.submit(asyncio.run, elsewhere())]
            assert 1 == task.queue_depth()
            task.let_go()
            assert ["third"] * 2 == [each.result(DEADLINE) for each in waiting]
        assert task.queue.join(DEADLINE)
        assert 4 == task.n_completed()


def test_who_is_cancelled_takes_no_room() -> None:
    """A coroutine that is cancelled while it waits for room leaves it to the next."""
    with running(Narrow) as service:
        task = service.requireTask(Narrow)
        task.queue.put("in hand")
        task.next()
        task.queue.put("waits")

        async def main() -> Any:
            gone = asyncio.ensure_future(task.submit_async("gone"))
            stays = asyncio.ensure_future(task.submit_async("stays"))
            while len(task.queue._producers) < 2:
                await asyncio.sleep(0)
            task.let_go()
            await asyncio.wait({asyncio.wrap_future(task.gate)})
            gone.cancel()
            return await asyncio.wait_for(await stays, DEADLINE)

        assert "stays" == on_loop(service, main())
        assert task.queue.join(DEADLINE)
        assert {"in hand", "waits", "stays"} <= set(task.ended)


def test_cancelling_a_submitted_item() -> None:
    """To cancel what submit_async gave cancels the item before its turn."""
    with running(Consumer) as service:
        task = service.requireTask(Consumer)
        task.queue.put("in hand")
        task.next()

        async def main() -> None:
            (await task.submit_async("cancelled")).cancel()

        on_loop(service, main())
        task.let_go()
        assert task.queue.join(DEADLINE)
        assert ["in hand"] == task.ended


def test_submit_async_after_the_stop() -> None:
    """Its future has failed, and who waits for room as the stop comes is told so."""
    with running([Narrow, Lingers]) as service:
        task = service.requireTask(Narrow)
        task.queue.put("in hand")
        task.next()
        task.queue.put("waits")

        async def wait() -> Any:
            return await (await task.submit_async("late"))

        late = begin(service, wait())
        task.queue.close()
        assert isinstance(late.exception(DEADLINE), NotRun)
        assert isinstance(begin(service, wait()).exception(DEADLINE), NotRun)
        task.let_go()
        service.requireTask(Lingers).queue.put(None)


class Lingers(AsyncioQueueTask):
    """Keeps the loop alive."""

    async def execute(self, item: Any, context: ExecuteContext) -> None:
        pass


def test_map_on_the_loop() -> None:
    """There it would wait for itself, so it is an error that says what to use."""
    with running(Consumer) as service:
        task = service.requireTask(Consumer)

        async def main() -> None:
            task.map([1])

        with pytest.raises(TaskError, match=r"use submit_async\(\)"):
            on_loop(service, main())


def test_others_have_their_turn() -> None:
    """Items that never wait for anything do not keep the loop to themselves."""

    class Busy(AsyncioQueueTask):
        async def execute(self, item: Any, context: ExecuteContext) -> None:
            until = time.monotonic() + 0.001
            while time.monotonic() < until:
                pass

    with running(Busy) as service:
        task = service.requireTask(Busy)

        async def main() -> int:
            turns = 0
            for item in range(50):
                task.queue.put(item)
            while not task.queue.empty():
                turns += 1
                await asyncio.sleep(0)
            return turns

        assert on_loop(service, main()) > 5


def test_what_an_item_awaited_was_cancelled() -> None:
    """That is the item's own failure, and the worker goes on."""

    class Cancels(AsyncioQueueTask):
        async def execute(self, item: Any, context: ExecuteContext) -> Any:
            if item:
                task = asyncio.ensure_future(asyncio.sleep(DEADLINE))
                task.cancel()
                await task
            return "fine"

    with running(Cancels) as service:
        task = service.requireTask(Cancels)
        error = task.submit(True).exception(DEADLINE)
        assert isinstance(error, concurrent.futures.CancelledError)
        assert "fine" == task.submit(False).result(DEADLINE)
        assert 1 == task.n_failed()


def test_runs_are_cancelled_when_time_is_up(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may clean up in finally; their futures fail, and they are reported with the rest."""
    monkeypatch.setattr(queuework, "_DRAIN_PART", 0.01)
    with running(Consumer, "--Consumer-workers=2") as service:
        task = service.requireTask(Consumer)
        futures = [task.submit(item) for item in range(5)]
        assert [0, 1] == [task.next(), task.next()]
        service.stop()
        assert {NotRun} == {type(future.exception(DEADLINE)) for future in futures}
        assert service.join(DEADLINE)
        assert [0, 1] == sorted(task.ended)
        assert task.queue.join(0)
    assert "5 items were not run: " in caplog.text


def test_a_service_without_work_is_asleep() -> None:
    """Idle workers set no timer: each sleeps until it is woken."""
    with running(Consumer, "--Consumer-workers=3", "--asyncio-loop=asyncio") as service:
        task = service.requireTask(Consumer)
        task.let_go()
        assert 1 == task.submit(1).result(DEADLINE)

        async def timers() -> int:
            return len(task.loop._scheduled)  # type: ignore[attr-defined]

        assert 0 == on_loop(service, timers())


def test_threads_and_the_loop_together() -> None:
    """Items that come from several threads and the loop at once are all run."""
    with running(Narrow, "--Narrow-workers=4", "--Narrow-max-items=3") as service:
        task = service.requireTask(Narrow)
        task.let_go()

        async def produce() -> list[Any]:
            return [await (await task.submit_async(number)) for number in range(50)]

        def produce_in_thread(results: list[Any]) -> None:
            results += [task.submit(number).result(DEADLINE) for number in range(50)]

        results: list[list[Any]] = [[], [], []]
        target: Callable[..., None] = produce_in_thread
        threads = [threading.Thread(target=target, args=[each]) for each in results]
        for thread in threads:
            thread.start()
        assert [*range(50)] == on_loop(service, produce())
        for thread in threads:
            thread.join(DEADLINE)
        assert [[*range(50)]] * 3 == results
        assert 200 == task.n_completed()


def test_a_plain_execute_is_refused() -> None:
    """A plain function, which nobody can await, keeps the service from starting."""

    class Plain(AsyncioQueueTask):
        def execute(self, item: Any, context: ExecuteContext) -> Any:
            return item

    with pytest.raises(TaskError, match=r"^Plain\.execute is no coroutine.*QueueTask"):
        Plain(VService(argparse.Namespace())).initTask()

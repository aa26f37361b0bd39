"""A task that works off a queue in coroutines on the service's asyncio loop."""

import asyncio
import concurrent.futures
import contextlib
import time
from collections.abc import Iterable, Iterator
from functools import partial
from math import inf
from queue import Full
from typing import Any

from sparts.context import ExecuteContext
from sparts.errors import NotRun, TaskError
from sparts.futures import LazyFuture
from sparts.overrides import require_async
from sparts.tasks.asyncio import AsyncioTask, call_soon
from sparts.tasks.queuework import QueueWork
from sparts.vtask import VTask
from sparts.workqueue import WorkQueue

__all__ = ["AsyncioQueueTask"]

#: Seconds: for so long items are run without a turn for others on the loop.
_TURN = 0.002
#: Seconds: no timer is set for longer.
_LONGEST = 86400.0


class AsyncioQueueTask(QueueWork, AsyncioTask):
    """Awaits ``async def execute(self, item, context)`` in WORKERS coroutines on the loop.

    Otherwise as :class:`sparts.tasks.queue.QueueTask`. ``submit`` and ``queue.put`` are for any
    thread; on the loop's own, where a put cannot wait for room without blocking the workers too,
    they raise queue.Full instead, and :meth:`submit_async` waits. Runs that outlast nine tenths of
    ``--stop-timeout`` are cancelled, and reported as left.
    """

    def initTask(self) -> None:
        """As :meth:`QueueWork.initTask`."""
        super().initTask()
        require_async(self.execute, self.name, "write async def execute, or use QueueTask")

    async def execute(self, item: Any, context: ExecuteContext) -> Any:
        """Override, as a coroutine, else as :meth:`QueueWork.execute`; it must not block."""
        raise NotImplementedError(f"{self.name} needs an async def execute(self, item, context)")

    def _makeQueue(self, **settings: Any) -> WorkQueue:
        return _LoopQueue(self.max_items, **settings)

    async def submit_async(self, item: Any) -> "asyncio.Future[Any]":
        """Put *item*, waiting for room, whatever ``when_full`` says; the future of its result.

        On any asyncio loop; to cancel what is returned cancels the item unless it was begun.
        """
        future: LazyFuture[Any] = LazyFuture()
        try:
            await _put(self.queue, ExecuteContext(1, item, None, future))
        except NotRun as error:
            future.set_exception(error)
        return asyncio.wrap_future(future)

    def map(self, items: Iterable[Any], timeout: float | None = None) -> Iterator[Any]:
        """As :meth:`QueueWork.map`, for threads.

        :raises TaskError: it is called on the loop, where it would wait for itself.
        """
        if _on_a_loop():
            raise TaskError(f"{self.name}.map() would block the loop; use submit_async() there")
        return super().map(items, timeout)

    # -- the life ---------------------------------------------------------------------------------
    def stop(self) -> None:
        """Have the workers end when the queue is empty, and refuse what else is put."""
        VTask.stop(self)
        self._close()

    def _time_is_up(self) -> None:
        self.queue.sweep()
        AsyncioTask.stop(self)

    def join(self) -> None:
        """Wait until the workers have ended, and report what is left."""
        super().join()
        self._wind_up()

    # -- on the loop ------------------------------------------------------------------------------
    async def run(self) -> None:
        """Run the workers until all have ended."""
        names = [f"{self.name}-{number}" for number in range(1, self.workers + 1)]
        workers = [self.loop.create_task(self._work(), name=name) for name in names]
        try:
            await asyncio.wait(workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            self.queue.sweep()
            self._left.report(self.logger)

    async def _work(self) -> None:
        self.queue.enlist()
        more = True
        while more:
            try:
                await self._burst()
            except asyncio.CancelledError:
                self.queue.settle()
                raise
            except BaseException as error:
                # First of all, lest what others suffer from it comes to be the service's failure.
                self.service.fail(error, self.name)
                self.queue.settle()
                return
            more = await _rest(self.queue)

    async def _burst(self) -> None:
        """Run what is in the queue until there is nothing."""
        now = time.monotonic()
        turn = now + _TURN
        while True:
            if now >= turn:
                await asyncio.sleep(0)
                now = time.monotonic()
                turn = now + _TURN
            if now >= self.queue.alarm:
                self.queue.ring(now)
            try:
                entry = self.queue.pop()
            except IndexError:
                return
            context = self._claim(entry)
            del entry  # an idle worker holds on to no item
            if context is not None:
                context.start(now)
                await self._run(context)
                del context
                now = time.monotonic()

    async def _run(self, context: ExecuteContext) -> None:
        try:
            if self._takes_context:
                result = await self.execute(context.item, context)
            else:
                result = await self.execute(context.item)  # type: ignore[call-arg]
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                self._leave([context])
                raise
            # It awaited something that was cancelled: that is its own failure.
            self._ended_run(context)
            self._failed(context, concurrent.futures.CancelledError(*error.args))
        except BaseException as error:
            self._ended_run(context)
            self._failed(context, error)
        else:
            self._ended_run(context)
            self._succeeded(context, result)

    def _ended_run(self, context: ExecuteContext) -> None:
        context.ended = time.monotonic()
        self.execute_duration_ms.add(context.elapsed * 1000)


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _LoopQueue(WorkQueue):
    """A work queue that does not let the loop's own thread wait for room."""

    def _put_waiting(self, item: Any, timeout: float | None) -> None:
        if _on_a_loop():
            raise Full(f"{self._full()}; a coroutine waits by: await {self._name}.submit_async()")
        super()._put_waiting(item, timeout)


class _Sleep:
    """A coroutine's sleep, which ``wake`` ends from any thread."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self.wake = partial(call_soon, asyncio.get_running_loop(), self._woken.set)

    async def __call__(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, _LONGEST) if seconds < inf else None):
                await self._woken.wait()


async def _rest(queue: WorkQueue) -> bool:
    """As ``WorkQueue.rest``, for a coroutine."""
    queue.settle()
    while True:
        sleep = _Sleep()
        seconds = queue.doze(sleep.wake)
        if seconds <= 0:
            return seconds == 0
        try:
            await sleep(seconds)
        finally:
            queue.rouse(sleep.wake, seconds)


async def _put(queue: WorkQueue, context: ExecuteContext) -> None:
    """As ``WorkQueue.put``, for a coroutine."""
    sleep = _Sleep()
    while not queue.offer(context, sleep.wake):
        try:
            await sleep(inf)
        except BaseException:
            if not queue.withdraw(sleep.wake):
                queue.pass_on()
            raise
        sleep = _Sleep()

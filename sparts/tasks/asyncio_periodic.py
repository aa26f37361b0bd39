"""Periodic tasks on the service's asyncio loop: ten thousand of them cost one thread."""

import asyncio
from typing import TYPE_CHECKING, Any

from sparts.context import ExecuteContext, TryLater
from sparts.errors import TaskError
from sparts.overrides import require_async
from sparts.tasks.asyncio import AsyncioTask, call_soon
from sparts.tasks.periodic import Periodic

if TYPE_CHECKING:
    from sparts.vservice import VService

__all__ = ["AsyncioPeriodicTask"]


class AsyncioPeriodicTask(Periodic, AsyncioTask):
    """Awaits ``async def execute`` again and again, on the loop; see :class:`Periodic`.

    The stop cancels a run: it may clean up in ``finally``. In a coroutine, await the future of
    ``execute_async`` as ``asyncio.wrap_future(task.execute_async())``.
    """

    def __init__(self, service: "VService") -> None:
        super().__init__(service)
        self._waiter: asyncio.Future[None] | None = None
        self._demand.on_change = self._look_again

    def initTask(self) -> None:
        """As :meth:`Periodic.initTask`."""
        require_async(self.execute, self.name, "write async def execute, or use PeriodicTask")
        super().initTask()

    async def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Override, as a coroutine, else as :meth:`Periodic.execute`; it must not block."""
        raise NotImplementedError(f"{self.name} needs an async def execute(self)")

    async def run(self) -> None:
        """Wait and run, in turns, until cancelled."""
        try:
            while not self._demand.closed:
                await self._wait_turn()
                await self._run_once()
        finally:
            self._demand.close()

    async def _wait_turn(self) -> None:
        """Wait until a run is due or was asked for; others have a turn in any case."""
        await asyncio.sleep(0)
        if missed := self._timetable.advance():
            self.n_skipped.add(missed)
        for delay in self._timetable.delays():
            await self._pause(delay)
            if self._demand.pending:
                break

    async def _run_once(self) -> None:
        context = ExecuteContext()
        try:
            while (later := await self._attempt(context)) is not None:
                await self._handle_try_later(later)
                context.attempt += 1
        finally:
            self._run_over(context)

    async def _attempt(self, context: ExecuteContext) -> TryLater | None:
        if not self._may_attempt(context):
            return None
        try:
            result = await self._call(context)
        except asyncio.CancelledError as error:
            return self._run_cancelled(context, error)
        except BaseException as error:
            return self._run_failed(context, error)
        self._run_succeeded(context, result)
        return None

    def _run_cancelled(
        self, context: ExecuteContext, error: asyncio.CancelledError
    ) -> TryLater | None:
        """As ``_run_failed``, if what the run awaited was cancelled and not the task itself."""
        if self._task is not None and self._task.cancelling():
            raise error
        failure = TaskError(f"what {self.name}.execute() awaited was cancelled")
        failure.__cause__ = error
        return self._run_failed(context, failure)

    async def _handle_try_later(self, e: TryLater) -> None:
        """Wait ``e.after`` seconds before the next attempt, less if a run is asked for."""
        if e.after:
            self.logger.debug("%s; again in %g s", e, e.after)
        await self._pause(e.after or 0.0)

    async def _pause(self, delay: float) -> None:
        """Wait *delay* seconds, or until a run is asked for."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(delay, self._end_pause)
        if self._demand.pending:
            self._end_pause()
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _end_pause(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _look_again(self) -> None:
        if self._demand.pending:  # the stop cancels
            call_soon(self.loop, self._end_pause)

"""Asyncio tasks that run one coroutine after another, each from the moment that it is given.

A new task for each call would cost more than the rest of a small call, and would begin a turn of
the loop later. A runner is a task that waits for work on a future of its own kind: asyncio gives
such a future the callback that wakes the task (what it takes for a future is told in the
documentation of ``asyncio.isfuture``), and to call that at once is to run the task up to its next
wait, now. It is a real task: ``current_task()``, timeouts and cancelling work as in any other.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final

from sparts.thrift.server.calls import CLIENT, Client

__all__ = ["Pending", "Runners"]

#: Runners that are kept though nothing is to do.
_SPARE: Final = 16

Work = Coroutine[Any, Any, Any]
#: Is told the value, or the exception in its place; a CancelledError where it was cancelled.
Done = Callable[[Any, BaseException | None], object]


class Pending:
    """Work that has not ended at once."""

    #: To be set by who began it: what is told when it has ended, in the loop's thread.
    done: Done


class _Runner(Pending):
    """One such task, and the future that it waits on. All in the loop's thread."""

    # What asyncio looks for in a future; true while a task is about to wait on it.
    _asyncio_future_blocking = False

    def __init__(self, owner: "Runners", loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._loop = loop
        self._wake: Callable[[Any], object] | None = None
        self._cancelled = False
        self._work: Work | None = None
        #: Whether work begins at this moment; and whether, and with what, it has ended already.
        self._beginning = False
        self._is_over = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._context = contextvars.copy_context()
        self._context.run(CLIENT.set, None)
        self._variables = len(self._context)
        self._run_in_context = self._context.run
        self.task = loop.create_task(self._run(), name="thrift-runner", context=self._context)

    # -- the future -------------------------------------------------------------------------------
    def __await__(self) -> Generator[Any, None, None]:
        self._asyncio_future_blocking = True
        yield self

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: contextvars.Context | None = None
    ) -> None:
        self._wake = callback

    def result(self) -> None:
        if self._cancelled:
            raise asyncio.CancelledError

    def cancel(self, msg: Any = None) -> bool:
        """The task is being cancelled while it waits for work."""
        wake, self._wake = self._wake, None
        self._owner.forget(self)
        self._cancelled = True
        if wake is not None:
            self._loop.call_soon(wake, self, context=self._context)
        return wake is not None

    # -- the work ---------------------------------------------------------------------------------
    def begin(self, work: Work, client: Client | None) -> Any:
        """See :meth:`Runners.begin`."""
        self._work, self._beginning = work, True
        self._run_in_context(self._step, client)
        self._beginning = False
        if not self._is_over:
            return self
        self._is_over = False
        value, error = self._value, self._error
        self._value = self._error = None
        if error is not None:
            raise error
        return value

    def _step(self, client: Client | None) -> None:
        CLIENT.set(client)
        if self._wake is not None:
            self._wake(self)

    def leave(self) -> None:
        """End, as there is nothing more to do."""
        if self._wake is not None:
            self._context.run(self._wake, self)

    async def _run(self) -> None:
        while True:
            self._owner.rest(self)
            await self
            work, self._work = self._work, None
            if work is None:
                return
            try:
                self._end(await work, None)
            except asyncio.CancelledError as error:
                self._end(None, error)
                return
            except BaseException as error:  # a SystemExit would end the loop from within
                self._end(None, error)
            if len(self._context) != self._variables:
                return  # the work set a context variable, which is not for the next one to see

    def _end(self, value: Any, error: BaseException | None) -> None:
        if self._beginning:
            self._is_over, self._value, self._error = True, value, error
        else:
            # Not in this task, for what it leads to may begin work in another.
            self._loop.call_soon(self.done, value, error)


class _Once(Pending):
    """Work that has a task of its own, as no runner rested."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Work, client: Client | None) -> None:
        context = contextvars.copy_context()
        context.run(CLIENT.set, client)
        self.task = loop.create_task(work, name="thrift-call", context=context)
        self.task.add_done_callback(self._end)

    def _end(self, task: "asyncio.Task[Any]") -> None:
        if task.cancelled():
            self.done(None, asyncio.CancelledError())
        else:
            error = task.exception()
            self.done(None if error is not None else task.result(), error)


class Runners:
    """As many runners as there is work at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._resting: list[_Runner] = []
        self._preparing = False
        self._ended = False

    def prepare(self) -> None:
        """Have a runner rest, from the next turn of the loop on."""
        self._preparing = True
        _Runner(self, self._loop)

    def begin(self, work: Work, client: Client | None) -> Any:
        """Run *work* up to its first wait; its value, or a :class:`Pending` if it goes on.

        Call it in the loop's thread, outside of any task. It raises what *work* raises at once.
        """
        if self._resting:
            return self._resting.pop().begin(work, client)
        if not (self._ended or self._preparing):
            self.prepare()  # for the next ones
        return _Once(self._loop, work, client)

    def rest(self, runner: _Runner) -> None:
        """*runner* waits for work, from the moment that the loop has control."""
        self._preparing = False
        if self._ended or len(self._resting) >= _SPARE:
            self._loop.call_soon(runner.leave)
        else:
            self._resting.append(runner)

    def forget(self, runner: _Runner) -> None:
        """*runner* ends."""
        if runner in self._resting:
            self._resting.remove(runner)

    def end(self) -> None:
        """End those that rest; the others end when their work does."""
        self._ended = True
        while self._resting:
            self._loop.call_soon(self._resting.pop().leave)

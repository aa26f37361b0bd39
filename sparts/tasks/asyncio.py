"""The service's one asyncio loop, in a thread of its own, and tasks that are coroutines on it."""

import asyncio
import contextlib
import importlib.util
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from sparts.errors import MissingExtra, OptionError
from sparts.logs import stack
from sparts.options import option
from sparts.overrides import require_async
from sparts.vtask import VTask

if TYPE_CHECKING:
    from sparts.vservice import VService

__all__ = ["LOOPS", "AsyncioLoopTask", "AsyncioTask", "call_soon", "new_loop"]

T = TypeVar("T")
#: What ``--asyncio-loop`` and ``--tornado-loop`` accept; auto is uvloop where it is installed.
LOOPS = ["auto", "asyncio", "uvloop"]


def new_loop(kind: str) -> asyncio.AbstractEventLoop:
    """A new event loop of *kind*, one of LOOPS.

    :raises MissingExtra: uvloop was asked for by name and is not installed.
    """
    installed = importlib.util.find_spec("uvloop") is not None
    if kind == "asyncio" or (kind == "auto" and not installed):
        return asyncio.new_event_loop()
    if not installed:
        raise MissingExtra("the uvloop event loop", "uvloop", "uvloop")
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class AsyncioLoopTask(VTask):
    """The service's asyncio loop; every asynchronous task shares it."""

    OPT_PREFIX = "asyncio"
    AUTO_READY = False
    kind: str = option(
        name="loop",
        type=str,
        default="auto",
        choices=LOOPS,
        help="the event loop; auto is uvloop where it is installed (default: %(default)s)",
    )
    #: The loop, from ``initTask`` on; it runs in the task's thread.
    loop: asyncio.AbstractEventLoop

    def __init__(self, service: "VService") -> None:
        super().__init__(service)
        self._preferred: dict[str, str] = {}
        #: Done when the loop is closed, however that came.
        self.closed: Future[None] = Future()

    def prefer(self, kind: str, flag: str) -> None:
        """Take *kind*, one of LOOPS, for the loop, as *flag* asks; before ``initTask``."""
        if kind != "auto":
            self._preferred[kind] = flag

    def initTask(self) -> None:
        """Make the loop.

        :raises OptionError: two options ask for different loops.
        """
        super().initTask()
        self.prefer(self.kind, "--asyncio-loop")
        if len(self._preferred) > 1:
            asked = " but ".join(f"{flag} {kind}" for kind, flag in self._preferred.items())
            raise OptionError(f"a service has one loop: {asked}; give one of them, or the same")
        self.loop = new_loop(next(iter(self._preferred), "auto"))

    def runInLoop(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run *coroutine* on the loop; from any thread (but wait for it only in others)."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def _runloop(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(self.setReady)
        try:
            self.loop.run_forever()
        finally:
            self._close()

    def _close(self) -> None:
        try:
            self.loop.run_until_complete(_cancel_all())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()
            self.closed.set_result(None)

    def stop(self) -> None:
        """End the loop; the coroutines still on it are cancelled and awaited."""
        super().stop()
        if not hasattr(self, "loop"):
            return  # initTask came to nothing before there was one
        if not self.threads:
            self.loop.close()
        elif not self.loop.is_closed():
            call_soon(self.loop, self.loop.stop)


async def _cancel_all() -> None:
    while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[..., object]) -> bool:
    """Call *callback* on *loop*, from any thread; False if the loop is closed: it will not be."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        return False
    return True


class AsyncioTask(VTask):
    """A task that is one coroutine, ``run``, on the service's loop.

    It is cancelled and awaited at the stop. What it raises stops the service as a failure;
    returning ends just this task.
    """

    LOOPLESS = True
    DEPS: ClassVar[list[Any]] = [AsyncioLoopTask]

    def __init__(self, service: "VService") -> None:
        super().__init__(service)
        self._task: asyncio.Task[None] | None = None
        self._ended: Future[None] | None = None
        self._stopping = False

    def initTask(self) -> None:
        """Prepare to start.

        :raises TaskError: ``run`` is no coroutine function.
        """
        require_async(self.run, self.name, "write async def run, or derive from VTask")
        super().initTask()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The service's loop."""
        return self.service.requireTask(AsyncioLoopTask).loop

    async def run(self) -> None:
        """Override: the task's work. Clean up in ``finally``; it is cancelled at the stop."""
        raise NotImplementedError(f"{self.name} needs an async def run(self)")

    @property
    def running(self) -> bool:
        """Whether ``run`` has begun and not ended."""
        return self._ended is not None and not self._ended.done()

    def start(self) -> None:
        """Begin ``run`` on the loop."""
        self._ended = Future()
        # A loop that died must not leave a join waiting for what can no longer run.
        self.service.requireTask(AsyncioLoopTask).closed.add_done_callback(lambda _: self._end())
        if not call_soon(self.loop, self._begin):
            self._end()
        super().start()

    def _begin(self) -> None:
        if self._stopping:
            self._end()
            return
        self._task = self.loop.create_task(self._guarded(), name=self.name)
        self._task.add_done_callback(lambda task: self._end())

    async def _guarded(self) -> None:
        try:
            await self.run()
        except asyncio.CancelledError as error:
            if self._stopping:
                return
            if self._task is not None and self._task.cancelling():
                raise
            self.service.fail(error, self.name)  # run() raised it: nobody cancelled the task
        except BaseException as error:
            self.service.fail(error, self.name)

    def _end(self) -> None:
        if self._ended is not None:
            with contextlib.suppress(InvalidStateError):
                self._ended.set_result(None)

    def stop(self) -> None:
        """Cancel ``run``."""
        super().stop()
        if not self._stopping and self._ended is not None:
            self._stopping = True
            call_soon(self.loop, self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def join(self) -> None:
        """Wait until ``run`` has ended, its cleaning up included."""
        if self._ended is not None:
            self._ended.result()

    def stacks(self) -> str:
        """Where the coroutine waits, as text."""
        if self._task is None or self._task.done():
            return ""
        return f"Coroutine {self.name}:\n{_suspended(self._task.get_coro())}"


def _suspended(awaited: Any) -> str:
    """The frames of a coroutine and of what it awaits, innermost last; asyncio has the first."""
    text = ""
    while awaited is not None:
        text += stack(getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None))
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return text

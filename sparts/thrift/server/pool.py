"""Threads beside an asyncio loop, for what would hold it up, with bounds on how much and how long.

They are for messages that come one by one, as over HTTP; the engines have a better way for theirs.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from sparts.thrift.limits import Limits

__all__ = ["CallPool", "TooBusy"]

T = TypeVar("T")


class TooBusy(Exception):
    """It was not run; the message tells why."""


class _Job(Generic[T]):
    """A function that is to be run once, by the one who claims it."""

    __slots__ = ("_claim", "future", "loop")

    def __init__(self, function: Callable[[], T], loop: asyncio.AbstractEventLoop) -> None:
        self._claim = [function]
        self.loop = loop
        self.future: asyncio.Future[T] = loop.create_future()

    def claim(self) -> Callable[[], T] | None:
        """The function, for the first who asks; from any thread, as ``pop`` is atomic."""
        try:
            return self._claim.pop()
        except IndexError:
            return None


class CallPool:
    """The threads are those that call :meth:`work`; all else is for one asyncio loop's thread."""

    def __init__(self, limits: Limits) -> None:
        """Of the *limits*, ``max_calls`` and ``queue_timeout`` hold."""
        self._limits = limits
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._closed = False
        #: Calls that wait or are under way. One that waited too long counts until a thread has
        #: seen it, so that there are never more of those either.
        self.load = 0

    # -- on the loop ------------------------------------------------------------------------------
    async def run(self, function: Callable[[], T]) -> T:
        """What *function()* gives, or raises, in one of the threads.

        :raises TooBusy: too many wait, this one waited too long, or the threads end.
        """
        self._admit()
        loop = asyncio.get_running_loop()
        job = _Job(function, loop)
        self.load += 1
        self._jobs.put(job)
        timer = loop.call_later(self._limits.queue_timeout, self._give_up, job)
        try:
            return await job.future
        finally:
            timer.cancel()

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """For what runs on the loop: the block is one of the calls under way.

        :raises TooBusy: there are too many.
        """
        self._admit()
        self.load += 1
        try:
            yield
        finally:
            self.load -= 1

    def _admit(self) -> None:
        if self._closed:
            raise TooBusy("the service stops")
        if self.load >= self._limits.max_calls:
            raise TooBusy(f"{self.load} calls wait or are under way")

    def _give_up(self, job: _Job[Any]) -> None:
        if job.claim() is not None and not job.future.done():
            limit = self._limits.queue_timeout
            job.future.set_exception(TooBusy(f"no thread was free for {limit:g} s"))

    def _end(self, future: "asyncio.Future[T]", value: T, error: BaseException | None) -> None:
        self.load -= 1
        if future.done():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    # -- in the threads ---------------------------------------------------------------------------
    def work(self) -> None:
        """Be one of the threads; returns after :meth:`close`, when what was there is done."""
        while (job := self._jobs.get()) is not None:
            self._do(job)
            del job  # or it would be kept until the next one comes
        self._jobs.put(None)

    def _do(self, job: _Job[Any]) -> None:
        value, error = None, None
        function = job.claim()
        try:
            if function is not None:
                value = function()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
            job.loop.call_soon_threadsafe(functools.partial(self._end, job.future, value, error))
        error = None  # its traceback leads to this frame

    # -- from any thread --------------------------------------------------------------------------
    def close(self) -> None:
        """Take nothing more, and have the threads end when they have run what waits."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)

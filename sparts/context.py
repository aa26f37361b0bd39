"""One run of one piece of work: its item, attempt, time and whoever waits for its result."""

import functools
import threading
import time
from concurrent.futures import Future
from typing import Any

__all__ = ["ExecuteContext", "SkipTask", "TryLater"]


class SkipTask(Exception):
    """Raised in ``initTask``: leave this task out; the service goes on without it."""


class TryLater(Exception):
    """Raised by ``execute``: run this again, at once or *after* seconds later."""

    def __init__(self, message: str | None = None, after: float | None = None) -> None:
        super().__init__(message or "try later")
        self.message = message
        self.after = None if after is None else float(after)


@functools.total_ordering
class ExecuteContext:
    """What a task knows of the run that it is in; ordered and compared by ``item``.

    *future* is a ``concurrent.futures.Future`` (or anything with its setters); *deferred* a
    Twisted ``Deferred`` (or anything with ``callback``, ``errback`` and ``addErrback``). ``began``
    and ``ended`` are monotonic times, of the latest attempt, or None.
    """

    __slots__ = ("_running", "attempt", "began", "deferred", "ended", "future", "item")

    def __init__(
        self,
        attempt: int = 1,
        item: Any = None,
        deferred: Any = None,
        future: "Future[Any] | None" = None,
    ) -> None:
        self.attempt = attempt
        self.item = item
        self.deferred = deferred
        self.future = future
        self.began: float | None = None
        self.ended: float | None = None
        self._running: threading.Event | None = None

    @property
    def running(self) -> threading.Event:
        """An event that is set once the run has begun; made when first asked for."""
        running = self._running
        if running is None:
            fresh = threading.Event()
            with _EVENTS:
                running = self._running = self._running or fresh
            if self.began is not None:
                running.set()
        return running

    @property
    def elapsed(self) -> float:
        """Seconds that the run took, or has taken so far; 0.0 before it began."""
        if self.began is None:
            return 0.0
        return (time.monotonic() if self.ended is None else self.ended) - self.began

    def claim(self) -> bool:
        """Take the item on, so that its future can no longer be cancelled; False if it was.

        Again, as for another attempt, it changes nothing.
        """
        future = self.future
        if not isinstance(future, Future) or future.running():
            return True
        if future.done() and not future.cancelled():
            return True
        return future.set_running_or_notify_cancel()

    def start(self, now: float | None = None) -> None:
        """The run begins now, or at the monotonic time *now*; a retry starts the clock anew."""
        self.began, self.ended = time.monotonic() if now is None else now, None
        if self._running is not None:
            self._running.set()

    def set_result(self, result: Any) -> None:
        """The run ended with *result*; tell whoever waits for it."""
        if self.ended is None:
            self.ended = time.monotonic()
        if self.future is not None:
            try:
                self.future.set_result(result)
            except Exception:
                if not self.future.done():  # else somebody was first
                    raise
        if self.deferred is not None:
            self.deferred.callback(result)

    def set_exception(self, exception: BaseException) -> bool:
        """The run ended with *exception*; True if a future or an errback took it."""
        if self.ended is None:
            self.ended = time.monotonic()
        handled = False
        if self.future is not None:
            try:
                self.future.set_exception(exception)
            except Exception:
                if not self.future.done():
                    raise
            handled = True
        if self.deferred is not None:
            untaken: list[Any] = []
            self.deferred.errback(exception)
            self.deferred.addErrback(untaken.append)
            handled = handled or not untaken
        return handled

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExecuteContext):
            return NotImplemented
        return bool(self.item == other.item)

    def __lt__(self, other: "ExecuteContext") -> bool:
        return bool(self.item < other.item)

    def __hash__(self) -> int:
        return hash(self.item)

    def __repr__(self) -> str:
        return f"ExecuteContext(attempt={self.attempt}, item={self.item!r})"


#: Guards the making of the events.
_EVENTS = threading.Lock()

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
        self.after = after


@functools.total_ordering
class ExecuteContext:
    """What a task knows of the run that it is in; ordered and compared by ``item``.

    *future* is a ``concurrent.futures.Future`` (or anything with its setters); *deferred* a
    Twisted ``Deferred`` (or anything with ``callback``, ``errback`` and ``addErrback``).
    """

    __slots__ = ("_began", "_ended", "_running", "attempt", "deferred", "future", "item")

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
        self._began: float | None = None
        self._ended: float | None = None
        self._running: threading.Event | None = None

    @property
    def running(self) -> threading.Event:
        """An event that is set once the run has begun; made when first asked for."""
        if self._running is None:
            self._running = threading.Event()
            if self._began is not None:
                self._running.set()
        return self._running

    @property
    def elapsed(self) -> float:
        """Seconds that the run took, or has taken so far; 0.0 before it began."""
        if self._began is None:
            return 0.0
        return (time.monotonic() if self._ended is None else self._ended) - self._began

    def start(self) -> None:
        """The run begins now; a retry starts the clock anew."""
        self._began, self._ended = time.monotonic(), None
        if self._running is not None:
            self._running.set()

    def set_result(self, result: Any) -> None:
        """The run ended with *result*; tell whoever waits for it."""
        self._ended = time.monotonic()
        if self.future is not None and not self.future.done():
            self.future.set_result(result)
        if self.deferred is not None:
            self.deferred.callback(result)

    def set_exception(self, exception: BaseException) -> bool:
        """The run ended with *exception*; True if a future or an errback took it."""
        self._ended = time.monotonic()
        handled = False
        if self.future is not None:
            if not self.future.done():
                self.future.set_exception(exception)
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

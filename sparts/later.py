"""Calls that are due later, for the one thread of a loop: its timers, in a heap."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable

__all__ = ["Timer", "Timers"]

#: Seconds that a wait is worth at most; epoll does not take more than 24 days.
LONGEST = 86400.0


class Timer:
    """A call that is due at a time of the monotonic clock; made by :meth:`Timers.add`."""

    __slots__ = ("_owner", "callback", "due")

    def __init__(self, due: float, callback: Callable[[], object], owner: "Timers") -> None:
        self.due = due
        #: None once it was called or cancelled.
        self.callback: Callable[[], object] | None = callback
        self._owner = owner

    def cancel(self) -> None:
        """Do not call it; nothing happens where it was called already. From any thread."""
        self._owner._cancel(self)


class Timers:
    """The timers of one loop; any thread may add and cancel, the loop's thread runs them.

    As many are kept as are due, or twice that: cancelled ones are swept out.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Have *callback()* called *delay* seconds from now; who waits must be woken to see it."""
        timer = Timer(time.monotonic() + delay, callback, self)
        with self._lock:
            heapq.heappush(self._heap, (timer.due, next(self._order), timer))
        return timer

    def _cancel(self, timer: Timer) -> None:
        with self._lock:
            if timer.callback is None:
                return
            timer.callback = None
            self._cancelled += 1
            if self._cancelled * 2 > len(self._heap):
                self._heap = [each for each in self._heap if each[2].callback is not None]
                heapq.heapify(self._heap)
                self._cancelled = 0

    def patience(self) -> float | None:
        """Seconds to wait for the next call that is due, or for a day; None when there is none."""
        with self._lock:
            while self._heap and self._heap[0][2].callback is None:
                heapq.heappop(self._heap)
                self._cancelled -= 1
            if not self._heap:
                return None
            return min(LONGEST, max(0.0, self._heap[0][0] - time.monotonic()))

    def run_due(self) -> None:
        """Make the calls that are due by now, the earliest first; what one raises leaves."""
        now = time.monotonic()
        while (callback := self._pop(now)) is not None:
            callback()

    def _pop(self, now: float) -> Callable[[], object] | None:
        with self._lock:
            while self._heap and self._heap[0][0] <= now:
                timer = heapq.heappop(self._heap)[2]
                callback, timer.callback = timer.callback, None
                if callback is not None:
                    return callback
                self._cancelled -= 1
        return None

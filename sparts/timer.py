"""Measuring how long something takes, and waiting until something is true."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

__all__ = ["Timer", "run_until_true"]

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05


class Timer:
    """A stopwatch on the monotonic clock: ``with Timer() as timer: ...``, then ``timer.elapsed``.

    It may be started again, which begins a new measurement. Not meant to be shared by threads.
    """

    def __init__(self) -> None:
        self._began: float | None = None
        self._ended: float | None = None

    def _time(self) -> float:
        """The present time in seconds; tests put a clock of their own here."""
        return time.monotonic()

    def start(self) -> None:
        """Begin to measure, from zero."""
        self._began, self._ended = self._time(), None

    def stop(self) -> float:
        """End the measurement and return :attr:`elapsed`; a second stop changes nothing."""
        if self._began is not None and self._ended is None:
            self._ended = self._time()
        return self.elapsed

    @property
    def elapsed(self) -> float:
        """Seconds from the start to the stop, or until now while it runs; 0.0 before the start."""
        if self._began is None:
            return 0.0
        return (self._time() if self._ended is None else self._ended) - self._began

    def __enter__(self) -> "Timer":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.stop()


def run_until_true(f: Callable[[], T], timeout: float) -> T:
    """Call *f* until it gives something true or *timeout* seconds have passed; its last value.

    As ``Condition.wait_for`` does it tells of a timeout by a false value and does not raise; what
    *f* raises passes through. *f* is called at least once, and once more at the deadline. This is
    for what can only be polled, such as the state of another process: the pauses between the
    calls double from 1 ms to 50 ms. Where there is an event or a condition, wait on that instead.
    """
    deadline = time.monotonic() + timeout
    never = threading.Event()
    pause = _FIRST_PAUSE
    while True:
        last_call = time.monotonic() >= deadline
        value = f()
        if value or last_call:
            return value
        never.wait(max(0.0, min(pause, deadline - time.monotonic())))
        pause = min(2 * pause, _LONGEST_PAUSE)

"""A call that comes when a stop has taken too long, in a thread that lives only meanwhile."""

import threading
from collections.abc import Callable

__all__ = ["Deadline"]


class Deadline:
    """Calls *call* once, so many seconds after ``begin`` unless ``end`` comes first."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        # Re-entrant, as a signal handler may ask for the stop while this thread is at it.
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None

    def begin(self, seconds: float, name: str) -> None:
        """Start the time, if it was not started; *name* is the thread's."""
        with self._lock:
            if self._timer is None:
                self._timer = threading.Timer(seconds, self._call)
                self._timer.name = name
                self._timer.daemon = True
                self._timer.start()

    def end(self) -> None:
        """Call nothing from now on; a call under way is waited for."""
        with self._lock:
            timer = self._timer
        if timer is not None:
            timer.cancel()
            timer.join()

"""The signals that a service hears: told at once, whatever the main thread is about."""

import atexit
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Signals"]


class Signals:
    """While entered, tells *put* the number of each signal that a service hears.

    Python calls a handler in the main thread, between two instructions. A signal that comes just as
    that thread begins to wait for a lock, or that the system hands to another thread, would not be
    heard before the next one. So the handlers do nothing: ``signal.set_wakeup_fd`` has each number
    written to a pipe as the signal comes, and a thread reads it there.

    A signal for which the program sets a handler of its own meanwhile is left to that handler. In
    any thread but the main one nothing is touched.
    """

    def __init__(self, put: Callable[[int], None], wanted: bool) -> None:
        """*put* is called in a thread of its own; *wanted* False: no signal is touched."""
        self._put = put
        self._wanted = wanted and threading.current_thread() is threading.main_thread()
        self._old: dict[int, Any] = {}

    def __enter__(self) -> None:
        if not self._wanted:
            return
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)  # a full pipe must not hold up whatever was interrupted
        self._old_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._thread.start()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            if signum == signal.SIGHUP and signal.getsignal(signum) == signal.SIG_IGN:
                continue  # under nohup
            self._old[signum] = _before[signum] = signal.signal(signum, _heard)

    def _listen(self) -> None:
        while True:
            for signum in os.read(self._read, 64):
                if signum == 0:
                    return
                if signal.getsignal(signum) is _heard:
                    self._put(signum)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if not self._wanted:
            return
        for signum, handler in self._old.items():
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
        _before.clear()
        atexit.register(_be_deaf)
        signal.set_wakeup_fd(self._old_fd)
        os.set_blocking(self._write, True)
        os.write(self._write, b"\0")
        self._thread.join()
        os.close(self._read)
        os.close(self._write)


def _heard(signum: int, frame: FrameType | None) -> None:
    """Stand for a signal that the thread hears of: with a handler it does not end the process."""


def _be_deaf() -> None:
    """While Python ends, another SIGTERM must not turn a graceful end into a death by signal."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(signum, signal.SIG_IGN)


#: The handlers from before, while ours are in their place.
_before: dict[int, Any] = {}


def _not_in_child() -> None:
    """Give a forked child its handlers back: it has our pipe, and no thread that reads it."""
    if _before:
        signal.set_wakeup_fd(-1)
    for signum, handler in _before.items():
        if signal.getsignal(signum) is _heard:
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
    _before.clear()


os.register_at_fork(after_in_child=_not_in_child)

"""Where a service's log goes: stderr or a file, and what a process says of its threads."""

import logging
import sys
import threading
import traceback
from collections.abc import Iterable
from types import FrameType

from sparts.errors import SpartsError

__all__ = ["configure", "stack", "thread_stacks"]

_ours: list[logging.Handler] = []


class LogFileError(SpartsError):
    """The log file cannot be opened."""

    status = 2


class _LogFile(logging.FileHandler):
    """A log file that says once, not at every line, that it cannot be written (a full disk)."""

    _failed = False
    _failing = False

    def emit(self, record: logging.LogRecord) -> None:
        self._failed = False
        super().emit(record)
        if self._failing and not self._failed:
            self._say("is written again")
        self._failing = self._failed

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            return super().handleError(record)
        self._failed = True
        if not self._failing:
            self._say(f"cannot be written ({error.strerror}); lines are lost until it can")
        return None

    def _say(self, what: str) -> None:
        if sys.stderr is not None:
            print(f"log file {self.baseFilename} {what}", file=sys.stderr)


def configure(level: int, logfile: str | None = None) -> None:
    """Log from *level* upwards to *logfile*, else to stderr, in ``logging.BASIC_FORMAT``.

    Again, as at a restart, it opens the file anew, so that a rotated one is let go. Where the
    program has handlers of its own on the root logger they stay, and no other is added.

    :raises SpartsError: the file cannot be opened for appending.
    """
    root = logging.getLogger()
    root.setLevel(level)
    foreign = [handler for handler in root.handlers if handler not in _ours]
    if foreign and logfile is None:
        return
    handler: logging.Handler
    try:
        handler = _LogFile(logfile) if logfile else logging.StreamHandler()
    except OSError as error:
        raise LogFileError(
            f"--logfile {logfile}: {error.strerror}; name a file that this user may write"
        ) from None
    handler.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
    for old in _ours:
        root.removeHandler(old)
        old.close()
    _ours[:] = [handler]
    root.addHandler(handler)


def stack(frame: FrameType | None) -> str:
    """The stack of *frame* as text, without what every thread begins with."""
    entries = traceback.extract_stack(frame) if frame is not None else []
    mine = [entry for entry in entries if entry.filename != threading.__file__]
    return "".join(traceback.format_list(mine))


def thread_stacks(threads: Iterable[threading.Thread] | None = None) -> str:
    """The present stacks of *threads*, or of every thread of the process, as text."""
    frames = sys._current_frames()
    return "".join(
        f"Thread {thread.name}:\n{stack(frames[thread.ident])}"
        for thread in (threading.enumerate() if threads is None else threads)
        if thread.is_alive() and thread.ident in frames
    )

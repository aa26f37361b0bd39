"""Waiting until something in a directory changes: by inotify, or by the watchfiles library."""

import errno
import importlib.util
import math
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from sparts import inotify
from sparts.errors import MissingExtra, OptionError

__all__ = ["KINDS", "Events", "InotifyEvents", "WatchfilesEvents", "check", "open_events"]

#: What may be asked for; auto is the first of the next two that there is, off if there is none.
KINDS = ("auto", "inotify", "watchfiles", "off")

#: Milliseconds: how often watchfiles looks, and how long it collects.
_STEP = 50


class Events(Protocol):
    """Tells when there may be something new in the directories of the last look."""

    #: Why not all of them are watched; None if all are, which is so after a look that ended.
    trouble: OSError | None

    def begin(self) -> None:
        """A look begins: forget the directories of the one before, unless it meets them again."""

    def watch(self, directory: str) -> None:
        """The look is about to list *directory*."""

    def end(self) -> None:
        """The look has ended."""

    def wait(self, timeout: float) -> bool:
        """Wait for a change, or *timeout* seconds, or until woken; whether there was a change."""

    def wake(self) -> None:
        """End a wait; from any thread, also after ``close``."""

    def close(self) -> None:
        """Free everything."""


def _no_look() -> OSError:
    return OSError(errno.ENOENT, "nothing was looked at yet")


class InotifyEvents:
    """Changes told by the Linux kernel; waiting makes no wake-ups."""

    def __init__(self) -> None:
        self.trouble: OSError | None = _no_look()
        self._error: OSError | None = None
        self._inotify = inotify.Inotify()
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._lock = threading.Lock()
        self._closed = False
        self._watches: set[int] = set()
        self._before: set[int] = set()
        self._poll = select.poll()
        for each in (self._inotify, self._woken):
            self._poll.register(each, select.POLLIN)

    def begin(self) -> None:
        """As :meth:`Events.begin`."""
        self.trouble, self._error = _no_look(), None
        self._before |= self._watches
        self._watches = set()

    def watch(self, directory: str) -> None:
        """As :meth:`Events.watch`."""
        try:
            self._watches.add(self._inotify.add(directory))
        except OSError as error:
            self._error = error

    def end(self) -> None:
        """As :meth:`Events.end`."""
        for watch in self._before - self._watches:
            self._inotify.remove(watch)
        self._before = set()
        self.trouble = self._error

    def wait(self, timeout: float) -> bool:
        """As :meth:`Events.wait`."""
        deadline = time.monotonic() + timeout
        while True:
            left = max(0.0, deadline - time.monotonic())
            ready = self._poll.poll(None if left == math.inf else _milliseconds(left))
            if self._inotify.read():
                return True
            if any(fd == self._woken.fileno() for fd, _ in ready):
                self._woken.recv(4096)
                return False
            if left == 0.0:
                return False

    def wake(self) -> None:
        """As :meth:`Events.wake`."""
        with self._lock:
            if not self._closed:
                with suppress(BlockingIOError):  # full: it was woken often enough
                    self._waker.send(b"\0")

    def close(self) -> None:
        """As :meth:`Events.close`."""
        with self._lock:
            self._closed = True
            for each in (self._inotify, self._woken, self._waker):
                each.close()


class WatchfilesEvents:
    """Changes told by the watchfiles library, for systems other than Linux; it wakes often."""

    def __init__(self, recursive: bool) -> None:
        import watchfiles._rust_notify as engine  # its generator cannot be woken

        self.trouble: OSError | None = _no_look()
        self._error: OSError | None = None
        self._recursive = recursive
        self._make: Callable[..., Any] = engine.RustNotify
        self._notify: Any = None
        self._root: tuple[str, int, int] | None = None
        self._fresh: str | None = None
        self._stop = threading.Event()

    def begin(self) -> None:
        """As :meth:`Events.begin`."""
        self.trouble, self._error = _no_look(), None
        self._fresh = None

    def watch(self, directory: str) -> None:
        """As :meth:`Events.watch`; the first is the one that it is about."""
        if self._fresh is not None:
            return
        self._fresh = directory
        try:
            status = os.stat(directory)
            root = (directory, status.st_dev, status.st_ino)
            if root != self._root:
                self._notify = self._make([directory], False, False, 300, self._recursive, True)
                self._root = root
                self.wake()  # who waits for the old one
        except (OSError, RuntimeError) as error:
            self._fail(error)

    def _fail(self, error: OSError | RuntimeError) -> None:
        """Tell nothing more until a look can begin anew."""
        self._error = error if isinstance(error, OSError) else OSError(errno.EIO, str(error))
        self.trouble = self._error
        self._notify = self._root = None
        self.wake()

    def end(self) -> None:
        """As :meth:`Events.end`."""
        self.trouble = self._error

    def wait(self, timeout: float) -> bool:
        """As :meth:`Events.wait`."""
        notify = self._notify
        if notify is not None:
            limit = 0 if timeout == math.inf else max(1, _milliseconds(timeout))
            # Being woken makes it forget what it had collected: that may be a change too.
            changed = self._told(notify, limit) != "timeout"
        elif timeout == math.inf:
            changed = True  # since the caller saw that all was watched
        else:
            changed = self._stop.wait(min(timeout, threading.TIMEOUT_MAX))
        self._stop.clear()
        return changed

    def _told(self, notify: Any, limit: int) -> object:
        try:
            told: object = notify.watch(_STEP, _STEP, limit, self._stop)
        except RuntimeError as error:
            self._fail(error)
            return None
        return told

    def wake(self) -> None:
        """As :meth:`Events.wake`."""
        self._stop.set()

    def close(self) -> None:
        """As :meth:`Events.close`."""
        self._notify = None


def _milliseconds(seconds: float) -> int:
    """As many as system calls take, which is not more than 24 days'."""
    return math.ceil(min(seconds, 86400.0) * 1000)


def check(kind: str) -> str:
    """Which of inotify, watchfiles and off *kind*, one of KINDS, means here.

    :raises OptionError: this system has no inotify.
    :raises MissingExtra: watchfiles was asked for by name and is not installed.
    """
    if kind == "inotify" and not inotify.available():
        raise OptionError("events 'inotify' are Linux' own; accepted here: auto, watchfiles, off")
    installed = importlib.util.find_spec("watchfiles") is not None
    if kind == "watchfiles" and not installed:
        raise MissingExtra("a directory watched by 'watchfiles'", "watchfiles", "files")
    if kind != "auto":
        return kind
    if inotify.available():
        return "inotify"
    return "watchfiles" if installed else "off"


def open_events(kind: str, recursive: bool) -> Events | None:
    """What waits, of a *kind* that :func:`check` has given; None where that is off.

    :raises OSError: the system does not allow one more.
    """
    if kind == "off":
        return None
    return InotifyEvents() if kind == "inotify" else WatchfilesEvents(recursive)

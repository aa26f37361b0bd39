"""Runs on demand: callers ask for the next run of something and wait for what comes of it."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

__all__ = ["Demand", "joined", "not_running"]


class Demand:
    """The run that callers ask for: all who ask before it begins share it, and its future.

    From any thread. No future is left waiting: who takes one settles it, and ``close`` the last.
    """

    __slots__ = ("_future", "_lock", "_open", "closed", "on_change")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._future: Future[Any] | None = None
        self._open = False
        #: True for good once there are to be no more runs.
        self.closed = False
        #: Called when a run was asked for, in that thread, and at the end.
        self.on_change: Callable[[], object] = _nothing

    @property
    def pending(self) -> bool:
        """Whether a run was asked for and has not begun."""
        return self._future is not None

    def open(self) -> None:
        """From now on runs can be asked for, unless it was closed."""
        with self._lock:
            self._open = not self.closed

    def ask(self) -> "Future[Any]":
        """The future of the next run; a failed one before ``open`` and after ``close``.

        It cannot be cancelled, as others may wait for the same.
        """
        with self._lock:
            if not self._open:
                return _failed(not_running())
            if self._future is None:
                self._future = Future()
                self._future.set_running_or_notify_cancel()
            future = self._future
        self.on_change()
        return future

    def take(self) -> "Future[Any] | None":
        """What the run that begins now must settle; None if nobody asked for it."""
        with self._lock:
            future, self._future = self._future, None
        return future

    def close(self) -> None:
        """No more runs: fail the future that waits for one. More than once does no harm."""
        with self._lock:
            self._open, self.closed = False, True
            future, self._future = self._future, None
        self.on_change()
        if future is not None:
            future.set_exception(not_running())


def _nothing() -> None:
    pass


def not_running() -> RuntimeError:
    """The error of a future whose run will not come."""
    return RuntimeError("Worker not running")


def joined(first: "Future[Any] | None", later: "Future[Any] | None") -> "Future[Any] | None":
    """One future for both: what settles *first* settles *later* too."""
    if first is None or later is None:
        return later if first is None else first
    first.add_done_callback(lambda done: _pass_on(done, later))
    return first


def _pass_on(done: "Future[Any]", to: "Future[Any]") -> None:
    error = done.exception()
    if error is None:
        to.set_result(done.result())
    else:
        to.set_exception(error)


def _failed(error: Exception) -> "Future[Any]":
    future: Future[Any] = Future()
    future.set_exception(error)
    return future

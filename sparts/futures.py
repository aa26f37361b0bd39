"""A ``concurrent.futures.Future`` that makes its lock and condition only when somebody waits."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
    RUNNING,
)
from typing import Any, TypeVar

__all__ = ["GONE", "LazyFuture", "Ticket"]

T = TypeVar("T")

#: Each future that has no condition is guarded by one of these, by its address: with one for all,
#: workers would wait for each other. Held for a few assignments, never while anything is called.
#: Re-entrant, as a finaliser or a signal handler may run amid them.
_LOCKS = [threading.RLock() for _ in range(256)]
_OPEN = (PENDING, RUNNING)


class LazyFuture(Future[T]):
    """A standard future in every respect, but cheap while nobody waits for it.

    A ``Future`` takes 1.7 KB and most of the time of a ``submit`` for its condition. Here the
    attributes are the class's until they are set, and the condition is made when first asked for:
    by ``wait``, ``as_completed``, ``cancel``, or a ``result`` that has to wait. Until then one of
    ``_LOCKS`` guards the state, from then on the condition and the inherited methods do. Who makes
    the condition publishes it under that lock, so a change of state comes either wholly before,
    and is seen by the waiter, or after, and finds the condition.

    It builds on the attributes of the standard class, which tests hold it to.
    """

    # No call of a Python function, as there is nothing to set.
    __init__ = object.__init__

    _state: str = PENDING
    _result: T | None = None
    _exception: BaseException | None = None
    _waiters: Any = ()
    _done_callbacks: Any = ()
    _made: threading.Condition | None = None

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        made = self._made
        if made is None:
            # Made before the lock is taken: an allocation may run finalisers.
            fresh, waiters, callbacks = threading.Condition(), list[Any](), list[Any]()
            with _LOCKS[id(self) >> 6 & 255]:
                if self._made is None:
                    self._waiters = waiters
                    self._done_callbacks = self._done_callbacks or callbacks
                    self._made = fresh
                made = self._made
        return made

    # -- the worker's side ------------------------------------------------------------------------
    def set_running_or_notify_cancel(self) -> bool:
        """Begin; False if it was cancelled.

        :raises RuntimeError: it had begun before.
        """
        lock = _LOCKS[id(self) >> 6 & 255]
        lock.acquire()  # ``with`` takes twice as long
        try:
            if self._made is None and self._state == PENDING:
                self._state = RUNNING
                return True
        finally:
            lock.release()
        return super().set_running_or_notify_cancel()

    def set_result(self, result: T) -> None:
        """End with *result*, wake who waits, and call the callbacks in this thread.

        :raises InvalidStateError: it has ended before.
        """
        lock = _LOCKS[id(self) >> 6 & 255]
        lock.acquire()
        try:
            lazy = self._made is None and self._state in _OPEN
            if lazy:
                self._result = result
                self._state = FINISHED  # last: done() and result() look at it without the lock
        finally:
            lock.release()
        if not lazy:
            super().set_result(result)
        elif self._done_callbacks:
            self._invoke_callbacks()  # type: ignore[attr-defined]

    def resolve(self, result: T) -> None:
        """As :meth:`set_result`, but one that has ended stays as it is."""
        try:  # noqa: SIM105 (suppress() takes longer than all of the rest)
            self.set_result(result)
        except InvalidStateError:
            pass

    def set_exception(self, exception: BaseException | None) -> None:
        """End with *exception*, wake who waits, and call the callbacks in this thread.

        :raises InvalidStateError: it has ended before.
        """
        lock = _LOCKS[id(self) >> 6 & 255]
        lock.acquire()
        try:
            lazy = self._made is None and self._state in _OPEN
            if lazy:
                self._exception = exception
                self._state = FINISHED  # last: done() and result() look at it without the lock
        finally:
            lock.release()
        if not lazy:
            super().set_exception(exception)
        elif self._done_callbacks:
            self._invoke_callbacks()  # type: ignore[attr-defined]

    # -- the caller's side ------------------------------------------------------------------------
    def done(self) -> bool:
        """Whether it has ended or was cancelled."""
        return self._state not in _OPEN

    def running(self) -> bool:
        """Whether it has begun and not ended."""
        return self._state == RUNNING

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._state in (CANCELLED, CANCELLED_AND_NOTIFIED)

    def result(self, timeout: float | None = None) -> T:
        """Its result, waiting for it no longer than *timeout* seconds.

        :raises TimeoutError: it has not ended in time.
        :raises concurrent.futures.CancelledError: it was cancelled.
        :raises BaseException: the error that it ended with.
        """
        if self._state == FINISHED and self._exception is None:
            return self._result  # type: ignore[return-value]
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The error that it ended with, or None, waiting no longer than *timeout* seconds.

        :raises TimeoutError: it has not ended in time.
        :raises concurrent.futures.CancelledError: it was cancelled.
        """
        if self._state == FINISHED:
            return self._exception
        return super().exception(timeout)

    def add_done_callback(self, fn: Callable[["Future[T]"], object]) -> None:
        """Call ``fn(self)`` when it ends, in the thread that ends it; now if it has."""
        first = [fn]
        with _LOCKS[id(self) >> 6 & 255]:
            if self._made is None and self._state in _OPEN:
                if self._done_callbacks:
                    self._done_callbacks.append(fn)
                else:
                    self._done_callbacks = first
                return
        super().add_done_callback(fn)


class Ticket(LazyFuture[T]):
    """The future of an item in a queue, which it carries: one object less for each that waits.

    Whoever takes the item out, a deletion that only one can do, decides what becomes of it: the
    worker, which runs it, or who cancels. So to begin takes no lock.
    """

    item: Any
    #: Whose queue it is in; None once the item was taken.
    owner: object = None
    _dropped = False

    def take(self) -> Any:
        """Begin, and return the item; :data:`GONE` if it was cancelled."""
        self.owner = None
        try:
            item = self.item
            del self.item
        except AttributeError:
            super().cancel()  # who cancels may not have come to it yet
            self.set_running_or_notify_cancel()
            return GONE
        if self._state == PENDING:
            self._state = RUNNING
        return item

    def cancel(self) -> bool:
        """Cancel it unless it was begun; whether it is cancelled."""
        with _LOCKS[id(self) >> 6 & 255]:  # so that of two who cancel both hear that it is
            if not self._dropped:
                try:
                    del self.item
                except AttributeError:
                    return False
                self._dropped = True
        return super().cancel()


#: What :meth:`Ticket.take` gives for an item that was cancelled.
GONE: Any = object()


def _lay_out(cls: type[LazyFuture[Any]], **more: Any) -> None:
    """Set every attribute once: CPython lays out an object's space by what early ones needed.

    Without it, those made while many are waiting would each need a dictionary when they end.
    """
    first = cls()
    names = ("_state", "_result", "_exception", "_waiters", "_done_callbacks", "_made")
    for name, value in (*more.items(), *((name, getattr(first, name)) for name in names)):
        setattr(first, name, value)


_lay_out(LazyFuture)
_lay_out(Ticket, owner=None, item=None, _dropped=False)

"""The producers' side of a work queue: as a ``queue.Queue``, without a lock where that will do."""

import queue
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any, Protocol

from sparts.errors import NotRun
from sparts.workqueue.naps import nap, new_nap

__all__ = ["Intake", "Store", "Wake"]

#: Whether one operation on a deque or an attribute is seen by all threads before the next.
GIL = not sysconfig.get_config_var("Py_GIL_DISABLED")
#: Wakes a consumer that sleeps, or a producer that waits for room; called with the lock held.
Wake = Callable[[], object]


class Store(Protocol):
    """What holds the entries: a deque, or what has these of its methods."""

    def append(self, entry: Any, /) -> None: ...
    def popleft(self) -> Any: ...
    def __len__(self) -> int: ...


class Intake:
    """Entries, their bound, and who puts them; the rest is in :class:`sparts.workqueue.WorkQueue`.

    Under the GIL, ``pop`` and the ``put`` of an unbounded queue take no lock, as one that each item
    takes on both sides has the threads wait for each other at every item. They rely on the order of
    two steps: who is about to sleep first says so and then looks at the entries; who puts or pops
    first does that and then looks for sleepers. So one of them sees the other.
    """

    def __init__(self, maxsize: int, name: str, reject: bool, locked: bool) -> None:
        self.maxsize = maxsize
        self.reject = reject
        self._name = name
        self._mutex = threading.RLock()
        self._all_done = threading.Condition(self._mutex)
        #: What waits for a consumer.
        self.items: Store = self._new_store()
        #: A heap of what waits to be tried again: when it is due, a number, the entry.
        self._waiting: list[tuple[float, int, Any]] = []
        #: How many consumers may have entries in hand.
        self._busy = 0
        self._sleepers: list[Wake] = []
        self._producers: deque[Wake] = deque()
        self._closed = self._swept = False
        self._direct = maxsize <= 0 and not locked
        #: Take the next entry; IndexError if there is none.
        self.pop: Callable[[], Any] = self._pop
        if not locked:
            self.pop = self._pop_bounded if maxsize > 0 else self.items.popleft

    def _new_store(self) -> Store:
        return deque()

    def sweep(self) -> None:
        """Let go of all entries, as the end has come."""
        raise NotImplementedError

    # -- as a queue.Queue -------------------------------------------------------------------------
    def put(self, item: Any, block: bool | None = None, timeout: float | None = None) -> None:
        """Put *item*, waiting for room up to *timeout* seconds (None: for ever) if *block*.

        By default *block* is what ``reject`` says not to. The wait ends when the queue closes.

        :raises queue.Full: there was no room.
        :raises NotRun: the consumers were stopped.
        """
        if self._direct:
            self.items.append(item)
            if self._sleepers:
                self._attend()
        elif timeout is not None and timeout < 0:
            raise ValueError(f"timeout {timeout!r} is negative; give seconds, 0 or more")
        elif not self.offer(item):
            if self.reject if block is None else not block:
                raise self._full()
            self._put_waiting(item, timeout)

    def put_nowait(self, item: Any) -> None:
        """Put *item* if there is room; otherwise as :meth:`put`."""
        self.put(item, block=False)

    def qsize(self) -> int:
        """How many entries wait, for a consumer or to be tried again."""
        with self._mutex:
            return self._size()

    def empty(self) -> bool:
        """Whether no entry waits."""
        return not self.qsize()

    def full(self) -> bool:
        """Whether there is no room."""
        with self._mutex:
            return not self._fits()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until all that was put is done with, or *timeout* seconds; whether it is."""
        with self._all_done:
            return self._all_done.wait_for(self._is_done, timeout)

    def _size(self) -> int:
        return len(self.items) + len(self._waiting)

    def _fits(self) -> bool:
        return self.maxsize <= 0 or self._size() < self.maxsize

    def _is_done(self) -> bool:
        return not (self._busy or self._size())

    def _full(self) -> queue.Full:
        return queue.Full(f"{self._name} is full: {self.maxsize} items wait (max-items)")

    def refusal(self) -> NotRun:
        """The error for what comes after the end."""
        return NotRun(
            f"Worker not running: {self._name} was stopped; who puts work into it should name it "
            "in DEPS, and so be stopped before it"
        )

    # -- producers --------------------------------------------------------------------------------
    def offer(self, item: Any, wake: Wake | None = None) -> bool:
        """Put *item* and return True, or else have *wake* called when there may be room.

        :raises NotRun: the consumers were stopped.
        """
        with self._mutex:
            if self._closed:
                raise self.refusal()
            if not self._fits():
                if wake is None:
                    return False
                self._producers.append(wake)
                if not self._fits():  # looked at again: a consumer may have popped unseen
                    return False
                self._producers.remove(wake)
            self.items.append(item)
            self._wake_sleeper()
        return True

    def withdraw(self, wake: Wake) -> bool:
        """Take back *wake*, as given to :meth:`offer`; False if it was called before."""
        with self._mutex:
            if wake in self._producers:
                self._producers.remove(wake)
                return True
            return False

    def pass_on(self) -> None:
        """Wake another producer: who was woken has no use for the room."""
        with self._mutex:
            if self._producers:
                self._producers.popleft()()

    def _put_waiting(self, item: Any, timeout: float | None) -> None:
        until = inf if timeout is None else time.monotonic() + timeout
        lock = new_nap()
        while not self.offer(item, lock.release):
            try:
                woken = nap(lock, until - time.monotonic())
            except BaseException:  # ^C in the main thread
                if not self.withdraw(lock.release):
                    self.pass_on()
                raise
            if not woken and self.withdraw(lock.release):
                raise self._full()
            if not woken:
                lock.acquire()  # it was, just now

    def _attend(self) -> None:
        """After a put without the lock: a consumer sleeps, or the end has come meanwhile."""
        with self._mutex:
            late = self._swept
            if not late:
                self._wake_sleeper()
        if late:
            self.sweep()

    # -- with the lock held, but for the first two ------------------------------------------------
    def _pop(self) -> Any:
        with self._mutex:
            entry = self.items.popleft()
            self._make_room()
            return entry

    def _pop_bounded(self) -> Any:
        entry = self.items.popleft()
        if self._producers:
            with self._mutex:
                self._make_room()
        return entry

    def _make_room(self) -> None:
        if self._producers and self._fits():
            self._producers.popleft()()

    def _wake_producers(self) -> None:
        while self._producers:
            self._producers.popleft()()

    def _wake_sleeper(self) -> None:
        if self._sleepers and not self._closed:
            self._sleepers.pop()()

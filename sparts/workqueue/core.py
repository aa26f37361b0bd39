"""The work queue: its consumers, retries that wait, and a clean end."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from math import inf
from typing import Any

from sparts.workqueue.intake import GIL, Intake, Wake
from sparts.workqueue.naps import nap

__all__ = ["WorkQueue"]


class WorkQueue(Intake):
    """First in, first out. An entry is an item or an :class:`ExecuteContext` of one.

    Producers use it as a ``queue.Queue``. A consumer counts itself in by :meth:`enlist`, then calls
    ``pop`` until that raises IndexError, looks at ``alarm`` between two entries and calls
    :meth:`ring` when it is past, and at last :meth:`rest`, which ends when there is more to do.
    """

    def __init__(
        self,
        maxsize: int = 0,
        *,
        name: str = "the queue",
        reject: bool = False,
        left: Callable[[list[Any]], object] = bool,
        locked: bool = not GIL,
    ) -> None:
        """*left* is called with entries that will not be run; *reject* is for ``put`` when full.

        Above 0, *maxsize* bounds the entries that producers put. One that is put back keeps its
        place, so there may be as many more as there are consumers. *locked*: always take the lock.
        """
        super().__init__(maxsize, name, reject, locked)
        self._left = left
        self._numbers = itertools.count()
        #: Whether entries are no longer put back, as a stop was asked for.
        self.draining = False
        #: The monotonic time when a consumer is to call ``ring``, and the one that a sleeper minds.
        self.alarm = self._minded = inf

    # -- consumers --------------------------------------------------------------------------------
    def enlist(self) -> None:
        """A consumer begins to take entries."""
        with self._mutex:
            self._busy += 1

    def settle(self) -> None:
        """A consumer is done with all that it took, and takes no more."""
        with self._mutex:
            self._busy -= 1
            self._tell_joiners()

    def rest(self, lock: threading.Lock) -> bool:
        """Settle, sleep until there is something to do, and enlist; False at the end.

        *lock* is the thread's own, from :func:`new_nap`.
        """
        self.settle()
        while (seconds := self.doze(lock.release)) > 0:
            woken = nap(lock, seconds)
            if not self.rouse(lock.release, seconds) and not woken:
                lock.acquire()  # it was, just now
        return seconds == 0

    def doze(self, wake: Wake) -> float:
        """0 if there is something to do, for which it enlists; below 0 at the end.

        Otherwise for how many seconds to sleep, unless *wake* is called, and then to :meth:`rouse`.
        """
        now = time.monotonic()
        with self._mutex:
            self._sleepers.append(wake)
            if not (self.items or self._closed or self.alarm <= now):
                if self._minded <= self.alarm:  # some other sleeper wakes by then
                    return inf
                self._minded = self.alarm
                return self.alarm - now
            self._sleepers.remove(wake)
            if self._closed and not self.items and self.alarm > now:
                return -1
            self._busy += 1
            return 0

    def rouse(self, wake: Wake, seconds: float) -> bool:
        """After a sleep of up to *seconds*, whether it ended without a call of *wake*."""
        with self._mutex:
            if seconds < inf:
                self._minded = inf
            if wake in self._sleepers:
                self._sleepers.remove(wake)
                return True
            self._mind()
            return False

    def retry(self, entry: Any, delay: float) -> None:
        """Put *entry* back, to be taken in *delay* seconds; it waits for no room.

        Once a stop was asked for it is left instead.
        """
        with self._mutex:
            if not self.draining:
                if delay > 0:
                    number = next(self._numbers)
                    heapq.heappush(self._waiting, (time.monotonic() + delay, number, entry))
                    self._set_alarm()
                    self._mind()
                else:
                    self.items.append(entry)
                    self._wake_sleeper()
                return
        self._left([entry])

    def ring(self, now: float) -> None:
        """The alarm is past: put in what is due, or in a stop let go of all that waits."""
        left: list[Any] = []
        with self._mutex:
            if self.draining:
                left = self._take_waiting()
                self._wake_producers()
            due = 0
            while self._waiting and self._waiting[0][0] <= now:
                self.items.append(heapq.heappop(self._waiting)[2])
                due += 1
            self._set_alarm()
            for _ in range(due - 1):  # one is for who calls
                self._wake_sleeper()
            self._mind()
        if left:
            self._left(left)

    # -- the end ----------------------------------------------------------------------------------
    def drain(self) -> None:
        """A stop was asked for: have nothing tried again, and what waits for that let go of."""
        with self._mutex:
            self.draining = True
            self._set_alarm()
            self._mind()

    def close(self) -> None:
        """Take in nothing more. Consumers end when they find nothing to do."""
        with self._mutex:
            self.drain()
            if not self._closed:
                self._closed, self._direct = True, False
                # Never empty again, so that a put that is past its look at _direct comes to see.
                sleepers, self._sleepers = self._sleepers, [lambda: None]
                for wake in sleepers:
                    wake()
                self._wake_producers()

    def sweep(self) -> None:
        """Close, and let go of all that was not taken, which ``left`` is told of."""
        with self._mutex:
            self.close()
            self._swept = True
            left = self._take_items() + self._take_waiting()
            self._set_alarm()
            self.enlist()  # so that join() returns only when that was told
        if left:
            self._left(left)
        self.settle()

    # -- with the lock held -----------------------------------------------------------------------
    def _mind(self) -> None:
        """See to it that somebody minds the alarm: a sleeper, where all others may be at work."""
        if self.alarm < self._minded:
            self._wake_sleeper()

    def _set_alarm(self) -> None:
        if self._waiting:
            self.alarm = -inf if self.draining else self._waiting[0][0]
        else:
            self.alarm = inf

    def _tell_joiners(self) -> None:
        if self._is_done():
            self._all_done.notify_all()

    def _take_items(self) -> list[Any]:
        items: list[Any] = []
        try:
            while True:  # until there is none: consumers may be popping too
                items.append(self.items.popleft())
        except IndexError:
            return items

    def _take_waiting(self) -> list[Any]:
        waiting = [entry for _, _, entry in sorted(self._waiting)]
        self._waiting.clear()
        return waiting

"""The calls that block: how many have a worker, and which wait for one, not too long."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from sparts.thrift.server.calls import Call
from sparts.thrift.server.connection import Connection
from sparts.thrift.server.crew import Crew
from sparts.thrift.server.loop import Loop

__all__ = ["Work", "Workload"]

#: A call that is to be run, and whose it is.
Work = tuple[Connection, Call]


class Workload:
    """What the threads of an engine that do not lead are at, or will be.

    A thread is the worker of one call at a time. It stands by again only when no call waits, and a
    call waits only when no thread stands by: both are decided under one lock.
    """

    def __init__(
        self, crew: Crew, loop: Loop, timeout: float, refuse: Callable[..., object]
    ) -> None:
        """*refuse(connection, call, why)* is called, by the leader, for what waited *timeout* s."""
        self._crew = crew
        self._loop = loop
        self._timeout = timeout
        self._refuse = refuse
        self._lock = threading.Lock()
        self._waiting: deque[Work] = deque()
        self._busy = 0
        self._is_timed = False

    @property
    def load(self) -> int:
        """Calls that wait for a worker, have one or are run by somebody else."""
        return len(self._waiting) + self._busy

    @property
    def busy(self) -> int:
        """Calls that have a worker or are run by somebody else."""
        return self._busy

    def begin(self) -> None:
        """A call is under way, outside of the leader's loop."""
        with self._lock:
            self._busy += 1

    def end(self) -> None:
        """It is not any more, and it was nobody's of the engine's threads."""
        with self._lock:
            self._busy -= 1

    def take_on(self, work: Work) -> bool:
        """Have the leader, which asks, be the worker of *work*, and another lead; or let it wait.

        :returns: whether the caller is the worker, and leads no more.
        """
        with self._lock:
            if self._crew.pass_on():
                self._busy += 1
                return True
            self._waiting.append(work)
        if not self._is_timed:
            self._time(self._timeout)
        return False

    def next(self) -> Work | None:
        """For a worker that is done: what it is to run next; None, and it is a worker no more."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._busy -= 1
            return None

    def stands_by(self) -> None:
        """A thread stands by, so a call that waits may have it."""
        with self._lock:
            waits = bool(self._waiting)
        if waits:
            self._loop.post(_nothing)

    def employ(self) -> Work | None:
        """For the leader: what waits, if another stands by to lead; the caller is its worker."""
        if not self._waiting:
            return None
        with self._lock:
            if not self._waiting or not self._crew.pass_on():
                return None
            self._busy += 1
            return self._waiting.popleft()

    # -- those that wait too long, in the leader's thread -----------------------------------------
    def _time(self, delay: float) -> None:
        self._is_timed = True
        self._loop.call_later(delay, self._refuse_late)

    def _refuse_late(self) -> None:
        self._is_timed = False
        while (late := self._late()) is not None:
            self._refuse(*late, f"no thread was free for {self._timeout:g} s")
        with self._lock:
            first = self._waiting[0] if self._waiting else None
        if first is not None and not self._is_timed:
            self._time(max(0.0, self._remaining(first)))

    def _late(self) -> Work | None:
        with self._lock:
            if self._waiting and self._remaining(self._waiting[0]) <= 0:
                return self._waiting.popleft()
            return None

    def _remaining(self, work: Work) -> float:
        return work[1].arrived + self._timeout - time.monotonic()


def _nothing() -> Any:
    """What is posted only to wake the leader."""

"""Who leads: the threads of an engine, of which one runs the loop and the others stand by.

The leader runs handlers itself, with no hand-over, as long as they are quick. Around each it has a
*claim*, and whoever takes the claim back owns the loop: the leader itself, which goes on; or the
*watcher*, one of the others, which looks twice at what the leader is doing and takes the loop over
from a leader that is stuck. The deposed leader ends what it does and stands by again. A leader that
knows beforehand that a handler will block passes the loop on first.

The watcher looks five hundred times a second, but only while there is traffic; nobody wakes up
without it.
"""

import threading
from collections.abc import Callable
from typing import Any, Final

__all__ = ["Crew"]

#: Seconds between two looks at the leader.
_TICK: Final = 0.002
#: Seconds between the first look at a call and the second. Without it, the interpreter's forced
#: switch of threads (every 5 ms by default) would look like a handler that blocks.
_AGAIN: Final = 0.0001
#: Looks without traffic until the watcher sleeps.
_PATIENCE: Final = 20

_LEAD, _WATCH, _LEAVE = "lead", "watch", "leave"


class _Place:
    """Where one thread stands by until it is given a role."""

    __slots__ = ("bell", "role")

    def __init__(self) -> None:
        self.bell = threading.Lock()
        self.bell.acquire()
        self.role = ""

    def call(self, role: str) -> None:
        self.role = role
        if self.bell.locked():  # else an earlier call was not heard yet, and this stands for both
            self.bell.release()


class Crew:
    """The roles of an engine's threads, and the claim on the loop."""

    def __init__(self, taken: Callable[[Any], object]) -> None:
        """*taken(what)* is called by who takes the loop from a leader that is stuck in *what*, as
        it stands in :attr:`claims`; the deposed leader waits that long. It must not block."""
        self._taken = taken
        self._lock = threading.Lock()
        self._led = False
        self._over = False
        self._standing: list[_Place] = []
        #: Who would take the loop over; None: nobody.
        self.watcher: _Place | None = None
        #: Holds, under the key 0, what the leader is at: it puts it there before something that
        #: might block, and pops it after. If it is gone by then, the loop was taken over. That is
        #: done in place, without a call, as it is done for every call of a client.
        self.claims: dict[int, Any] = {}
        #: Grows with the traffic; the leader counts.
        self.turns = 0

    # -- what all do ------------------------------------------------------------------------------
    def stand_by(self, joined: Callable[[], object] = bool) -> bool:
        """Wait in this thread until it leads: the loop was free, passed on, or taken over.

        *joined()* is called when the thread stands by, before it waits.

        :returns: False when all is over.
        """
        with self._lock:
            if self._over:
                return False
            if not self._led:
                self._led = True
                return True
            place = self._join()
        joined()
        while True:
            place.bell.acquire()
            if place.role != _WATCH:
                return place.role == _LEAD
            leads = self._watch(place)
            if leads is not None:
                return leads

    def _join(self) -> _Place:
        place = _Place()
        if self.watcher is None:
            self.watcher = place
            place.call(_WATCH)
        else:
            self._standing.append(place)
        return place

    # -- what the leader does ---------------------------------------------------------------------
    def deposed(self) -> None:
        """Wait until who took the loop over has done so."""
        with self._lock:
            return

    def attend(self) -> None:
        """There is traffic: have somebody watch, if anybody stands by."""
        self.turns += 1
        if self.watcher is None and self._standing:
            with self._lock:
                if self.watcher is None and self._standing:
                    self.watcher = self._standing.pop()
                    self.watcher.call(_WATCH)

    def pass_on(self) -> bool:
        """Have another thread lead; False if there is none, and the caller goes on leading."""
        with self._lock:
            if self._standing:
                self._standing.pop().call(_LEAD)
            elif self.watcher is not None:
                heir, self.watcher = self.watcher, None
                heir.call(_LEAD)
            else:
                return False
        return True

    def dismiss(self) -> None:
        """All is over: who stands by leaves, who comes later does not stay."""
        with self._lock:
            self._over = True
            leaving, self._standing = self._standing, []
            if self.watcher is not None:
                leaving.append(self.watcher)
                self.watcher = None
            for place in leaving:
                place.call(_LEAVE)

    # -- what the watcher does --------------------------------------------------------------------
    def _watch(self, place: _Place) -> bool | None:
        """Look at the leader until this thread leads (True), leaves (False) or rests (None)."""
        turns, quiet = -1, 0
        while quiet < _PATIENCE:
            if place.bell.acquire(timeout=_TICK):
                return place.role == _LEAD
            found = self.claims.get(0)
            if found is not None:
                if place.bell.acquire(timeout=_AGAIN):
                    return place.role == _LEAD
                if self.claims.get(0) is found and self._take(place):
                    return True
            quiet = quiet + 1 if turns == self.turns else 0
            turns = self.turns
        return self._rest(place)

    def _take(self, place: _Place) -> bool:
        with self._lock:
            taken = self.claims.pop(0, None)
            if taken is None:
                return False
            if self.watcher is place:  # or a dismissal came between; the loop finds out
                self.watcher = None
            self._taken(taken)
            return True

    def _rest(self, place: _Place) -> bool | None:
        with self._lock:
            if self.watcher is place:
                self.watcher = None
                self._standing.append(place)
                return None
        place.bell.acquire()  # somebody gave it a role just now
        return place.role == _LEAD

"""The life of a service as one table: its states, the moves between them, and the first failure.

Only the thread that runs the service moves it; any thread (and any signal handler) may ask for a
stop, report a failure, or wait. Every wait is on one condition: nothing polls.
"""

import enum
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sparts.errors import LifecycleError, SpartsError

__all__ = ["MOVES", "Failure", "Lifecycle", "State", "exit_status"]


class State(enum.Enum):
    """Where a service stands in its life."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


#: Every legal move; a stop before the start goes through STOPPING too, so listeners see one shape.
MOVES: Mapping[State, frozenset[State]] = {
    State.NEW: frozenset({State.STARTING, State.STOPPING}),
    State.STARTING: frozenset({State.RUNNING, State.STOPPING}),
    State.RUNNING: frozenset({State.STOPPING}),
    State.STOPPING: frozenset({State.STOPPED, State.FAILED}),
    State.STOPPED: frozenset(),
    State.FAILED: frozenset(),
}


@dataclass(frozen=True)
class Failure:
    """Why a service failed: the name of the task (or hook), and what it raised."""

    source: str
    error: BaseException

    @property
    def status(self) -> int:
        """The exit status that tells of it, never 0."""
        return exit_status(self.error)


def exit_status(error: BaseException) -> int:
    """The exit status for *error*: a SystemExit's code if 1 to 255, an error's ``status``, or 1."""
    if isinstance(error, SpartsError):
        return error.status
    code = error.code if isinstance(error, SystemExit) else None
    return code if isinstance(code, int) and 0 < code < 256 else 1


Listener = Callable[[State, State], None]


class Lifecycle:
    """One service's state, whether a stop was asked for, and its first failure."""

    def __init__(self, logger: logging.Logger) -> None:
        # Re-entrant: a user's signal handler may call stop() while this thread holds it.
        self._changed = threading.Condition(threading.RLock())
        self.logger = logger
        self._state = State.NEW
        self._stop_requested = False
        self._failure: Failure | None = None
        self._listeners: list[Listener] = []
        self._stop_listeners: list[Callable[[], None]] = []

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    @property
    def stop_requested(self) -> bool:
        """Whether someone asked for a stop, or something failed; it never turns false again."""
        return self._stop_requested

    @property
    def failure(self) -> Failure | None:
        """The first failure, which the exit status tells; None while all is well."""
        return self._failure

    @property
    def ended(self) -> bool:
        """Whether no move is left."""
        return not MOVES[self._state]

    def move(self, new: State) -> None:
        """Move to *new* and tell the listeners ``(old, new)``, in this thread, in order of arrival.

        :raises LifecycleError: the table does not allow the move.
        """
        with self._changed:
            old = self._state
            if new not in MOVES[old]:
                allowed = ", ".join(state.name for state in MOVES[old]) or "nothing"
                raise LifecycleError(f"no move from {old.name} to {new.name}; legal: {allowed}")
            self._state = new
            self._changed.notify_all()
        for listener in tuple(self._listeners):
            self._tell(f"on {old.name} -> {new.name}", listener, old, new)

    def listen(self, listener: Listener) -> None:
        """Call *listener(old, new)* after every move from now on."""
        self._listeners.append(listener)

    def on_stop_request(self, callback: Callable[[], None]) -> None:
        """Call *callback* once, when a stop is asked for; at once if it was. It must not block."""
        with self._changed:
            if not self._stop_requested:
                self._stop_listeners.append(callback)
                return
        self._tell("on a stop request", callback)

    def request_stop(self) -> None:
        """Ask for a stop and return at once; from any thread, in any phase, more than once."""
        with self._changed:
            callbacks, self._stop_listeners = self._stop_listeners, []
            self._stop_requested = True
            self._changed.notify_all()
        for callback in callbacks:
            self._tell("on a stop request", callback)

    def _tell(self, when: str, listener: Callable[..., None], *arguments: State) -> None:
        """Call *listener*; that it fails must keep neither the others nor the service's end."""
        try:
            listener(*arguments)
        except Exception:
            self.logger.exception("A listener failed %s", when)

    def fail(self, source: str, error: BaseException) -> bool:
        """Record a failure and ask for a stop; True if it was the first."""
        with self._changed:
            first = self._failure is None
            if first:
                self._failure = Failure(source, error)
        self.request_stop()
        return first

    def finish(self) -> None:
        """Move from STOPPING to its end, STOPPED or FAILED, unless that was done already."""
        try:
            self.move(State.FAILED if self._failure else State.STOPPED)
        except LifecycleError:
            if not self.ended:
                raise

    def notify(self) -> None:
        """Wake every :meth:`wait_for`, as something that they look at has changed."""
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until *predicate()* is true or *timeout* seconds have passed; its last value."""
        with self._changed:
            return self._changed.wait_for(predicate, timeout)

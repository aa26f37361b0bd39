"""When a call may be made again: after which errors, how often, how soon, at what cost."""

import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sparts.errors import OptionError
from sparts.thrift.clients.forks import renew_in_child
from sparts.thrift.errors import BadStatus, ClientError, ConnectFailed, ConnectionLost, Overloaded

__all__ = ["Backoff", "RetryBudget", "RetryPolicy", "Tries"]

#: The errors after which another try can help.
_RETRIABLE = (ConnectFailed, ConnectionLost, Overloaded, BadStatus)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double from *first* up to *last* seconds, each shortened by up to half by chance.

    The chance keeps clients that failed together from coming back together.
    """

    first: float
    last: float

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise OptionError(
                f"a backoff from {self.first!r} to {self.last!r} seconds; give 0 <= first <= last"
            )

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many *failures* in a row, 1 or more."""
        doublings = min(failures - 1, 60)  # beyond that it is at its last anyway
        return min(self.last, self.first * 2.0**doublings) * random.uniform(0.5, 1.0)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A call is made *attempts* times at most, with the waits of *backoff* between them.

    To go on to another endpoint after a failed connect is no attempt: the call was not made.
    """

    attempts: int = 3
    backoff: Backoff = Backoff(0.05, 1.0)

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise OptionError(f"{self.attempts!r} attempts; give 1 (no retries) or more")


class RetryBudget:
    """A token bucket that every retry draws on, so that retries cannot multiply an outage.

    Each call puts in *ratio* of a token and each second *per_second*, up to *most*; a retry takes
    a whole one. Thus of a server that is down no more than that share is asked again. Safe to
    share between threads, and between clients of the same servers.
    """

    def __init__(
        self,
        ratio: float = 0.1,
        per_second: float = 1.0,
        most: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*clock* gives seconds, for tests."""
        if min(ratio, per_second, most) < 0:
            raise OptionError(
                f"a retry budget of {ratio!r} a call, {per_second!r} a second, {most!r} at most; "
                "give numbers of 0 or more"
            )
        self.ratio, self.per_second, self.most = ratio, per_second, most
        self._clock = clock
        self._tokens = most
        self._last = clock()
        # A counter in C: to count a call costs nothing to speak of, and needs no lock.
        self._calls = itertools.count()
        self._seen = 0
        #: To be called once for every call.
        self.note_call: Callable[[], int] = self._calls.__next__
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Another thread of the parent may have held the lock."""
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take a token for one retry; False when there is none."""
        with self._lock:
            self._fill()
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            return True

    def _fill(self) -> None:
        now, calls = self._clock(), next(self._calls)
        earned = (calls - self._seen) * self.ratio + (now - self._last) * self.per_second
        self._tokens = min(self.most, self._tokens + earned)
        self._last, self._seen = now, calls + 1


class Tries:
    """The attempts of one call; made when the first one has failed."""

    def __init__(
        self, policy: RetryPolicy, budget: RetryBudget, idempotent: bool, deadline: float
    ) -> None:
        """*deadline* is a time of ``time.monotonic()``."""
        self._policy = policy
        self._budget = budget
        self._idempotent = idempotent
        self._deadline = deadline
        self._made = 0

    def delay_after(self, error: ClientError | Overloaded, elsewhere: bool) -> float:
        """Seconds to wait until the next try; *elsewhere*: an endpoint is left that was not tried.

        :raises ClientError: *error* itself, when there is to be no other try.
        """
        if isinstance(error, ConnectFailed) and elsewhere and time.monotonic() < self._deadline:
            return 0.0
        self._made += 1
        if not self._may_follow(error):
            raise error
        delay = self._policy.backoff.delay(self._made)
        if time.monotonic() + delay >= self._deadline or not self._budget.take():
            raise error
        return delay

    def _may_follow(self, error: ClientError | Overloaded) -> bool:
        return (
            isinstance(error, _RETRIABLE)
            and (self._idempotent or not error.maybe_run)
            and self._made < self._policy.attempts
        )

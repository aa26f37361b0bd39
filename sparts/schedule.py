"""When the next run is due: at a fixed rate on the monotonic clock, or by cron on the wall clock.

A schedule knows times, no threads and no tasks: whoever runs things asks it to ``advance`` to the
next run, waits the ``delays`` that it gives, and runs.
"""

import math
import random
import time
import zoneinfo
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Protocol

from sparts.errors import MissingExtra, OptionError, nearest

__all__ = ["Cron", "FixedRate", "Pace", "Schedule"]

#: Seconds after which a wait for the wall clock looks at it anew, as it may have been set.
LONGEST_WAIT = 3600.0
#: A wall clock set back by more seconds than this was wrong; by less, it just waits to catch up.
SET_BACK = 3 * 3600.0
#: A jump of the wall clock counts as no more missed runs than this.
MOST_MISSED = 1000


class Pace(Protocol):
    """What a schedule reads anew for every run, in seconds: the interval, above 0, and the jitter.

    With jitter each run comes later by up to that much, at random; the next ones are not put off.
    """

    @property
    def interval(self) -> float: ...
    @property
    def jitter(self) -> float: ...


class Schedule(Protocol):
    """When to run next. Not for more than one thread at a time."""

    def advance(self) -> int:
        """Turn to the next time; how many passed meanwhile, and are missed and skipped.

        A time that is still to come stays the next one, however many runs there were before it.
        """

    def delays(self) -> Iterator[float]:
        """Seconds to wait, one after the other, each worked out when the one before is over.

        When there are no more the time has come. Leave off at will, and begin again.
        """


class FixedRate:
    """Every ``pace.interval`` seconds from the first time, which is at once.

    The times are multiples of the interval, so they do not drift, however late a run or a wake-up
    was. Those that have passed are skipped: there is one run at a time and never a burst of them.
    A changed interval counts from when ``advance`` sees it.
    """

    __slots__ = ("_clock", "_count", "_interval", "_origin", "_pace", "_served", "due")

    def __init__(self, pace: Pace, clock: Callable[[], float] = time.monotonic) -> None:
        self._pace = pace
        self._clock = clock
        self._interval = 0.0  # none yet
        self._origin = 0.0
        self._count = 0
        self._served = False
        #: When the next run is due, in the clock's seconds.
        self.due = 0.0

    def advance(self) -> int:
        """As :meth:`Schedule.advance`; a time counts as missed only when its jitter is over too."""
        now, interval = self._clock(), self._pace.interval
        jitter = min(self._pace.jitter, interval)
        missed = 0
        if interval != self._interval or (self._served and self.due - now > interval / 2):
            # The first time; or the interval was changed, or a wait cut short, as tests do.
            self._count = 0 if self._interval == 0.0 else 1
            self._origin, self._interval = now, interval
        else:
            self._count += self._served
            late = now - jitter - (self._origin + self._count * interval)
            missed = max(0, math.ceil(late / interval))
            if not (missed or self._served):
                return 0
            self._count += missed
        self._served = False
        self.due = self._origin + self._count * interval + random.uniform(0.0, jitter)
        return missed

    def delays(self) -> Iterator[float]:
        """As :meth:`Schedule.delays`: one, or none if the time has come."""
        left = self.due - self._clock()
        if left > 0:
            yield left
        self._served = True


class Cron:
    """At the times of a cron expression, by the wall clock in a time zone.

    *expression* has five fields (minute, hour, day of month, month, day of week), or six with the
    second first; *zone* is a name such as ``Europe/Berlin``. Of ``pace`` only the jitter counts.

    No run is early, and none is doubled when the clock is set back by up to three hours, or for the
    end of summer time: runs go on when it has caught up. Set back by more, the clock is taken to
    have been wrong, and its new time holds. A clock set forward is noticed within an hour: one run
    for the times passed over, the others are missed (1,000 of them at most are counted).

    :raises MissingExtra: cronsim is not installed.
    :raises OptionError: *expression* or *zone* is wrong, or no time ever matches.
    """

    def __init__(
        self, expression: str, zone: str, pace: Pace, clock: Callable[[], float] = time.time
    ) -> None:
        self._parse = _cronsim(expression)
        self._zone = _zone(zone)
        self._expression = expression
        self._pace = pace
        self._clock = clock
        self._slot = self._seen = clock()
        self._served = True
        #: When the next run is due, in Unix seconds.
        self.due = next(self._times(self._slot))

    def advance(self) -> int:
        """As :meth:`Schedule.advance`."""
        now = self._look()
        missed = 0
        times = self._times(self._slot)
        slot = next(times) if self._served else self._slot
        while slot + self._pace.jitter < now:
            missed += 1
            slot = next(times if missed < MOST_MISSED else self._times(now))
        if missed or self._served:
            self._turn_to(slot)
        return missed

    def delays(self) -> Iterator[float]:
        """As :meth:`Schedule.delays`: each an hour at most, and until the wall clock is there."""
        while True:
            now = self._look()
            if now >= self.due:
                break
            yield min(self.due - now, LONGEST_WAIT)
        self._served = True

    def _look(self) -> float:
        """The time; if the clock was set back far, the times begin anew from there."""
        now = self._clock()
        if now < self._seen - SET_BACK:
            self._turn_to(next(self._times(now)))
        self._seen = now
        return now

    def _turn_to(self, slot: float) -> None:
        self._slot, self._served = slot, False
        self.due = slot + random.uniform(0.0, self._pace.jitter)

    def _times(self, after: float) -> Iterator[float]:
        """The matching times later than *after*, in order."""
        for moment in self._parse(self._expression, datetime.fromtimestamp(after, self._zone)):
            found = moment.timestamp()
            if found > after:  # at the end of summer time it may give the first of two equal hours
                yield found
                after = found
        raise OptionError(f"SCHEDULE {self._expression!r} matches no time; write one that comes")


def _cronsim(expression: str) -> Any:
    """The cronsim library's class for *expression*, which it has taken."""
    try:
        import cronsim
    except ImportError:
        raise MissingExtra("a SCHEDULE", "cronsim", "cron") from None
    try:
        cronsim.CronSim(expression, datetime(2000, 1, 1))
    except cronsim.CronSimError as error:
        raise OptionError(
            f"SCHEDULE {expression!r} is no cron expression ({error}); write minute, hour, "
            "day of month, month and day of week, as in '*/5 * * * *'"
        ) from None
    return cronsim.CronSim


def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        near = nearest(name, zoneinfo.available_timezones())
        raise OptionError(
            f"TIMEZONE {name!r} is no time zone{near or '; give one such as Europe/Berlin or UTC'}"
        ) from None

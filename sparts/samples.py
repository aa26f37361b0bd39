"""Samples: count, sum, average, extremes and percentiles of the last minute's or hour's values."""

import itertools
import math
import sys
import threading
import time
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sparts.declared import CallbackCounter, Counter, Declared
from sparts.errors import OptionError, nearest
from sparts.series import SampleType, Series

__all__ = ["SampleType", "Samples"]

#: How many values wait to be counted: to count many at once is cheaper.
_BATCH = 256
#: A window is counted in at most as many ticks, of a second each if that will do.
_TICKS = 3600
_HIGHEST = sys.float_info.max
_LOWEST = -_HIGHEST


class Samples(Declared):
    """Values over sliding windows; ``samples(types=[SampleType.AVG, SampleType.P99])``.

    Each of *types* is told for each of *windows*, in seconds. A value leaves a window of W seconds
    W seconds after it came, to the second (past an hour's window, to 1/3600 of the window); how
    percentiles are kept, and when not so exactly, is said in :mod:`sparts.percentiles`. What is
    kept does not depend on how many values come, only on how many seconds had any: with windows of
    a minute and an hour less than 256 KiB. In an empty window count and sum are 0, all else None.

    Use it from any thread. *name* stands in place of the attribute's name where it is listed.

    :raises OptionError: a type or a window is none.
    """

    #: The clock, monotonic seconds; tests replace it.
    _now = staticmethod(time.monotonic)

    def __init__(
        self,
        types: Iterable[SampleType | str] = (SampleType.AVG,),
        windows: Iterable[int] = (60, 3600),
        name: str | None = None,
    ) -> None:
        self.name = name
        self._types = tuple(dict.fromkeys(map(_sample_type, types)))
        lengths = tuple(dict.fromkeys(map(_window, windows)))
        if not self._types or not lengths:
            raise OptionError("samples: no types or no windows; give at least one of each")
        prefix = f"{name}." if name else ""
        self._keys = {
            f"{prefix}{kind}.{window}": (kind, window) for kind in self._types for window in lengths
        }
        #: The windows by how many seconds a tick of theirs lasts.
        self._windows = {
            resolution: tuple(group)
            for resolution, group in itertools.groupby(sorted(lengths), key=_resolution)
        }
        self._restart()

    def _restart(self) -> None:
        # Re-entrant, for the garbage collector may run a finaliser that adds to the same samples.
        self._lock = threading.RLock()
        self._busy = False
        #: Values of the tick under way, not counted yet. Anybody may append, without the lock: only
        #: who has it takes values out, from the front, so none is lost.
        self._pending: list[float] = []
        #: By their resolution; none before the first value.
        self._series: dict[int, Series] = {}
        #: When the tick under way ends.
        self._edge = -math.inf

    def add(self, value: float) -> None:
        """Take in *value*, at this moment.

        :raises ValueError: it is infinite or not a number at all.
        :raises TypeError: it is of a type that does not compare with numbers.
        """
        if not _LOWEST <= value <= _HIGHEST:
            raise _refusal(value)
        now = self._now()
        if now >= self._edge:  # by order: a thread that was held up here may have an older time
            self._settle(now)
        pending = self._pending
        pending.append(value)
        if len(pending) >= _BATCH:
            self._settle(now, wait=len(pending) >= 2 * _BATCH)

    def add_many(self, values: Iterable[float]) -> None:
        """Take in all of *values* at this moment, or none if one of them is refused.

        Who reads or adds many waits meanwhile, about 0.2 µs a value.

        :raises ValueError: one is infinite or not a number.
        :raises TypeError: one is not of a number's type.
        """
        batch = array("d", values)
        if not math.isfinite(sum(batch)):
            for value in batch:
                if not math.isfinite(value):
                    raise _refusal(value)
        with self._lock:
            if self._busy:  # called by a finaliser amid a count
                self._pending.extend(batch)
            else:
                self._update(self._now(), batch)

    def _settle(self, now: float, wait: bool = True) -> None:
        """Update; without *wait* not if another thread is at it, which sees to it then."""
        if self._lock.acquire(wait):
            try:
                self._update(now)
            finally:
                self._lock.release()

    def _update(self, now: float, more: "array[float] | None" = None) -> None:
        """Count what is pending, end the tick if it is past at the time *now*, count *more*."""
        if self._busy:
            return  # called by a finaliser amid the following
        self._busy = True
        try:
            self._count(self._taken())
            if now >= self._edge:
                self._roll(now)
            if more is not None:
                self._count(more)
        finally:
            self._busy = False

    def _taken(self) -> "array[float]":
        many = len(self._pending)
        values = self._pending[:many]
        del self._pending[:many]
        return array("d", values)

    def _count(self, values: "array[float]") -> None:
        if values:
            for series in self._series.values():
                series.add(values)

    def _roll(self, now: float) -> None:
        """Begin a second, or a longer tick."""
        if not self._series:
            for resolution, windows in self._windows.items():
                self._series[resolution] = Series(resolution, windows, self._types, now)
        for resolution, series in self._series.items():
            self._series[resolution] = series.at(now)
        self._edge = min(series.edge for series in self._series.values())

    def getCounters(self) -> dict[str, float | None]:
        """Every figure by its key, ``[name.]type.window``, all of the same moment."""
        with self._current():
            return {key: self._read(*what) for key, what in self._keys.items()}

    def getCounter(self, key: str, default: Any = None) -> Any:
        """The figure of that key, as in :meth:`getCounters`; *default* if there is no such key."""
        if key not in self._keys:
            return default
        with self._current():
            return self._read(*self._keys[key])

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Have the series tell of this moment, in a ``with`` block."""
        with self._lock:
            if self._series:
                self._update(self._now())
            yield

    def _read(self, kind: SampleType, window: int) -> float | None:
        if self._series:
            return self._series[_resolution(window)].read(kind, window)
        return 0 if kind in (SampleType.COUNT, SampleType.SUM) else None

    def iterkeys(self) -> Iterator[str]:
        """The keys of :meth:`getCounters`."""
        return iter(self._keys)

    def _listed(self, attribute: str) -> dict[str, Counter[Any]]:
        before = "" if self.name else f"{attribute}."
        return {before + key: CallbackCounter(partial(self.getCounter, key)) for key in self._keys}

    @property
    def samples(self) -> list[dict[str, float]]:
        """What is kept, for debugging: a row for each second (or longer tick) with any values."""
        with self._current():
            return [row for series in self._series.values() for row in series.rows()]


def _resolution(window: int) -> int:
    """How many seconds a tick lasts for a window of as many seconds."""
    return -(-window // _TICKS)


def _sample_type(given: str) -> SampleType:
    try:
        return SampleType(given)
    except ValueError:
        known = [str(kind) for kind in SampleType]
        near = nearest(str(given), known)
        accepted = ", ".join(known)
        raise OptionError(f"samples: {given!r} is no type; accepted: {accepted}{near}") from None


def _window(given: int) -> int:
    if isinstance(given, bool) or given != int(given) or given < 1:
        raise OptionError(f"samples: {given!r} is no window; give whole seconds, 1 or more")
    return int(given)


def _refusal(value: float) -> ValueError:
    return ValueError(f"samples: cannot take {value!r}; a finite number is accepted")

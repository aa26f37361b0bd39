"""The figures of the last ticks of a clock, row by row: what samples keep of their values."""

import enum
import math
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain
from typing import Any

from sparts.percentiles import Percentiles

__all__ = ["SampleType", "Series"]


class SampleType(enum.StrEnum):
    """What to tell of a window's values; ``P99`` is their 99th percentile, by nearest rank."""

    COUNT = "count"
    SUM = "sum"
    AVG = "avg"
    AVERAGE = "avg"
    MAX = "max"
    MIN = "min"
    P50 = "p50"
    P90 = "p90"
    P95 = "p95"
    P99 = "p99"
    P999 = "p999"

    @property
    def permille(self) -> int:
        """A percentile's rank in thousandths; 0 for what is no percentile."""
        return int(self.value[1:].ljust(3, "0")) if self.value[1:].isdigit() else 0


class Column:
    """One figure of each tick: of the past ones in a row, and of the one under way."""

    __slots__ = ("join", "measure", "open", "past", "start")

    def __init__(self, typecode: str, start: float, join: Callable[..., Any]) -> None:
        self.past: array[Any] = array(typecode)
        self.open = self.start = start
        #: ``sum``, ``min`` or ``max``; the figures of several ticks make one by it too.
        self.join = join
        self.measure = join

    def add(self, values: "array[float]") -> float:
        """Take *values* into the tick under way; returns the figure for them alone."""
        figure: float = self.measure(values)
        self.open = self.join((self.open, figure))
        return figure

    def close(self) -> None:
        """Begin a tick."""
        self.past.append(self.open)
        self.open = self.start

    def of_past(self, first: int) -> Any:
        """The figure of the rows from *first* on."""
        return self.join(chain((self.start,), self.past[first:]))


class Series:
    """The values of the last ticks of *resolution* seconds, in a row for each in which some came.

    Keeps only the columns that *types* need. Not for several threads at once.
    """

    __slots__ = (
        "_columns",
        "_known",
        "_longest",
        "_origin",
        "_percentiles",
        "_resolution",
        "_tick",
        "_ticks",
        "_types",
        "_windows",
        "edge",
    )

    def __init__(
        self, resolution: int, windows: Sequence[int], types: Collection[SampleType], now: float
    ) -> None:
        self._resolution, self._windows, self._types = resolution, windows, types
        #: Where the ticks are counted from, the one under way, its end in seconds, the past ones.
        self._origin, self._tick = int(now // resolution), 0
        self.edge = (self._origin + 1) * resolution
        self._ticks: array[int] = array("I")
        # A second is too short to count further than 32 bits hold.
        size = "I" if resolution == 1 else "Q"
        ages = [self._age(window) for window in windows]
        self._longest = max(ages)
        ranked = any(kind.permille for kind in types)
        self._percentiles = Percentiles(ages, size) if ranked else None
        self._columns = {SampleType.COUNT: Column(size, 0, sum)}
        self._columns[SampleType.COUNT].measure = len
        if SampleType.SUM in types or SampleType.AVG in types:
            self._columns[SampleType.SUM] = Column("d", 0.0, sum)
        if ranked or SampleType.MIN in types:
            self._columns[SampleType.MIN] = Column("d", math.inf, min)
        if ranked or SampleType.MAX in types:
            self._columns[SampleType.MAX] = Column("d", -math.inf, max)
        #: Figures of the past ticks, for one read asks for the same several times.
        self._known: dict[tuple[SampleType, int], Any] = {}

    def _age(self, window: int) -> int:
        """A window's length in ticks."""
        return -(-window // self._resolution)

    def add(self, values: "array[float]") -> None:
        """Count *values*, at least one, in the tick under way."""
        figures = {kind: column.add(values) for kind, column in self._columns.items()}
        if self._percentiles is not None:
            self._percentiles.add(values, figures[SampleType.MIN], figures[SampleType.MAX])

    def at(self, now: float) -> "Series":
        """The same at the time *now*, without what is too old; a fresh one if everything is."""
        tick = int(now // self._resolution) - self._origin
        if tick <= self._tick:
            return self
        if tick - self._tick >= self._longest:
            return Series(self._resolution, self._windows, self._types, now)
        if self._columns[SampleType.COUNT].open:
            self._close()
        self._known.clear()
        self._tick = tick
        self.edge = (self._origin + tick + 1) * self._resolution
        self._expire()
        return self

    def _close(self) -> None:
        self._ticks.append(self._tick)
        for column in self._columns.values():
            column.close()
        if self._percentiles is not None:
            self._percentiles.close(self._tick)

    def _expire(self) -> None:
        gone = self._first_in(self._longest)
        if gone:
            del self._ticks[:gone]
            for column in self._columns.values():
                del column.past[:gone]
        if self._percentiles is not None:
            self._percentiles.expire(self._tick)

    def _first_in(self, age: int) -> int:
        """The first row that is within the last *age* ticks."""
        return bisect_right(self._ticks, self._tick - age)

    def read(self, kind: SampleType, window: int) -> float | None:
        """The figure over the last *window* seconds; None where there is nothing to tell."""
        age = self._age(window)
        first = self._first_in(age)
        count: int = self._figure(SampleType.COUNT, first)
        if kind is SampleType.AVG:
            total: float = self._figure(SampleType.SUM, first)
            return total / count if count else None
        if kind.permille:
            return self._percentile(age, first, kind.permille) if count else None
        figure: float = self._figure(kind, first)
        return figure if count or kind in (SampleType.COUNT, SampleType.SUM) else None

    def _figure(self, kind: SampleType, first: int) -> Any:
        """The figure of the rows from *first* on and the tick under way."""
        column = self._columns[kind]
        if (kind, first) not in self._known:
            self._known[kind, first] = column.of_past(first)
        return column.join((self._known[kind, first], column.open))

    def _percentile(self, age: int, first: int, permille: int) -> float | None:
        found = self._percentiles.read(age, permille) if self._percentiles else None
        if found is None:
            return None
        # The middle of a bucket may lie beyond all that came.
        lowest: float = self._figure(SampleType.MIN, first)
        highest: float = self._figure(SampleType.MAX, first)
        return min(max(found, lowest), highest)

    def rows(self) -> Iterator[dict[str, float]]:
        """What is kept of each tick, oldest first, with the second at which the tick began."""
        for row, tick in enumerate(self._ticks):
            figures = {str(kind): column.past[row] for kind, column in self._columns.items()}
            yield {"second": (self._origin + tick) * self._resolution, **figures}
        if self._columns[SampleType.COUNT].open:
            figures = {str(kind): column.open for kind, column in self._columns.items()}
            yield {"second": (self._origin + self._tick) * self._resolution, **figures}

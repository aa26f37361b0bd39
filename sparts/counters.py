"""Counters: figures about a running service, declared as class attributes, listed by dotted names.

    class Fetcher(PeriodicTask):
        fetched = counter()
        duration = samples(types=[SampleType.AVG, SampleType.P99])

``self.fetched.increment()`` counts; ``service.getCounter("Fetcher.fetched")()`` tells.
"""

import math
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

from sparts.declared import CallbackCounter, Counter, Declared
from sparts.errors import nearest
from sparts.samples import Samples, SampleType

__all__ = [
    "Average",
    "CallbackCounter",
    "Count",
    "Counter",
    "HasCounters",
    "Max",
    "Min",
    "SampleType",
    "Samples",
    "Sum",
    "counter",
    "samples",
]

#: What a counter tells, and what it keeps for each thread.
V = TypeVar("V")
P = TypeVar("P")


class _Parts(Counter[V], Generic[V, P]):
    """A value in parts, one for each thread, so that to count takes no lock and loses nothing.

    A part is a list of one element, which only its own thread writes: that is exact with and
    without a global interpreter lock. Who reads joins the parts, under a lock. The part of a thread
    that has ended is joined into the base, so there are as many as there are threads.
    """

    #: Where a part begins.
    _nothing: P

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        # Re-entrant, for the garbage collector may run a finaliser that counts on the same counter.
        self._lock = threading.RLock()
        self._absorbing = False
        self._begin(self._nothing)

    def _begin(self, base: P) -> None:
        self._base = base
        self._parts: dict[int, list[P]] = {}
        self._ended: list[list[P]] = []
        # Made when somebody counts, for it is large; None has no part either.
        self._local: Any = None

    def _join(self, parts: Iterable[P]) -> P:
        raise NotImplementedError

    def _new_part(self) -> list[P]:
        """Give the present thread its part."""
        with self._lock:
            self._absorb()
            part = [self._nothing]
            self._parts[id(part)] = part
            self._local = self._local or threading.local()
            self._local.part = part
            self._local.guard = _Guard(part, self._ended)
        return part

    def _absorb(self) -> None:
        if self._absorbing:
            return  # called by such a finaliser amid the loop below
        self._absorbing = True
        try:
            while self._ended:
                part = self._ended.pop()
                self._base = self._join((self._base, part[0]))
                self._parts.pop(id(part), None)
        finally:
            self._absorbing = False

    def _joined(self) -> P:
        with self._lock:
            self._absorb()
            return self._join([self._base, *(part[0] for part in [*self._parts.values()])])

    def _reset(self, base: P) -> None:
        # All parts anew: to take the present sum off the base would leave rounding errors behind.
        with self._lock:
            self._begin(base)

    def reset(self) -> None:
        """Begin at nothing; what other threads add meanwhile counts as before or after it."""
        self._reset(self._nothing)


class _Guard(Generic[P]):
    """Lives in a thread's local storage: when the thread has ended, so has its part."""

    __slots__ = ("ended", "part")

    def __init__(self, part: list[P], ended: list[list[P]]) -> None:
        self.part, self.ended = part, ended

    def __del__(self) -> None:
        self.ended.append(self.part)  # no lock, for this may run amid anything


class _Total(_Parts[float, float]):
    _nothing = 0

    def reset(self, value: float = 0) -> None:
        """Set it to *value*; what other threads add meanwhile counts as before or after it."""
        self._reset(value)

    def getvalue(self) -> float:
        """The total of what came since the last reset."""
        return self._joined()

    def _join(self, parts: Iterable[float]) -> float:
        return sum(parts)


class Sum(_Total):
    """A sum, exact whatever threads add to it; integers stay integers. ``counter()`` for short."""

    def increment(self) -> None:
        """Add one."""
        try:
            self._local.part[0] += 1
        except AttributeError:
            self._new_part()[0] += 1

    def add(self, value: float) -> None:
        """Add *value*."""
        try:
            self._local.part[0] += value
        except AttributeError:
            self._new_part()[0] += value

    incrementBy = add

    def part(self) -> list[float]:
        """The calling thread's part, to whose only element it may add what it counts in a loop.

        It is good until a reset: ask anew every few milliseconds.
        """
        try:
            part: list[float] = self._local.part
        except AttributeError:
            part = self._new_part()
        return part


class Count(_Total):
    """How many values were added, whatever they are."""

    def add(self, value: object = None) -> None:
        """Count one value."""
        try:
            self._local.part[0] += 1
        except AttributeError:
            self._new_part()[0] += 1


class Average(_Parts[float | None, tuple[float, int]]):
    """The average of all values added; None before the first."""

    _nothing = (0, 0)  # one tuple, so that a reader never sees a sum without its count

    def add(self, value: float) -> None:
        """Take in *value*."""
        try:
            part = self._local.part
        except AttributeError:
            part = self._new_part()
        total, count = part[0]
        part[0] = (total + value, count + 1)

    def getvalue(self) -> float | None:
        """The average."""
        total, count = self._joined()
        return total / count if count else None

    def _join(self, parts: Iterable[tuple[float, int]]) -> tuple[float, int]:
        totals, counts = zip(*parts, strict=True)
        return sum(totals), sum(counts)


class _Extreme(_Parts[float | None, float]):
    def getvalue(self) -> float | None:
        """The value, as it was added."""
        value = self._joined()
        return None if value == self._nothing else value


class Max(_Extreme):
    """The largest value added; None before the first. A nan is left out."""

    _nothing = -math.inf

    def add(self, value: float) -> None:
        """Take in *value*."""
        try:
            part = self._local.part
        except AttributeError:
            part = self._new_part()
        if value > part[0]:
            part[0] = value

    def _join(self, parts: Iterable[float]) -> float:
        return max(parts)


class Min(_Extreme):
    """The smallest value added; None before the first. A nan is left out."""

    _nothing = math.inf

    def add(self, value: float) -> None:
        """Take in *value*."""
        try:
            part = self._local.part
        except AttributeError:
            part = self._new_part()
        if value < part[0]:
            part[0] = value

    def _join(self, parts: Iterable[float]) -> float:
        return min(parts)


counter = Sum
samples = Samples


class HasCounters:
    """What services and tasks share: the counters among their attributes, and their children's.

    A counter is listed by its attribute's name, samples by that (or their own name), type and
    window: ``duration.p99.60``. Those assigned to the instance at run time are listed too.
    """

    def getChildren(self) -> "Mapping[str, HasCounters]":
        """Whose counters are listed as ``Name.counter``, by name; override where there are any."""
        return {}

    def getCounters(self) -> dict[str, Counter[Any]]:
        """Every counter by its dotted name, the children's too; called, each tells its value."""
        found = self._ownCounters()
        for name, child in self.getChildren().items():
            found.update({f"{name}.{key}": each for key, each in child.getCounters().items()})
        return found

    def getCounter(self, name: str) -> Counter[Any]:
        """The counter of that dotted name.

        :raises KeyError: there is none; the message names the nearest.
        """
        owner, rest = self._ownerOf(name)
        listed = owner._ownCounters()
        if rest not in listed:
            listed = owner.getCounters()  # where an override may list more
        if rest in listed:
            return listed[rest]
        raise KeyError(f"no counter {name!r}{owner._near(name, rest, listed)}")

    def _ownerOf(self, name: str) -> "tuple[HasCounters, str]":
        """The descendant that the dotted *name* leads to, and what is left of the name."""
        first, _, rest = name.partition(".")
        child = self.getChildren().get(first) if rest else None
        return child._ownerOf(rest) if child is not None else (self, name)

    def _near(self, name: str, rest: str, listed: Iterable[str]) -> str:
        """A clause with the nearest name: of our own counters or, should it be wrong, a child's."""
        children = self.getChildren()
        known = [each for each in listed if each.partition(".")[0] not in children]
        known += [f"{child}.{rest.partition('.')[2]}" for child in children]
        before = name.removesuffix(rest)
        return nearest(name, [before + each for each in known])

    def _ownCounters(self) -> dict[str, Counter[Any]]:
        declared: dict[str, Any] = {}
        for klass in reversed(type(self).__mro__):
            declared.update(vars(klass))
        found = {
            n: getattr(self, n) for n, value in declared.items() if isinstance(value, Declared)
        }
        assigned = vars(self).copy()  # in one step: another thread may assign more
        found.update({n: value for n, value in assigned.items() if isinstance(value, Declared)})
        listed: dict[str, Counter[Any]] = {}
        for name, value in found.items():
            if isinstance(value, Declared):  # an instance may have put something else in its place
                listed.update(value._listed(name))
        return listed

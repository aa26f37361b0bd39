"""Percentiles over sliding windows: logarithmic buckets, kept tick by tick in little memory.

A bucket is 3 % wide and speaks for its values with its middle, so a percentile is within 1.5 % of
the true nearest-rank value, for magnitudes from :data:`SMALLEST` to :data:`LARGEST` (nanoseconds to
petabytes) and either sign; what is smaller counts as zero, what is larger as the largest.

How long a value counts is exact as long as the ticks' histograms fit in :data:`BUDGET` bytes. When
dozens of buckets are hit second after second they do not, and neighbouring ticks are joined: no
value is lost, none leaves early, but some leave late, by as many ticks as were joined. Measured
with windows of 60 and 3600 s: 50 log-normal values a second leave the minute on time and the hour
up to 32 s late; 300 values a second evenly over twelve decades up to 2 s and 128 s; at the very
worst, both signs over twenty-four decades, a minute's percentile may look back two, an hour's two.
"""

import math
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, compress
from operator import add, sub
from typing import Any

__all__ = ["BUDGET", "LARGEST", "SMALLEST", "Percentiles", "bucket_of", "middle_of"]

SMALLEST = 1e-9
LARGEST = 1e15
#: Bytes for the histograms of the past ticks, shared by the windows.
BUDGET = 80 * 1024

_SCALE = 1 / math.log2(1.03)
_SHIFT = 1 - math.log2(SMALLEST) * _SCALE
#: A span's head: its first bucket, how many buckets it covers, how it is written.
_HEAD = struct.Struct("<hHB")
#: The array types for counts, by what they can hold.
_WIDTHS = [(0xFF, "B"), (0xFFFF, "H"), (0xFFFF_FFFF, "I"), (0xFFFF_FFFF_FFFF_FFFF, "Q")]
_SPARSE = len(_WIDTHS)


def bucket_of(value: float) -> int:
    """The bucket of *value*: below zero for negative values, ascending with the value."""
    if value > SMALLEST:
        return int(math.log2(min(value, LARGEST)) * _SCALE + _SHIFT)
    return -bucket_of(-value) if value < -SMALLEST else 0


def middle_of(bucket: int) -> float:
    """The value that speaks for *bucket*: its geometric middle."""
    if bucket == 0:
        return 0.0
    return math.copysign(2 ** ((abs(bucket) - _SHIFT + 0.5) / _SCALE), bucket)


def pack(first: int, counts: Sequence[int]) -> bytes:
    """*counts* of the buckets from *first* on, all in a row or only those that are not zero."""
    largest = max(counts)
    kind = next(n for n, (limit, _) in enumerate(_WIDTHS) if largest <= limit)
    numbers = array(_WIDTHS[kind][1], counts)
    used = len(numbers) - numbers.count(0)
    if used * (numbers.itemsize + 2) >= len(numbers) * numbers.itemsize:
        return _HEAD.pack(first, len(counts), kind) + numbers.tobytes()
    offsets = array("H", compress(range(len(counts)), counts))
    numbers = array(numbers.typecode, compress(counts, counts))
    return _HEAD.pack(first, len(counts), kind + _SPARSE) + offsets.tobytes() + numbers.tobytes()


def unpack(span: bytes | bytearray) -> tuple[int, Sequence[int]]:
    """What :func:`pack` was given."""
    first, length, kind = _HEAD.unpack_from(span)
    numbers: array[int] = array(_WIDTHS[kind % _SPARSE][1])
    if kind < _SPARSE:
        numbers.frombytes(span[_HEAD.size :])
        return first, numbers
    used = (len(span) - _HEAD.size) // (numbers.itemsize + 2)
    numbers.frombytes(span[_HEAD.size + 2 * used :])
    counts = [0] * length
    for offset, count in zip(array("H", span[_HEAD.size :][: 2 * used]), numbers, strict=True):
        counts[offset] = count
    return first, counts


class Counts:
    """How many values each bucket has, in a row from the lowest bucket seen to the highest."""

    __slots__ = ("first", "row")

    def __init__(self, typecode: str = "I") -> None:
        self.first = 0
        self.row: array[int] = array(typecode)

    def reach(self, low: int, high: int) -> None:
        """Make room for the buckets *low* to *high*."""
        if not self.row:
            self.first = low
        if low < self.first:
            self.row[:0] = array(self.row.typecode, [0]) * (self.first - low)
            self.first = low
        missing = high + 1 - self.first - len(self.row)
        if missing > 0:
            self.row.extend(array(self.row.typecode, [0]) * missing)

    def add(self, first: int, counts: Sequence[int], how: Any = add) -> None:
        """Add *counts* (or, with ``sub``, take them away) to the buckets from *first* on."""
        if not counts:
            return
        self.reach(first, first + len(counts) - 1)
        part = slice(first - self.first, first - self.first + len(counts))
        result = list(map(how, self.row[part], counts))
        try:
            self.row[part] = array(self.row.typecode, result)
        except OverflowError:
            self.row = array("Q", self.row)
            self.row[part] = array("Q", result)

    def take(self, low: int, high: int) -> "array[int]":
        """The counts of the buckets *low* to *high*, which are set to zero."""
        part = slice(low - self.first, high + 1 - self.first)
        taken = self.row[part]
        self.row[part] = array(self.row.typecode, [0]) * len(taken)
        return taken


class Tier:
    """The past ticks up to one age, as spans of one tick each or, past the budget, of several."""

    __slots__ = ("age", "budget", "cursor", "data", "ends", "grain", "sizes", "total")

    def __init__(self, age: int, budget: int) -> None:
        self.age = age
        self.budget = budget
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        #: The last tick of each span, and how many bytes of ``data`` it takes.
        self.ends: array[int] = array("I")
        self.sizes: array[int] = array("H")
        self.data = bytearray()
        #: The sum of all spans.
        self.total = Counts()
        self.cursor, self.grain = 1, 2

    def append(self, end: int, span: bytes) -> None:
        """Take in a span whose last tick is *end*, later than any before."""
        self.ends.append(end)
        self.sizes.append(len(span))
        self.data += span
        self.total.add(*unpack(span))
        self._shrink()

    def leave(self, tick: int) -> Iterator[tuple[int, bytes]]:
        """Give up the spans that are too old at *tick*, each as its end and its bytes."""
        gone = bisect_right(self.ends, tick - self.age)
        start = 0
        for end, size in zip(self.ends[:gone], self.sizes[:gone], strict=True):
            span = bytes(self.data[start : start + size])
            start += size
            self.total.add(*unpack(span), how=sub)
            yield end, span
        if gone == len(self.ends):
            self.clear()
        elif gone:
            del self.ends[:gone], self.sizes[:gone], self.data[:start]
            self.cursor = max(1, self.cursor - gone)

    def _cost(self) -> int:
        """In bytes."""
        index = len(self.ends) * (self.ends.itemsize + self.sizes.itemsize)
        return len(self.data) + index + len(self.total.row) * self.total.row.itemsize

    def _shrink(self) -> None:
        """Join neighbours to spans of ``grain`` ticks, oldest first; then to spans twice as long.

        So they end up alike in length, for each of them will once be the oldest.
        """
        if self._cost() < self.budget // 2:
            self.cursor, self.grain = 1, 2
        while self._cost() > self.budget and len(self.ends) > 2:
            at = self.cursor
            if at + 1 >= len(self.ends):
                self.cursor, self.grain = 1, self.grain * 2
            elif self.ends[at + 1] - self.ends[at - 1] > self.grain:
                self.cursor += 1
            else:
                self._join(at)

    def _join(self, at: int) -> None:
        start = sum(self.sizes[:at])
        middle = start + self.sizes[at]
        end = middle + self.sizes[at + 1]
        both = Counts()
        both.add(*unpack(self.data[start:middle]))
        both.add(*unpack(self.data[middle:end]))
        joined = pack(both.first, both.row)
        self.data[start:end] = joined
        self.sizes[at : at + 2] = array("H", [len(joined)])
        del self.ends[at]


class Percentiles:
    """The percentiles of the values of the last *ages* ticks, for each of the ages.

    A tier holds what is past one age but not past the next, so every value is in one place. Not
    for several threads at once.
    """

    __slots__ = ("_high", "_low", "_open", "_tiers")

    def __init__(self, ages: Sequence[int], typecode: str = "I") -> None:
        self._tiers = [Tier(age, BUDGET // len(ages)) for age in sorted(ages)]
        #: The tick under way, and the lowest and the highest bucket that it hit.
        self._open = Counts(typecode)
        self._low, self._high = 1, 0

    def add(self, values: Sequence[float], lowest: float, highest: float) -> None:
        """Count *values*, of which these are the lowest and the highest, in the present tick."""
        # One more on either side, for the rounding of the sums below.
        low, high = bucket_of(lowest) - 1, bucket_of(highest) + 1
        if self._low > self._high:
            self._low, self._high = low, high
        self._low, self._high = min(self._low, low), max(self._high, high)
        if highest > LARGEST:
            values = [min(value, LARGEST) for value in values]
        self._open.reach(low, high)
        row, first = self._open.row, self._open.first
        log2, scale, shift, smallest = math.log2, _SCALE, _SHIFT - first, SMALLEST
        for value in values:
            if value > smallest:  # bucket_of() written out: it is most of what a value costs
                row[int(log2(value) * scale + shift)] += 1
            else:
                row[bucket_of(value) - first] += 1

    def close(self, tick: int) -> None:
        """End the present tick, which was *tick*."""
        if self._low <= self._high:
            counts = self._open.take(self._low, self._high)
            self._tiers[0].append(tick, pack(self._low, counts))
            self._low, self._high = 1, 0

    def expire(self, tick: int) -> None:
        """Let go of what is too old at *tick*."""
        for tier, older in zip(self._tiers, [*self._tiers[1:], None], strict=True):
            for end, span in tier.leave(tick):
                if older is not None:
                    older.append(end, span)

    def clear(self) -> None:
        """Forget everything but the present tick."""
        for tier in self._tiers:
            tier.clear()

    def read(self, age: int, permille: int) -> float | None:
        """The value at the nearest rank for *permille* thousandths of the last *age* ticks."""
        counts = Counts()
        counts.first, counts.row = self._open.first, self._open.row[:]
        for tier in self._tiers:
            if tier.age <= age:
                counts.add(tier.total.first, tier.total.row)
        ranks = list(accumulate(counts.row))
        if not ranks or not ranks[-1]:
            return None
        rank = -(-ranks[-1] * permille // 1000)
        return middle_of(counts.first + bisect_left(ranks, rank))

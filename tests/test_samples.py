"""Samples: exact to the second, percentiles within two per cent, in bounded memory."""

import gc
import itertools
import math
import random
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any
from unittest import mock

import pytest

from sparts.counters import HasCounters, Samples, SampleType, samples
from sparts.errors import OptionError

DEADLINE = 18
FIVE = [SampleType.AVG, SampleType.MIN, SampleType.MAX, SampleType.COUNT, SampleType.P99]
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
LIMIT = 256 * 1024


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def clocked(clock: Callable[[], float], *args: Any, **kwargs: Any) -> Samples:
    made = Samples(*args, **kwargs)
    made._now = clock
    return made


def nearest_rank(values: list[float], part: float) -> float:
    return sorted(values)[math.ceil(round(part * len(values), 6)) - 1]


def size_of(kept: object) -> int:
    """All bytes that belong to it, its lists, arrays and slots."""
    seen: set[int] = set()

    def size(one: Any) -> int:
        if id(one) in seen or isinstance(one, (type, SampleType, Clock)) or callable(one):
            return 0
        seen.add(id(one))
        parts: list[Any] = []
        if isinstance(one, dict):
            parts = [*one, *one.values()]
        elif isinstance(one, (list, tuple, set, frozenset)):
            parts = [*one]
        parts += [vars(one)] if hasattr(one, "__dict__") else []
        names = itertools.chain(*(getattr(c, "__slots__", ()) for c in type(one).__mro__))
        parts += [getattr(one, name) for name in names if hasattr(one, name)]
        return sys.getsizeof(one) + sum(map(size, parts))

    return size(kept)


# -- keys and declarations ------------------------------------------------------------------------
def test_sample_types_are_their_names() -> None:
    """A type reads as the word that its keys have; AVERAGE is AVG; percentiles know their rank."""
    words = ["count", "sum", "avg", "max", "min", "p50", "p90", "p95", "p99", "p999"]
    assert words == [str(kind) for kind in SampleType]
    assert SampleType.AVG is SampleType["AVERAGE"]
    assert [0, 0, 0, 0, 0, 500, 900, 950, 990, 999] == [kind.permille for kind in SampleType]


def test_keys() -> None:
    """Keys are type and window, after the name if there is one; by default averages."""
    assert ["avg.60", "avg.3600"] == list(Samples().iterkeys())
    kept = Samples([SampleType.MAX, "p99"], [5, 60, 5], name="bytes")
    assert ["bytes.max.5", "bytes.max.60", "bytes.p99.5", "bytes.p99.60"] == list(kept.iterkeys())
    assert list(kept.iterkeys()) == list(kept.getCounters())


def test_before_the_first_value_and_after_the_last_has_left() -> None:
    """With no value count and sum are 0, all else is None; an unknown key gives the default."""
    clock = Clock()
    kept = clocked(clock, list(SampleType), [60])
    empty = dict.fromkeys(kept.iterkeys()) | {"count.60": 0, "sum.60": 0}
    assert empty == kept.getCounters()
    kept.add(3)
    clock.now += 60
    assert empty == kept.getCounters()
    assert kept.getCounter("avg.60", 7) is None
    assert (7, None) == (kept.getCounter("avg.61", 7), kept.getCounter("avg.61"))


@pytest.mark.parametrize(
    ("types", "windows", "message"),
    [
        (["p98"], [60], "'p98' is no type; accepted: count, sum.*did you mean 'p9"),
        ([SampleType.AVG], [0], "0 is no window; give whole seconds"),
        ([SampleType.AVG], [1.5], "1.5 is no window"),
        ([], [60], "no types or no windows"),
        ([SampleType.AVG], [], "no types or no windows"),
    ],
)
def test_wrong_declarations(types: Any, windows: Any, message: str) -> None:
    """A type or window that there is not is refused at the declaration, with what is accepted."""
    with pytest.raises(OptionError, match=message):
        Samples(types, windows)


def test_declared_samples_are_per_instance() -> None:
    """Each instance has its own values and its own clock."""

    class Task(HasCounters):
        sizes = samples(types=[SampleType.SUM], windows=[60])

    one, other = Task(), Task()
    clock = Clock()
    with mock.patch.object(one.sizes, "_now", clock):
        one.sizes.add(5)
        other.sizes.add(7)
        assert (5, 7) == (one.getCounter("sizes.sum.60")(), other.getCounter("sizes.sum.60")())
        clock.now += 60
        assert (0, 7) == (one.getCounter("sizes.sum.60")(), other.getCounter("sizes.sum.60")())
    assert 0 == Task.sizes.getCounter("sum.60")


def test_clock_may_be_a_mock() -> None:
    """The seam takes a mock in place of the clock, and asks it at every value."""
    kept = Samples([SampleType.COUNT], [2])
    kept._now = mock.Mock(side_effect=[10, 11.5, 12, 12.5])
    for value in (1, 2, 3):
        kept.add(value)
    assert 2 == kept.getCounter("count.2")


# -- values ---------------------------------------------------------------------------------------
def test_figures_of_a_few_values() -> None:
    """Each figure is that of the values: exact, but for percentiles, which are within 2 %."""
    kept = clocked(Clock(), list(SampleType), [60])
    for value in (4, 1, 7, 2):
        kept.add(value)
    told = kept.getCounters()
    exact = {"count.60": 4, "sum.60": 14, "avg.60": 3.5, "max.60": 7, "min.60": 1}
    assert exact == {key: told[key] for key in exact}
    assert 2 == pytest.approx(told["p50.60"], rel=0.02)
    assert 7 == pytest.approx(told["p99.60"], rel=0.02)


@pytest.mark.parametrize("value", [5, -3.25, 0, 1e-30, 1e30, -1e300, True, Decimal("1.5")])
def test_percentiles_of_one_value_are_that_value(value: float) -> None:
    """A percentile never lies outside of what came, so of equal values it is exactly theirs."""
    kept = clocked(Clock(), ["p50", "p999", "min"], [60])
    kept.add(value)
    kept.add(value)
    assert {float(value)} == set(kept.getCounters().values())


def test_any_real_number_is_taken() -> None:
    """Integers, fractions, decimals and bools are values like any float."""
    kept = clocked(Clock(), ["sum"], [60])
    values: list[Any] = [10, Fraction(1, 2), Decimal("0.25"), True]
    kept.add_many(values)
    for value in values:
        kept.add(value)
    assert 23.5 == kept.getCounter("sum.60")


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (math.nan, ValueError),
        (math.inf, ValueError),
        (-math.inf, ValueError),
        (10**400, (ValueError, OverflowError)),
        ("5", TypeError),
        (None, TypeError),
        (1j, TypeError),
    ],
)
def test_what_is_no_value_is_refused(value: Any, error: Any) -> None:
    """What is no finite number is an error where it is added, and nothing else is lost by it."""
    kept = clocked(Clock(), ["count", "sum", "p50"], [60])
    kept.add(2)
    with pytest.raises(error):
        kept.add(value)
    with pytest.raises(error):
        kept.add_many([1, 1, value, 1])
    kept.add(2)
    assert {"count.60": 2, "sum.60": 4, "p50.60": 2} == kept.getCounters()


def test_refusal_names_the_value() -> None:
    """The error tells what was given and what is accepted."""
    with pytest.raises(ValueError, match="cannot take nan; a finite number is accepted"):
        Samples().add(math.nan)


def test_add_many_is_as_adding_each() -> None:
    """A batch, of whatever length and also from a generator, counts as its values one by one."""
    values = [random.Random(1).lognormvariate(0, 2) for _ in range(5_000)]
    one, other = (clocked(Clock(), list(SampleType), [60]) for _ in range(2))
    for value in values:
        one.add(value)
    other.add_many(value for value in values)
    other.add_many([])
    expected = {key: pytest.approx(value) for key, value in one.getCounters().items()}
    assert expected == other.getCounters()


def test_values_too_large_to_sum() -> None:
    """Values whose sum no float can hold are taken; the sum is infinite, the rest is right."""
    kept = clocked(Clock(), ["sum", "max", "p99"], [60])
    kept.add_many([1e308] * 3)
    kept.add(1e308)
    assert {"sum.60": math.inf, "max.60": 1e308, "p99.60": 1e308} == kept.getCounters()


# -- windows --------------------------------------------------------------------------------------
@pytest.mark.parametrize("window", [1, 2, 60, 3_599, 3_600])
@pytest.mark.parametrize("came", [1_000.0, 1_000.9])
def test_a_value_leaves_to_the_second(window: int, came: float) -> None:
    """A value counts until the second that is W after its own, and not from then on."""
    clock = Clock(came)
    kept = clocked(clock, list(SampleType), [window])
    kept.add(5.0)
    clock.now = 1_000.0 + window - 0.001
    assert {1, 5.0} == set(kept.getCounters().values())
    clock.now = 1_000.0 + window
    assert {0, None} == set(kept.getCounters().values())


def test_windows_are_those_of_a_plain_list() -> None:
    """Over random times, pauses and bursts all figures are those of a list that keeps it all."""
    chance, clock = random.Random(4), Clock()
    windows = [1, 7, 60, 600, 3_600]
    kept = clocked(clock, list(SampleType), windows)
    every: list[tuple[int, float]] = []
    for turn in range(1_500):
        clock.now += chance.choice([0, 0, 0.3, 1, 3, 45, 700 if turn % 40 == 0 else 2])
        burst = [chance.gauss(0, 100) for _ in range(chance.choice([0, 1, 1, 5]))]
        kept.add_many(burst[1:])
        for value in burst[:1]:
            kept.add(value)
        every += [(int(clock.now), value) for value in burst]
        if turn % 15 == 0:
            window = chance.choice(windows)
            inside = [value for came, value in every if came > int(clock.now) - window]
            check(kept, window, inside)


def check(kept: Samples, window: int, inside: list[float]) -> None:
    """Holds every figure against the values that are inside the window."""
    told = {
        key.partition(".")[0]: kept.getCounter(key)
        for key in kept.iterkeys()
        if key.endswith(f".{window}")
    }
    assert len(inside) == told["count"]
    assert math.fsum(inside) == pytest.approx(told["sum"])
    if not inside:
        assert {None} == {told[name] for name in told if name not in ("count", "sum")}
        return
    assert (min(inside), max(inside)) == (told["min"], told["max"])
    assert math.fsum(inside) / len(inside) == pytest.approx(told["avg"])
    for name, part in PERCENTILES.items():
        assert nearest_rank(inside, part) == pytest.approx(told[name], rel=0.02), name


def test_windows_past_an_hour() -> None:
    """A day's window leaves in steps of 24 s, and an hour's window beside it stays exact."""
    clock = Clock(24_000.0)
    kept = clocked(clock, ["count", "p50"], [3_600, 86_400])
    kept.add(5)
    clock.now += 3_599.9
    assert [1, 1, 5, 5] == list(kept.getCounters().values())
    clock.now += 0.1
    assert [0, 1, None, 5] == list(kept.getCounters().values())
    clock.now = 24_000.0 + 86_400 - 24
    assert 1 == kept.getCounter("count.86400")
    clock.now = 24_000.0 + 86_400 + 24
    assert [0, 0, None, None] == list(kept.getCounters().values())


def test_injected_clock_set_back() -> None:
    """A clock that goes back, a little or by an hour, loses no value and raises nothing."""
    clock = Clock(10_000.5)
    kept = clocked(clock, ["count", "p50"], [60])
    for back in (0, 0.5, 1, 3_600, 10_600):
        clock.now = 10_000.5 - back
        kept.add(2)
        assert 2 == kept.getCounter("p50.60")
    assert 5 == kept.getCounter("count.60")
    clock.now = 10_001
    kept.add(2)
    assert 6 == kept.getCounter("count.60")
    clock.now = 10_061
    assert 0 == kept.getCounter("count.60")


def test_clock_below_zero_and_far_ahead() -> None:
    """Nothing is made of where the clock stands, only of what passes on it."""
    clock = Clock(-1e6 - 0.5)
    kept = clocked(clock, ["count"], [60])
    for now in (-1e6 + 30, 0, 30, 2**40, 2**40 + 59):
        clock.now = now
        kept.add(1)
    assert 2 == kept.getCounter("count.60")


def test_wall_clock_set_back_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows go by the monotonic clock: what the wall clock shows has no part in them."""
    wall, clock = time.time(), Clock()
    monkeypatch.setattr(time, "time", lambda: wall)
    monkeypatch.setattr(Samples, "_now", clock)
    kept = Samples(["count"], [60])
    kept.add(1)
    monkeypatch.setattr(time, "time", lambda: wall - 3_600)
    kept.add(1)
    clock.now += 59
    assert 2 == kept.getCounter("count.60")
    clock.now += 1
    assert 0 == kept.getCounter("count.60")


def test_the_clock_is_the_monotonic_one() -> None:
    """Where nobody replaced it, the clock is the monotonic one."""
    before = time.monotonic()
    assert before <= Samples._now() <= time.monotonic()


def test_what_is_kept() -> None:
    """For debugging there is a row for each second in which values came, with its figures."""
    clock = Clock(1_000.7)
    kept = clocked(clock, ["avg", "max"], [60])
    kept.add(1)
    clock.now = 1_002.0
    kept.add_many([2, 5])
    assert [
        {"second": 1_000, "count": 1, "sum": 1.0, "max": 1.0},
        {"second": 1_002, "count": 2, "sum": 7.0, "max": 5.0},
    ] == kept.samples


# -- percentiles ----------------------------------------------------------------------------------
CHANCE = random.Random(5)
DISTRIBUTIONS: dict[str, Callable[[], float]] = {
    "log-normal": lambda: CHANCE.lognormvariate(0, 2),
    "uniform": lambda: CHANCE.uniform(0, 1),
    "exponential": lambda: CHANCE.expovariate(0.01),
    "eighteen decades": lambda: 10 ** CHANCE.uniform(-9, 9),
    "both signs": lambda: CHANCE.gauss(0, 1_000),
    "negative": lambda: -CHANCE.lognormvariate(3, 1),
    "mostly zero": lambda: CHANCE.choice([0, 0, 0, 0, 0, 12.5]),
    "two humps": lambda: CHANCE.choice([CHANCE.gauss(10, 1), CHANCE.gauss(5_000, 100)]),
    "whole numbers": lambda: CHANCE.randint(0, 40),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_percentiles_are_within_two_percent(name: str) -> None:
    """Percentiles are within 2 % of the true nearest-rank values, over both windows."""
    clock = Clock()
    kept = clocked(clock, list(PERCENTILES), [60, 3_600])
    every: list[list[float]] = []
    for _ in range(600):
        clock.now += 1
        every.append([DISTRIBUTIONS[name]() for _ in range(30)])
        kept.add_many(every[-1])
    for window in (60, 3_600):
        inside = [*itertools.chain(*every[-window:])]
        for percentile, part in PERCENTILES.items():
            found = kept.getCounter(f"{percentile}.{window}")
            assert nearest_rank(inside, part) == pytest.approx(found, rel=0.02), percentile


def test_percentiles_forget_what_has_left() -> None:
    """When the values rise a thousandfold, in the end only the new ones are told."""
    clock = Clock()
    kept = clocked(clock, ["p50"], [60, 3_600])
    for second in range(3_700):
        clock.now += 1
        kept.add_many([CHANCE.lognormvariate(0, 1) * (1 if second < 100 else 1_000)] * 20)
    assert 1_000 == pytest.approx(kept.getCounter("p50.60"), rel=0.9)
    assert kept.getCounter("p50.3600") > 500


# -- threads and memory ---------------------------------------------------------------------------
def test_ten_million_values_from_eight_threads_with_readers_beside() -> None:
    """Ten million values over most of an hour: exact, within 256 KiB, no error, readers content.

    A quarter of a million come one by one, the others in batches, so that the test is quick.
    """
    threads, turns, batch, singles = 8, 1_219, 1_000, 25
    pool = [10 ** CHANCE.uniform(-6, 6) for _ in range(batch)]
    clock = Clock()
    kept = clocked(clock, FIVE, [60, 3_600])
    total = threads * turns * (batch + singles)
    ended, errors, seen = threading.Event(), [], [0.0]

    def produce() -> None:
        for turn in range(turns):
            clock.now = 1_000 + turn * 2.9  # at times a little back: threads are not in step
            kept.add_many(pool)
            for value in pool[:singles]:
                kept.add(value)

    def read() -> None:
        while not ended.wait(0.02):
            seen.append(kept.getCounters()["count.3600"] or 0)

    def guarded(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    producers = [threading.Thread(target=guarded, args=(produce,)) for _ in range(threads)]
    readers = [threading.Thread(target=guarded, args=(read,)) for _ in range(2)]
    for thread in producers + readers:
        thread.start()
    for thread in producers:
        thread.join(DEADLINE)
    ended.set()
    for thread in readers:
        thread.join(DEADLINE)
    assert [] == errors
    assert len(seen) > 3
    told = kept.getCounters()
    assert total == told["count.3600"]
    assert (min(pool), max(pool)) == (told["min.3600"], told["max.3600"])
    inside = pool * 40 + pool[:singles] * 40
    assert math.fsum(inside) / len(inside) == pytest.approx(told["avg.3600"])
    assert nearest_rank(inside, 0.99) == pytest.approx(told["p99.3600"], rel=0.02)
    assert size_of(kept) <= LIMIT


def test_a_million_single_values_from_eight_threads_on_the_real_clock() -> None:
    """Values that are added one by one while the seconds pass lose not one."""
    kept = Samples(FIVE, [60, 3_600])

    def produce() -> None:
        for value in range(125_000):
            kept.add(value)

    threads = [threading.Thread(target=produce) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert 1_000_000 == kept.getCounter("count.3600")
    assert (124_999 / 2, 0, 124_999) == tuple(
        kept.getCounter(f"{kind}.3600") for kind in ("avg", "min", "max")
    )


def test_a_thread_held_up_after_it_read_the_clock_loses_nothing() -> None:
    """Threads whose clocks disagree about the second, as theirs would, wipe nothing out."""
    seconds = itertools.cycle([100.0, 101.0, 100.9, 102.0, 101.5])
    kept = clocked(lambda: next(seconds), ["count", "p50"], [60])
    for _ in range(1_000):
        kept.add(1)
    assert 1_000 == kept.getCounter("count.60")


class Meddling(list[float]):
    """Pending values, to which *meddle* happens while they are taken out to be counted."""

    meddle: Callable[[], None]

    def __getitem__(self, part: Any) -> Any:
        taken = super().__getitem__(part)
        self.meddle()
        return taken


def test_a_value_that_comes_while_others_are_counted_is_not_lost() -> None:
    """Between taking values out and forgetting them, another thread may append one."""
    kept = clocked(Clock(), ["sum"], [60])
    kept.add(1)
    kept.getCounters()
    kept._pending = pending = Meddling([10])
    late = iter([100])
    pending.meddle = lambda: pending.extend(itertools.islice(late, 1))
    kept.getCounters()
    assert 111 == kept.getCounter("sum.60")


def test_adding_amid_a_count_in_the_same_thread() -> None:
    """A finaliser that adds amid a count, however much, neither deadlocks nor is lost."""
    kept = clocked(Clock(), ["count"], [60])
    kept.add(1)
    kept.getCounters()
    kept._pending = pending = Meddling([1])
    late = iter([True])

    def meddle() -> None:
        if next(late, False):
            kept.add_many([1] * 1_000)
            for _ in range(1_000):
                kept.add(1)
            kept.getCounters()

    pending.meddle = meddle
    thread = threading.Thread(target=kept.getCounters, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "deadlock"
    assert 2_002 == kept.getCounter("count.60")


def test_pending_values_are_few_however_long_a_count_takes() -> None:
    """Who adds waits for who counts before many values are pending, and then loses none."""
    kept = clocked(Clock(), ["count"], [60])
    kept.add(1)

    def add() -> None:
        for _ in range(10_000):
            kept.add(1)

    adding = threading.Thread(target=add)
    with kept._lock:
        adding.start()
        adding.join(0.3)
        assert adding.is_alive()
        assert len(kept._pending) <= 512
    adding.join(DEADLINE)
    assert 10_001 == kept.getCounter("count.60")


def test_memory_at_its_worst() -> None:
    """Both signs over twenty-four decades, a value each second, then hundreds: within 256 KiB."""
    chance, clock = random.Random(6), Clock()
    kept = clocked(clock, FIVE, [60, 3_600])
    pool = [chance.choice((1, -1)) * 10 ** chance.uniform(-9, 15) for _ in range(20_000)]
    for second in range(3_800):
        clock.now += 1
        start = chance.randrange(19_800)
        kept.add_many(pool[start : start + (200 if second > 3_000 else 1)])
    for value in pool[:255]:
        kept.add(value)
    kept_bytes = size_of(kept)
    assert 200 * 1024 < kept_bytes <= LIMIT
    clock.now += 3_600
    kept.getCounters()
    assert size_of(kept) < 16 * 1024


def test_memory_of_little_used_samples() -> None:
    """A thousand samples with nothing in them take little, and then what their seconds take."""

    class Task(HasCounters):
        times = samples(types=FIVE, windows=[60, 3_600])

    def used(seconds: int) -> Samples:
        kept = Task().times
        kept._now = clock = Clock()
        for _ in range(seconds):
            clock.now += 1
            kept.add(1)
        return kept

    def each(seconds: int, many: int) -> float:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        made = [used(seconds) for _ in range(many)]
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / len(made)

    tracemalloc.start()
    try:
        assert each(0, 1_000) < 1_024
        assert each(1, 100) < 8 * 1024
        assert each(60, 20) < 12 * 1024
    finally:
        tracemalloc.stop()

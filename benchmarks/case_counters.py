"""Counting: what one increment, one sample and one read cost, beside prometheus_client and others.

Threads share the work of a measurement; with the interpreter's lock their times add up, so the
cost given is the wall time by the number of calls of all threads.
"""

import gc
import itertools
import random
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from benchmarks.harness import (
    BenchmarkError,
    Results,
    Sample,
    interleave,
    is_installed,
    median,
    ratio,
    say_target,
    table,
)
from sparts.counters import HasCounters, Samples, SampleType, counter, samples

NAME = "counters"
DESCRIPTION = "counter.increment(), samples.add(), their memory and a read of all figures"

_FIVE = [SampleType.AVG, SampleType.MIN, SampleType.MAX, SampleType.COUNT, SampleType.P99]
_OURS = "sparts"
_PROMETHEUS = "prometheus_client"
_BATCH = 1_000

#: A call for each thread: how often it counts, and what it does to count as often.
Work = Callable[[int], object]


class _Task(HasCounters):
    """Declares what is measured, as a task would."""

    count = counter()
    times = samples(types=_FIVE, windows=[60, 3600])
    plain = samples()


def run(quick: bool = False) -> None:
    """Measure and print."""
    calls, rounds = (20_000, 1) if quick else (200_000, 9)
    for title, makers, wanted in (
        ("increment", _increments(), 0.5),
        ("add a sample", _adds(), 1.0),
    ):
        subjects = {
            _title(name, threads): partial(_timed, make, threads, calls)
            for threads in (1, 4)
            for name, make in makers.items()
        }
        results = interleave(subjects, rounds)
        _print_costs(title, makers, results, wanted)
    _print_memory_and_read(100 if quick else 4_000, 250 if quick else 2_500)


def _title(name: str, threads: int) -> str:
    return f"{name}, {threads} thread{'s'[: threads > 1]}"


# -- what is measured -----------------------------------------------------------------------------
def _increments() -> dict[str, Callable[[], Work]]:
    found = {
        _OURS: lambda: _repeat(_Task().count.increment),
        "itertools.count": lambda: _repeat(itertools.count().__next__),
        "a lock": lambda: _repeat(_Locked().increment),
    }
    if is_installed("prometheus_client"):
        found[_PROMETHEUS] = lambda: _repeat(_prometheus("Counter").inc)
    return found


def _adds() -> dict[str, Callable[[], Work]]:
    chance = random.Random(1)
    values = [chance.lognormvariate(0, 2) for _ in range(10_000)]
    found = {
        _OURS: lambda: _each(_Task().times.add, values),
        f"{_OURS}, averages only": lambda: _each(_Task().plain.add, values),
        f"{_OURS}, add_many, {_BATCH} each": lambda: _batches(_Task().times.add_many, values),
    }
    if is_installed("prometheus_client"):
        found[_PROMETHEUS] = lambda: _each(_prometheus("Histogram").observe, values)
    return found


class _Locked:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def increment(self) -> None:
        with self._lock:
            self._count += 1


def _prometheus(kind: str) -> Any:
    import prometheus_client

    registry = prometheus_client.CollectorRegistry()
    return getattr(prometheus_client, kind)("measured", "Measured.", registry=registry)


def _repeat(function: Callable[[], object]) -> Work:
    def work(calls: int) -> None:
        for _ in itertools.repeat(None, calls):
            function()

    return work


def _each(function: Callable[[float], object], values: list[float]) -> Work:
    def work(calls: int) -> None:
        for value in itertools.islice(itertools.cycle(values), calls):
            function(value)

    return work


def _batches(function: Callable[[Iterable[float]], object], values: list[float]) -> Work:
    def work(calls: int) -> None:
        for _ in range(calls // _BATCH):
            function(values[:_BATCH])

    return work


def _timed(make: Callable[[], Work], threads: int, calls: int) -> Sample:
    work = make()
    share = calls // threads
    workers = [threading.Thread(target=work, args=(share,)) for _ in range(threads)]
    gc.collect()
    began = time.perf_counter()
    if threads == 1:
        work(calls)
    else:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return {"ns": 1e9 * (time.perf_counter() - began) / calls}


# -- what is printed ------------------------------------------------------------------------------
def _print_costs(title: str, names: Iterable[str], results: Results, wanted: float) -> None:
    rows = []
    for name, number in itertools.product(names, (1, 4)):
        one = _title(name, number)
        base = _title(_PROMETHEUS, number)
        share = f"{ratio(results, one, base, 'ns'):.2f}" if base in results else ""
        rows.append([one, f"{median(results, one, 'ns'):.0f}", share])
    print(table([title, "ns", f"of {_PROMETHEUS}"], rows))
    for number in (1, 4):
        base = _title(_PROMETHEUS, number)
        if base in results:
            found = ratio(results, _title(_OURS, number), base, "ns")
            say_target(f"at most {wanted} of {base}", f"{found:.2f}", found <= wanted)


def _print_memory_and_read(seconds: int, rate: int) -> None:
    """Samples over a clock of our own, for more than an hour of it."""
    chance = random.Random(2)
    kinds: dict[str, Callable[[], float]] = {
        "log-normal": lambda: chance.lognormvariate(0, 1),
        "twelve decades": lambda: 10 ** chance.uniform(-6, 6),
        "both signs, 24 decades": lambda: chance.choice((1, -1)) * 10 ** chance.uniform(-9, 15),
    }
    rows = [_kept(name, draw, seconds, rate) for name, draw in kinds.items()]
    print(table([f"{seconds * rate:,} samples", "KiB", "read ms", "error of p99, %"], rows))
    used, read = (max(float(row[column]) for row in rows) for column in (1, 2))
    say_target("at most 256 KiB each", f"{used:.0f}", used <= 256)
    say_target("a read of all figures under 1 ms", f"{read:.2f} ms", read < 1)
    print(f"unused: a counter {_unused('count'):.0f} bytes, samples {_unused('times'):.0f} bytes")


def _kept(name: str, draw: Callable[[], float], seconds: int, rate: int) -> list[str]:
    pool = [draw() for _ in range(100 * rate)]
    now = 0.0
    kept = Samples(_FIVE, [60, 3600])
    kept._now = lambda: now
    for second in range(seconds):
        now = float(second)
        first = second % 100 * rate
        kept.add_many(pool[first : first + rate])
    for value in pool[:255]:
        kept.add(value)
    used = _bytes(kept)
    ordered = sorted(pool)
    true = ordered[-(-len(ordered) * 99 // 100) - 1]
    error = abs(kept.getCounter("p99.3600") / true - 1)
    reads = []
    for _ in range(11):
        now += 1  # each the first of its second, so that nothing is known from before
        kept.add(1.0)
        began = time.perf_counter()
        kept.getCounters()
        reads.append(time.perf_counter() - began)
    return [
        name,
        f"{used / 1024:.0f}",
        f"{1e3 * sorted(reads)[len(reads) // 2]:.2f}",
        f"{100 * error:.1f}",
    ]


def _bytes(root: object) -> int:
    """What it takes with all that belongs to it; arrays and numbers count, classes do not."""
    reached: dict[int, object] = {}
    fresh = [root]
    while fresh:
        one = fresh.pop()
        shared = isinstance(one, (type, Enum, ModuleType, FunctionType, BuiltinFunctionType))
        if id(one) not in reached and not shared:
            reached[id(one)] = one
            fresh += gc.get_referents(one)
    return sum(map(sys.getsizeof, reached.values()))


def _unused(attribute: str, many: int = 1_000) -> float:
    tracemalloc.start()
    try:
        tasks = [_Task() for _ in range(many)]
        before = tracemalloc.get_traced_memory()[0]
        for task in tasks:
            getattr(task, attribute)
        return (tracemalloc.get_traced_memory()[0] - before) / many
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    try:
        run()
    except BenchmarkError as error:
        raise SystemExit(str(error)) from error

"""Thrift: quick calls on 16 connections while others call a method that blocks or computes."""

from collections.abc import Sequence

from benchmarks.harness import Results, median, say_target, table
from benchmarks.thriftcalls import COMPUTE, COMPUTE_SECONDS, PING, WAIT, WAIT_SECONDS
from benchmarks.thriftload import Load
from benchmarks.thriftservers import (
    ASYNC,
    TABLE_HEADERS,
    THREADS,
    compare,
    peers,
    row,
    say_rate,
    sparts,
)

NAME = "thrift_slow"
DESCRIPTION = "Thrift: ping on 16 connections beside callers of a method that sleeps or computes"

CONNECTIONS = 16
WAITERS = 10
_PEERS = (
    "threaded",
    "threadpool",
    "nonblocking",
    "processpool",
    "thriftpy2_threaded",
    "thriftpy2_asyncio",
)
#: Slow calls that are at once on the average, of ten, when all ten are.
_ALL_AT_ONCE = 0.9 * WAITERS


def run(quick: bool = False) -> None:
    """Measure and print."""
    waiting = Load(PING, CONNECTIONS, side=WAITERS, side_call=WAIT)
    results = _compare(waiting, (THREADS, ASYNC), quick)
    _print(f"beside {WAITERS} x wait({WAIT_SECONDS:g})", "slow at once", results, WAIT_SECONDS)
    say_rate(results, THREADS, 1.5)
    p99 = median(results, THREADS, "p99")
    say_target(f"p99 of {THREADS} under 1 ms", f"{p99:.2f} ms", p99 < 1)
    at_once = _at_once(results, THREADS, WAIT_SECONDS)
    say_target(f"all {WAITERS} slow calls at once", f"{at_once:.1f}", at_once >= _ALL_AT_ONCE)

    computing = Load(PING, CONNECTIONS, side=1, side_call=COMPUTE)
    results = _compare(computing, (THREADS, ASYNC), quick)
    _print(f"beside compute({COMPUTE_SECONDS:g})", "its core", results, COMPUTE_SECONDS)
    say_rate(results, THREADS, 1.0)


def _compare(load: Load, ours: Sequence[str], quick: bool) -> Results:
    return compare([*peers(load.connections, *_PEERS), *sparts(*ours)], load, quick)


def _print(title: str, busy: str, results: Results, takes: float) -> None:
    """*busy* names the slow calls that end in a second, times the seconds that each takes."""
    headers = [title, *TABLE_HEADERS[1:], "slow/s", busy, "slow p50 ms"]
    print(table(headers, (_row(results, name, takes) for name in results)))


def _row(results: Results, name: str, takes: float) -> list[str]:
    return [
        *row(results, name),
        f"{median(results, name, 'side_rate'):.0f}",
        f"{_at_once(results, name, takes):.2f}",
        f"{median(results, name, 'side_p50'):.1f}",
    ]


def _at_once(results: Results, name: str, takes: float) -> float:
    """Slow calls under way on the average: those that end in a second, times what each takes."""
    return median(results, name, "side_rate") * takes

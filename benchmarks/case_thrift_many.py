"""Thrift: ping on 200 busy connections, and on 16 busy ones among 2,000."""

from collections.abc import Sequence

from benchmarks.harness import Results, median, say_target, table
from benchmarks.thriftcalls import PING
from benchmarks.thriftload import Load
from benchmarks.thriftservers import (
    ASYNC,
    INLINE,
    NONBLOCKING,
    TABLE_HEADERS,
    THREADS,
    compare,
    peers,
    row,
    say_rate,
    sparts,
)

NAME = "thrift_many"
DESCRIPTION = "Thrift: ping on 200 busy connections, and on 16 busy among 2,000, with the memory"

BUSY = 200
FEW, ALL = 16, 2_000
#: Connections that wait at once to be taken, where that is not measured: any backlog holds them.
AT_ONCE = 64
#: MiB that ours may have resident with so many connections.
MEMORY = 35
_PEERS = (
    "threaded",
    "nonblocking",
    "tornado",
    "thriftpy2_threaded",
    "thriftpy2_asyncio",
    "canned",
)
#: Apache's non-blocking server does not take so many at once within a minute.
_BURST_PEERS = ("threaded", "tornado", "thriftpy2_threaded", "thriftpy2_asyncio", "canned")
_OURS = (INLINE, THREADS, ASYNC)


def run(quick: bool = False) -> None:
    """Measure and print."""
    load = Load(PING, BUSY, at_once=AT_ONCE)
    results = _compare(load, (*_PEERS, "threadpool"), quick)
    print(table([f"{BUSY} busy", *TABLE_HEADERS[1:]], (row(results, name) for name in results)))
    say_rate(results, INLINE, 1.7)
    say_rate(results, THREADS, 1.6)

    load = Load(PING, FEW, idle=ALL - FEW, at_once=AT_ONCE)
    results = _compare(load, _PEERS, quick)
    headers = [f"{FEW} busy of {ALL:,}", *TABLE_HEADERS[1:], "MiB"]
    print(table(headers, (_row(results, name) for name in results)))
    for name, wanted in ((INLINE, 1.7), (THREADS, 1.5)):
        say_rate(results, name, wanted)
        say_rate(results, name, 40, NONBLOCKING)
        found = median(results, name, "rss")
        say_target(f"{name} at most {MEMORY} MiB", f"{found:.1f} MiB", found <= MEMORY)
    _burst(quick)


def _compare(load: Load, words: Sequence[str], quick: bool) -> Results:
    return compare([*peers(load.connections, *words), *sparts(*_OURS)], load, quick)


def _row(results: Results, name: str) -> list[str]:
    return [*row(results, name), f"{median(results, name, 'rss'):.1f}"]


def _burst(quick: bool) -> None:
    count = 300 if quick else ALL
    servers = [*peers(count, *_BURST_PEERS), *sparts(*_OURS)]
    results = compare(servers, Load(PING, 1, idle=count - 1), quick, seconds=0.2, rounds=3)
    headers = [f"{count:,} connect at once", "connected s", "all answered once s"]
    print(table(headers, (_times(results, name) for name in results)))


def _times(results: Results, name: str) -> list[str]:
    return [name, *(f"{median(results, name, key):.2f}" for key in ("connected", "answered"))]

"""Thrift, framed binary, 16 connections: a small call and a larger one, ours and the peers."""

from benchmarks.harness import Results, ratio, say_target, table
from benchmarks.thriftcalls import ECHO, PING
from benchmarks.thriftload import Load
from benchmarks.thriftservers import (
    ASYNC,
    BASE,
    CANNED,
    INLINE,
    PROCESSOR,
    TABLE_HEADERS,
    THREADS,
    compare,
    peers,
    row,
    say_rate,
    say_tails,
    sparts,
)

NAME = "thrift"
DESCRIPTION = "Thrift: ping and echo on 16 connections, server on one core, load on another"

CONNECTIONS = 16
_OURS = (INLINE, THREADS, ASYNC, f"{ASYNC}, asyncio's loop", PROCESSOR)
#: Of ours, the ratios to reach for ping and for echo.
_TARGETS = {INLINE: (1.8, 1.5), THREADS: (1.7, 1.5), ASYNC: (1.5, None)}


def run(quick: bool = False) -> None:
    """Measure and print."""
    servers = [*peers(CONNECTIONS), *sparts(*_OURS)]
    for place, (title, call) in enumerate((("ping", PING), ("echo", ECHO))):
        results = compare(servers, Load(call, CONNECTIONS), quick)
        rows = (row(results, name) for name in results)
        print(table([title, *TABLE_HEADERS[1:]], rows))
        for name, wanted in _TARGETS.items():
            if (ratio_wanted := wanted[place]) is not None:
                say_rate(results, name, ratio_wanted)
        for name in (INLINE, THREADS):
            if call is ECHO:
                _say_ahead(results, name)
            else:
                say_tails(results, name)


def _say_ahead(results: Results, ours: str) -> None:
    others = [name for name in results if not name.startswith("sparts") and name != CANNED]
    best = max(others, key=lambda name: ratio(results, name, BASE, "rate"))
    found = ratio(results, ours, best, "rate")
    say_target(f"{ours} ahead of every peer", f"{found:.2f} of {best}", found > 1)

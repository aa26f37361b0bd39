"""SIGTERM under load: not one request that the server accepted may be lost."""

import signal
import time
from collections.abc import Callable

from benchmarks.harness import DEADLINE, Sample, interleave, median, python, say_target, table
from benchmarks.load import Load
from benchmarks.servers import AIOHTTP, UVICORN, Server, installed, tornado

NAME = "drain"
DESCRIPTION = "SIGTERM while 50 connections send requests, half of which take 50 ms"

CONNECTIONS = 50
#: Of the outcome, what is added up over the rounds.
_COUNTED = ("answered_after", "lost", "cut", "bad", "unaccepted")
_WORDS = ("--level", "WARNING", "--http-host", "127.0.0.1", "--http-port")


def _ours(name: str, loop: str) -> Server:
    return Server(
        name,
        lambda port: python("sparts_tasks", "slow_http", "--tornado-loop", loop, *_WORDS, port),
        ("uvloop",) if loop == "uvloop" else (),
    )


_OURS = (_ours("sparts, asyncio", "asyncio"), _ours("sparts, uvloop", "uvloop"))
_BARE = tornado("Tornado (nothing drains)", "slow")


def _drained(server: Server, seconds: float) -> Callable[[], Sample]:
    def sample() -> Sample:
        with server.running() as (process, port):
            sent: list[float] = []
            load = Load(port, CONNECTIONS, ["/", "/slow"])
            found = load.run(
                seconds, lambda: sent.append(process.send_signal(signal.SIGTERM)), DEADLINE
            )
            process.wait()
            took = time.perf_counter() - sent[0]
        return {key: getattr(found, key) for key in _COUNTED} | {"stop": took}

    return sample


def run(quick: bool = False) -> None:
    """Measure and print."""
    servers = installed(_BARE, *_OURS, AIOHTTP, UVICORN)
    subjects = {server.name: _drained(server, 0.5 if quick else 2.0) for server in servers}
    results = interleave(subjects, 1 if quick else 10)
    sums = {name: [sum(s[key] for s in results[name]) for key in _COUNTED] for name in results}
    rows = [
        [name, *(f"{count:,.0f}" for count in sums[name]), f"{median(results, name, 'stop'):.2f}"]
        for name in results
    ]
    headers = ["", "answered after", "lost", "cut", "not 2xx", "never accepted", "to exit s"]
    print(table(headers, rows))
    failed = {server.name: sum(sums[server.name][1:4]) for server in _OURS if server.name in sums}
    for name, count in failed.items():
        say_target(f"{name} loses no accepted request", f"{count:.0f}", not count)

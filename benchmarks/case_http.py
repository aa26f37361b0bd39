"""HTTP throughput, "Hello, world": ours on each loop beside bare Tornado and other servers."""

from collections.abc import Callable

from benchmarks.harness import Results, Sample, interleave, median, ratio, say_target, table
from benchmarks.load import measure
from benchmarks.servers import AIOHTTP, TORNADO, UVICORN, Server, installed, sparts, tornado

NAME = "http"
DESCRIPTION = "'Hello, world' over 50 keep-alive connections, server on one core, load on another"

CONNECTIONS = 50
_QUIET = ("--level", "WARNING")
_UVLOOP = tornado("Tornado, uvloop", "uvloop")
_LOGGING = tornado("Tornado, a log line each", "log")
_OURS = {
    kind: sparts(f"sparts, {kind}", "--tornado-loop", kind, *_QUIET)
    for kind in ("asyncio", "uvloop", "auto")
}
_OURS_LOGGING = sparts("sparts, a log line each", "--tornado-loop", "asyncio")


def _throughput(server: Server, seconds: int) -> Callable[[], Sample]:
    def sample() -> Sample:
        with server.running() as (process, port):
            measure(port, CONNECTIONS, 1)  # warm up
            before = process.cpu()
            load = measure(port, CONNECTIONS, seconds)
            cpu = process.cpu() - before
        return {
            "rate": load.answered / load.seconds,
            "cpu": 1e6 * cpu / load.answered,
            "p99": load.p99,
        }

    return sample


def run(quick: bool = False) -> None:
    """Measure and print."""
    servers = installed(
        TORNADO, _UVLOOP, *_OURS.values(), AIOHTTP, UVICORN, _LOGGING, _OURS_LOGGING
    )
    subjects = {server.name: _throughput(server, 1 if quick else 3) for server in servers}
    results = interleave(subjects, 1 if quick else 7)
    print(table(["", "requests/s", "ratio", "CPU µs each", "ratio", "p99 ms"], _rows(results)))
    for kind, base in (("asyncio", TORNADO), ("uvloop", _UVLOOP)):
        if base.name in results:
            _say(results, _OURS[kind].name, base.name, 0.98)
    _say(results, _OURS["auto"].name, TORNADO.name, 1.0)


def _rows(results: Results) -> list[list[str]]:
    return [
        [
            name,
            f"{median(results, name, 'rate'):,.0f}",
            f"{ratio(results, name, TORNADO.name, 'rate'):.2f}",
            f"{median(results, name, 'cpu'):.1f}",
            f"{ratio(results, name, TORNADO.name, 'cpu'):.2f}",
            f"{median(results, name, 'p99'):.2f}",
        ]
        for name in results
    ]


def _say(results: Results, ours: str, base: str, wanted: float) -> None:
    rate = ratio(results, ours, base, "rate")
    cpu = ratio(results, ours, base, "cpu")
    say_target(
        f"{ours} at least {wanted:g} of {base}",
        f"{rate:.3f}, with {cpu:.3f} of its CPU a request",
        rate >= wanted,
    )

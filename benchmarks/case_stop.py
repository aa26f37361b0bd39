"""From SIGTERM to the exit of an idle service."""

from collections.abc import Callable

from benchmarks.harness import Sample, interleave, median, python, ratio, say_target, table
from benchmarks.servers import AIOHTTP, TORNADO, UVICORN, Server, installed, tornado

NAME = "stop"
DESCRIPTION = "SIGTERM to exit, idle: ours with HTTP, queue and periodic task, beside HTTP servers"


def _ours(name: str, kinds: str) -> Server:
    words = ("--level", "WARNING", "--http-host", "127.0.0.1", "--http-port")
    return Server(name, lambda port: python("sparts_tasks", kinds, *words, port))


_OURS = _ours("sparts", "http,queue,periodic")


def _ending(server: Server) -> Callable[[], Sample]:
    return lambda: {"stop": server.time_to_end()}


def run(quick: bool = False) -> None:
    """Measure and print."""
    servers = installed(
        TORNADO,
        tornado("Tornado, ends its loop", "graceful"),
        _OURS,
        _ours("sparts, HTTP alone", "http"),
        AIOHTTP,
        UVICORN,
    )
    results = interleave({server.name: _ending(server) for server in servers}, 1 if quick else 15)
    rows = [
        [
            name,
            f"{1e3 * median(results, name, 'stop'):.1f}",
            f"{ratio(results, name, TORNADO.name, 'stop'):.1f}",
        ]
        for name in results
    ]
    print(table(["", "ms", "ratio"], rows))
    above = 1e3 * (median(results, _OURS.name, "stop") - median(results, TORNADO.name, "stop"))
    say_target("at most 50 ms above bare Tornado", f"{above:.0f} ms above", above <= 50)

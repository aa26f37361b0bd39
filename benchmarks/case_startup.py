"""From the start of the process to a port that is listened on, and to the first answer."""

from collections.abc import Callable

from benchmarks.harness import (
    LOAD_CPUS,
    SERVER_CPUS,
    Process,
    Sample,
    free_port,
    interleave,
    median,
    pinned,
    ratio,
    say_target,
    table,
)
from benchmarks.servers import AIOHTTP, OURS, TORNADO, UVICORN, Server, installed, sparts, tornado

NAME = "startup"
DESCRIPTION = "process start to listening, and to the first answer, of an HTTP service"

_OURS_ASYNCIO = sparts("sparts, asyncio", "--tornado-loop", "asyncio", "--level", "WARNING")


def _starting(server: Server) -> Callable[[], Sample]:
    def sample() -> Sample:
        port = free_port()
        with pinned(LOAD_CPUS), Process(server.command(port), SERVER_CPUS) as process:
            return process.answers(port)

    return sample


def run(quick: bool = False) -> None:
    """Measure and print."""
    servers = installed(
        TORNADO, tornado("Tornado, uvloop", "uvloop"), OURS, _OURS_ASYNCIO, AIOHTTP, UVICORN
    )
    subjects = {server.name: _starting(server) for server in servers}
    interleave(subjects, 1)  # compile, and fill the disk's cache
    results = interleave(subjects, 2 if quick else 21)
    rows = [
        [
            name,
            f"{1e3 * median(results, name, 'listening'):.0f}",
            f"{ratio(results, name, TORNADO.name, 'listening'):.2f}",
            f"{1e3 * median(results, name, 'answering'):.0f}",
            f"{ratio(results, name, TORNADO.name, 'answering'):.2f}",
        ]
        for name in results
    ]
    print(table(["", "listening ms", "ratio", "answering ms", "ratio"], rows))
    found = ratio(results, OURS.name, TORNADO.name, "listening")
    say_target("at most 1.25 of bare Tornado", f"{found:.2f}", found <= 1.25)

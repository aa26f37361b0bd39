"""The HTTP servers that the cases compare: ours in its variants, and the peers."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.harness import SERVER_CPUS, Process, free_port, is_installed, python

__all__ = [
    "AIOHTTP",
    "OURS",
    "TORNADO",
    "UVICORN",
    "Server",
    "end",
    "installed",
    "sparts",
    "tornado",
]


@dataclass(frozen=True)
class Server:
    """One server: *command(port)* starts it; it needs the modules *needs*."""

    name: str
    command: Callable[[int], list[str]]
    needs: tuple[str, ...] = ()

    @contextlib.contextmanager
    def running(self) -> Iterator[tuple[Process, int]]:
        """The server on the server's core, answering on a free port, for a ``with`` block."""
        port = free_port()
        with Process(self.command(port), SERVER_CPUS) as process:
            process.answers(port)
            yield process, port

    def time_to_end(self) -> float:
        """Seconds from SIGTERM to the exit, a moment after it first answered."""
        with self.running() as (process, _):
            return end(process)


def end(process: Process) -> float:
    """Send SIGTERM; seconds until the process has ended."""
    sent = process.send_signal(signal.SIGTERM)
    process.wait()
    return time.perf_counter() - sent


def sparts(name: str, *words: str) -> Server:
    """Our smallest HTTP service, with *words* on its command line."""
    return Server(
        name,
        lambda port: python("sparts_http", "--http-host", "127.0.0.1", "--http-port", port, *words),
        ("uvloop",) if "uvloop" in words else (),
    )


def tornado(name: str, *words: str) -> Server:
    """Bare Tornado; for *words* see ``peers/tornado_http.py``."""
    return Server(
        name,
        lambda port: python("tornado_http", port, *words),
        ("uvloop",) if "uvloop" in words else (),
    )


OURS = sparts("sparts", "--level", "WARNING")
TORNADO = tornado("Tornado")
AIOHTTP = Server("aiohttp", lambda port: python("aiohttp_http", port), ("aiohttp",))
UVICORN = Server("uvicorn", lambda port: python("uvicorn_http", port), ("uvicorn",))


def installed(*servers: Server) -> list[Server]:
    """Those of *servers* that can run here; of each other it is said what is missing."""
    able = []
    for server in servers:
        missing = [module for module in server.needs if not is_installed(module)]
        if missing:
            print(f"{server.name} is left out: {', '.join(missing)} is not installed here")
        else:
            able.append(server)
    return able

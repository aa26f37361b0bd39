"""Wake-ups a second of processes that have nothing to do, all watched at the same time."""

import contextlib
import time

from benchmarks.harness import Process, python, say_target, table, wakeups
from benchmarks.servers import AIOHTTP, TORNADO, UVICORN, installed

NAME = "idle"
DESCRIPTION = "wake-ups a second (context switches) of a service of each task kind, idle"

_KINDS = {
    "no task": "empty",
    "HTTP": "http",
    "queue": "queue",
    "periodic, each hour": "periodic",
    "select": "select",
    "files": "files",
    "asyncio task": "asyncio_task",
    "asyncio periodic, each hour": "asyncio_periodic",
    "asyncio queue": "asyncio_queue",
    "all of them": "http,queue,periodic,select,files,asyncio_task,asyncio_periodic,asyncio_queue",
}
#: Seconds until what a start leaves behind has settled.
_SETTLE = 2.0


def run(quick: bool = False) -> None:
    """Measure and print."""
    with contextlib.ExitStack() as ended:
        watched: dict[str, Process] = {}
        for name, kinds in _KINDS.items():
            command = python("sparts_tasks", kinds, "--level", "WARNING")
            watched[f"sparts, {name}"] = process = ended.enter_context(Process(command))
            process.line()
        for server in installed(TORNADO, AIOHTTP, UVICORN):
            watched[server.name], _ = ended.enter_context(server.running())
        time.sleep(_SETTLE)
        found = wakeups(watched, 2.0 if quick else 60.0)
    print(table(["", "wake-ups/s"], [[name, f"{rate:.2f}"] for name, rate in found.items()]))
    ours = {name: rate for name, rate in found.items() if name.startswith("sparts")}
    waking = [f"{name}: {rate:.2f}" for name, rate in ours.items() if rate]
    say_target("none of its own", "; ".join(waking) or "none", not waking)

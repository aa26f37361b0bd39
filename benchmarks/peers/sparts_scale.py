"""Ours, with COUNT tasks of KIND (periodic or asyncio_periodic); tells its figures on stdout."""

import itertools
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from sparts import cli
from sparts.hooks import Hook
from sparts.tasks.periodic import AsyncioPeriodicTask, PeriodicTask
from sparts.vservice import VService

PAGE = 4096
KIND, COUNT = sys.argv[1], int(sys.argv[2])
runs = itertools.count(1)
all_ran = threading.Event()


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


class Figures(Hook):
    """Tells them when all tasks are started."""

    def before_start(self, service: VService) -> None:
        global before, began
        before, began = rss(), time.perf_counter()

    def after_start(self, service: VService) -> None:
        started = time.perf_counter() - began
        all_ran.wait()
        ran = time.perf_counter() - began
        told = {"declare": declared, "start": started, "ran": ran, "bytes": rss() - before}
        print(json.dumps(told), flush=True)


def execute(self: Any) -> None:
    if next(runs) == COUNT:
        all_ran.set()


async def execute_async(self: Any) -> None:
    execute(self)


def classes() -> list[type]:
    base, run = (
        (PeriodicTask, execute) if KIND == "periodic" else (AsyncioPeriodicTask, execute_async)
    )
    return [
        type(f"Task{number}", (base,), {"INTERVAL": 3600.0, "execute": run})
        for number in range(COUNT)
    ]


if __name__ == "__main__":
    before, began = 0, time.perf_counter()

    class Service(VService):
        HOOKS = [Figures]
        ALL_TASKS = classes()

    options = cli.parse(Service, ["--level", "WARNING"])
    declared = time.perf_counter() - began
    Service.initFromOptions(options)

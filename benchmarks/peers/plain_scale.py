"""Beside ours: COUNT plain threads (periodic) or asyncio tasks (asyncio_periodic) that wait."""

import asyncio
import json
import sys
import threading
import time
from pathlib import Path

PAGE = 4096


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def tell(began: float, before: int) -> None:
    took = time.perf_counter() - began
    told = {"declare": 0.0, "start": took, "ran": took, "bytes": rss() - before}
    print(json.dumps(told), flush=True)


def threads(count: int) -> None:
    before, began = rss(), time.perf_counter()
    end = threading.Event()
    for _ in range(count):
        threading.Thread(target=end.wait, args=(3600.0,), daemon=True).start()
    tell(began, before)
    end.wait()


async def tasks(count: int) -> None:
    before, began = rss(), time.perf_counter()
    waiting = [asyncio.create_task(asyncio.sleep(3600.0)) for _ in range(count)]
    await asyncio.sleep(0)
    tell(began, before)
    await asyncio.wait(waiting)


if __name__ == "__main__":
    if sys.argv[1] == "periodic":
        threads(int(sys.argv[2]))
    else:
        asyncio.run(tasks(int(sys.argv[2])))

"""Queues: what an item costs that does nothing, from the put to its end, beside the standard ones.

Every subject is one process and its threads; the interpreter's lock makes their times add up, so
the cost given is the wall time from the first put to the end of the last item, by item.
"""

import argparse
import gc
import logging
import queue
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from benchmarks.harness import (
    BenchmarkError,
    Results,
    Sample,
    interleave,
    median,
    ratio,
    say_target,
    table,
)
from sparts.tasks.asyncio_queue import AsyncioQueueTask
from sparts.tasks.queue import QueueTask
from sparts.vservice import VService

NAME = "queue"
DESCRIPTION = "submit() and queue.put() with items that do nothing, and memory per queued item"

#: Seconds that all items of a measurement may take.
_DEADLINE = 600.0
_POOL = "ThreadPoolExecutor.submit"
_QUEUE = "queue.Queue"


def run(quick: bool = False) -> None:
    """Measure and print."""
    logging.getLogger("Measured").setLevel(logging.INFO)
    items, rounds = (5_000, 1) if quick else (200_000, 7)
    submits = {
        **{_title(f"{_POOL}", n): partial(_pool, n, items) for n in (1, 4)},
        **{_title("QueueTask.submit", n): partial(_submit, QueueTask, n, items) for n in (1, 4)},
        "AsyncioQueueTask.submit": partial(_submit, AsyncioQueueTask, 1, items),
    }
    _print(interleave(submits, rounds), _title(_POOL, 1))
    puts: dict[str, Callable[[], Sample]] = {
        _QUEUE: partial(_standard, queue.Queue, items),
        f"{_QUEUE}, 1,000 wait": partial(_standard, partial(queue.Queue, 1000), items),
        "SimpleQueue": partial(_standard, queue.SimpleQueue, items),
        "QueueTask.queue.put": partial(_put, QueueTask, 0, 1, items),
        "QueueTask.queue.put, 4 producers": partial(_put, QueueTask, 0, 4, items),
        "QueueTask.queue.put, 1,000 wait": partial(_put, QueueTask, 1000, 1, items),
        "AsyncioQueueTask.queue.put": partial(_put, AsyncioQueueTask, 0, 1, items),
    }
    _print(interleave(puts, rounds), _QUEUE)
    _print_memory(items)


def _title(what: str, workers: int) -> str:
    return f"{what}, {workers} worker{'s'[: workers > 1]}"


# -- ours -----------------------------------------------------------------------------------------
class _Nothing(QueueTask):
    def execute(self, item: Any, context: Any) -> None:
        pass


class _NothingOnLoop(AsyncioQueueTask):
    async def execute(self, item: Any, context: Any) -> None:
        pass


@contextmanager
def _task(kind: Any, workers: int = 1, wait: int = 0) -> Iterator[Any]:
    """A task of that kind, in a service of its own, whose items do nothing."""
    made = _Nothing if kind is QueueTask else _NothingOnLoop
    chosen = type("Task", (made,), {"WORKERS": workers, "MAX_ITEMS": wait})
    service = type("Measured", (VService,), {"TASKS": [chosen]})(argparse.Namespace())
    thread = service.startBG()
    try:
        if not service.waitReady(_DEADLINE):
            raise BenchmarkError("the service did not start")
        yield service.requireTask(chosen)
    finally:
        service.stop()
        thread.join(_DEADLINE)


def _submit(kind: Any, workers: int, items: int) -> Sample:
    with _task(kind, workers) as task:
        gc.collect()
        began = time.perf_counter()
        futures = [task.submit(item) for item in range(items)]
        _wait_for(task, items)
        taken = time.perf_counter() - began
    if not all(future.done() for future in futures):
        raise BenchmarkError("a future of QueueTask.submit is not done")
    return {"ns": 1e9 * taken / items}


def _put(kind: Any, wait: int, producers: int, items: int) -> Sample:
    with _task(kind, wait=wait) as task:
        threads = [
            threading.Thread(target=_put_all, args=(task.queue.put, items // producers))
            for _ in range(producers)
        ]
        gc.collect()
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        _wait_for(task, items)
        return {"ns": 1e9 * (time.perf_counter() - began) / items}


def _put_all(put: Callable[[int], None], items: int) -> None:
    for item in range(items):
        put(item)


def _wait_for(task: Any, items: int) -> None:
    if not (task.queue.join(_DEADLINE) and task.n_completed() == items):
        raise BenchmarkError(f"only {task.n_completed()} of {items} items were run")


# -- the standard library's -----------------------------------------------------------------------
def _nothing(item: int) -> None:
    pass


def _pool(workers: int, items: int) -> Sample:
    gc.collect()
    with ThreadPoolExecutor(workers) as pool:
        began = time.perf_counter()
        futures = [pool.submit(_nothing, item) for item in range(items)]
        pool.shutdown()
        taken = time.perf_counter() - began
    if not all(future.done() for future in futures):
        raise BenchmarkError(f"a future of {_POOL} is not done")
    return {"ns": 1e9 * taken / items}


def _standard(make: Callable[[], Any], items: int) -> Sample:
    made = make()
    thread = threading.Thread(target=_work, args=(made,))
    thread.start()
    gc.collect()
    began = time.perf_counter()
    _put_all(made.put, items)
    made.put(None)
    thread.join()
    return {"ns": 1e9 * (time.perf_counter() - began) / items}


def _work(source: Any) -> None:
    while (item := source.get()) is not None:
        _nothing(item)


# -- what is printed ------------------------------------------------------------------------------
def _print(results: Results, base: str) -> None:
    rows = [
        [name, f"{median(results, name, 'ns'):.0f}", f"{ratio(results, base, name, 'ns'):.2f}"]
        for name in results
    ]
    print(table(["from put to end", "ns an item", f"x {base}"], rows))
    for number in (1, 4):
        ours, theirs = _title("QueueTask.submit", number), _title(_POOL, number)
        if ours in results:
            found = ratio(results, theirs, ours, "ns")
            say_target(f"{ours}: 5 x {_POOL}", f"{found:.1f}", found >= 5)
    if base == _QUEUE:
        found = ratio(results, base, "QueueTask.queue.put", "ns")
        say_target(f"QueueTask.queue.put: 1.5 x {_QUEUE}", f"{found:.1f}", found >= 1.5)


def _print_memory(items: int) -> None:
    ours, theirs = _bytes_submitted(items), _bytes_pooled(items)
    rows = [["QueueTask.submit", f"{ours:.0f}"], [_POOL, f"{theirs:.0f}"]]
    print(table([f"{items:,} items wait", "bytes an item"], rows))
    say_target("at most 400 bytes an item", f"{ours:.0f}", ours <= 400)


def _bytes_submitted(items: int) -> float:
    hold, futures = threading.Event(), list[Future[Any]]()
    with _task(QueueTask) as task:
        task.execute = lambda item, context: hold.wait(_DEADLINE)
        return _held(task.submit, items, futures, hold)


def _bytes_pooled(items: int) -> float:
    hold, futures = threading.Event(), list[Future[Any]]()
    with ThreadPoolExecutor(1) as pool:
        return _held(partial(pool.submit, hold.wait), items, futures, hold)


def _held(
    submit: Callable[[Any], "Future[Any]"],
    items: int,
    futures: "list[Future[Any]]",
    hold: threading.Event,
) -> float:
    """Bytes for each item that waits behind one which is held; the list of futures not counted."""
    submit(_DEADLINE)
    futures += [Future()] * items
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for place in range(items):
            futures[place] = submit(_DEADLINE)
        return (tracemalloc.get_traced_memory()[0] - before) / items
    finally:
        tracemalloc.stop()
        hold.set()


if __name__ == "__main__":
    try:
        run()
    except BenchmarkError as error:
        raise SystemExit(str(error)) from error

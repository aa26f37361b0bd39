"""Tasks that work off a queue in threads: first in first out, by priority, or each item once."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from sparts.context import ExecuteContext
from sparts.futures import GONE, Ticket
from sparts.overrides import require_plain
from sparts.tasks.queuework import QueueWork
from sparts.workqueue import PriorityWorkQueue, UniqueWorkQueue, WorkQueue, new_nap

if TYPE_CHECKING:
    from sparts.tasks.asyncio_queue import AsyncioQueueTask
    from sparts.vservice import VService

__all__ = ["AsyncioQueueTask", "PriorityQueueTask", "QueueTask", "UniqueQueueTask"]

#: Seconds: for so long a worker keeps durations to itself while it has more to do.
_HOLD = 0.01


class QueueTask(QueueWork):
    """Works off a queue, first in first out, in WORKERS threads; see :class:`QueueWork`.

    >>> class Consumer(QueueTask):
    ...     WORKERS = 10
    ...     def execute(self, item, context):
    ...         return item * 2

    ``task.submit(item)`` gives a future, ``task.queue.put(item)`` does not. Once a stop was asked
    for, no item is tried again, but those that wait are still run, and more may be put, until the
    task itself is stopped; so name the task in the DEPS of who puts. What could not be begun within
    nine tenths of ``--stop-timeout`` is named in a warning, and its futures fail with NotRun.
    """

    def __init__(self, service: "VService") -> None:
        super().__init__(service)
        self._alive = 0
        self._counting = threading.Lock()

    def initTask(self) -> None:
        """Make the queue.

        :raises TaskError: ``execute`` is a coroutine, which no thread would await.
        """
        super().initTask()
        require_plain(self.execute, self.name, "make the task an AsyncioQueueTask")

    def start(self) -> None:
        """Start the workers."""
        self._alive = self.workers
        super().start()

    def stop(self) -> None:
        """Have the workers end when the queue is empty, and refuse what else is put."""
        super().stop()
        self._close()

    def join(self) -> None:
        """Wait until the workers have ended, and report what is left."""
        super().join()
        self._wind_up()

    # -- in each worker ---------------------------------------------------------------------------
    def _runloop(self) -> None:
        lock = new_nap()
        self.queue.enlist()
        try:
            more = True
            while more:
                self._burst()
                more = self.queue.rest(lock)
        except BaseException as error:
            # First of all, lest what others suffer from it comes to be the service's failure.
            self.service.fail(error, self.name)
            self.queue.settle()
        self._end_worker()

    def _end_worker(self) -> None:
        with self._counting:
            self._alive -= 1
            last = self._alive == 0
        if last:  # perhaps by failures: who waits for what is left must hear that nobody runs it
            self.queue.sweep()

    def _burst(self) -> None:
        """Run what is in the queue until there is nothing; written out, as every item pays."""
        queue, clock, takes_context = self.queue, time.monotonic, self._takes_context
        pop, items, plain = queue.pop, queue.items, self._TICKETS
        execute: Callable[..., Any] = self.execute
        held: list[float] = []  # seconds
        completed = self.n_completed.part()
        context: ExecuteContext | None = None
        entry = item = result = error = None
        now, flush = clock(), 0.0
        try:
            while True:
                if now >= queue.alarm:
                    queue.ring(now)
                try:
                    entry = pop()
                except IndexError:
                    return
                ticket = None
                if type(entry) is Ticket and entry.owner is self:
                    if (item := entry.take()) is GONE:
                        continue
                    context, ticket = ExecuteContext(1, item, None, entry), entry
                    context.began = now  # no start(): nobody else has seen this context
                elif isinstance(entry, ExecuteContext):
                    context, item = entry, entry.item
                    if not self._claim(context):
                        continue
                    context.start(now)
                else:
                    context, item = ExecuteContext(1, entry), entry
                    context.began = now
                try:
                    result = execute(item, context) if takes_context else execute(item)
                except BaseException as raised:
                    error = raised
                context.ended = ended = clock()
                held.append(ended - now)
                now = ended
                if now >= flush or not items:
                    self._count(held)
                    completed, flush = self.n_completed.part(), now + _HOLD
                if error is not None:
                    self._failed(context, error)
                    error = None
                elif ticket is not None:
                    completed[0] += 1
                    ticket.resolve(result)
                elif context is entry or not plain:
                    self._succeeded(context, result)
                else:
                    completed[0] += 1
                    continue
                now = clock()  # callbacks have run
        finally:
            if held:
                self._count(held)
            entry = item = result = context = ticket = error = None  # else a traceback keeps them

    def _count(self, seconds: list[float]) -> None:
        # Many at once while there is more to do, for all workers take the lock of the samples.
        if len(seconds) == 1:
            self.execute_duration_ms.add(seconds[0] * 1000)
        else:
            self.execute_duration_ms.add_many([each * 1000 for each in seconds])
        seconds.clear()


class PriorityQueueTask(QueueTask):
    """Runs the least item first, and equal ones as they came; items may be of any type.

    Those that do not compare count as equal: see :class:`sparts.collections.PriorityQueue`.
    """

    _TICKETS = False

    def _makeQueue(self, **settings: Any) -> WorkQueue:
        return PriorityWorkQueue(self.max_items, **settings)


class UniqueQueueTask(QueueTask):
    """Refuses an item while an equal one waits, runs, or is to be tried again.

    A put raises Duplicate, or with SILENT does nothing; the future of a ``submit`` has then failed
    with it. See :class:`sparts.workqueue.UniqueWorkQueue`, also for ``queue.unsee(item)``.
    """

    #: Whether a put of what is there already does nothing, and is no error.
    SILENT: ClassVar[bool] = False

    _TICKETS = False
    queue: UniqueWorkQueue

    def _makeQueue(self, **settings: Any) -> WorkQueue:
        return UniqueWorkQueue(self.max_items, silent=self.SILENT, **settings)

    def _finish(self, context: ExecuteContext) -> None:
        self.queue.finish(context)


def __getattr__(name: str) -> Any:
    """``AsyncioQueueTask``: imported when asked for, as threads need no asyncio."""
    if name != "AsyncioQueueTask":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sparts.tasks.asyncio_queue import AsyncioQueueTask

    return AsyncioQueueTask

"""What queue tasks share: options, counters, submitting, and what becomes of an item."""

import inspect
import itertools
import reprlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from math import inf
from queue import Full
from typing import TYPE_CHECKING, Any, ClassVar

from sparts.collections import Duplicate
from sparts.context import ExecuteContext, TryLater
from sparts.counters import CallbackCounter, SampleType, counter, samples
from sparts.errors import NotRun, OptionError, TaskError
from sparts.futures import GONE, LazyFuture, Ticket
from sparts.options import option
from sparts.vtask import VTask
from sparts.workqueue import Deadline, Leftovers, WorkQueue, backoff

if TYPE_CHECKING:
    from sparts.vservice import VService

__all__ = ["QueueWork"]

#: Of the time that a stop may take, the part in which queued work is still begun; in the rest, what
#: is left is reported and the other tasks end.
_DRAIN_PART = 0.9
_FIGURES = [SampleType.AVG, SampleType.MAX, SampleType.MIN, SampleType.COUNT, SampleType.P99]
#: How many items `map` has under way at most.
_MAP_WINDOW = 1000


class QueueWork(VTask):
    """What queue tasks share: options, counters, submitting, and what becomes of an item."""

    #: How many items are worked on at once.
    WORKERS: ClassVar[int] = 1
    #: How many items may wait; 0 is no bound.
    MAX_ITEMS: ClassVar[int] = 0
    #: What a put does when so many wait: "block" until there is room, or "reject" (queue.Full).
    WHEN_FULL: ClassVar[str] = "block"
    #: After so many attempts that ended with TryLater an item has failed; None: it never has.
    MAX_ATTEMPTS: ClassVar[int | None] = None

    #: Whether ``submit`` may put tickets, as the queue does not look at the items.
    _TICKETS: ClassVar[bool] = True

    workers: int = option(
        type=int,
        default=lambda cls: cls.WORKERS,
        metavar="N",
        help="work on so many items at once (default: %(default)s)",
    )
    max_items: int = option(
        type=int,
        default=lambda cls: cls.MAX_ITEMS,
        metavar="N",
        help="let so many items wait, 0 for any number (default: %(default)s)",
    )
    when_full: str = option(
        type=str,
        default=lambda cls: cls.WHEN_FULL,
        choices=["block", "reject"],
        help="what becomes of one more: who puts it waits, or gets an error (default: %(default)s)",
    )

    #: Items that were run with success.
    n_completed = counter()
    #: Attempts that ended with TryLater.
    n_trylater = counter()
    #: Items that failed, and of them those whose error nobody took.
    n_failed = counter()
    n_unhandled = counter()
    #: Of each attempt, whatever its end.
    execute_duration_ms = samples(types=_FIGURES, windows=[60, 240])

    #: Where work is put, an item or an ExecuteContext of one; there from ``initTask`` on.
    queue: WorkQueue

    def __init__(self, service: "VService") -> None:
        super().__init__(service)
        #: How many items wait, for a worker or to be tried again.
        self.queue_depth = CallbackCounter(self._depth)
        self._takes_context = True
        self._left = Leftovers()
        self._deadline = Deadline(self._time_is_up)

    def initTask(self) -> None:
        """Make the queue.

        :raises OptionError: an option makes no sense.
        :raises TaskError: ``execute`` cannot be called with an item.
        """
        super().initTask()
        flag = f"--{self._optionPrefix()}-".replace("_", "-")
        for name, value, least in (("workers", self.workers, 1), ("max-items", self.max_items, 0)):
            if value < least:
                raise OptionError(f"{flag}{name}: {value!r} is too few; give {least} or more")
        self._takes_context = self._inspect()
        self.queue = self._makeQueue(
            name=self.name, reject=self.when_full == "reject", left=self._leave
        )
        self.service.lifecycle.on_stop_request(self._drain)

    def _makeQueue(self, **settings: Any) -> WorkQueue:
        return WorkQueue(self.max_items, **settings)

    def _inspect(self) -> bool:
        """Whether ``execute`` takes a context beside the item."""
        try:
            signature = inspect.signature(self.execute)
        except ValueError:
            return True
        for arguments in ((None, None), (None,)):
            try:
                signature.bind(*arguments)
            except TypeError:
                continue
            return len(arguments) == 2
        raise TaskError(f"{self.name}.execute{signature} must take (self, item, context)")

    def execute(self, item: Any, context: ExecuteContext) -> Any:
        """Override, as this or as ``execute(self, item)``: the work on one item.

        What it returns is the result of the item's future, if it has one. TryLater has it run
        again, with ``context.attempt`` one higher: after its ``after`` seconds, or else from 1 ms
        on, twice as long each time, up to 1 s; meanwhile others are run. Any other error goes to
        the future or the deferred, and stops the service where there is none that takes it.
        """
        raise NotImplementedError(f"{self.name} needs an execute(self, item, context)")

    def _depth(self) -> int:
        return self.queue.qsize() if hasattr(self, "queue") else 0

    # -- submitting -------------------------------------------------------------------------------
    def submit(self, item: Any) -> "Future[Any]":
        """Put *item*; the future of its result, which can be cancelled until it is first run.

        From any thread. On a full queue it waits, or raises, as ``when_full`` says. After the stop
        the future has failed with NotRun, a RuntimeError.

        :raises queue.Full: the queue is full, and rejects what is too much.
        """
        if not self._TICKETS:
            return self._submit(item)
        ticket: Ticket[Any] = Ticket()
        ticket.item = item
        ticket.owner = self
        try:
            self.queue.put(ticket)
        except NotRun as error:
            ticket.set_exception(error)
        return ticket

    def _submit(
        self, item: Any, block: bool | None = None, timeout: float | None = None
    ) -> "Future[Any]":
        future: LazyFuture[Any] = LazyFuture()
        try:
            self.queue.put(ExecuteContext(1, item, None, future), block, timeout)
        except (NotRun, Duplicate) as error:
            future.set_exception(error)
        return future

    def map(self, items: Iterable[Any], timeout: float | None = None) -> Iterator[Any]:
        """The results of *items*, in their order, as ``Executor.map``; the first error is raised.

        It is some items ahead, not all of them, so *items* may be endless; where the queue is full
        it waits for room. Who leaves off early has the others cancelled.

        :raises TimeoutError: a result is not there *timeout* seconds after the call.
        """
        until = inf if timeout is None else time.monotonic() + timeout
        source = iter(items)
        pending: deque[Future[Any]] = deque()
        window = min(_MAP_WINDOW, self.max_items or _MAP_WINDOW) + self.workers
        try:
            for item in itertools.islice(source, window):
                pending.append(self._submit_until(item, until))
        except BaseException:
            _cancel(pending)
            raise
        return self._results(source, pending, until)

    def _submit_until(self, item: Any, until: float) -> "Future[Any]":
        try:
            return self._submit(item, True, _seconds_to(until))
        except Full:
            raise TimeoutError(f"no room in {self.name} in time") from None

    def _results(
        self, source: Iterator[Any], pending: "deque[Future[Any]]", until: float
    ) -> Iterator[Any]:
        try:
            while pending:
                result = pending[0].result(_seconds_to(until))
                pending.popleft()
                yield result
                for item in itertools.islice(source, 1):
                    pending.append(self._submit_until(item, until))
        finally:
            _cancel(pending)

    # -- what becomes of an item ------------------------------------------------------------------
    def _claim(self, entry: Any) -> ExecuteContext | None:
        """The context of what was in the queue, which begins now; None if it was cancelled."""
        if type(entry) is Ticket and entry.owner is self:
            item = entry.take()
            return None if item is GONE else ExecuteContext(1, item, None, entry)
        context = entry if isinstance(entry, ExecuteContext) else ExecuteContext(1, entry)
        if context.claim():
            return context
        self._finish(context)
        return None

    def _succeeded(self, context: ExecuteContext, result: Any) -> None:
        self._finish(context)
        self.n_completed.increment()
        if context.future is not None or context.deferred is not None:
            context.set_result(result)

    def _failed(self, context: ExecuteContext, error: BaseException) -> None:
        """An attempt ended with *error*, which is raised if it is to stop the service."""
        if isinstance(error, TryLater):
            self.n_trylater.increment()
            if self.MAX_ATTEMPTS is None or context.attempt < self.MAX_ATTEMPTS:
                delay = backoff(context.attempt) if error.after is None else error.after
                context.attempt += 1
                self.queue.retry(context, delay)
                return
        self._finish(context)
        self.n_failed.increment()
        if context.set_exception(error) and isinstance(error, Exception):
            return
        self.n_unhandled.increment()
        raise error

    def _finish(self, context: ExecuteContext) -> None:
        """The work on an item is over, just before its future hears of it."""

    # -- the end ----------------------------------------------------------------------------------
    def _drain(self) -> None:
        """A stop was asked for: have nothing tried again, and nothing begun when time is up."""
        self.queue.drain()
        self._deadline.begin(_DRAIN_PART * self.service.stop_timeout, f"{self.name}-deadline")

    def _time_is_up(self) -> None:
        """Let go of what was not begun, while there is time to say so."""
        self.queue.sweep()
        self._left.report(self.logger)

    def _close(self) -> None:
        """Have the workers end when the queue is empty, and refuse what else is put."""
        if hasattr(self, "queue"):  # else the init failed before it
            self._drain()
            self.queue.close()

    def _wind_up(self) -> None:
        """The workers have ended: let go of what is left."""
        if hasattr(self, "queue"):
            self._deadline.end()
            self.queue.sweep()
            self._left.report(self.logger)

    def _leave(self, entries: list[Any]) -> None:
        """Fail the futures of *entries*, which will not be run, and keep them for the report."""
        for entry in entries:
            context = self._claim(entry)
            if context is None:
                continue
            self._finish(context)
            self._left.add(context.item)
            self._tell_left(context)

    def _tell_left(self, context: ExecuteContext) -> None:
        if context.future is None and context.deferred is None:
            return
        when = "it was run" if context.attempt == 1 else "it could be tried again"
        error = NotRun(f"{self.name} was stopped before {when}: {reprlib.repr(context.item)}")
        try:
            context.set_exception(error)
        except Exception:
            self.logger.exception("Cannot tell that an item was left")


def _cancel(futures: "Iterable[Future[Any]]") -> None:
    for future in futures:
        future.cancel()


def _seconds_to(until: float) -> float | None:
    return None if until == inf else max(0.0, until - time.monotonic())

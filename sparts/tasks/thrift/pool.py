"""The threads of Thrift calls that come over HTTP, and what such calls may take."""

import threading

from sparts.cli import seconds
from sparts.counters import CallbackCounter
from sparts.net.options import positive
from sparts.options import option
from sparts.thrift.limits import Limits
from sparts.thrift.server.options import MessageOptions
from sparts.thrift.server.pool import CallPool
from sparts.vtask import VTask

__all__ = ["ThriftPoolTask", "default_pool"]

_THREADS = 10


class ThriftPoolTask(MessageOptions, VTask):
    """The threads in which plain Thrift methods run that are called over HTTP, and their limits.

    List it in the ``DEPS`` of the HTTP task, and these are options; else their defaults hold.
    """

    OPT_PREFIX = "thrift-http"
    thread_limit: int = option(
        name="threads",
        type=positive,
        default=_THREADS,
        metavar="N",
        help="plain methods that run at the same time for HTTP clients (default: %(default)s)",
    )
    max_calls: int = option(
        type=positive,
        default=Limits.max_calls,
        metavar="N",
        help="calls over HTTP under way or waiting for a thread; a further one gets the status 503 "
        "(default: %(default)s)",
    )
    queue_timeout: float = option(
        type=seconds,
        default=Limits.queue_timeout,
        metavar="SECONDS",
        help="a call that waits longer for a thread gets the status 503 (default: %(default)s)",
    )
    #: From ``initTask`` on.
    pool: CallPool

    def limits(self) -> Limits:
        """What these options allow a client."""
        return Limits(
            max_calls=self.max_calls,
            queue_timeout=self.queue_timeout,
            max_frame_size=self.max_frame_size,
            max_container_size=self.max_container_size,
            max_depth=self.max_depth,
        )

    def initTask(self) -> None:
        """Make the pool.

        :raises OptionError: a limit is out of range.
        """
        super().initTask()
        self.workers = self.thread_limit
        self.pool = CallPool(self.limits())
        self.in_flight = CallbackCounter(lambda: self.pool.load)

    def _runloop(self) -> None:
        self.pool.work()

    def stop(self) -> None:
        """Let the threads end when they have run what they were given."""
        super().stop()
        if hasattr(self, "pool"):
            self.pool.close()


def default_pool() -> CallPool:
    """A pool with threads of its own, where no task has one; they end when it is closed."""
    pool = CallPool(Limits())
    for number in range(1, _THREADS + 1):
        name = f"ThriftPool-{number}"
        threading.Thread(target=pool.work, name=name, daemon=True).start()
    return pool

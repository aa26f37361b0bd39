"""The task: a part of a service with a life of its own, usually in threads of its own."""

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

from sparts.context import ExecuteContext, SkipTask, TryLater
from sparts.counters import HasCounters
from sparts.logs import thread_stacks
from sparts.options import HasOptions
from sparts.tasklist import Tasks

if TYPE_CHECKING:
    from sparts.vservice import VService

__all__ = ["REGISTERED", "ExecuteContext", "SkipTask", "Tasks", "TryLater", "VTask"]

#: The classes that every service of this process takes in; see :meth:`VTask.register`.
REGISTERED = Tasks()


class VTask(HasOptions, HasCounters):
    """A part of a service. Subclass it, and override ``_runloop`` or one of the tasks built on it.

    The service calls ``initTask`` and ``start`` in dependency order and ``stop`` and ``join`` in
    reverse, all in its own thread; the loop runs in ``workers`` threads of the task's own.
    ``stop`` must be safe from any thread, more than once, and on a task that never started.
    """

    #: Instead of the class name in the flags of the task's options.
    OPT_PREFIX: ClassVar[str | None] = None
    #: True: the task has no threads of its own.
    LOOPLESS: bool = False
    #: The task classes that must be ready before this one starts, and end after it. A subclass
    #: adds to its bases'.
    DEPS: ClassVar[list[Any]] = []
    #: False: the task is ready not at its start but when it calls ``setReady`` itself.
    AUTO_READY: ClassVar[bool] = True
    #: How many threads run ``_runloop``.
    workers: int = 1

    def __init__(self, service: "VService") -> None:
        self.service = service
        self.options = service.options
        self.logger = logging.getLogger(f"{service.name}.{self.name}")
        self.threads: list[threading.Thread] = []
        #: Whether ``VTask.initTask`` was reached.
        self.initialised = False
        self._started_at: float | None = None
        self._threads_starting = 0
        self._ready = False

    @property
    def name(self) -> str:
        """The class's name, by which the service knows the task."""
        return type(self).__name__

    # -- override points --------------------------------------------------------------------------
    def initTask(self) -> None:
        """Prepare to start, before any task runs; overriding, call ``super().initTask()``."""
        self.initialised = True

    def initTaskThread(self) -> None:
        """Prepare one worker thread, in that thread; the task is ready when all have."""

    def _runloop(self) -> None:
        """What each worker thread runs; return soon after ``stop`` was called."""
        raise NotImplementedError(f"{self.name} needs a _runloop(), or LOOPLESS = True")

    def start(self) -> None:
        """Start the threads, if any; overriding, call ``super().start()``."""
        if self.LOOPLESS:
            self._autoReady()
            return
        self._threads_starting = self.workers
        for number in range(1, self.workers + 1):
            name = self.name if self.workers == 1 else f"{self.name}-{number}"
            thread = threading.Thread(target=self._runThread, name=name, daemon=True)
            self.threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Ask the threads to end and return at once; overriding, call ``super().stop()``."""

    def join(self) -> None:
        """Wait until the threads have ended; the service watches the deadline."""
        for thread in self.threads:
            if thread is not threading.current_thread():
                thread.join()

    # -- readiness --------------------------------------------------------------------------------
    def started(self) -> None:
        """Note the time of the start; the service calls it just before ``start``."""
        self._started_at = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since the start; 0.0 before it."""
        return 0.0 if self._started_at is None else time.monotonic() - self._started_at

    def isReady(self) -> bool:
        """Whether the tasks that depend on this one may start."""
        return self._ready

    def setReady(self) -> None:
        """From now on the task is ready; from any thread."""
        self._ready = True
        self.service.lifecycle.notify()

    def waitReady(self, timeout: float | None = None) -> bool:
        """Wait until the task is ready, a stop is asked for or *timeout* seconds have passed.

        :returns: whether the task is ready.
        """
        if not self.isReady():
            life = self.service.lifecycle
            life.wait_for(lambda: self.isReady() or life.stop_requested, timeout)
        return self.isReady()

    def _autoReady(self) -> None:
        if self.AUTO_READY:
            self.setReady()

    # -- threads ----------------------------------------------------------------------------------
    @property
    def running(self) -> bool:
        """Whether one of the task's threads is alive."""
        return any(thread.is_alive() for thread in self.threads)

    def _runThread(self) -> None:
        try:
            self.initTaskThread()
            with _COUNTING:
                self._threads_starting -= 1
                last = self._threads_starting == 0
            if last:
                self._autoReady()
            self._runloop()
        except BaseException as error:
            self.service.fail(error, self.name)

    def stacks(self) -> str:
        """The present stacks of the task's living threads, as text."""
        return thread_stacks(self.threads)

    # -- options and registration -----------------------------------------------------------------
    @classmethod
    def _optionPrefix(cls) -> str:
        return cls.OPT_PREFIX or cls.__name__

    def _taskOptionName(self, opt: str) -> str:
        return f"{self._optionPrefix()}_{opt}".replace("-", "_")

    def getTaskOption(self, opt: str, default: Any = None) -> Any:
        """This task's option *opt* (without its prefix), or *default* where it is None."""
        return self.service.getOption(self._taskOptionName(opt), default)

    def setTaskOption(self, opt: str, value: Any) -> None:
        """Set this task's option *opt* (without its prefix), converted as its declaration says.

        :raises OptionError: the value is not of the declared type.
        """
        self.service.setOption(self._taskOptionName(opt), value)

    @classmethod
    def register(cls) -> None:
        """Have every service that this process makes from now on take this task in."""
        REGISTERED.register(cls)


_COUNTING = threading.Lock()

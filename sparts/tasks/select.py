"""A task that waits for file descriptors and child processes in one thread, by epoll."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol, overload

import six

from sparts.children import Children
from sparts.errors import TaskError
from sparts.multiplexer import EXCEPT, READ, WRITE, DescriptorError, Multiplexer
from sparts.processes import (
    Args,
    Communication,
    ProcessFailed,
    ProcessResult,
    ProcessStreamHandler,
)
from sparts.vtask import VTask

if TYPE_CHECKING:
    from sparts.vservice import VService

__all__ = [
    "DescriptorError",
    "ProcessFailed",
    "ProcessResult",
    "ProcessStreamHandler",
    "SelectTask",
]

#: Bytes of output, stdout and stderr together, that a child process may write unless told else.
MAX_OUTPUT = 16 * 2**20


class HasFileno(Protocol):
    def fileno(self) -> int: ...


Descriptor = int | HasFileno
Callback = Callable[[int], object]
Input = str | bytes | bytearray | memoryview


class SelectTask(VTask):
    """Calls back, in its thread, when descriptors are ready and when child processes have ended.

    From ``initTask`` on, any thread may register and unregister, a callback too, and it has effect
    at once. A callback is called with the descriptor's number, again and again while that is ready;
    what it raises stops the service as a failure. It should not block, nor wait for a future of
    this task: the one thread serves all.

    After ``unregister_*`` no callback is begun; but one that the task's thread has taken up by then
    runs to its end, and is not waited for. Unregister a descriptor before it is closed; another
    thread than the task's does best to close it by ``call_soon``. One that was closed all the same
    is dropped with a warning at its next event, and disturbs no other.

    When the task is stopped no callback of a descriptor is begun any more, new registrations are
    ignored, and child processes are killed.
    """

    #: Seconds that a child process which is to end has from SIGTERM to SIGKILL; at a stop, no
    #: more than half of what is left of the service's ``--stop-timeout``.
    KILL_TIMEOUT: float = 5.0

    def __init__(self, service: "VService") -> None:
        super().__init__(service)
        self._loop: Multiplexer | None = None
        self._children: Children | None = None
        self._stopping = False
        self._stop_lock = threading.Lock()

    def initTask(self) -> None:
        """Open the epoll object."""
        super().initTask()
        self._loop = Multiplexer(self.logger)
        self._children = Children(self._loop, self.KILL_TIMEOUT, self.logger)
        self.service.lifecycle.on_stop_request(self._hurry)

    def _hurry(self) -> None:
        """A stop was asked for, and with it came its deadline."""
        self.children.stop_by = time.monotonic() + self.service.stop_timeout

    # -- descriptors ------------------------------------------------------------------------------
    def register_read(self, fd: Descriptor, callback: Callback) -> None:
        """Call *callback(fd)* whenever *fd* can be read, is at its end, or is in error.

        *fd* is a number or has a ``fileno()``.

        :raises DescriptorError: *fd* is not open, is one that cannot be waited for, as a regular
            file, or has a read callback already.
        """
        self.loop.register(_number(fd), READ, callback)

    def register_write(self, fd: Descriptor, callback: Callback) -> None:
        """Call *callback(fd)* whenever *fd* can be written, or writing would fail.

        :raises DescriptorError: as for :meth:`register_read`.
        """
        self.loop.register(_number(fd), WRITE, callback)

    def register_except(self, fd: Descriptor, callback: Callback) -> None:
        """Call *callback(fd)* whenever *fd* is in an exceptional condition, as urgent data.

        Where it is the only callback of *fd* it hears of errors and hang-ups too.

        :raises DescriptorError: as for :meth:`register_read`.
        """
        self.loop.register(_number(fd), EXCEPT, callback)

    def unregister_read(self, fd: Descriptor) -> bool:
        """Take :meth:`register_read` back; whether there was one."""
        return self.loop.unregister(_number(fd), READ)

    def unregister_write(self, fd: Descriptor) -> bool:
        """Take :meth:`register_write` back; whether there was one."""
        return self.loop.unregister(_number(fd), WRITE)

    def unregister_except(self, fd: Descriptor) -> bool:
        """Take :meth:`register_except` back; whether there was one."""
        return self.loop.unregister(_number(fd), EXCEPT)

    def unregister_all(self) -> None:
        """Take back all callbacks of descriptors; child processes are none of it."""
        self.loop.unregister_all()

    def call_soon(self, callback: Callable[[], object]) -> bool:
        """Call *callback()* in the task's thread; False if that has ended, so it never will be."""
        return self.loop.call_soon(callback)

    # -- child processes --------------------------------------------------------------------------
    @overload
    def popen_communicate(
        self,
        args: Args,
        input: Input | None = None,
        timeout: float | None = None,
        max_output: int = MAX_OUTPUT,
        encoding: None = None,
        **popen: Any,
    ) -> "Future[ProcessResult[bytes]]": ...
    @overload
    def popen_communicate(
        self,
        args: Args,
        input: Input | None = None,
        timeout: float | None = None,
        max_output: int = MAX_OUTPUT,
        *,
        encoding: str,
        **popen: Any,
    ) -> "Future[ProcessResult[str]]": ...
    def popen_communicate(
        self,
        args: Args,
        input: Input | None = None,
        timeout: float | None = None,
        max_output: int = MAX_OUTPUT,
        encoding: str | None = None,
        **popen: Any,
    ) -> "Future[Any]":
        """Run a child process to its end; the future of its :class:`ProcessResult`. Any thread.

        *input* is written to its stdin, which is empty otherwise. The result has bytes, or text
        where *encoding* is given (what is no such text is replaced by U+FFFD). *popen* goes to
        ``subprocess.Popen``; ``stderr=subprocess.STDOUT`` and the like work, and leave the result's
        ``stderr`` empty.

        The future fails with :class:`ProcessFailed` when the process ends with a status other than
        0, when it takes longer than *timeout* seconds, writes more than *max_output* bytes, or the
        task is stopped. In the last three it is killed with all its process group, which is its own
        unless *popen* says otherwise: by SIGTERM, and ``KILL_TIMEOUT`` seconds later by SIGKILL.
        What else is wrong (no such program, a wrong argument) is the future's error too. It cannot
        be cancelled, and its callbacks run in the task's thread.

        The process has ended when the one started has: what it wrote until then is the result, also
        when others, whom it started, still hold its pipes. Those live on.
        """
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        try:
            run = Communication(self.children, future, timeout, max_output, encoding)
            run.begin(args, _binary(input, encoding), **popen)
        except Exception as error:
            future.set_exception(error)
        return future

    # -- the life ---------------------------------------------------------------------------------
    @property
    def loop(self) -> Multiplexer:
        """What waits.

        :raises TaskError: the task is not initialised.
        """
        if self._loop is None:
            raise self._too_early()
        return self._loop

    @property
    def children(self) -> Children:
        """The child processes.

        :raises TaskError: the task is not initialised.
        """
        if self._children is None:
            raise self._too_early()
        return self._children

    def _too_early(self) -> TaskError:
        return TaskError(f"{self.name} is not initialised; have it in DEPS, or call initTask()")

    def _runloop(self) -> None:
        try:
            self.loop.run(lambda: self._stopping)
        except BaseException as error:
            self.service.fail(error, self.name)  # now, and not when the children have ended
        self._finish()

    def _finish(self) -> None:
        """Kill the children that are left, see them end, free everything."""
        self.loop.shut()
        while not self.children.ended:
            try:
                self.children.end()
            except BaseException as error:
                self.service.fail(error, self.name)
        self.loop.close()

    def stop(self) -> None:
        """Begin no more callbacks of descriptors, kill the child processes, end the thread."""
        super().stop()
        with self._stop_lock:
            first, self._stopping = not self._stopping, True
        if first and self._loop is not None:
            self._loop.shut()
            if not self.threads:
                self._finish()


def _number(fd: Descriptor) -> int:
    if isinstance(fd, int):
        return fd
    if not hasattr(fd, "fileno"):
        raise DescriptorError(f"{fd!r} is no file descriptor, nor has it a fileno()")
    return fd.fileno()


def _binary(input: Input | None, encoding: str | None) -> bytes | bytearray | memoryview | None:
    return six.ensure_binary(input, encoding or "utf-8") if isinstance(input, str) else input

"""Child processes on a multiplexer: their end, their output as it comes, killing them for certain.

All of it happens in the loop's thread; nothing waits and nothing polls. A child's end is noticed by
its pidfd where the system has them, by a thread that waits for it elsewhere.
"""

import array
import contextlib
import fcntl
import logging
import math
import os
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Callable
from typing import IO, Any

from sparts.descriptors import DescriptorError
from sparts.errors import TaskError
from sparts.later import Timer
from sparts.multiplexer import READ, Multiplexer

__all__ = ["Child", "Children", "Popen", "Sink", "close"]

#: Bytes read at once; a pipe holds as much.
CHUNK = 65536

Popen = subprocess.Popen[Any]
Sink = Callable[[bytes], object]


class Child:
    """One child process, from its start until it has ended and all it wrote was delivered.

    *outputs* are the child's pipes and what takes their bytes; *on_end* is called once, with the
    return code, when the child has ended and what it wrote was taken, or when it could not even be
    killed. A pipe that a grandchild holds open is not waited for: what was written before the
    child's end is read, and the pipe closed.
    """

    def __init__(
        self,
        children: "Children",
        popen: Popen,
        outputs: list[tuple[IO[Any], Sink]],
        on_end: Callable[[int], object],
    ) -> None:
        self.popen = popen
        self._children = children
        self._loop = children.loop
        self._outputs = {file.fileno(): (file, sink) for file, sink in outputs}
        self._on_end = on_end
        self._pidfd: int | None = None
        self._timer: Timer | None = None
        #: Why it was, or is being, killed; None if it is not.
        self.killed: str | None = None
        self._ended = False

    # -- what it writes ---------------------------------------------------------------------------
    def begin(self) -> None:
        """Take its output from now on and notice its end; from any thread.

        :raises DescriptorError: a pipe cannot be waited for; the child goes on.
        """
        with contextlib.ExitStack() as undo:
            for fd in tuple(self._outputs):
                os.set_blocking(fd, False)
                self._loop.register(fd, READ, self._on_output, lasting=True)
                undo.callback(self._loop.unregister, fd, READ)
            self._watch()
            undo.pop_all()

    def abandon(self) -> None:
        """After a ``begin`` that failed: kill the child, wait for its end a little, free all."""
        for file, _ in self._outputs.values():
            close(file)
        self._signal(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(self._children.patience)

    def _on_output(self, fd: int) -> None:
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return
        if data:
            self._outputs[fd][1](data)
        else:
            self._close_output(fd)

    def _close_output(self, fd: int) -> None:
        file, _ = self._outputs.pop(fd)
        self._loop.unregister(fd, READ)
        close(file)

    def _drain(self, fd: int) -> None:
        """Take what is in the pipe now; what a grandchild adds is not the child's."""
        sink = self._outputs[fd][1]
        left = _unread(fd)
        with contextlib.suppress(BlockingIOError):
            while left > 0 and (data := os.read(fd, min(left, CHUNK))):
                left -= len(data)
                sink(data)

    # -- its end ----------------------------------------------------------------------------------
    def _watch(self) -> None:
        if self.popen.returncode is not None:  # its number may be another's by now
            self._loop.call_soon(self._on_exit)
            return
        try:
            self._pidfd = os.pidfd_open(self.popen.pid)
        except (OSError, AttributeError):  # none left, or it was waited for, or no such thing here
            name = f"child-{self.popen.pid}"
            threading.Thread(target=self._wait, name=name, daemon=True).start()
        else:
            self._watch_pidfd(self._pidfd)

    def _watch_pidfd(self, pidfd: int) -> None:
        try:
            self._loop.register(pidfd, READ, lambda fd: self._on_exit(), lasting=True)
        except DescriptorError:
            os.close(pidfd)
            raise

    def _wait(self) -> None:
        if hasattr(os, "waitid"):
            # It stays a zombie, whose number nobody else can get, until it is waited for in _end.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self.popen.pid, os.WEXITED | os.WNOWAIT)
        else:
            self.popen.wait()
        self._loop.call_soon(self._on_exit)

    def _on_exit(self) -> None:
        if self._ended:
            return
        try:
            for fd in tuple(self._outputs):
                self._drain(fd)
        finally:
            if self.killed is not None:  # those of its group that took SIGTERM lightly
                self._signal(signal.SIGKILL)
            self._end(self.popen.wait())

    def _end(self, returncode: int) -> None:
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._pidfd is not None:
            self._loop.unregister(self._pidfd, READ)
            os.close(self._pidfd)
        for fd in tuple(self._outputs):
            self._close_output(fd)
        self._children.discard(self)
        self._on_end(returncode)

    # -- killing it -------------------------------------------------------------------------------
    def kill(self, why: str) -> None:
        """Ask it to end, by SIGTERM, and make it when its time is over, by SIGKILL; return at once.

        Its process group with it, if it leads one. In the loop's thread.
        """
        if self.killed is None and not self._ended:
            self.killed = why
            self._signal(signal.SIGTERM)
            self._timer = self._loop.call_later(self._children.patience, self._kill_hard)

    def hasten(self) -> None:
        """Should it be about to be killed, let that take no longer than from now on it may."""
        timer, patience = self._timer, self._children.patience
        if timer is not None and timer.callback and timer.due > time.monotonic() + patience:
            self._timer = self._loop.call_later(patience, timer.callback)
            timer.cancel()

    def _kill_hard(self) -> None:
        self._signal(signal.SIGKILL)
        self._timer = self._loop.call_later(self._children.patience, self._give_up)

    def _give_up(self) -> None:
        self._children.logger.error("Process %d outlives its SIGKILL", self.popen.pid)
        self._end(-signal.SIGKILL)

    def _signal(self, signum: signal.Signals) -> None:
        pid = self.popen.pid
        if self.popen.returncode is not None:  # the number may be another's by now
            return
        try:
            (os.killpg if os.getpgid(pid) == pid else os.kill)(pid, signum)
        except ProcessLookupError:
            pass
        except PermissionError:
            self._children.logger.error("Process %d cannot be sent %s", pid, signum.name)


class Children:
    """The child processes of one loop, so that none outlives it. From any thread."""

    def __init__(self, loop: Multiplexer, kill_timeout: float, logger: logging.Logger) -> None:
        """*kill_timeout*: seconds from SIGTERM to SIGKILL, and from that until one is given up."""
        self.loop = loop
        self._kill_timeout = kill_timeout
        #: When all must have ended (monotonic), as the service's stop has its deadline.
        self.stop_by = math.inf
        self.logger = logger
        self._lock = threading.Lock()
        self._living: set[Child] = set()
        self._stopping = False
        #: True once the loop takes no more children.
        self.ended = False

    def __len__(self) -> int:
        return len(self._living)

    @property
    def patience(self) -> float:
        """Seconds for a step of a kill: the kill timeout, or half of what the stop leaves."""
        return max(0.0, min(self._kill_timeout, (self.stop_by - time.monotonic()) / 2))

    def check(self) -> None:
        """See whether there may be one more.

        :raises TaskError: the loop has ended, or is about to.
        """
        if self._stopping:
            raise TaskError("no child process: the task that would watch over it was stopped")

    def begin(self, child: Child) -> None:
        """Watch over *child* from now on.

        :raises TaskError: the loop has ended; nothing was done with the child.
        :raises DescriptorError: its pipes cannot be waited for; it goes on.
        """
        with self._lock:
            if not self.ended:
                self._living.add(child)
        try:
            if self.ended:
                self.check()
            child.begin()
        except BaseException:
            self.discard(child)
            raise
        if self._stopping:
            self.loop.call_soon(lambda: child.kill(_STOPPED))

    def discard(self, child: Child) -> None:
        """Forget *child*, which has ended."""
        with self._lock:
            self._living.discard(child)

    def end(self) -> None:
        """Kill them all and run the loop until they have ended, in the loop's thread.

        What a callback raises leaves; call it again then.
        """
        self._stopping = True
        while not self._is_last():
            for child in tuple(self._living):
                child.kill(_STOPPED)
                child.hasten()
            self.loop.run(lambda: not self._living)

    def _is_last(self) -> bool:
        with self._lock:
            self.ended = not self._living
        return self.ended


_STOPPED = "was killed, as the service stops"


def close(file: IO[Any] | None) -> None:
    """Close a pipe's end of ours, whatever is left in its buffer."""
    if file is not None:
        with contextlib.suppress(OSError):
            file.close()


def _unread(fd: int) -> int:
    """How many bytes can be read from the pipe or socket *fd* now."""
    size = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, size)
    return size[0]

"""Other processes by their pids, without ever taking one for another that had the pid before."""

import errno
import os
import select
import signal
from types import TracebackType

import six

from sparts.fileutils import readfilebytes
from sparts.timer import run_until_true

__all__ = ["LARGEST_PID", "Process", "start_of"]

#: What the kernel's pid_t holds.
LARGEST_PID = 2**31 - 1


class Process:
    """A live process, held (by a pidfd, where the kernel has those) until this is closed.

    Meanwhile no other process can be hit in its place, should it end and its pid be given out anew.
    """

    def __init__(self, pid: int, start: str = "") -> None:
        """*start*: what :func:`start_of` told of it once; '' takes whatever has the pid.

        :raises ProcessLookupError: it is not alive, or another has its pid by now.
        """
        self.pid = pid
        self._handle = _handle_of(pid)
        if self.wait(0.0) or (start and start_of(pid) not in ("", start)):
            self.close()
            raise _gone()

    def signal(self, signum: int) -> None:
        """Send it the signal *signum*.

        :raises ProcessLookupError: it has ended.
        :raises PermissionError: it belongs to another user.
        """
        if self._handle is not None:
            signal.pidfd_send_signal(self._handle, signum)
        else:
            os.kill(self.pid, signum)

    def wait(self, timeout: float) -> bool:
        """Wait until it has ended, or *timeout* seconds; whether it has."""
        if self._handle is None:
            return run_until_true(lambda: not _runs(self.pid), timeout)
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def close(self) -> None:
        """Let go of it; again is fine."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def __enter__(self) -> "Process":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()


def _gone() -> ProcessLookupError:
    return ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))


def _handle_of(pid: int) -> int | None:
    """A pidfd; None where there are none (Linux before 5.3, other systems, some containers)."""
    if not 0 < pid <= LARGEST_PID:
        raise _gone()  # to kill(2) it would mean a group of processes, or all
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.EINVAL, errno.ENOENT):  # the latter two: a thread
            raise _gone() from None
        return None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another user's, but it is
    fields = _stat(pid)
    return not fields or fields[0] not in ("Z", "X")


def start_of(pid: int) -> str:
    """What tells the process from others that have its pid earlier or later; '' if unknown."""
    fields = _stat(pid)
    if not fields:
        return ""
    try:  # as the time is counted from the boot
        boot = six.ensure_str(readfilebytes("/proc/sys/kernel/random/boot_id"), "ascii").strip()
    except OSError:
        boot = ""
    return f"{fields[19]}@{boot}"


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/<pid>/stat`` behind the name, from the state on; none if unknown."""
    try:
        data = readfilebytes(f"/proc/{pid}/stat")
    except OSError:
        return []
    return six.ensure_str(data.rpartition(b")")[2], "ascii").split()

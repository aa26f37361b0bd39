"""Pidfiles: taking one, leaving it, and finding the live process that holds it.

A pidfile of ours has the pid in its first line, as everybody expects, and in its second what the
kernel knows of that process's start (``start=...``), so that a pid which was given out anew is
told from the old one. A file that holds just a pid is taken at its word.
"""

import contextlib
import fcntl
import os
import re
import secrets
import stat
from dataclasses import dataclass

import six

from sparts.errors import SpartsError
from sparts.ops.process import LARGEST_PID, Process, start_of
from sparts.timer import run_until_true

__all__ = ["AlreadyRunning", "Holder", "NotPermitted", "NotRunning", "PidFile", "PidFileError"]

#: More than any pidfile holds.
_MOST_BYTES = 4096
#: Seconds that others may take who are just making or removing the same pidfile.
_PATIENCE = 2.0


class PidFileError(SpartsError):
    """A pidfile cannot be read, written or removed, or holds no pid."""


class AlreadyRunning(PidFileError):
    """Another live process holds the pidfile."""


class NotRunning(PidFileError):
    """No live process holds the pidfile; the status is the one of the LSB's init scripts."""

    status = 7


class NotPermitted(PidFileError):
    """This user may not do that to the pidfile or its process; the LSB's status."""

    status = 4


@dataclass(frozen=True)
class Holder:
    """What a pidfile says: the process's id, 0 if the file is blank, and its start, if known."""

    pid: int
    start: str = ""

    @classmethod
    def parse(cls, data: bytes) -> "Holder | None":
        """The holder that the content *data* names; None if it is not a pidfile's."""
        if not data.strip():
            return cls(0)
        found = re.match(rb"[ \t]*([0-9]{1,10})[ \t\r]*(?:\n(?:start=(\S+)\n)?|$)", data)
        if found is None or b"\0" in data or not 0 < int(found[1]) <= LARGEST_PID:
            return None
        if int(found[1]) == 1 and not found[2]:
            return None  # init, and no daemon that wrote this: a signal to it ends the machine
        return cls(int(found[1]), six.ensure_str(found[2] or b"", "ascii", "replace"))

    def process(self) -> Process | None:
        """That process, to be closed; None if it is not alive, or another has its pid by now."""
        try:
            return Process(self.pid, self.start)
        except ProcessLookupError:
            return None

    def format(self) -> bytes:
        """The pidfile's content."""
        # Not a bare number: "kill $(cat pidfile)" would take that for a second process.
        start = f"start={self.start}\n" if self.start else ""
        return six.ensure_binary(f"{self.pid}\n{start}", "ascii")


class PidFile:
    """The pidfile at *path*; processes that use it this way never both hold it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)
        self._mine: Holder | None = None

    # -- reading ----------------------------------------------------------------------------------
    def read(self) -> Holder | None:
        """What it says, be that process alive or not; None if there is no file.

        :raises PidFileError: it cannot be read, or is no pidfile.
        """
        try:
            with contextlib.closing(_Opened(self.path)) as file:
                return file.holder()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failed("read", error) from None

    # -- holding ----------------------------------------------------------------------------------
    def check_free(self) -> None:
        """See that no other live process holds it; a stale file is removed.

        :raises AlreadyRunning: one does.
        :raises PidFileError: it cannot be read or removed, or is no pidfile.
        """
        holder = self.read()
        if holder is None:
            return
        # Our own pid, which we did not write: we were given the pid of the one that did.
        process = None if holder == Holder(os.getpid()) else holder.process()
        if process is None:
            self.discard(holder)
            return
        process.close()
        raise AlreadyRunning(
            f"it is running already: pid {holder.pid} holds {self.path}; "
            "stop that one first (--kill), or name another pidfile (--pidfile)"
        )

    def acquire(self) -> None:
        """Hold it as this process, until :meth:`release`.

        :raises AlreadyRunning: another live process holds it.
        :raises PidFileError: it cannot be written, or is no pidfile.
        """
        mine = Holder(os.getpid(), start_of(os.getpid()))
        if not run_until_true(lambda: self._take(mine), _PATIENCE):
            raise PidFileError(
                f"pidfile {self.path} cannot be taken: others keep taking or removing it, "
                "or it is a link to nothing; remove it, or name another (--pidfile)"
            )
        self._mine = mine

    def release(self) -> None:
        """Remove it if this process holds it; again is fine.

        :raises PidFileError: it cannot be removed.
        """
        mine, self._mine = self._mine, None
        if mine is not None and mine.pid == os.getpid():  # and not one forked from the holder
            run_until_true(lambda: self.discard(mine), _PATIENCE)

    def discard(self, holder: Holder) -> bool:
        """Remove it if it still says *holder*; False if someone else is just doing so.

        :raises PidFileError: it cannot be removed.
        """
        try:
            with contextlib.closing(_Opened(self.path)) as file:
                if not file.lock():
                    return False
                if file.is_at(self.path) and file.holder() == holder:
                    os.unlink(self.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._failed("removed", error) from None
        return True

    def _take(self, mine: Holder) -> bool:
        self.check_free()
        folder, name = os.path.split(self.path)
        made = os.path.join(folder, f".{name}.{secrets.token_hex(4)}")
        try:
            with open(made, "xb") as file:
                os.fchmod(file.fileno(), 0o644)  # for all to ask for the status
                file.write(mine.format())
                file.flush()
                os.fsync(file.fileno())
            os.link(made, self.path)  # unlike a rename, this fails if another was quicker
        except FileExistsError:
            return False
        except OSError as error:
            raise self._failed("written", error) from None
        finally:
            with contextlib.suppress(OSError):
                os.unlink(made)
        return True

    def _failed(self, what: str, error: OSError) -> PidFileError:
        kind = NotPermitted if isinstance(error, PermissionError) else PidFileError
        cure = "run this as a user who may" if kind is NotPermitted else "mend that"
        return kind(
            f"pidfile {self.path} cannot be {what}: {error.strerror}; "
            f"{cure}, or name another (--pidfile)"
        )


class _Opened:
    """A pidfile that is open for reading."""

    def __init__(self, path: str) -> None:
        self._path = path
        # Should it be a pipe, do not wait for a writer.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._descriptor)

    def holder(self) -> Holder:
        """What it says; for what is no pidfile, a PidFileError."""
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            raise PidFileError(f"{self._path} is no pidfile, not even a regular file")
        data = os.pread(self._descriptor, _MOST_BYTES + 1, 0)
        holder = Holder.parse(data) if len(data) <= _MOST_BYTES else None
        if holder is None:
            raise PidFileError(
                f"{self._path} is no pidfile: it begins with {data[:20]!r}, not with a process id "
                "such as 1234 in a line of its own; if it was meant to be one, remove it"
            )
        return holder

    def lock(self) -> bool:
        """Have it alone among those who want to remove it, until it is closed."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def is_at(self, path: str) -> bool:
        """Whether it is still what *path* names."""
        return os.path.samestat(os.fstat(self._descriptor), os.stat(path))

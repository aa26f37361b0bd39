"""Reading, writing and finding files, and a temporary directory that one cannot leave by mistake.

Text is UTF-8 and passes as it is: no line ending is translated either way.
"""

import contextlib
import os
import re
import secrets
import shutil
import stat
import tempfile
import weakref
from types import TracebackType
from typing import Protocol

import six

from sparts.errors import SpartsError

__all__ = [
    "NamedTemporaryDirectory",
    "PathError",
    "find_executable",
    "makedirs",
    "readfile",
    "readfilebytes",
    "resolve_partition",
    "set_nonblocking",
    "writefile",
    "writefilebytes",
]

StrPath = str | os.PathLike[str]


class HasFileno(Protocol):
    """What has a file descriptor: a file, a socket."""

    def fileno(self) -> int: ...


class PathError(SpartsError, ValueError):
    """A path leads out of the directory that it belongs to."""


def readfile(path: StrPath) -> str:
    """The text of the file *path*.

    :raises OSError: it cannot be read.
    :raises UnicodeDecodeError: it is not UTF-8; see :func:`readfilebytes`.
    """
    return six.ensure_str(readfilebytes(path), "utf-8")


def readfilebytes(path: StrPath) -> bytes:
    """The bytes of the file *path*.

    :raises OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return file.read()


def writefile(path: StrPath, text: str | bytes, *, atomic: bool = False) -> None:
    """Make *text* the content of the file *path*; see :func:`writefilebytes`."""
    writefilebytes(path, six.ensure_binary(text, "utf-8"), atomic=atomic)


def writefilebytes(path: StrPath, data: bytes, *, atomic: bool = False) -> None:
    """Make *data* the content of the file *path*, which is made if need be.

    By default just as ``open(path, "wb")``: the file keeps its owner, mode and links, and *path*
    may be a device. With *atomic* a reader sees the old content or the new, never a part, and so
    does the next boot: a new file, with the old one's mode, takes the place of what *path* (or
    the link that it is) names, and for a moment there is a second one beside it. What is no
    regular file is written to either way.

    :raises OSError: it cannot be written.
    """
    if atomic and (os.path.isfile(path) or not os.path.exists(path)):
        _replace(os.path.realpath(path), data)
    else:
        with open(path, "wb") as file:
            file.write(data)


def _replace(path: str, data: bytes) -> None:
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{secrets.token_hex(4)}")
    with open(temporary, "xb") as file:
        try:
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(file.fileno(), stat.S_IMODE(os.stat(path).st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


def makedirs(path: StrPath, mode: int = 0o777) -> None:
    """Make the directory *path* and those above it; one that is there already is fine.

    :raises FileExistsError: something that is no directory is in the way.
    """
    os.makedirs(path, mode, exist_ok=True)


def find_executable(name: StrPath) -> str | None:
    """The absolute path of the program *name*, or None; ``$PATH`` is for names without ``/``."""
    found = shutil.which(os.fspath(name))
    return None if found is None else os.path.abspath(found)


def resolve_partition(path: StrPath) -> str:
    """The mount point of the file system that *path* lies on, symbolic links followed.

    What does not exist yet counts as what it would lie in.
    """
    mounts = _mount_points()
    found = os.path.realpath(path)
    while found != os.path.dirname(found):
        if found in mounts if mounts else os.path.ismount(found):
            break
        found = os.path.dirname(found)
    return found


def _mount_points() -> set[str]:
    """Those that the kernel lists, bind mounts too; none where it has no such list."""
    try:
        lines = readfilebytes("/proc/self/mountinfo").splitlines()
    except OSError:
        return set()
    # proc(5): the fifth field, with blanks and the like as three octal digits
    return {
        os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), line.split(b" ")[4]))
        for line in lines
    }


def set_nonblocking(fd: int | HasFileno) -> None:
    """Have reads and writes of *fd*, a descriptor or what has one, not wait.

    :raises OSError: it is not open.
    """
    os.set_blocking(fd if isinstance(fd, int) else fd.fileno(), False)


class NamedTemporaryDirectory:
    """A new directory whose files are named by paths relative to it; gone when closed.

    Every method refuses a path that leads out of it, also by a symbolic link; just what a link
    is made to name may be outside. It closes at the end of a ``with`` block, when it is garbage,
    and when the process that made it exits.
    """

    def __init__(self, suffix: str = "", prefix: str = "tmp", dir: StrPath | None = None) -> None:
        #: The absolute path of the directory.
        self.name: str = os.path.abspath(tempfile.mkdtemp(suffix, prefix, dir))
        self._kept = False
        self._finalizer = weakref.finalize(self, _remove_own, self.name, os.getpid())

    def __repr__(self) -> str:
        return f"<NamedTemporaryDirectory {self.name!r}>"

    def join(self, *paths: StrPath) -> str:
        """The absolute path of what *paths*, joined, name in the directory.

        :raises PathError: that lies outside of the directory.
        """
        joined = os.path.join(self.name, *paths)
        root = os.path.realpath(self.name)
        if os.path.commonpath([root, os.path.realpath(joined)]) != root:
            given = os.path.join(*paths)
            raise PathError(f"{given!r} leads out of {self.name}; name something inside of it")
        return joined

    def readfile(self, path: StrPath) -> str:
        """The text of the file *path*; see :func:`readfile`."""
        return readfile(self.join(path))

    def writefile(self, path: StrPath, text: str | bytes) -> None:
        """Make *text* the content of the file *path*; see :func:`writefile`."""
        writefile(self.join(path), text)

    def makedirs(self, path: StrPath) -> None:
        """Make the directory *path* and those above it; see :func:`makedirs`."""
        makedirs(self.join(path))

    def symlink(self, path: StrPath, dst: StrPath) -> None:
        """Make *dst*, in the directory, a symbolic link to *path*, as ``os.symlink`` does.

        A relative *path* without ``..`` that is there in the directory names that, wherever *dst*
        is. Any other is taken as it is: absolute, or relative to where *dst* is; it may lead out
        of the directory, or to nothing. What leads out the other methods do not follow.

        :raises FileExistsError: *dst* is there already.
        :raises PathError: *dst* lies outside of the directory.
        """
        target = os.fspath(path)
        own = os.path.join(self.name, target)
        if os.pardir not in target.split(os.sep) and os.path.lexists(own):
            target = own
        os.symlink(target, self.join(dst))

    def keep(self) -> None:
        """Leave the directory where it is, from now on also when this is closed."""
        self._kept = True
        self._finalizer.detach()

    def close(self) -> None:
        """Remove the directory with all that is in it, unless it is kept; again is fine.

        :raises OSError: something in it cannot be removed.
        """
        if not self._kept:
            self._finalizer.detach()
            _remove(self.name)

    def __enter__(self) -> "NamedTemporaryDirectory":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()


def _remove_own(path: str, pid: int) -> None:
    if os.getpid() == pid:  # not at the exit of a process forked from the one that made it
        _remove(path)


def _remove(path: str) -> None:
    for folder, inner, _ in os.walk(path):
        for name in inner:
            inside = os.path.join(folder, name)
            if not os.path.islink(inside):
                with contextlib.suppress(OSError):
                    os.chmod(inside, stat.S_IRWXU)  # else what is in it could not be removed
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)

"""Linux' own word on changes in directories: inotify, by way of the C library.

See ``man 7 inotify``. The watchfiles library has the same word, but it looks whether there is one
20 times a second (1.3, measured: 120 wake-ups in 6 s); watchdog does not, but it takes three
threads, and half a second to tell that a file was moved away. This only waits.
"""

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["Inotify", "available"]

_MODIFY, _ATTRIB, _CLOSE_WRITE = 0x2, 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _IGNORED, _ONLYDIR = 0x400, 0x800, 0x8000, 0x1000000
#: All that may change what a look at a directory finds; a look itself is none of it.
_CHANGES = _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_WATCHED = _CHANGES | _DELETE_SELF | _MOVE_SELF | _ONLYDIR

#: Watch, mask, cookie, and the size of the name that follows.
_HEAD = struct.Struct("iIII")
_CHUNK = 65536
#: More than a queue holds; if others go on filling it, they are told at the next read.
_READS = 64


def _library() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def available() -> bool:
    """Whether this system has it."""
    return sys.platform.startswith("linux") and hasattr(_library(), "inotify_init1")


class Inotify:
    """A queue of changes in the directories added; its descriptor is readable when there are any.

    Any thread may add and remove, one reads.

    :raises OSError: too many are open, by ``fs.inotify.max_user_instances`` for one.
    """

    def __init__(self) -> None:
        self._library = _library()
        self._fd = _checked(self._library.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._fd

    def add(self, directory: str) -> int:
        """Hear of changes in *directory*, not below; the number of the watch.

        It is the same number for a directory that is watched already.

        :raises OSError: it is no directory, or there are too many watches (ENOSPC).
        """
        path = os.fsencode(directory)
        watch = self._library.inotify_add_watch(self._fd, path, ctypes.c_uint32(_WATCHED))
        return _checked(watch, directory)

    def remove(self, watch: int) -> None:
        """Hear no more; nothing happens where the directory has gone."""
        self._library.inotify_rm_watch(self._fd, watch)

    def read(self) -> bool:
        """Take the changes that there are, without waiting; whether there were any."""
        changed = False
        for _ in range(_READS):
            try:
                data = os.read(self._fd, _CHUNK)
            except BlockingIOError:
                break
            # A queue that overflowed is told as a change too.
            changed = changed or any(not mask & _IGNORED for mask in _masks(data))
        return changed

    def close(self) -> None:
        """Give back the descriptor."""
        os.close(self._fd)


def _masks(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        _, mask, _, size = _HEAD.unpack_from(data, at)
        yield mask
        at += _HEAD.size + size


#: Errors that say something else of inotify than what they are called.
_MEANT = {
    errno.ENOSPC: "too many directories are watched, see fs.inotify.max_user_watches",
    errno.EMFILE: "too many open files, or inotify users, see fs.inotify.max_user_instances",
}


def _checked(result: int, path: str | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, _MEANT.get(number, os.strerror(number)), path)
    return result

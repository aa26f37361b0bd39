"""File descriptors as one waits for them: which can be, and epoll or, without that, poll."""

import math
import os
import select
import stat
from typing import Protocol

from sparts.errors import SpartsError

__all__ = ["DescriptorError", "Poll", "Poller", "identify", "unpollable"]


class DescriptorError(SpartsError, ValueError):
    """A file descriptor cannot be registered: it is closed, a regular file, or there already."""


class Poller(Protocol):
    """What ``select.epoll`` has of use here; *eventmask* is of poll's numbers, as epoll's are."""

    def register(self, fd: int, eventmask: int, /) -> object: ...
    def modify(self, fd: int, eventmask: int, /) -> object: ...
    def unregister(self, fd: int, /) -> object: ...
    def poll(self, timeout: float | None, /) -> list[tuple[int, int]]: ...
    def close(self) -> object: ...


class Poll:
    """``select.poll`` in the shape of ``select.epoll``."""

    def __init__(self) -> None:
        poll = select.poll()
        self.register, self.modify, self.unregister = poll.register, poll.modify, poll.unregister
        self._poll = poll.poll

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        # Rounded up: a timer that is almost due must not make the loop turn without waiting.
        return self._poll(None if timeout is None else math.ceil(timeout * 1000))

    def close(self) -> None:
        """Nothing to do."""


def identify(fd: int) -> tuple[int, int]:
    """Which file *fd* is at present: its device and inode.

    :raises DescriptorError: it is not open, or is a regular file or a directory.
    """
    try:
        status = os.fstat(fd)
    except (OSError, OverflowError):
        raise DescriptorError(f"fd {fd} is not open; register it before it is closed") from None
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        raise unpollable(fd)
    return status.st_dev, status.st_ino


def unpollable(fd: int) -> DescriptorError:
    """The error for a descriptor that epoll refuses."""
    return DescriptorError(
        f"fd {fd} is a file, or a device that is always ready, so it cannot be waited for; "
        "accepted are sockets, pipes, terminals and the like: read files in a thread"
    )

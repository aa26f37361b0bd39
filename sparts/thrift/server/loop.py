"""The engine's loop, apart from connections: a poller, timers, listening sockets, posted calls.

The thread that leads at the moment runs it; any thread may post and change what is polled for.
"""

import contextlib
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from sparts.descriptors import Poll
from sparts.later import Timer, Timers

__all__ = ["READ", "WRITE", "Loop"]

READ, WRITE = select.POLLIN, select.POLLOUT


class Loop:
    """A poller and what wakes it; also the :class:`sparts.net.listener.Reactor` of a listener."""

    def __init__(self) -> None:
        self._poller: Any = getattr(select, "epoll", Poll)()
        self._timers = Timers()
        self._due: float | None = None
        self._posted: deque[Callable[[], object]] = deque()
        self._special: dict[int, Callable[[], object]] = {}
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self.watch(self._woken, self._run_posted)
        #: The time of the last wait's end, monotonic seconds.
        self.now = time.monotonic()

    def wait(self, at_once: bool = False) -> list[tuple[int, int]]:
        """Wait for what is ready, ``(descriptor, event)``, or a timer that is due."""
        if at_once:
            timeout: float | None = 0.0
        elif self._due is None:
            timeout = None
        else:
            timeout = max(0.0, self._due - self.now)
        events: list[tuple[int, int]] = self._poller.poll(timeout)
        self.now = time.monotonic()
        return events

    def special(self, fd: int) -> None:
        """Make the call that belongs to *fd*, which is no connection."""
        callback = self._special.get(fd)
        if callback is not None:
            callback()

    def run_due(self) -> None:
        """Make the calls whose time has come."""
        if self._due is not None and self._due <= self.now:
            self._timers.run_due()
            self._look_ahead()

    def _look_ahead(self) -> None:
        patience = self._timers.patience()
        self._due = None if patience is None else time.monotonic() + patience

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call *callback* after *delay* seconds, in the leader's thread; from that thread."""
        timer = self._timers.add(delay, callback)
        self._look_ahead()
        return timer

    # -- from any thread --------------------------------------------------------------------------
    def post(self, callback: Callable[[], object]) -> None:
        """Call *callback* soon, in the leader's thread; after ``close`` it may never be."""
        self._posted.append(callback)
        with contextlib.suppress(OSError):  # closed, or full, and then it wakes anyway
            self._waker.send(b"\0")

    def _run_posted(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while len(self._woken.recv(4096)) == 4096:
                pass
        for _ in range(len(self._posted)):
            self._posted.popleft()()

    def poll_for(self, fd: int, mask: int, before: int) -> None:
        """Poll *fd* for *mask*, after *before*; 0 is not at all."""
        if not before:
            self._poller.register(fd, mask)
        elif not mask:
            self._poller.unregister(fd)
        else:
            self._poller.modify(fd, mask)

    # -- listening sockets, in the leader's thread ------------------------------------------------
    def watch(self, sock: socket.socket, callback: Callable[[], object]) -> None:
        """Call *callback* whenever *sock* is readable."""
        if sock.fileno() not in self._special:
            self._poller.register(sock.fileno(), READ)
        self._special[sock.fileno()] = callback

    def unwatch(self, sock: socket.socket) -> None:
        """No more, if it was so."""
        if self._special.pop(sock.fileno(), None) is not None:
            self._poller.unregister(sock.fileno())

    def close(self) -> None:
        """Let go of the poller; nothing runs any more. More than once does no harm."""
        self._poller.close()
        self._woken.close()
        self._waker.close()

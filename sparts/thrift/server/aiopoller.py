"""An asyncio loop as the engine's loop: a poller of its own, which the asyncio loop watches.

Connections are registered with an epoll object, and that one descriptor with the asyncio loop: all
that are ready are served in one go, where a reader for each would cost the loop's own work for
each. It is needed, too: uvloop stops a reader whose connection was reset, without calling it.
"""

import asyncio
import contextlib
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from sparts.net.listener import Timer
from sparts.thrift.server.loop import READ, WRITE

__all__ = ["AsyncioPoller"]


class AsyncioPoller:
    """Works as :class:`sparts.thrift.server.loop.Loop`; ``post`` apart, in the loop's thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        serve: Callable[[int], object],
        served: Callable[[], object] = bool,
    ) -> None:
        """*serve(fd)* is called when a connection is ready, *served()* after all that were."""
        self._loop = loop
        self._serve = serve
        self._served = served
        self._is_watched = False
        #: None where there is no epoll, and the loop is to watch each connection.
        self._poller: Any = select.epoll() if hasattr(select, "epoll") else None
        #: When connections were last found ready, monotonic seconds.
        self.now = time.monotonic()

    def _run(self) -> None:
        events = self._poller.poll(0)
        self.now = time.monotonic()
        serve = self._serve
        for fd, _ in events:
            serve(fd)
        self._served()

    def _run_one(self, fd: int) -> None:
        self.now = time.monotonic()
        self._serve(fd)
        self._served()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call *callback* after *delay* seconds."""
        return self._loop.call_later(delay, self._at_its_time, callback)

    def _at_its_time(self, callback: Callable[[], object]) -> None:
        self.now = time.monotonic()
        callback()

    def post(self, callback: Callable[[], object]) -> None:
        """Call *callback* soon; from any thread. Nothing happens once the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._at_its_time, callback)

    def poll_for(self, fd: int, mask: int, before: int) -> None:
        """Poll *fd* for *mask*, after *before*; 0 is not at all."""
        if self._poller is None:
            self._watch_one(fd, mask, before)
        elif not before:
            if not self._is_watched:
                self._is_watched = True
                self._loop.add_reader(self._poller.fileno(), self._run)
            self._poller.register(fd, mask)
        elif not mask:
            self._poller.unregister(fd)
        else:
            self._poller.modify(fd, mask)

    def _watch_one(self, fd: int, mask: int, before: int) -> None:
        for kind, add, remove in (
            (READ, self._loop.add_reader, self._loop.remove_reader),
            (WRITE, self._loop.add_writer, self._loop.remove_writer),
        ):
            if mask & kind and not before & kind:
                add(fd, self._run_one, fd)
            elif before & kind and not mask & kind:
                remove(fd)

    def watch(self, sock: socket.socket, callback: Callable[[], object]) -> None:
        """Call *callback* whenever *sock* is readable."""
        self._loop.add_reader(sock.fileno(), self._at_its_time, callback)

    def unwatch(self, sock: socket.socket) -> None:
        """No more, if it was so."""
        if sock.fileno() >= 0:
            self._loop.remove_reader(sock.fileno())

    def close(self) -> None:
        """Let go of the poller; more than once does no harm."""
        if self._poller is None or self._poller.closed:
            return
        if self._is_watched:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.remove_reader(self._poller.fileno())
        self._poller.close()

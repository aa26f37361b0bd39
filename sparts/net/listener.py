"""The accept loop: backs off when descriptors run out, and waits at a limit of connections."""

import errno
import functools
import logging
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio

__all__ = ["AsyncioReactor", "Listener", "Reactor", "Timer"]

#: Connections accepted in one go, so that those already there get their turn.
_BATCH = 64
#: As many batches are accepted of each socket at its close: more do not fit in a usual backlog.
_LAST_BATCHES = 64
#: Seconds until the next try when descriptors ran out, doubled up to the second figure.
_FIRST_DELAY, _LAST_DELAY = 0.05, 1.0
#: Seconds in which the same shortage is told in the log only once.
_QUIET = 10.0
#: What accept(2) says of one connection that failed, not of the listening socket.
_ONE_LOST = frozenset(
    {
        errno.ECONNABORTED,
        errno.ECONNRESET,
        errno.EPROTO,
        errno.EPERM,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.ETIMEDOUT,
    }
)


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> object:
        """Do without it."""


class Reactor(Protocol):
    """What a listener needs of a loop."""

    def watch(self, sock: socket.socket, callback: Callable[[], object]) -> None:
        """Call *callback* whenever a client waits on *sock*."""

    def unwatch(self, sock: socket.socket) -> None:
        """No more, if it was so."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call *callback* after *delay* seconds."""


class AsyncioReactor:
    """An asyncio loop as a :class:`Reactor`."""

    def __init__(self, loop: "asyncio.AbstractEventLoop") -> None:
        self._loop = loop

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call *callback* after *delay* seconds."""
        return self._loop.call_later(delay, callback)

    def watch(self, sock: socket.socket, callback: Callable[[], object]) -> None:
        """Call *callback* whenever a client waits on *sock*."""
        self._loop.add_reader(sock.fileno(), callback)

    def unwatch(self, sock: socket.socket) -> None:
        """No more, if it was so."""
        if sock.fileno() >= 0:
            self._loop.remove_reader(sock.fileno())


class Listener:
    """Accepts on listening sockets and hands the connections on; all in the loop's thread."""

    def __init__(
        self,
        accepted: Callable[[socket.socket, Any], None],
        has_room: Callable[[], bool],
        logger: logging.Logger,
    ) -> None:
        """*accepted(socket, address)* gets each connection, as long as *has_room()*."""
        self._accepted = accepted
        self._has_room = has_room
        self._logger = logger
        self._sockets: list[socket.socket] = []
        self._paused = False
        #: What to call when it has closed, once that was asked for.
        self._done: Callable[[], object] | None = None
        self._delay = _FIRST_DELAY
        self._timer: Timer | None = None
        #: What keeps it from accepting all who came, in words; '' when nothing does.
        self._trouble = ""
        self._told = -_QUIET
        self._telling = False

    def open(self, sockets: Iterable[socket.socket], reactor: Reactor) -> None:
        """Accept on *sockets*, which listen and are non-blocking, from now on."""
        self._reactor = reactor
        self._sockets.extend(sockets)
        self._resume()

    def finish(self, done: Callable[[], object]) -> None:
        """Accept all who wait, over the limit too, close the sockets, and call *done()*.

        Their requests may be sent already, and a close would reset them. While descriptors are
        short it goes on as connections close, until :meth:`close`, which does not call *done*.
        """
        self._done = done
        self._pause()
        self._accept_rest(done)

    def close(self) -> None:
        """Close the sockets at once; who waits is reset."""
        self._pause()
        self._forget_timer()
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    @property
    def is_open(self) -> bool:
        """Whether it has sockets still, if only for those who wait."""
        return bool(self._sockets)

    @property
    def is_paused(self) -> bool:
        """Whether it waits for connections to close, or for descriptors."""
        return self._paused

    def retry(self) -> None:
        """A connection has closed, so there may be room again."""
        if self._paused and self._sockets:
            self._resume()

    # -- accepting --------------------------------------------------------------------------------
    def _accept(self, sock: socket.socket) -> bool:
        """Accept up to a batch; whether there may be more."""
        for _ in range(_BATCH):
            if self._done is None and not self._has_room():
                self._in_trouble("At the limit of connections (max-connections)")
                self._pause()
                return False
            try:
                connection, address = sock.accept()
            except BlockingIOError:
                self._all_well()
                return False
            except OSError as error:
                if error.errno in _ONE_LOST:
                    continue
                self._back_off(error)
                return False
            self._accepted(connection, address)
        return True

    def _accept_rest(self, done: Callable[[], object]) -> None:
        self._forget_timer()
        self._paused = False
        while self._sockets:
            for _ in range(_LAST_BATCHES):
                if not self._accept(self._sockets[0]):
                    break
            if self._paused:
                return
            self._sockets.pop(0).close()
        done()

    def _back_off(self, error: OSError) -> None:
        self._in_trouble(f"Cannot accept ({error.strerror or error})")
        self._pause()
        self._timer = self._reactor.call_later(self._delay, self._resume)
        self._delay = min(2 * self._delay, _LAST_DELAY)

    def _pause(self) -> None:
        self._paused = True
        for sock in self._sockets:
            self._reactor.unwatch(sock)

    def _resume(self) -> None:
        if self._done is not None:
            self._accept_rest(self._done)
            return
        self._paused = False
        self._forget_timer()
        for sock in self._sockets:
            self._reactor.watch(sock, functools.partial(self._accept, sock))

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- telling, once at the beginning and once at the end ---------------------------------------
    def _in_trouble(self, what: str) -> None:
        if self._trouble:
            return
        self._trouble = what
        now = time.monotonic()
        self._telling = now - self._told >= _QUIET
        if self._telling:
            self._told = now
            self._logger.warning("%s: new connections wait until others close", what)

    def _all_well(self) -> None:
        if not self._trouble:
            return
        self._trouble = ""
        self._delay = _FIRST_DELAY
        if self._telling:
            self._logger.warning("Accepting connections again, all that waited are in")

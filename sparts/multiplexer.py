"""One thread waits for many file descriptors, timers and calls from other threads, by epoll.

An engine that knows no task: :class:`sparts.tasks.select.SelectTask` puts a thread and a lifecycle
around it. Where there is no epoll it uses poll.
"""

import contextlib
import errno
import logging
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sparts.descriptors import DescriptorError, Poll, Poller, identify, unpollable
from sparts.later import Timer, Timers

__all__ = ["EXCEPT", "READ", "WRITE", "DescriptorError", "Multiplexer"]

Callback = Callable[[int], object]

#: The kinds of readiness; epoll's own numbers for them are the same as poll's.
READ, WRITE, EXCEPT = select.POLLIN, select.POLLOUT, select.POLLPRI
_NAMES = {READ: "read", WRITE: "write", EXCEPT: "except"}
_HUNG_UP = select.POLLHUP | select.POLLERR


@dataclass(frozen=True)
class _Registration:
    callback: Callback
    #: Numbers the registrations, so that an event from before it is not taken for its own.
    serial: int
    #: Whether it outlives ``unregister_all`` and ``shut``.
    lasting: bool


@dataclass
class _Entry:
    """What is registered for one descriptor, and which file it was then: device and inode."""

    identity: tuple[int, int]
    kinds: dict[int, _Registration] = field(default_factory=dict)

    @property
    def mask(self) -> int:
        return sum(self.kinds)


class Multiplexer:
    """Calls back when descriptors are ready; one thread runs it, any thread may register.

    A callback is called with its descriptor, again and again while that is ready. A change has
    effect at once and waits for nobody: after ``unregister`` no callback is begun, but one that the
    loop's thread has taken up by then runs to its end. So another thread that wants to close the
    descriptor has it done in the loop's thread, by ``call_soon``.

    A descriptor should be unregistered before it is closed. One that was closed all the same is
    found out at its next event, dropped with a warning, and disturbs no other.
    """

    def __init__(self, logger: logging.Logger, poll: bool = False) -> None:
        """*poll*: use poll even where there is epoll."""
        self._logger = logger
        self._make: Callable[[], Any] = Poll if poll else getattr(select, "epoll", Poll)
        self._lock = threading.RLock()
        self._table: dict[int, _Entry] = {}
        self._serial = 0
        self._calls: deque[Callable[[], object]] = deque()
        self._timers = Timers()
        self._renew_wanted = self._shut = self._closed = False
        self._thread: int | None = None
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._poller = self._new_poller()

    # -- registering, from any thread -------------------------------------------------------------
    def register(self, fd: int, kind: int, callback: Callback, lasting: bool = False) -> None:
        """Call *callback(fd)* whenever *fd* is ready for *kind*; after ``shut`` do nothing.

        An error or a hang-up counts as READ and as WRITE; as EXCEPT where that stands alone.
        A *lasting* registration is not ended by ``unregister_all`` and ``shut``.

        :raises DescriptorError: *fd* is not open, cannot be waited for, or has this kind already.
        """
        with self._lock:
            if self._closed or (self._shut and not lasting):
                return
            entry = self._entry(fd)
            if kind in entry.kinds:
                raise DescriptorError(
                    f"fd {fd} has a {_NAMES[kind]} callback already; "
                    f"unregister_{_NAMES[kind]}({fd}) first"
                )
            self._ask(fd, entry, entry.mask | kind)
            self._table[fd] = entry
            self._serial += 1
            entry.kinds[kind] = _Registration(callback, self._serial, lasting)

    def unregister(self, fd: int, kind: int) -> bool:
        """Take the registration back; whether there was one."""
        with self._lock:
            entry = self._table.get(fd)
            if entry is None or entry.kinds.pop(kind, None) is None:
                return False
            if entry.kinds:
                self._holds(fd, entry)
            else:
                self._forget(fd)
            return True

    def unregister_all(self) -> None:
        """Take back all registrations that are not lasting."""
        with self._lock:
            for fd, entry in list(self._table.items()):
                for kind, registration in list(entry.kinds.items()):
                    if not registration.lasting:
                        self.unregister(fd, kind)

    def shut(self) -> None:
        """Take back all registrations that are not lasting, and ignore new ones; wake the loop."""
        with self._lock:
            self._shut = True
            self.unregister_all()
        self.wake()

    def _entry(self, fd: int) -> _Entry:
        """The entry for *fd*: the one there is, unless it is about a file since closed."""
        identity = identify(fd)
        entry = self._table.get(fd)
        if entry is not None:
            if entry.identity == identity and self._holds(fd, entry):
                return entry
            self._forget(fd)
        return _Entry(identity)

    def _holds(self, fd: int, entry: _Entry) -> bool:
        """Tell the kernel the mask of *entry*; False if it does not have *fd* any more."""
        with contextlib.suppress(OSError):
            self._poller.modify(fd, entry.mask)
            self._changed()
            return True
        return False

    def _forget(self, fd: int) -> None:
        """Drop all about *fd*.

        If it was closed too early and has a living duplicate, epoll still has it, and has no way
        to unregister it: it can only be left behind with the whole epoll object.
        """
        del self._table[fd]
        try:
            self._poller.unregister(fd)
        except (OSError, KeyError):
            self._renew_wanted = True
        self._changed()

    def _ask(self, fd: int, entry: _Entry, mask: int) -> None:
        try:
            (self._poller.modify if entry.kinds else self._poller.register)(fd, mask)
        except OSError as error:
            if error.errno == errno.EPERM:
                raise unpollable(fd) from None
            raise DescriptorError(f"fd {fd} cannot be registered: {error.strerror}") from None
        self._changed()

    def _changed(self) -> None:
        if isinstance(self._poller, Poll):  # which sees a change only when it is called anew
            self.wake()

    # -- calls and timers, from any thread --------------------------------------------------------
    def call_soon(self, callback: Callable[[], object]) -> bool:
        """Call *callback()* in the loop's thread; False if it is closed, so that it never will."""
        with self._lock:
            if self._closed:
                return False
            self._calls.append(callback)
        self.wake()
        return True

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call *callback()* in the loop's thread *delay* seconds from now, unless cancelled."""
        timer = self._timers.add(delay, callback)
        self.wake()
        return timer

    def wake(self) -> None:
        """Have the loop look around; from any thread."""
        if self._thread == threading.get_ident():
            return
        with self._lock:
            if not self._closed:
                # Full: it has been woken often enough.
                with contextlib.suppress(BlockingIOError):
                    self._waker.send(b"\0")

    # -- the loop, in its thread ------------------------------------------------------------------
    def run(self, until: Callable[[], bool]) -> None:
        """Call back until *until()* is true, asked after every turn; what a callback raises leaves.

        It may be run again after that.
        """
        self._thread = threading.get_ident()
        try:
            while not until():
                self._turn()
        finally:
            self._thread = None

    def _turn(self) -> None:
        serial = self._serial
        events = self._poller.poll(0.0 if self._calls else self._timers.patience())
        if self._renew_wanted:
            self._renew()
            events = []  # those that still hold are told again
        for fd, mask in events:
            self._dispatch(fd, mask, serial)
        for _ in range(len(self._calls)):
            self._calls.popleft()()
        self._timers.run_due()

    def _dispatch(self, fd: int, mask: int, serial: int) -> None:
        if fd == self._woken.fileno():
            self._woken.recv(4096)
            return
        entry = self._table.get(fd)
        if entry is not None and not _is_open(fd, entry):
            self._lose(fd, entry)
            return
        for kind in (READ, WRITE, EXCEPT):
            registration = self._meant(fd, mask, kind)
            if registration is not None and registration.serial <= serial:
                registration.callback(fd)

    def _meant(self, fd: int, mask: int, kind: int) -> _Registration | None:
        """The registration of *kind* that the kernel's *mask* means.

        Looked up for each call, for the callback before may have taken it back.
        """
        with self._lock:
            entry = self._table.get(fd)
            if entry is None or kind not in entry.kinds:
                return None
            takes_errors = kind != EXCEPT or entry.mask == EXCEPT
            return entry.kinds[kind] if mask & (kind | _HUNG_UP * takes_errors) else None

    # -- descriptors closed behind our back -------------------------------------------------------
    def _lose(self, fd: int, entry: _Entry) -> None:
        with self._lock:
            if self._table.get(fd) is entry:
                self._logger.warning("fd %d was closed while registered; unregister it first", fd)
                self._forget(fd)

    def _renew(self) -> None:
        """Begin with a new epoll object, which has only what is in the table and still open."""
        with self._lock:
            self._renew_wanted = False
            self._poller.close()
            try:
                self._poller = self._new_poller()
            except OSError:  # no descriptor is left for it; poll needs none
                self._make = Poll
                self._poller = self._new_poller()
            for fd, entry in list(self._table.items()):
                try:
                    if not _is_open(fd, entry):
                        raise OSError(errno.EBADF, "closed")
                    self._poller.register(fd, entry.mask)
                except OSError:
                    del self._table[fd]

    def _new_poller(self) -> Poller:
        poller: Poller = self._make()
        poller.register(self._woken.fileno(), READ)
        return poller

    def close(self) -> None:
        """End for good, after the last ``run``: free everything, make the calls that are left."""
        with self._lock:
            self._closed = True
            self._table.clear()
            self._poller.close()
            self._woken.close()
            self._waker.close()
        with contextlib.ExitStack() as calls:  # all of them, also when one fails
            for callback in reversed(self._calls):
                calls.callback(callback)
            self._calls.clear()


def _is_open(fd: int, entry: _Entry) -> bool:
    with contextlib.suppress(DescriptorError):
        return identify(fd) == entry.identity
    return False

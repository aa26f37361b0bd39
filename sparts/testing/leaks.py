"""Leaks: the threads, file descriptors and asyncio tasks that a piece of code leaves behind."""

import contextlib
import functools
import gc
import importlib.util
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from sparts.logs import thread_stacks

if TYPE_CHECKING:
    import asyncio

__all__ = ["LeakError", "Resources", "no_leaks"]


class LeakError(AssertionError):
    """Something was left behind; the message lists it by name."""


@dataclass(frozen=True)
class Resources:
    """What the process holds at one moment."""

    threads: frozenset[threading.Thread] = field(default_factory=lambda: frozenset(_threads()))
    #: What each open descriptor is, unique for a socket or pipe: ``{7: 'socket:[12345]'}``.
    descriptors: dict[int, str] = field(default_factory=lambda: dict(_descriptors()))
    #: The asyncio tasks of every loop that are not done.
    tasks: frozenset["asyncio.Task[Any]"] = field(default_factory=lambda: frozenset(_tasks()))

    def beyond(self, before: "Resources", ignore: Sequence[str] = ()) -> list[str]:
        """What is here and was not there *before*, a line or more for each, most telling first.

        *ignore* holds shell patterns of names that do not count.
        """
        found = [_describe_thread(each) for each in self.new_threads(before, ignore)]
        found += [
            f"asyncio task {each.get_name()!r}, pending: {each.get_coro()}"
            for each in self.tasks - before.tasks
            if not _matches(each.get_name(), ignore)
        ]
        found += [
            f"file descriptor {number}: {_describe_descriptor(number, what)}"
            for number, what in self.descriptors.items()
            if before.descriptors.get(number) != what and not _matches(what, ignore)
        ]
        return found

    def new_threads(
        self, before: "Resources", ignore: Sequence[str] = ()
    ) -> list[threading.Thread]:
        """The threads that are here and were not there *before*."""
        return [t for t in self.threads - before.threads if not _matches(t.name, ignore)]


@contextlib.contextmanager
def no_leaks(*, ignore: Sequence[str] = (), timeout: float = 5.0) -> Iterator[None]:
    """Raise when the block leaves behind a thread, a file descriptor or a pending asyncio task.

    Threads have *timeout* seconds to end. *ignore* holds shell patterns: names of threads and
    tasks, and what descriptors are (``"/dev/*"``), that may stay. An exception of the block
    passes as it is.

    :raises LeakError: something was left; the message lists it by name.
    """
    _open_what_stays_open()
    before = Resources()
    yield
    left = _left_since(before, ignore, timeout)
    if left:
        raise LeakError("left behind:\n" + "\n".join(f"- {each}" for each in left))


@functools.cache
def _open_what_stays_open() -> None:
    """Make a uvloop, where it is installed: with the first one libuv opens a pipe for good."""
    if importlib.util.find_spec("uvloop"):
        import uvloop

        uvloop.new_event_loop().close()


def _left_since(before: Resources, ignore: Sequence[str], timeout: float) -> list[str]:
    if not Resources().beyond(before, ignore):
        return []
    _join(before, ignore, time.monotonic() + timeout)
    if not Resources().beyond(before, ignore):
        return []
    gc.collect()  # what only a reference cycle still holds is not worth a failure
    return Resources().beyond(before, ignore)


def _join(before: Resources, ignore: Sequence[str], deadline: float) -> None:
    while left := Resources().new_threads(before, ignore):
        for thread in left:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                return


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


# -- looking ------------------------------------------------------------------------------------
def _threads() -> Iterator[threading.Thread]:
    """Those that can be joined: not the stand-ins for threads that C code made."""
    return (t for t in threading.enumerate() if not isinstance(t, threading._DummyThread))


def _descriptors() -> Iterator[tuple[int, str]]:
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):  # the one that listed them is closed by now
            status = os.fstat(int(name))
            target = os.readlink(f"{folder}/{name}") if folder.startswith("/proc") else ""
            yield int(name), target or f"{status.st_dev}:{status.st_ino}"


def _tasks() -> Iterator["asyncio.Task[Any]"]:
    tasks = sys.modules.get("asyncio.tasks")
    if tasks is None:
        return
    for each in _all_tasks(tasks):
        with contextlib.suppress(ReferenceError):
            if not each.done():
                yield each


def _all_tasks(module: Any) -> "list[asyncio.Task[Any]]":
    """The tasks of every loop, which asyncio itself tells only loop by loop."""
    names = [n for n in ("_all_tasks", "_scheduled_tasks", "_eager_tasks") if hasattr(module, n)]
    if sys.version_info >= (3, 14):  # kept in C, and in these only where a library adds its own
        return [each for each in gc.get_objects() if isinstance(each, module.Task)]
    while True:
        try:
            return [each for name in names for each in tuple(getattr(module, name))]
        except RuntimeError:  # a loop in another thread changed the set meanwhile
            continue


# -- telling ------------------------------------------------------------------------------------
def _describe_thread(thread: threading.Thread) -> str:
    at = "\n".join(f"    {line}" for line in thread_stacks([thread]).splitlines()[1:])
    return f"thread {thread.name!r}, alive{' at' if at else ''}\n{at}".rstrip()


def _describe_descriptor(number: int, what: str) -> str:
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.fstat(number).st_mode):
            with socket.socket(fileno=os.dup(number)) as sock:
                return f"{what} {_addresses(sock)}".rstrip()
    return what


def _addresses(sock: socket.socket) -> str:
    told = str(sock.getsockname() or "")
    with contextlib.suppress(OSError):
        told += f" connected to {sock.getpeername() or 'a pair'}"
    return told

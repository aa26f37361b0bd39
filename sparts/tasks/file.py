"""A task that watches a directory and tells of files that come, go and are changed."""

import errno
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from sparts.context import ExecuteContext, TryLater
from sparts.demand import Demand
from sparts.directory import Scanner, Snapshot, changes
from sparts.errors import OptionError
from sparts.fileevents import KINDS, Events, check, open_events
from sparts.options import option
from sparts.schedule import FixedRate, Pace, Schedule
from sparts.tasks.periodic import StopEvent
from sparts.tasks.poller import PollerTask

if TYPE_CHECKING:
    from sparts.vservice import VService

__all__ = ["DirectoryWatcherTask"]

#: Seconds from the end of a look to the next one, at least, however many changes come.
COALESCE = 0.05
#: However much there is to look at, it takes at most one part in so many of the time.
BREAK = 10


class DirectoryWatcherTask(PollerTask):
    """Watches the directory PATH: ``onFileCreated``, ``onFileDeleted`` and ``onFileChanged``.

    Every look lists the directory by ``listdir`` and asks for each entry by ``stat``; what differs
    from the look before is told, what went before what came or was changed, each by name. A file
    counts as changed when its time of modification, size or inode is another. A subdirectory is an
    entry like a file; what comes and goes in it does not make it changed. The first look is told
    only without IGNORE_INITIAL_FILES; a directory that is not there, then or later, is empty.

    With file-system events a change is looked for at once, and only then: an idle watcher does not
    wake up. Many changes together are one look, or a few. Without events, and while the directory
    is not there or not all of it can be watched, it is looked at every ``interval`` seconds.
    Events are the system's word on what happens in the directory, by this machine: for changes that
    others make, as over NFS, or to the target of a link, switch them ``off``.

    What a callback raises is as from any periodic task's ``execute``. The change is not forgotten:
    if the service goes on, as after TryLater, the next look tells it again and what was to follow.
    """

    #: The directory.
    PATH: ClassVar[str | None] = None
    #: Whether what is there at the first look is not told.
    IGNORE_INITIAL_FILES: ClassVar[bool] = True
    #: Whether it is about what is below PATH too; names are relative paths then.
    RECURSIVE: ClassVar[bool] = False
    #: Only what fits one of these is told, as ``["*.log", "spool/*.msg"]``: by the whole name where
    #: a pattern has a slash, by its last part otherwise. Empty: everything.
    PATTERNS: ClassVar[Sequence[str]] = ()
    #: See ``--…-events``.
    EVENTS: ClassVar[str] = "auto"
    INTERVAL: ClassVar[float | None] = 1.0

    path: str | None = option(
        type=str,
        default=lambda cls: cls.PATH,
        metavar="DIRECTORY",
        help="the directory to watch (default: %(default)s)",
    )
    events: str = option(
        type=str,
        default=lambda cls: cls.EVENTS,
        choices=KINDS,
        help="who tells of changes: inotify, which is Linux' own, the watchfiles library, or off "
        "to look every interval; auto is the first that there is (default: %(default)s)",
    )

    def __init__(self, service: "VService") -> None:
        super().__init__(service)
        self._scanner = Scanner(lambda p: self.listdir(p), lambda p: self.stat(p), self.logger)
        self._changes = _Changes(self._demand)
        self.stop_event = self._changes
        self._kind = "off"
        self._trouble: int | None = None
        #: What was there at the last look, and what the callbacks were told.
        self._seen: Snapshot | None = None
        self._told: Snapshot | None = None
        #: Looks come one after the other, also when ``execute`` is called by hand.
        self._looking = threading.RLock()

    # -- override points --------------------------------------------------------------------------
    def onFileCreated(self, name: str, stat: os.stat_result) -> None:
        """Override: *name* is there, and was not at the look before."""

    def onFileDeleted(self, name: str, old_stat: os.stat_result) -> None:
        """Override: *name* is gone; *old_stat* is what it was at the look before."""

    def onFileChanged(self, name: str, old: os.stat_result, new: os.stat_result) -> None:
        """Override: *name* is not as it was at the look before."""

    def listdir(self, path: str) -> Sequence[str]:
        """The names in the directory *path*."""
        return os.listdir(path)

    def stat(self, path: str) -> os.stat_result:
        """What the file *path* is; of a link, what its target is."""
        return os.stat(path)

    # -- looking ----------------------------------------------------------------------------------
    def execute(self, context: ExecuteContext | None = None) -> Snapshot | None:
        """Take a fresh look and tell what has changed; all that is there, by name.

        None if the directory could never be read. From any thread, also before the start.
        """
        with self._looking:
            found: Snapshot | None = super().execute(context)
            if found is not None:
                self._tell(found)
        return found

    def fetch(self) -> Snapshot | None:
        """What is there; as it was before, where the directory cannot be read."""
        events, began = self._changes.events, time.monotonic()
        if events is not None:
            events.begin()
        enter: Callable[[str], object] = len if events is None else events.watch
        self._seen = self._scanner.look(
            self._root(), self._seen, self.PATTERNS, self.RECURSIVE, enter
        )
        if events is not None:
            events.end()
            self._check(events)
        now = time.monotonic()
        self._changes.not_before = now + max(COALESCE, (BREAK - 1) * (now - began))
        return self._seen

    def _tell(self, new: Snapshot) -> None:
        if self._told is None:
            self._told = Snapshot(new if self.IGNORE_INITIAL_FILES else {})
        for name, old, now in changes(self._told, new):
            if now is None:
                self.onFileDeleted(name, self._told[name])
                del self._told[name]
                continue
            if old is None:
                self.onFileCreated(name, now)
            else:
                self.onFileChanged(name, old, now)
            self._told[name] = now

    # -- events -----------------------------------------------------------------------------------
    def initTask(self) -> None:
        """See whether the options fit.

        :raises OptionError: there is no path, or no such events here.
        :raises MissingExtra: events by watchfiles are asked for, which is not installed.
        """
        super().initTask()
        self._root()

    def _root(self) -> str:
        if self.path is None:
            flag = f"--{self._optionPrefix()}-path".replace("_", "-")
            raise OptionError(f"{self.name} has no directory to watch; give {flag}, or set PATH")
        return os.fspath(self.path)

    def _make_timetable(self) -> Schedule:
        steady = super()._make_timetable()
        if not isinstance(steady, FixedRate):
            return steady  # which is to say when, and nothing else
        self._kind = check(self.events)
        return _WhenChanged(self, self._changes)

    def _check(self, events: Events) -> None:
        """Say it, once, if the events are not all."""
        error, before = events.trouble, self._trouble
        self._trouble = None if error is None else error.errno
        # What the look has said itself is not said twice.
        known = (before, errno.ENOENT, errno.ENOTDIR, errno.EACCES)
        if error is not None and error.errno not in known:
            self._say_polling(error)

    def _say_polling(self, error: OSError) -> None:
        self.logger.warning(
            "Looking at %r every %g s: %s", self._root(), self.interval, error.strerror
        )

    def _runloop(self) -> None:
        try:
            self._changes.events = open_events(self._kind, self.RECURSIVE)
        except OSError as error:
            self._say_polling(error)
        try:
            super()._runloop()
        finally:
            with self._looking:  # also those who call execute by hand are through with it
                events, self._changes.events = self._changes.events, None
            if events is not None:
                events.close()

    def _handle_try_later(self, e: TryLater) -> None:
        """Wait ``e.after`` seconds, whatever changes."""
        self._changes.muted = True
        super()._handle_try_later(e)
        self._changes.muted = False


class _Changes(StopEvent):
    """A stop event whose wait a change in the directory ends too."""

    def __init__(self, demand: Demand) -> None:
        super().__init__(demand)
        #: Who tells of changes, while the task's thread runs and has one.
        self.events: Events | None = None
        #: When the next look may come that a change is the reason for.
        self.not_before = 0.0
        self.muted = False

    @property
    def complete(self) -> bool:
        """Whether no change would be missed."""
        return self.events is not None and self.events.trouble is None

    def _notify(self) -> None:
        super()._notify()
        if self.events is not None:
            self.events.wake()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a change, too; of many that come together, until the first ones are through."""
        events = self.events
        if events is None or self.muted:
            return super().wait(timeout)
        deadline = time.monotonic() + (math.inf if timeout is None else timeout)
        while not (self._demand.closed or self._demand.pending):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            if events.wait(left):
                super().wait(max(0.0, self.not_before - time.monotonic()))
                break
        return self.is_set()


class _WhenChanged(FixedRate):
    """Every so many seconds, but never by itself while changes are told for certain."""

    def __init__(self, pace: Pace, changes: _Changes) -> None:
        super().__init__(pace)
        self._changes = changes
        self._waited = False

    def advance(self) -> int:
        """As :meth:`Schedule.advance`; times that nobody waited for are not missed."""
        missed = super().advance()
        return 0 if self._waited else missed

    def delays(self) -> Iterator[float]:
        """As :meth:`Schedule.delays`."""
        self._waited = self._changes.complete
        if self._waited:
            yield math.inf
        else:
            yield from super().delays()

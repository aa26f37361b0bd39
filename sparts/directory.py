"""What is in a directory: one look at it, and what has changed from one look to the next."""

import errno
import fnmatch
import logging
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Change", "Scanner", "Snapshot", "changes", "matches"]

#: That something is not there, or is no directory any more by the time that one looks.
_VANISHED = {errno.ENOENT, errno.ENOTDIR}


class Snapshot(dict[str, os.stat_result]):
    """The entries of a directory by name; equal to another with the same names, none changed."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return self.keys() == other.keys() and all(
            same(each, other[name]) for name, each in self.items()
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None


def same(old: Any, new: Any) -> bool:
    """Whether two stats are of one file that was not written in between."""
    return old is new or _signature(old) == _signature(new)


def _signature(status: Any) -> tuple[Any, ...]:
    """When it was modified, its size and its inode; a stat made by hand may lack any of them.

    Of a directory just the inode: what is in it is not a change of its own. An attribute that is
    no number is lacking, such as one that a Mock makes up, anew in each stat.
    """
    inode = _number(status, "st_ino")
    if _is_directory(status):
        return (inode,)
    modified = _number(status, "st_mtime_ns")
    return (
        _number(status, "st_mtime") if modified is None else modified,
        _number(status, "st_size"),
        inode,
    )


def _number(status: Any, name: str) -> float | None:
    value = getattr(status, name, None)
    return value if isinstance(value, int | float) else None


class Change(NamedTuple):
    """One entry that came (*old* is None), went (*new* is None) or was changed."""

    name: str
    old: os.stat_result | None
    new: os.stat_result | None


def changes(old: Snapshot, new: Snapshot) -> Iterator[Change]:
    """What is different in *new*: first what went, then what came or was changed, by name.

    Meanwhile *old* may be brought up to what was given so far.
    """
    differ = [name for name, each in new.items() if name not in old or not same(old[name], each)]
    for name in sorted(old.keys() - new.keys()):
        yield Change(name, old[name], None)
    for name in sorted(differ):
        yield Change(name, old.get(name), new[name])


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern fits the path *name*, or, if it has no slash, the last part of it."""
    last = os.path.basename(name)
    return any(fnmatch.fnmatchcase(name if os.sep in p else last, p) for p in patterns)


class Scanner:
    """Looks at directories by the functions *listdir* and *stat*; says each trouble once.

    What vanishes while it looks is not there; what it may not see is as it was before.
    """

    def __init__(
        self,
        listdir: Callable[[str], Sequence[str]],
        stat: Callable[[str], os.stat_result],
        logger: logging.Logger,
    ) -> None:
        self._listdir = listdir
        self._stat = stat
        self._logger = logger
        #: What was said at the look before, and at the present one: path and error number.
        self._said: set[tuple[str, int | None]] = set()
        self._troubles: set[tuple[str, int | None]] = set()

    def look(
        self,
        root: str,
        before: Snapshot | None,
        patterns: Sequence[str] = (),
        recursive: bool = False,
        enter: Callable[[str], object] = len,
    ) -> Snapshot | None:
        """The entries of *root* that match a pattern, or all; *before* if it cannot be read.

        *enter* is called with the path of each directory before it is listed. With *recursive*
        names are paths relative to *root*; links to directories are not followed.
        """
        self._said, self._troubles = self._troubles, set()
        old = before or Snapshot()
        found = Snapshot()
        folders = [""]
        while folders:
            folder = folders.pop()
            path = os.path.join(root, folder) if folder else root
            enter(path)
            names = self._names(path, nested=bool(folder))
            if names is None and not folder:
                return before
            if names is None:
                found.update({n: s for n, s in old.items() if n.startswith(folder + os.sep)})
            for name in names or ():
                entry = os.path.join(folder, name)
                status = self._status(path, name, old.get(entry))
                if status is not None and (not patterns or matches(entry, patterns)):
                    found[entry] = status
                if recursive and _is_directory(status) and not os.path.islink(f"{path}/{name}"):
                    folders.append(entry)
        return found

    def _names(self, path: str, nested: bool) -> Sequence[str] | None:
        """What is in the directory *path*; None if that cannot be told."""
        try:
            return self._listdir(path)
        except OSError as error:
            if nested and error.errno in _VANISHED:
                return ()
            if error.errno == errno.ENOENT:
                self._say(path, error, "Waiting for the directory %r: %s")
                return ()
            self._say(path, error, "The directory %r cannot be read, trying again: %s")
            return None

    def _status(self, path: str, name: str, before: Any) -> Any:
        try:
            return self._stat(os.path.join(path, name))
        except OSError as error:
            if error.errno in _VANISHED:
                return None
            self._say(path, error, "Not all in the directory %r can be seen, trying again: %s")
            return before

    def _say(self, path: str, error: OSError, message: str) -> None:
        trouble = (path, error.errno)
        if trouble not in self._said and trouble not in self._troubles:
            self._logger.warning(message, path, error.strerror or error)
        self._troubles.add(trouble)


def _is_directory(status: Any) -> bool:
    mode = getattr(status, "st_mode", None)
    return isinstance(mode, int) and stat.S_ISDIR(mode)

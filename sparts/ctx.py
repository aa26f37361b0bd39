"""Context managers that change something of the process for a while and put it back."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sparts.fileutils import NamedTemporaryDirectory, StrPath

__all__ = ["add_path", "chdir", "module_snapshot", "tmpdir"]


@contextmanager
def tmpdir() -> Iterator[str]:
    """A new, empty directory, by its path; it is removed at the end with all that is in it."""
    with NamedTemporaryDirectory() as directory:
        yield directory.name


@contextmanager
def add_path(path: StrPath, index: int | None = None) -> Iterator[None]:
    """Have *path* in ``sys.path``, at *index* or else at the end.

    At the end this one entry is taken out; equal ones, and what others added, stay. The whole
    process sees it, so two threads had better not do this at once.
    """
    entry = os.fsdecode(os.fsencode(path))  # a new object, to tell it from an equal entry
    sys.path.insert(len(sys.path) if index is None else index, entry)
    importlib.invalidate_caches()  # modules may have been written since Python last looked there
    try:
        yield
    finally:
        found = [at for at, each in enumerate(sys.path) if each is entry]
        if found:  # more than one where Python shares the object, as it does for "."
            del sys.path[found[-1 if index is None else 0]]


@contextmanager
def chdir(path: StrPath) -> Iterator[None]:
    """Be in the directory *path*, then again where the process was; not for use among threads.

    :raises OSError: there is no such directory, or at the end no longer the former one.
    """
    former = os.getcwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(former)


@contextmanager
def module_snapshot() -> Iterator[None]:
    """At the end ``sys.modules`` is what it was: what was imported meanwhile is forgotten.

    What was taken out or replaced meanwhile is back. Modules that are still referred to live on.
    """
    former = dict(sys.modules)
    try:
        yield
    finally:
        # Not emptied and filled anew: other threads may import at this moment.
        for name in sys.modules.keys() - former.keys():
            del sys.modules[name]
        for name, module in former.items():
            if sys.modules.get(name) is not module:
                sys.modules[name] = module

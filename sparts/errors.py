"""The errors that sparts raises; a message has the value, what is accepted and the cure."""

from collections.abc import Iterable

__all__ = [
    "DependencyError",
    "LifecycleError",
    "MissingExtra",
    "NotRun",
    "OptionError",
    "SpartsError",
    "TaskError",
    "nearest",
]


class SpartsError(Exception):
    """Root of the errors raised on purpose; the command line prints them without a traceback."""

    #: The exit status of a process that ends because of it.
    status = 1


class OptionError(SpartsError, ValueError):
    """An option's name, declaration or value is wrong."""

    status = 2


class DependencyError(SpartsError):
    """The tasks' ``DEPS`` form a circle, or name something that is no task."""

    status = 2


class LifecycleError(SpartsError, RuntimeError):
    """A move that the table of the lifecycle does not allow."""


class TaskError(SpartsError, RuntimeError):
    """A task broke the contract between tasks and their service; the message names the task."""


class MissingExtra(SpartsError, ImportError):
    """A library is missing that one of the extras brings; the message says what to install."""

    status = 2

    def __init__(self, what: str, library: str, extra: str) -> None:
        super().__init__(f"{what} needs {library}; install it with: pip install 'sparts[{extra}]'")


class NotRun(SpartsError, RuntimeError):
    """Queued work that was not run, as the stop came first; the message says what and when."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A clause like ``; did you mean 'http_port'?`` for the known name closest to *name*, or ''."""
    import difflib  # only here, as a start hardly ever needs it

    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""

"""Daemons: going to the background with a pidfile, and status and end of what went there."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

from sparts.errors import MissingExtra, SpartsError
from sparts.ops.launch import Launch, have_standard_streams
from sparts.ops.pidfile import AlreadyRunning, NotPermitted, NotRunning, PidFile, PidFileError
from sparts.ops.process import Process

__all__ = [
    "AlreadyRunning",
    "DaemonError",
    "daemonize",
    "kill",
    "kill_service",
    "read_pid",
    "service_status",
    "started",
    "status",
]

#: Seconds that a daemon has to take its pidfile, and to start where that is waited for.
_TAKE_TIMEOUT, _START_TIMEOUT = 30.0, 300.0
#: Seconds that :func:`kill_service` waits: more than a service's own ``--stop-timeout``.
_KILL_TIMEOUT = 40.0
#: The statuses of the LSB's "status" action.
_RUNNING, _DEAD, _NOT_RUNNING, _UNKNOWN = 0, 1, 3, 4


class DaemonError(SpartsError):
    """A process could not become a daemon, or its daemon could not be stopped."""


# -- becoming one ---------------------------------------------------------------------------------
def daemonize(
    command: Callable[[], object],
    name: str,
    pidfile: str,
    logger: logging.Logger,
    *,
    until_started: bool = False,
) -> NoReturn:
    """Run *command* in a background process of its own, the daemon, which holds *pidfile*.

    The process that calls this ends (by ``os._exit``: nothing is cleaned up twice) as soon as the
    daemon holds the pidfile, with status 0; with *until_started* as soon as the daemon has called
    :func:`started`. Did it not come to that, it writes one line to stderr and ends with another
    status. Call it before any thread is started.

    The daemon keeps the working directory and the umask, so that paths mean the same as in the
    foreground, and the files that *logger* writes to; all other descriptors are closed. Standard
    input is ``/dev/null``, and from the pidfile (or :func:`started`) on so are the other two. It
    ends when *command* does: with the int that it returns as the status, or as it raises, which
    is logged; then the pidfile is removed.

    :raises MissingExtra: python-daemon is not installed.
    :raises AlreadyRunning: a live process holds *pidfile*.
    :raises PidFileError: *pidfile* cannot be read, or is no pidfile.
    """
    open_context = _context(logger)
    file = PidFile(pidfile)
    file.check_free()
    have_standard_streams()
    launch = Launch(_START_TIMEOUT if until_started else _TAKE_TIMEOUT)
    if os.fork():
        launch.wait_and_exit(name)
    try:
        open_context(launch.keep_writer())
        file.acquire()
        Launch.current = launch
        if not until_started:
            started()
    except BaseException as error:
        with contextlib.suppress(PidFileError):
            file.release()
        launch.tell(error.status if isinstance(error, SpartsError) else 1, str(error))
        os._exit(1)
    _run(command, file, logger)


def started() -> None:
    """Let the command that launched this daemon end, and leave its terminal; else do nothing.

    :raises DaemonError: it has ended by itself, interrupted or out of patience; do not go on.
    """
    launch, Launch.current = Launch.current, None
    if launch is None:
        return
    null = os.open(os.devnull, os.O_RDWR)
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        with contextlib.suppress(OSError):
            stream.flush()
        os.dup2(null, number)
    os.close(null)
    if not launch.tell(0):
        raise DaemonError("the command that launched the daemon has gone; the daemon ends too")


def _context(logger: logging.Logger) -> Callable[[int], None]:
    """What makes this process a daemon, but for the descriptor given."""
    try:
        from daemon import DaemonContext
    except ImportError:
        raise MissingExtra("daemonize", "python-daemon", "daemon") from None

    def become_daemon(keep: int) -> None:
        umask = os.umask(0o022)  # there is no other way to read it
        DaemonContext(
            working_directory=os.getcwd(),
            umask=umask,
            prevent_core=False,
            detach_process=True,
            files_preserve=[keep, *_log_descriptors(logger)],
            stdout=sys.stdout,
            stderr=sys.stderr,
            signal_map={
                signal.SIGTERM: _terminate,
                signal.SIGTSTP: None,
                signal.SIGTTIN: None,
                signal.SIGTTOU: None,
            },
        ).open()

    return become_daemon


def _terminate(signum: int, frame: object) -> NoReturn:
    """What SIGTERM does until the command has a handler of its own: the pidfile is removed."""
    raise SystemExit(128 + signum)


def _log_descriptors(logger: logging.Logger) -> Iterator[int]:
    each: logging.Logger | None = logger
    while each is not None:
        for handler in each.handlers:
            for owner in ("stream", "socket"):
                with contextlib.suppress(AttributeError, OSError, ValueError):
                    yield getattr(handler, owner).fileno()
        each = each.parent if each.propagate else None


def _run(command: Callable[[], object], file: PidFile, logger: logging.Logger) -> NoReturn:
    try:
        status = _status_of(command, logger)
    finally:
        try:
            file.release()
        except PidFileError as error:
            logger.error("%s", error)
    launch, Launch.current = Launch.current, None
    if launch is not None:
        failure = f"the daemon ended with status {status} before it had started; see its log"
        launch.tell(status, failure if status else "")
    raise SystemExit(status)


def _status_of(command: Callable[[], object], logger: logging.Logger) -> int:
    try:
        result = command()
    except SystemExit as error:
        if isinstance(error.code, str):
            logger.error("%s", error.code)
            return 1
        return error.code or 0
    except SpartsError as error:
        logger.error("%s", error)
        return error.status
    except Exception:
        logger.exception("Unhandled exception in the daemon")
        return 1
    return result if isinstance(result, int) else 0


# -- those that run -------------------------------------------------------------------------------
def read_pid(pidfile: str, logger: logging.Logger) -> int | None:
    """The pid in *pidfile*, be that process alive or not; None if there is no file or no pid in it.

    A file that cannot be read, or is no pidfile, is an error line.
    """
    try:
        holder = PidFile(pidfile).read()
    except PidFileError as error:
        logger.error("%s", error)
        return None
    return holder.pid or None if holder else None


def status(pidfile: str, logger: logging.Logger) -> bool:
    """Whether the process that holds *pidfile* is alive, whoever's it is.

    A stale pidfile is removed; one that cannot be read, or is no pidfile, is an error line.
    """
    try:
        _running(PidFile(pidfile)).close()
    except NotRunning:
        return False
    except PidFileError as error:
        logger.error("%s", error)
        return False
    return True


def kill(pidfile: str, logger: logging.Logger, signum: int = signal.SIGTERM) -> bool:
    """Send *signum* to the process that holds *pidfile*, and return at once; whether it was sent.

    A stale pidfile is removed. Why nothing was sent is an error line.
    """
    try:
        with _running(PidFile(pidfile)) as process:
            _signal(process, signum, pidfile)
    except PidFileError as error:
        logger.error("%s", error)
        return False
    return True


def kill_service(pidfile: str, logger: logging.Logger, timeout: float = _KILL_TIMEOUT) -> int:
    """Stop the daemon of *pidfile* and wait up to *timeout* seconds for its end; an exit status.

    0: it has ended. 1: it has not, or the pidfile is none. 4: this user may not. 7: there was
    none. (The LSB's numbers for init scripts.)
    """
    file = PidFile(pidfile)
    try:
        with _running(file) as process:
            _signal(process, signal.SIGTERM, pidfile)
            if not process.wait(timeout):
                raise PidFileError(
                    f"pid {process.pid} has not ended within {timeout:g} s; look at its log, "
                    f"or end it at once: kill -KILL {process.pid}"
                )
            print(f"{logger.name} is stopped (was pid {process.pid})")
            with contextlib.suppress(PidFileError):
                file.check_free()  # removes what it had no time or no right to remove
    except PidFileError as error:
        logger.error("%s", error)
        return error.status
    return 0


def service_status(pidfile: str, logger: logging.Logger) -> int:
    """Print whether the daemon of *pidfile* runs, and change nothing; an exit status, the LSB's.

    0: it runs. 1: it is dead and left its pidfile. 3: it does not run. 4: that cannot be told.
    """
    file = PidFile(pidfile)
    try:
        holder = file.read()
    except PidFileError as error:
        logger.error("%s", error)
        return _UNKNOWN
    if holder is None:
        print(f"{logger.name} is not running (no pidfile {file.path})")
        return _NOT_RUNNING
    process = holder.process()
    if process is None:
        print(f"{logger.name} is dead (pid {holder.pid}), and left its pidfile {file.path}")
        return _DEAD
    process.close()
    print(f"{logger.name} is running (pid {holder.pid})")
    return _RUNNING


def _running(file: PidFile) -> Process:
    holder = file.read()
    if holder is None:
        raise NotRunning(f"not running: there is no pidfile {file.path}")
    process = holder.process()
    if process is None:
        file.discard(holder)
        raise NotRunning(f"not running: removed {file.path}, which pid {holder.pid} had left")
    return process


def _signal(process: Process, signum: int, pidfile: str) -> None:
    try:
        process.signal(signum)
    except ProcessLookupError:
        raise NotRunning(f"not running: pid {process.pid} has just ended") from None
    except PermissionError:
        raise NotPermitted(
            f"pid {process.pid} of {pidfile} belongs to another user; do it as that user or as root"
        ) from None

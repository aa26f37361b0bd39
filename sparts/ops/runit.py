"""Installing a service under runit: its directory, its log, and the link that starts it."""

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence

from sparts.errors import SpartsError
from sparts.fileutils import makedirs, readfilebytes, writefile

__all__ = ["RunitError", "get_runsvdir_dirs", "install", "make_runit_dir"]

#: Where distributions have the directory that runsvdir watches, if none runs to ask.
_USUAL_PLACES = ("/etc/service", "/service", "/var/service")
_MARK = "# Made by sparts (--runit-install), which may replace it."
#: The flag of the command line that asks for the installation.
_FLAG = "--runit-install"


class RunitError(SpartsError):
    """The service cannot be installed under runit."""


def install(
    service_name: str,
    command: Sequence[str] | None = None,
    *,
    runsvdir: str | None = None,
    service_dir: str = "/etc/sv",
    log_dir: str = "/var/log",
) -> str:
    """Have runit run *service_name* from now on and after every boot; the path of its link.

    *command* is what to run in the foreground: by default this process's own command line,
    without ``--runit-install``, from its working directory. The service's directory is made in
    *service_dir*, its log (by svlogd) in a directory of its name in *log_dir*, and the link in
    *runsvdir*: by default the first that :func:`get_runsvdir_dirs` finds and this user may write
    to. To install again replaces the command; runit takes it at the service's next start.

    :raises RunitError: something is in the way, or not permitted, or runit is not found.
    """
    _check_name(service_name)
    command = _own_command() if command is None else command
    running = _running_dirs()
    watched = os.path.abspath(runsvdir) if runsvdir else _writable(running or _usual_dirs())
    link = os.path.join(watched, service_name)
    path = os.path.abspath(os.path.join(service_dir, service_name))
    if os.path.lexists(link) and os.path.realpath(link) != os.path.realpath(path):
        raise RunitError(f"{link} is there already, and not for {path}; remove it, or rename yours")
    make_runit_dir(path, command, log_dir=os.path.join(log_dir, service_name))
    with _told():
        if not os.path.lexists(link):
            os.symlink(path, link)
    when = "within 5 s" if watched in running else f"once a runsvdir watches {watched}"
    print(f"{service_name} is installed in {path}, linked to by {link}; it starts {when}")
    return link


def make_runit_dir(
    path: str, command: Sequence[str], *, log_dir: str, cwd: str | None = None
) -> None:
    """Make the service directory *path*: ``run`` for *command*, and ``log/run`` for its log.

    The command runs in the directory *cwd*, by default the present one, with the present
    ``PYTHONPATH``; svlogd writes what it says to *log_dir*, which is made.

    :raises RunitError: there is something that is not of our making, or it is not permitted.
    """
    log_dir = os.path.abspath(log_dir)
    lines = ["exec 2>&1", f"cd {shlex.quote(os.path.abspath(cwd or os.getcwd()))} || exit 1"]
    if os.environ.get("PYTHONPATH"):
        lines.append(f"export PYTHONPATH={shlex.quote(os.environ['PYTHONPATH'])}")
    quoted = shlex.quote(log_dir)
    scripts = {
        os.path.join(path, "run"): [*lines, f"exec {shlex.join(command)}"],
        os.path.join(path, "log", "run"): [
            f"mkdir -p {quoted} || exit 1",
            f"exec svlogd -tt {quoted}",
        ],
    }
    with _told():
        for script in scripts:
            _check_ours(script)
        makedirs(log_dir)
        for script, what in scripts.items():
            makedirs(os.path.dirname(script))
            writefile(script, "\n".join(["#!/bin/sh", _MARK, *what, ""]), atomic=True)
            os.chmod(script, 0o755)


def get_runsvdir_dirs() -> list[str]:
    """The directories that the running runsvdir processes watch; with none, the usual ones."""
    return _running_dirs() or _usual_dirs()


def _usual_dirs() -> list[str]:
    return [path for path in _USUAL_PLACES if os.path.isdir(path)]


def _running_dirs() -> list[str]:
    found: dict[str, None] = {}
    for pid in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else []):
        path = _watched_by(pid)
        if path is not None and os.path.isdir(path):
            found[path] = None
    return list(found)


def _watched_by(pid: str) -> str | None:
    """The directory that the process *pid* watches, if it is a runsvdir that sees our files."""
    process = os.path.join("/proc", pid)
    try:
        program, *words = readfilebytes(os.path.join(process, "cmdline")).split(b"\0")
        if os.path.basename(program) != b"runsvdir" or not _sees_our_files(process):
            return None
        path = next(os.fsdecode(word) for word in words if word and not word.startswith(b"-"))
        return path if os.path.isabs(path) else os.path.join(os.readlink(f"{process}/cwd"), path)
    except (OSError, StopIteration):  # it has ended, is another user's, or has no arguments
        return None


def _sees_our_files(process: str) -> bool:
    """Whether its root is ours; not so in a container. Of another user's it is not known."""
    try:
        return os.path.samefile(os.path.join(process, "root"), "/")
    except PermissionError:
        return True


def _writable(dirs: list[str]) -> str:
    if not dirs:
        raise RunitError(
            f"no runsvdir runs, and there is none of {', '.join(_USUAL_PLACES)}; "
            "install runit (Debian: apt-get install runit), or start runsvdir"
        )
    for path in dirs:
        if os.access(path, os.W_OK | os.X_OK):
            return path
    raise RunitError(f"this user may not write to {', '.join(dirs)}; install as root")


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*", name):
        raise RunitError(
            f"{name!r} cannot name a service under runit; "
            "take letters, digits and _ . @ + -, not beginning with a sign"
        )


def _check_ours(script: str) -> None:
    if os.path.lexists(script) and _MARK.encode() not in readfilebytes(script):
        raise RunitError(
            f"{script} is there already, and not of our making; remove it, or rename your service"
        )


def _own_command() -> list[str]:
    """This process's command line, as one that runs the service in the foreground."""
    if "--daemon" in sys.orig_argv:
        raise RunitError(f"runit runs services in the foreground; give {_FLAG} without --daemon")
    return [sys.executable, *(word for word in sys.orig_argv[1:] if word != _FLAG)]


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Makes an OSError one that tells the cure."""
    try:
        yield
    except OSError as error:
        raise RunitError(f"{error.filename}: {error.strerror}; install as root") from None

"""Bound server sockets, TCP and unix, with errors that say what is wrong and what cures it."""

import contextlib
import errno
import grp
import os
import socket
import stat
from collections.abc import Iterable, Iterator
from typing import Any

from sparts.errors import OptionError, SpartsError

__all__ = ["ListenError", "SocketFile", "bind_tcp", "bind_unix", "format_address", "listen"]

#: Tries to find one free port that every address has, when the port is 0.
_FREE_PORT_TRIES = 20
#: Seconds that a process behind an existing unix socket gets to show that it lives.
_PROBE_TIMEOUT = 1.0
_ABSENT_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_Info = tuple[socket.AddressFamily, Any]


class ListenError(SpartsError):
    """An address cannot be listened on: another process has it, or this one may not."""


def format_address(address: Any) -> str:
    """A socket's name as text: ``1.2.3.4:80``, ``[::1]:80``, or a unix socket's path."""
    if isinstance(address, str):
        return address
    host, port = address[:2]
    return f"[{host}]:{port}" if len(address) > 2 else f"{host}:{port}"


# -- TCP ------------------------------------------------------------------------------------------
def bind_tcp(hosts: str, port: int, asked_by: str) -> list[socket.socket]:
    """Non-blocking sockets bound to every address of *hosts*; they do not listen yet.

    *hosts* is one or several, with commas between: addresses or names (a name stands for all its
    addresses); ``''`` or ``*`` is all of this machine, IPv4 and IPv6. ``::`` is IPv6 alone. Where
    *port* is 0 they all get the same free one. *asked_by*, like ``--port 80``, begins the errors.

    :raises OptionError: a host has no address.
    :raises ListenError: an address is in use, or not to be had.
    """
    groups = [_resolve(host.strip(), port, asked_by) for host in hosts.split(",")]
    for _ in range(_FREE_PORT_TRIES):
        try:
            return _bind_all(groups, port)
        except OSError as error:
            if port == 0 and error.errno == errno.EADDRINUSE:
                continue  # another address has the port that the first one got
            raise _explained(error, asked_by) from None
    raise ListenError(f"{asked_by}: no port is free on all of {hosts}; give one, or fewer hosts")


def _resolve(host: str, port: int, asked_by: str) -> list[_Info]:
    try:
        found = socket.getaddrinfo(
            None if host in ("", "*") else host,
            port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise OptionError(
            f"{asked_by}: the host {host!r} has no address ({why}); give addresses or names of "
            "this machine, 0.0.0.0 for all IPv4, :: for all IPv6, '' for both"
        ) from None
    unique = dict.fromkeys((family, address) for family, _, _, _, address in found)
    return sorted(unique, key=lambda info: info[0] != socket.AF_INET)


def _bind_all(groups: Iterable[list[_Info]], port: int) -> list[socket.socket]:
    """All addresses or none; an OSError has the address as its ``filename``."""
    with contextlib.ExitStack() as on_failure:
        bound: list[socket.socket] = []
        for group in groups:
            for sock in _bind_group(group, port, bound):
                bound.append(on_failure.enter_context(sock))
        on_failure.pop_all()
        return bound


def _bind_group(
    group: list[_Info], port: int, before: list[socket.socket]
) -> Iterator[socket.socket]:
    missing: OSError | None = None
    found = False
    for family, (host, _, *rest) in group:
        actual = before[0].getsockname()[1] if before and not port else port
        try:
            yield _bound(family, (host, actual, *rest))
            found = True
        except OSError as error:
            if error.errno not in _ABSENT_FAMILY:
                raise
            missing = error  # a name's second family may be switched off here
    if missing is not None and not found:
        raise missing


def _bound(family: socket.AddressFamily, address: Any) -> socket.socket:
    with contextlib.ExitStack() as on_failure:
        try:
            sock = on_failure.enter_context(socket.socket(family, socket.SOCK_STREAM))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:  # so that IPv4 has a socket of its own beside it
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setblocking(False)
            sock.bind(address)
        except OSError as error:
            raise OSError(error.errno, error.strerror, format_address(address)) from None
        on_failure.pop_all()
        return sock


def listen(sock: socket.socket, backlog: int, asked_by: str) -> None:
    """Have *sock* listen, with at most *backlog* clients waiting to be accepted.

    :raises ListenError: another process began to listen there meanwhile.
    """
    try:
        sock.listen(backlog)
    except OSError as error:
        where = format_address(sock.getsockname())
        raise _explained(OSError(error.errno, error.strerror, where), asked_by) from None


def _explained(error: OSError, asked_by: str) -> ListenError:
    where = error.filename
    if error.errno == errno.EADDRINUSE:
        why = (
            f"{where} is in use; stop the process that listens there (ss -ltnp shows it) or choose "
            "another port, 0 for a free one"
        )
    elif error.errno == errno.EACCES:
        why = (
            f"this user may not listen on {where}; choose a port of 1024 or above, or run with "
            "CAP_NET_BIND_SERVICE"
        )
    elif error.errno == errno.EADDRNOTAVAIL:
        why = (
            f"{where} is no address of this machine; choose one that it has (ip address shows "
            "them), or 0.0.0.0 for all"
        )
    else:
        why = f"cannot listen on {where}: {error.strerror}"
    return ListenError(f"{asked_by}: {why}")


# -- unix -----------------------------------------------------------------------------------------
class SocketFile:
    """The file of a bound unix socket, to be removed at the end unless another took its place."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._identity = self._look()

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.lstat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def remove(self) -> None:
        """Remove the file; again, nothing happens."""
        if self._identity is not None and self._look() == self._identity:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        self._identity = None


def bind_unix(
    path: str, mode: int, group: str | None, asked_by: str
) -> tuple[socket.socket, SocketFile]:
    """A non-blocking socket bound to *path*, and its file, of *mode* and, if given, of *group*.

    It does not listen yet, so nobody connects before the rights are set. A socket that a dead
    process left there is replaced. *group* is a name or a number; *asked_by* begins the errors.

    :raises OptionError: there is no such group.
    :raises ListenError: a living process listens there, something else has the name, or the
        system refuses.
    """
    gid = -1 if group is None else _gid(group, asked_by)
    _make_room(path, asked_by)
    with contextlib.ExitStack() as on_failure:
        sock = on_failure.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        sock.setblocking(False)
        try:
            sock.bind(path)
            file = SocketFile(path)
            on_failure.callback(file.remove)
            os.chmod(path, mode)
            if gid != -1:
                os.chown(path, -1, gid)
        except OSError as error:
            raise ListenError(
                f"{asked_by}: cannot make the unix socket {path} ({error.strerror or error}); "
                "choose a short path in a directory that this user may write, and a group that "
                "the user is in"
            ) from None
        on_failure.pop_all()
        return sock, file


def _gid(group: str, asked_by: str) -> int:
    try:
        return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise OptionError(
            f"{asked_by}: there is no group {group!r}; give a group's name or number "
            "(getent group lists them)"
        ) from None


def _make_room(path: str, asked_by: str) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ListenError(
                f"{asked_by}: {path} is there and is no socket; remove the file or choose "
                "another path"
            )
    except OSError:
        return  # nothing there, or bind() tells why it cannot be reached
    if _is_alive(path):
        raise ListenError(
            f"{asked_by}: {path} is in use, a process answers on it; stop that process or choose "
            "another path"
        )
    with contextlib.suppress(OSError):
        os.unlink(path)


def _is_alive(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # it does not take us, but someone has it
    return True

"""Binding: addresses and ports, unix sockets and their rights, and what errors say."""

import errno
import grp
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sparts.errors import OptionError, SpartsError
from sparts.net import sockets
from sparts.net.sockets import ListenError, SocketFile, bind_tcp, bind_unix, format_address, listen

BY = "--http-port 80"


@pytest.fixture
def bound() -> Iterator[Any]:
    """``bound(hosts, port)``: sockets that are closed at the end."""
    made: list[socket.socket] = []

    def bind(hosts: str, port: int = 0) -> list[socket.socket]:
        found = bind_tcp(hosts, port, BY)
        made.extend(found)
        return found

    yield bind
    for sock in made:
        sock.close()


@pytest.fixture
def unix(tmp_path: Path) -> Iterator[Any]:
    """``unix(mode, group)``: a socket bound to ``tmp_path / "s"``, closed at the end."""
    made: list[socket.socket] = []

    def bind(mode: int = 0o600, group: str | None = None) -> tuple[socket.socket, SocketFile]:
        sock, file = bind_unix(str(tmp_path / "s"), mode, group, BY)
        made.append(sock)
        return sock, file

    yield bind
    for sock in made:
        sock.close()


def names(found: list[socket.socket]) -> list[tuple[str, int]]:
    """Host and port of each."""
    return [sock.getsockname()[:2] for sock in found]


# -- TCP ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("hosts", ["", "*", "0.0.0.0,::", "::, 0.0.0.0"])
def test_both_families_have_one_port(bound: Any, hosts: str) -> None:
    """All of this machine is IPv4 and IPv6 on the same port, a free one when it is 0."""
    (one, port), (other, same) = names(bound(hosts))
    assert ({"0.0.0.0", "::"}, port) == ({one, other}, same)
    assert port > 0


def test_both_families_answer(bound: Any) -> None:
    """Clients of both families reach their own socket."""
    found = bound("127.0.0.1,::1")
    for sock in found:
        listen(sock, 5, BY)
        with socket.create_connection(sock.getsockname()[:2], 10) as client:
            sock.setblocking(True)
            accepted, address = sock.accept()
            accepted.close()
            assert client.getsockname() == address


def test_a_given_port(bound: Any) -> None:
    """A given port is taken on every address; it can be bound again right after its close."""
    [sock] = bound("127.0.0.1")
    [(_, port)] = names([sock])
    sock.close()
    assert [("127.0.0.1", port), ("127.0.0.2", port)] == names(bound("127.0.0.1,127.0.0.2", port))


def test_a_name_stands_for_its_addresses(bound: Any) -> None:
    """A host may be a name."""
    assert "127.0.0.1" in [host for host, _ in names(bound("localhost"))]


def test_ipv6_leaves_ipv4_alone(bound: Any) -> None:
    """``::`` is IPv6 alone, so that IPv4 can have a socket of its own."""
    [(host, port)] = names(bound("::"))
    assert "::" == host
    assert [("0.0.0.0", port)] == names(bound("0.0.0.0", port))


def test_it_does_not_listen_yet(bound: Any) -> None:
    """Nobody can connect before ``listen``."""
    [sock] = bound("127.0.0.1")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(sock.getsockname(), 10)


def test_a_used_port(bound: Any) -> None:
    """A used port is told with the address, who asked for it and the cure."""
    [sock] = bound("127.0.0.1")
    listen(sock, 1, BY)
    port = sock.getsockname()[1]
    with pytest.raises(ListenError, match=f"127.0.0.1:{port} is in use") as caught:
        bound("127.0.0.1", port)
    assert str(caught.value).startswith(f"{BY}: ")
    assert "another port" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_port_taken_before_listening(bound: Any) -> None:
    """Two that bound the same port before either listened: the second is told at ``listen``."""
    [first] = bound("127.0.0.1")
    [second] = bound("127.0.0.1", first.getsockname()[1])
    listen(first, 1, BY)
    with pytest.raises(ListenError, match=r"127.0.0.1:\d+ is in use"):
        listen(second, 1, BY)


def refusing(monkeypatch: pytest.MonkeyPatch, code: int, *hosts: str, times: int = 1000) -> None:
    """Have the system refuse those *hosts*, that often."""
    left = [times]
    real = sockets._bound

    def fake(family: Any, address: Any) -> socket.socket:
        if address[0] in hosts and left[0]:
            left[0] -= 1
            raise OSError(code, os.strerror(code), format_address(address))
        return real(family, address)

    monkeypatch.setattr(sockets, "_bound", fake)


def test_a_free_port_is_sought_on_all(bound: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first address's free port is used on the second, another is tried."""
    refusing(monkeypatch, errno.EADDRINUSE, "127.0.0.2", times=3)
    (_, port), (_, same) = names(bound("127.0.0.1,127.0.0.2"))
    assert port == same


def test_no_port_is_free_on_all(bound: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for one has an end."""
    refusing(monkeypatch, errno.EADDRINUSE, "127.0.0.2")
    with pytest.raises(ListenError, match=r"no port is free on all of 127.0.0.1,127.0.0.2"):
        bound("127.0.0.1,127.0.0.2")


@pytest.mark.parametrize("code", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_ipv6_may_be_off(bound: Any, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """On a machine without IPv6, all is all IPv4; but asked for by name it is an error."""
    refusing(monkeypatch, code, "::")
    assert ["0.0.0.0"] == [host for host, _ in names(bound(""))]
    with pytest.raises(ListenError):
        bound("0.0.0.0,::")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.EACCES, r"may not listen on 127.0.0.1:80; .*CAP_NET_BIND_SERVICE"),
        (errno.ENOBUFS, r"cannot listen on 127.0.0.1:80"),
    ],
)
def test_refusals(bound: Any, monkeypatch: pytest.MonkeyPatch, code: int, message: str) -> None:
    """What the system refuses is told with a cure where there is one."""
    refusing(monkeypatch, code, "127.0.0.1")
    with pytest.raises(ListenError, match=message):
        bound("127.0.0.1", 80)


def test_an_address_of_another_machine(bound: Any) -> None:
    """An address that this machine has not is told as that."""
    with pytest.raises(ListenError, match=r"192.0.2.1:0 is no address of this machine"):
        bound("192.0.2.1")


@pytest.mark.parametrize("host", ["no.such.host.invalid", "1.2.3.4.5", "x" * 300])
def test_no_such_host(bound: Any, host: str) -> None:
    """A host without an address is a wrong option, told with what is accepted."""
    with pytest.raises(OptionError, match=f"the host '{host}' has no address") as caught:
        bound(f"127.0.0.1,{host}")
    assert str(caught.value).startswith(f"{BY}: ")


def test_format_address() -> None:
    """Addresses are written as users write them."""
    assert "1.2.3.4:80" == format_address(("1.2.3.4", 80))
    assert "[::1]:80" == format_address(("::1", 80, 0, 0))
    assert "/run/x" == format_address("/run/x")


# -- unix -----------------------------------------------------------------------------------------
def test_mode_and_group(unix: Any, tmp_path: Path) -> None:
    """The file has the mode and the group asked for, before anyone can connect."""
    group = grp.getgrgid(os.getgid())
    sock, _ = unix(0o620, group.gr_name)
    found = os.stat(tmp_path / "s")
    assert (0o620, group.gr_gid) == (stat.S_IMODE(found.st_mode), found.st_gid)
    with pytest.raises(ConnectionRefusedError), socket.socket(socket.AF_UNIX) as client:
        client.connect(sock.getsockname())


def test_a_group_by_number(unix: Any, tmp_path: Path) -> None:
    """The group may be a number."""
    unix(0o660, str(os.getgid()))
    assert os.getgid() == os.stat(tmp_path / "s").st_gid


def test_no_such_group(unix: Any, tmp_path: Path) -> None:
    """A group that does not exist is a wrong option, and leaves no file."""
    with pytest.raises(OptionError, match="no group 'no-such-group'"):
        unix(0o660, "no-such-group")
    assert not (tmp_path / "s").exists()


def test_a_stale_socket_is_replaced(unix: Any) -> None:
    """What a dead process left is replaced."""
    sock, _ = unix()
    listen(sock, 1, BY)
    sock.close()
    again, _ = unix()
    listen(again, 1, BY)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(again.getsockname())


def test_a_live_socket_is_refused(unix: Any, tmp_path: Path) -> None:
    """What a living process listens on stays as it is."""
    sock, _ = unix()
    listen(sock, 1, BY)
    before = os.stat(tmp_path / "s")
    with pytest.raises(ListenError, match="in use, a process answers on it") as caught:
        unix()
    assert str(caught.value).startswith(f"{BY}: ")
    assert before.st_ino == os.stat(tmp_path / "s").st_ino


def test_a_busy_socket_is_alive(unix: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """One with a full backlog is no dead one."""
    monkeypatch.setattr(sockets, "_PROBE_TIMEOUT", 0.05)
    sock, _ = unix()
    listen(sock, 0, BY)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
        with pytest.raises(ListenError, match="in use"):
            unix()


def test_another_file_is_refused(unix: Any, tmp_path: Path) -> None:
    """A file that is no socket is left alone."""
    (tmp_path / "s").write_text("precious")
    with pytest.raises(ListenError, match="is no socket"):
        unix()
    assert "precious" == (tmp_path / "s").read_text()


@pytest.mark.parametrize("path", ["no/such/directory", "x" * 200])
def test_an_impossible_path(tmp_path: Path, path: str) -> None:
    """A path that cannot be is told with the reason."""
    with pytest.raises(SpartsError, match="cannot make the unix socket"):
        bind_unix(str(tmp_path / path), 0o600, None, BY)


def test_only_its_own_file_is_removed(unix: Any, tmp_path: Path) -> None:
    """The file is removed at the end, but not the one that a successor put there."""
    _, file = unix()
    file.remove()
    assert not (tmp_path / "s").exists()
    file.remove()
    _, first = unix()
    (tmp_path / "s").unlink()
    (tmp_path / "s").write_text("another's")
    first.remove()
    assert (tmp_path / "s").exists()

"""The sockets that a server's options ask for: bound, listening, closed; and its TLS."""

import ssl
from typing import Any

from sparts.errors import OptionError
from sparts.net.options import ListenOptions
from sparts.net.sockets import SocketFile, bind_tcp, bind_unix, listen
from sparts.net.tls import server_context

__all__ = ["Bound", "Listening", "tls_context"]


class Bound:
    """The sockets of one server: made bound and not yet listening, so that errors come early."""

    def __init__(self, options: ListenOptions) -> None:
        """Bind what *options* ask for.

        :raises OptionError: a host or group is wrong.
        :raises ListenError: an address is in use, or not to be had.
        """
        self._backlog = options.backlog
        self._file: SocketFile | None = None
        if options.sock is not None:
            self._claim = options.asked_by("sock", "sock_group")
            mode = int(options.sock_mode, 8)
            sock, self._file = bind_unix(options.sock, mode, options.sock_group, self._claim)
            self.sockets = [sock]
        else:
            self._claim = options.asked_by("host", "port")
            self.sockets = bind_tcp(options.host, options.port, self._claim)
        #: ``(host, port)`` for IPv4, ``(host, port, flow, scope)`` for IPv6, a unix socket's path.
        self.addresses: list[Any] = [sock.getsockname() for sock in self.sockets]

    def listen(self) -> None:
        """Let clients connect.

        :raises ListenError: another process began to listen there meanwhile.
        """
        for sock in self.sockets:
            listen(sock, self._backlog, self._claim)

    def remove_file(self) -> None:
        """Remove the unix socket's file, if there is one, so that nobody new finds it."""
        if self._file is not None:
            self._file.remove()

    def close(self) -> None:
        """Close the sockets, more than once if need be."""
        for sock in self.sockets:
            sock.close()
        self.remove_file()


class Listening(ListenOptions):
    """What a task that listens has beside its options: the addresses that it is bound to."""

    _bound: Bound | None = None

    def bind(self) -> Bound:
        """Bind the sockets that the options ask for; see :class:`Bound`."""
        self._bound = Bound(self)
        return self._bound

    @property
    def bound_addrs(self) -> list[Any]:
        """The addresses it is bound to, from ``initTask`` on: ``(host, port)`` for IPv4, ``(host,
        port, flow, scope)`` for IPv6, the path of a unix socket."""
        return self._bound.addresses if self._bound else []

    @property
    def bound_v4_addrs(self) -> list[tuple[str, int]]:
        """Those of ``bound_addrs`` that are IPv4."""
        return [addr for addr in self.bound_addrs if isinstance(addr, tuple) and len(addr) == 2]

    @property
    def bound_v6_addrs(self) -> list[tuple[str, int, int, int]]:
        """Those of ``bound_addrs`` that are IPv6."""
        return [addr for addr in self.bound_addrs if isinstance(addr, tuple) and len(addr) == 4]


def tls_context(
    options: ListenOptions, alpn: tuple[str, ...] = (), client_ca: str | None = None
) -> ssl.SSLContext | None:
    """The context that the options ``cert`` and ``key`` ask for; None where they ask for none.

    With *client_ca*, a PEM file, clients must show a certificate that it signed.

    :raises OptionError: a file cannot be read or does not serve, or the certificate is missing.
    """
    if options.cert is None:
        if options.key is not None:
            raise OptionError(
                f"{options.asked_by('key')}: give its certificate too, as the cert option"
            )
        return None
    asked_by = options.asked_by("cert", "key")
    return server_context(options.cert, options.key, asked_by, alpn, client_ca)

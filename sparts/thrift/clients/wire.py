"""A connected socket on which every wait has a deadline; no Thrift here yet.

Deadlines are times of ``time.monotonic()``; ``math.inf`` is none. The socket does not block: one
system call sends, one waits, one receives, and no timeout of the kernel must be kept in step.
"""

import select
import socket
import ssl
import time
from typing import Any, Final

from sparts.thrift.clients.endpoints import Endpoint
from sparts.thrift.errors import CallTimeout, ConnectFailed, ConnectionLost

__all__ = ["TLSWire", "Wire", "connect", "reason"]

_IN: Final = select.POLLIN
_OUT: Final = select.POLLOUT
#: The longest that poll(2) is asked to wait in one go; its argument is an int of milliseconds.
_LONGEST: Final = 100_000.0


class Wire:
    """One connection; for one thread at a time."""

    __slots__ = ("_poll", "_sock", "endpoint")

    def __init__(self, sock: socket.socket, endpoint: Endpoint) -> None:
        """*sock* is connected; it is made non-blocking, and closed by :meth:`close`."""
        sock.setblocking(False)
        self._sock = sock
        self.endpoint = endpoint
        # Made once, as a call each time would be a list built and a descriptor looked up.
        self._poll = select.poll()
        self._poll.register(sock, _IN)

    def send(self, data: bytes, deadline: float) -> None:
        """Send all of *data*. When this fails, its last byte has not left this process.

        :raises ConnectionLost: the other side has closed.
        :raises CallTimeout: the other side does not read.
        """
        sent = self._send_some(data)
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:], deadline)

    def _send_rest(self, rest: memoryview, deadline: float) -> None:
        out = select.poll()
        out.register(self._sock, _OUT)
        while rest:
            if not _wait(out, deadline):
                raise CallTimeout(f"{self.endpoint} did not take the call before its deadline")
            rest = rest[self._send_some(rest) :]

    def _send_some(self, data: bytes | memoryview) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._lost(error, maybe_run=False) from error

    def receive(self, size: int, deadline: float) -> bytes:
        """What has come, 1 to *size* bytes, after a wait if there is nothing yet.

        :raises ConnectionLost: the other side has closed, or the connection broke.
        :raises CallTimeout: nothing came.
        """
        while True:
            if not _wait(self._poll, deadline):
                raise self._late()
            try:
                data = self._sock.recv(size)
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._lost(error) from error
            if data:
                return data
            raise self._lost()

    def is_quiet(self) -> bool:
        """Whether nothing has come: neither the connection's end nor bytes nobody asked for."""
        return not self._poll.poll(0)

    def close(self) -> None:
        """Close it; more than once is fine."""
        self._sock.close()

    def _late(self) -> CallTimeout:
        return CallTimeout(
            f"no answer from {self.endpoint} before the call's deadline", maybe_run=True
        )

    def _lost(self, error: OSError | None = None, maybe_run: bool = True) -> ConnectionLost:
        how = "closed it" if error is None else f"is gone ({reason(error)})"
        when = "before the answer came" if maybe_run else "before the call was sent"
        message = f"connection lost: {self.endpoint} {how} {when}"
        return ConnectionLost(message, maybe_run=maybe_run)


class TLSWire(Wire):
    """A connection with TLS: what has come may wait in the TLS layer, where poll(2) is blind."""

    __slots__ = ()

    def _send_some(self, data: bytes | memoryview) -> int:
        try:
            return super()._send_some(data)
        except ConnectionLost as error:
            # A full socket; that OpenSSL would first read, it says only in renegotiations.
            if isinstance(error.__cause__, ssl.SSLWantWriteError | ssl.SSLWantReadError):
                return 0
            raise

    def receive(self, size: int, deadline: float) -> bytes:
        """As :meth:`Wire.receive`, but looks before it waits."""
        while True:
            try:
                data = self._sock.recv(size)
            except ssl.SSLWantReadError:
                if not _wait(self._poll, deadline):
                    raise self._late() from None
                continue
            except OSError as error:
                raise self._lost(error) from error
            if data:
                return data
            raise self._lost()

    def is_quiet(self) -> bool:
        """As :meth:`Wire.is_quiet`; the tickets that a server sends at its leisure do not count."""
        if super().is_quiet():
            return True
        try:
            self._sock.recv(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            return False
        return False


def _wait(poll: Any, deadline: float) -> bool:
    """Wait until *poll* has an event; False when it had none by the deadline."""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return bool(poll.poll(0))
        if poll.poll((left if left < _LONGEST else _LONGEST) * 1000):
            return True


# -- connecting -----------------------------------------------------------------------------------
def connect(
    endpoint: Endpoint,
    deadline: float,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> Wire:
    """Connect to *endpoint* by *deadline*, trying all addresses of its host in turn.

    With *tls* the server must prove to be *server_name*, by default the host. How long the
    resolver takes to find the addresses is the system's affair.

    :raises ConnectFailed: no address can be connected to, with the reason of each.
    """
    failed: list[str] = []
    addresses = _addresses(endpoint)
    for number, (family, address) in enumerate(addresses):
        now = time.monotonic()
        # Some time is kept for the addresses that follow, as this one may lead nowhere.
        until = now + (deadline - now) / (len(addresses) - number)
        try:
            sock = _connected(family, address, until)
            return _secured(sock, endpoint, until, tls, server_name)
        except OSError as error:
            failed.append(_tried(address, endpoint, error))
    raise ConnectFailed(f"cannot connect to {endpoint}: {'; '.join(failed)}")


def _addresses(endpoint: Endpoint) -> list[tuple[int, Any]]:
    if endpoint.scheme == "unix":
        return [(socket.AF_UNIX, endpoint.path)]
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = f"the host {endpoint.host!r} has no address ({reason(error)})"
        raise ConnectFailed(f"cannot connect to {endpoint}: {why}") from error
    return [(family, address) for family, _, _, _, address in found]


def _connected(family: int, address: Any, until: float) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(_left(until))
        sock.connect(address)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # The kernel may choose as our port the very one that nobody listens on.
            if sock.getsockname() == sock.getpeername():
                raise ConnectionRefusedError("Connection refused")
    except BaseException:
        sock.close()
        raise
    return sock


def _secured(
    sock: socket.socket,
    endpoint: Endpoint,
    until: float,
    tls: ssl.SSLContext | None,
    server_name: str | None,
) -> Wire:
    if tls is None:
        return Wire(sock, endpoint)
    # From here on the wrapped socket owns the descriptor.
    try:
        wrapped = tls.wrap_socket(
            sock, server_hostname=server_name or endpoint.host, do_handshake_on_connect=False
        )
    except BaseException:
        sock.close()
        raise
    try:
        wrapped.settimeout(_left(until))
        wrapped.do_handshake()
        return TLSWire(wrapped, endpoint)
    except BaseException:
        wrapped.close()
        raise


def _left(until: float) -> float | None:
    left = until - time.monotonic()
    if left > _LONGEST:
        return None
    return max(left, 0.001)  # 0 would mean: do not wait at all


def _tried(address: Any, endpoint: Endpoint, error: OSError) -> str:
    name = address if isinstance(address, str) else address[0]
    late = isinstance(error, TimeoutError)
    why = "no answer in time (connect_timeout)" if late else reason(error)
    return why if name in (endpoint.host, endpoint.path) else f"{name}: {why}"


def reason(error: Exception) -> str:
    """What the system or the TLS library says, in short."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

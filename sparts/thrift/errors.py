"""The errors of the Thrift clients; ``except TTransportException`` catches all but Overloaded."""

from typing import ClassVar, Final

from thrift.Thrift import TApplicationException
from thrift.transport.TTransport import TTransportException

from sparts.errors import SpartsError
from sparts.thrift.interface import InterfaceError

__all__ = [
    "OVERLOADED",
    "BadReply",
    "BadStatus",
    "CallTimeout",
    "ClientClosed",
    "ClientError",
    "ConnectFailed",
    "ConnectionLost",
    "InterfaceError",
    "Overloaded",
    "PoolExhausted",
    "RequestTooLarge",
]

#: How the message of an internal error begins that says: the call was not run, there was no time.
OVERLOADED: Final = "overloaded: "


class ClientError(SpartsError, TTransportException):  # type: ignore[misc]  # thrift is untyped
    """Root of the errors of a call that got no answer; the message names the endpoint.

    ``maybe_run`` tells whether the server may have run the call: where it is false, the call may
    be made again whatever it does.
    """

    #: What Apache's library calls such an error, a number of TTransportException.
    kind: ClassVar[int] = TTransportException.UNKNOWN

    def __init__(self, message: str, *, maybe_run: bool = False) -> None:
        super().__init__(self.kind, message)
        self.maybe_run = maybe_run


class ConnectFailed(ClientError):
    """No connection could be made: refused, no such host, no TLS, or not within its time."""

    kind = TTransportException.NOT_OPEN


class ConnectionLost(ClientError):
    """The connection ended before the answer was there."""

    kind = TTransportException.END_OF_FILE


class CallTimeout(ClientError, TimeoutError):
    """The call's deadline passed; the message tells at what it was."""

    kind = TTransportException.TIMED_OUT


class PoolExhausted(CallTimeout):
    """All connections were in use until the call's deadline passed."""


class ClientClosed(ClientError):
    """The client was closed before the call, or while it waited for its turn."""

    kind = TTransportException.NOT_OPEN


class BadReply(ClientError):
    """What came back is not the answer to this call, so the connection was closed."""

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message, maybe_run=True)
        if too_large:
            self.type = TTransportException.SIZE_LIMIT


class BadStatus(ClientError):
    """The HTTP server answered with another ``status`` than 200."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, maybe_run=True)
        self.status_code = status


class RequestTooLarge(ClientError):
    """The call takes more bytes than ``max_frame_size``, so it was not sent."""

    kind = TTransportException.SIZE_LIMIT


class Overloaded(SpartsError, TApplicationException):  # type: ignore[misc]  # thrift is untyped
    """The server had no time for the call and did not run it, nor did another to which it went."""

    #: The call was never run, so it may be made again.
    maybe_run = False

    def __init__(self, message: str) -> None:
        super().__init__(TApplicationException.INTERNAL_ERROR, message)

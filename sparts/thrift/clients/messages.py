"""What a client sends and gets: a call becomes bytes, the answer's bytes a value or an error.

:class:`ProtocolMessages` works with any protocol class; ``sparts.thrift.clients.binary`` has the
quick way for the usual one.
"""

import struct
from collections.abc import Callable
from typing import Any

from thrift.Thrift import TApplicationException, TMessageType
from thrift.transport.TTransport import TMemoryBuffer

from sparts.thrift.errors import OVERLOADED, BadReply, ClientError, Overloaded, RequestTooLarge
from sparts.thrift.interface import Method

__all__ = ["Messages", "ProtocolMessages", "nonsense", "outcome", "read_reply"]

_SIZE = struct.Struct(">i")


class Messages:
    """One protocol as a client speaks it; safe to share between threads."""

    #: Where in a reply the message begins, after the frame's size.
    start = 0

    def __init__(self, framed: bool, service: str | None, max_size: int) -> None:
        """*service* is the name in a multiplexed server; *max_size* bytes is the largest message.

        A *framed* message begins with its size, which :meth:`encode` writes.
        """
        self._framed = framed
        self._prefix = "" if service is None else f"{service}:"
        self._max_size = max_size
        if framed:
            self.start = 4

    def encode(self, method: Method, arguments: Any, seqid: int) -> bytes:
        """The call of *method* with the struct of its *arguments*.

        :raises RequestTooLarge: it has more than *max_size* bytes.
        """
        raise NotImplementedError

    def decode(self, method: Method, seqid: int, data: bytes) -> Any:
        """The struct of the result that is in *data*, the reply to that call.

        :raises TApplicationException: the server says that it did not run well.
        :raises Overloaded: the server says that it did not run it.
        :raises BadReply: it is no answer to this call.
        """
        raise NotImplementedError

    def _check_size(self, size: int) -> None:
        if size > self._max_size:
            raise RequestTooLarge(
                f"the call takes {size} bytes, more than max_frame_size ({self._max_size}); raise "
                "that in the client and the server, or send less"
            )


def outcome(method: Method, result: Any) -> Any:
    """What the struct *result* stands for: the value is returned, an exception raised.

    :raises TApplicationException: MISSING_RESULT, when it holds neither.
    """
    if not method.is_void and result.success is not None:
        return result.success
    for name in method.exception_fields:
        error = getattr(result, name)
        if error is not None:
            raise error
    if method.is_void:
        return None
    raise TApplicationException(
        TApplicationException.MISSING_RESULT, f"{method.name} failed: unknown result"
    )


# -- any protocol ---------------------------------------------------------------------------------
class ProtocolMessages(Messages):
    """Messages by the protocol objects of Apache's library, or of the user."""

    def __init__(
        self,
        protocol: Callable[[Any], Any],
        framed: bool,
        service: str | None,
        max_size: int,
        frames_itself: bool = False,
    ) -> None:
        """*protocol* makes one on a transport; it *frames_itself* when it writes the size, too."""
        super().__init__(framed and not frames_itself, service, max_size)
        self.protocol = protocol

    def encode(self, method: Method, arguments: Any, seqid: int) -> bytes:
        buffer = TMemoryBuffer()
        protocol = self.protocol(buffer)
        self.write(protocol, method, arguments, seqid)
        protocol.trans.flush()
        data: bytes = buffer.getvalue()
        self._check_size(len(data))
        return _SIZE.pack(len(data)) + data if self._framed else data

    def write(self, protocol: Any, method: Method, arguments: Any, seqid: int) -> None:
        """Write the call to *protocol*, whose transport is not flushed."""
        if method.args_coding is None and getattr(protocol, "_fast_encode", None) is not None:
            protocol._fast_encode = None  # it would leave out the arguments without a number
        kind = TMessageType.ONEWAY if method.oneway else TMessageType.CALL
        protocol.writeMessageBegin(self._prefix + method.name, kind, seqid)
        arguments.write(protocol)
        protocol.writeMessageEnd()

    def decode(self, method: Method, seqid: int, data: bytes) -> Any:
        return read_reply(self.protocol, TMemoryBuffer(data, self.start), method, seqid)


def read_reply(protocol: Callable[[Any], Any], transport: Any, method: Method, seqid: int) -> Any:
    """The struct of the result in the next message of *transport*; as :meth:`Messages.decode`."""
    try:
        error, result = _read(protocol(transport), method, seqid)
    except (ClientError, MemoryError):
        raise
    except Exception as reason:
        raise nonsense(str(reason) or type(reason).__name__) from reason
    if error is not None:
        raise _from_server(error)
    return result


def _read(protocol: Any, method: Method, seqid: int) -> tuple[TApplicationException | None, Any]:
    name, kind, got = protocol.readMessageBegin()
    if got != seqid:
        raise nonsense(f"it has the sequence number {got}, not {seqid}")
    if kind == TMessageType.EXCEPTION:
        error = TApplicationException()
        error.read(protocol)
        protocol.readMessageEnd()
        return error, None
    # A multiplexed server may answer with the service's name before the method's.
    if kind != TMessageType.REPLY or name.rpartition(":")[2] != method.name:
        raise nonsense(f"it is a message of type {kind} for the method {name[:100]!r}")
    if method.result_coding is None and getattr(protocol, "_fast_decode", None) is not None:
        protocol._fast_decode = None
    result: Any = (method.result_class or object)()
    result.read(protocol)
    protocol.readMessageEnd()
    return None, result


def nonsense(why: str) -> BadReply:
    return BadReply(
        f"what came back is no answer ({why}); do both sides use the same transport and protocol?"
    )


def _from_server(error: Any) -> Any:
    message = error.message
    if (
        error.type == TApplicationException.INTERNAL_ERROR
        and isinstance(message, str)
        and message.startswith(OVERLOADED)
    ):
        return Overloaded(message)
    return error

"""The blocking client's connections: what one call does on the wire, for each kind of transport."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, Final

from thrift.transport.TTransport import CReadableTransport, TTransportBase

from sparts.thrift.clients.binary import BinaryMessages
from sparts.thrift.clients.messages import Messages, ProtocolMessages, read_reply
from sparts.thrift.clients.wire import Wire
from sparts.thrift.errors import BadReply
from sparts.thrift.interface import Method

__all__ = [
    "Connection",
    "FramedConnection",
    "StreamConnection",
    "UnframedConnection",
    "WireTransport",
    "ZlibTransport",
    "too_large",
]

#: Bytes that are asked for at once; most replies are whole then.
FIRST: Final = 16384
_SIZE = struct.Struct(">i")


def too_large(size: int, limit: int) -> BadReply:
    """The error of a reply of more bytes than are taken."""
    return BadReply(
        f"a reply of {size} bytes, more than max_frame_size ({limit}); raise that, ask for less, "
        "or see whether both sides use the same transport",
        too_large=True,
    )


class Connection:
    """One connection to a server; for one thread and one call at a time.

    After an error other than TApplicationException it is of no use any more.
    """

    __slots__ = ("last_used", "wire")

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        #: When its last call ended, a time of ``time.monotonic()``.
        self.last_used = 0.0

    def exchange(self, method: Method, seqid: int, request: Any, deadline: float) -> Any:
        """Send *request* and return the struct of the result; None of a oneway method.

        :raises ClientError: there is no answer.
        :raises TApplicationException: the answer is that it did not run well.
        """
        raise NotImplementedError

    def is_quiet(self) -> bool:
        """Whether it can take a call: the server has not closed it, nor sent what nobody asked."""
        return self.wire.is_quiet()

    def close(self) -> None:
        """Close it; more than once is fine."""
        self.wire.close()


class FramedConnection(Connection):
    """Messages that begin with their size; *request* is a whole one."""

    __slots__ = ("_max_size", "_messages")

    def __init__(self, wire: Wire, messages: Messages, max_size: int) -> None:
        """*max_size* bytes is the largest reply that is taken."""
        super().__init__(wire)
        self._messages = messages
        self._max_size = max_size

    def exchange(self, method: Method, seqid: int, request: Any, deadline: float) -> Any:
        wire = self.wire
        wire.send(request, deadline)
        if method.oneway:
            return None
        data = wire.receive(FIRST, deadline)
        if len(data) < 4 or len(data) - 4 != _SIZE.unpack_from(data)[0]:
            data = self._rest(data, deadline)
        return self._messages.decode(method, seqid, data)

    def _rest(self, data: bytes, deadline: float) -> bytes:
        while len(data) < 4:
            data += self.wire.receive(4 - len(data), deadline)
        (size,) = _SIZE.unpack_from(data)
        if not 0 <= size <= self._max_size:
            raise too_large(size & 0xFFFFFFFF, self._max_size)
        parts, left = [data], size + 4 - len(data)
        while left > 0:
            parts.append(self.wire.receive(min(left, 1 << 18), deadline))
            left -= len(parts[-1])
        if left < 0:
            raise BadReply("more came back than one answer")
        return b"".join(parts)


# -- streams --------------------------------------------------------------------------------------
class WireTransport(TTransportBase, CReadableTransport):  # type: ignore[misc]  # thrift is untyped
    """A wire as Apache's protocols and transports use one; what is written waits for a flush."""

    #: In place of the base's property, which cannot be set.
    cstringio_buf: Any = None

    def __init__(self, wire: Wire, max_size: int) -> None:
        """*max_size* bytes is the most that is read between two flushes."""
        self._wire = wire
        self._max_size = max_size
        self._written: list[bytes] = []
        self._left = max_size
        self.cstringio_buf = io.BytesIO()
        self.deadline = 0.0

    def isOpen(self) -> bool:
        """It is, as long as there is such an object."""
        return True

    def open(self) -> None:
        """It is open already."""

    def close(self) -> None:
        """Close the wire."""
        self._wire.close()

    def write(self, buf: bytes) -> None:
        """Keep *buf* until the next flush."""
        self._written.append(bytes(buf))

    def flush(self) -> None:
        """Send what was written."""
        data, self._written = b"".join(self._written), []
        self._left = self._max_size
        self._send(data)

    def _send(self, data: bytes) -> None:
        self._wire.send(data, self.deadline)

    def read(self, sz: int) -> bytes:
        """1 to *sz* bytes."""
        data: bytes = self.cstringio_buf.read(sz)
        if not data and sz > 0:
            self.cstringio_buf = io.BytesIO(self._more())
            data = self.cstringio_buf.read(sz)
        return data

    def cstringio_refill(self, prefix: bytes, length: int) -> io.BytesIO:
        """A buffer that begins with *prefix* and has *length* bytes or more."""
        parts, have = [prefix], len(prefix)
        while have < length:
            parts.append(self._more())
            have += len(parts[-1])
        self.cstringio_buf = buffer = io.BytesIO(b"".join(parts))
        return buffer

    def skip(self, head: bytes) -> bool:
        """Go past *head* if that is what comes next; else nothing of it is lost."""
        data: bytes = self.cstringio_buf.read()
        while len(data) < len(head) and head.startswith(data):
            data += self._more()
        self.cstringio_buf = io.BytesIO(data)
        if not data.startswith(head):
            return False
        self.cstringio_buf.seek(len(head))
        return True

    def check_end(self) -> None:
        """:raises BadReply: there are bytes that were not read."""
        if self.cstringio_buf.read(1):
            raise BadReply("more came back than one answer")

    def _more(self) -> bytes:
        data = self._wire.receive(FIRST, self.deadline)
        self._count(data)
        return data

    def _count(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise too_large(self._max_size - self._left, self._max_size)


class ZlibTransport(WireTransport):
    """A wire on which all is compressed; one stream each way, as long as the connection lives.

    Apache's TZlibTransport limits what it reads in all its life, and with the C codec it loses
    what a reply of some size has beyond its buffer.
    """

    def __init__(self, wire: Wire, max_size: int) -> None:
        """*max_size* bytes is the most that is read between two flushes, when unpacked."""
        super().__init__(wire, max_size)
        self._pack = zlib.compressobj()
        self._unpack = zlib.decompressobj()

    def _send(self, data: bytes) -> None:
        super()._send(self._pack.compress(data) + self._pack.flush(zlib.Z_SYNC_FLUSH))

    def _more(self) -> bytes:
        data = b""
        while not data:
            packed = self._unpack.unconsumed_tail or self._wire.receive(FIRST, self.deadline)
            data = self._unpack.decompress(packed, self._left + 1)
            self._count(data)
        return data


class UnframedConnection(Connection):
    """Binary messages in a stream; *request* is a whole one."""

    __slots__ = ("_messages", "_transport")

    def __init__(self, wire: Wire, messages: BinaryMessages, transport: WireTransport) -> None:
        super().__init__(wire)
        self._messages = messages
        self._transport = transport

    def exchange(self, method: Method, seqid: int, request: Any, deadline: float) -> Any:
        transport = self._transport
        transport.deadline = deadline
        transport.write(request)
        transport.flush()
        if method.oneway:
            return None
        result = self._messages.decode_from(method, seqid, transport)
        transport.check_end()
        return result


class StreamConnection(Connection):
    """Any transport and protocol of Apache's library or of the user, kept as long as the wire.

    Here *request* is the struct of the arguments, as such a transport may know what it wrote.
    """

    __slots__ = ("_messages", "_protocol", "_raw", "_transport")

    def __init__(
        self,
        wire: Wire,
        messages: ProtocolMessages,
        raw: WireTransport,
        transport: Callable[[Any], Any],
    ) -> None:
        """*transport* makes, on *raw*, the one that is used."""
        super().__init__(wire)
        self._messages = messages
        self._raw = raw
        self._transport = transport(raw)
        self._protocol = messages.protocol(self._transport)

    def exchange(self, method: Method, seqid: int, request: Any, deadline: float) -> Any:
        self._raw.deadline = deadline
        self._messages.write(self._protocol, method, request, seqid)
        self._protocol.trans.flush()
        if method.oneway:
            return None
        return read_reply(lambda _: self._protocol, self._transport, method, seqid)

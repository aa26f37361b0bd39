"""The binary protocol on the quick way: headers by ``struct``, the rest by the C codec.

The C codec works on a protocol object whose transport has its bytes in a ``BytesIO``. Stand-ins
for both, one pair a thread, save the layers of the library; a frame is read where it lies in the
buffer that the socket gave. Source of the format: Thrift's own "Thrift Binary protocol encoding".
"""

import io
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from thrift.Thrift import TApplicationException

from sparts.thrift.limits import Limits
from sparts.thrift.server.calls import Call, Target
from sparts.thrift.server.codec import BadMessage, Codec, Unanswerable

try:
    from thrift.protocol import fastbinary
except ImportError:  # no C compiler when the library was installed, or another interpreter
    fastbinary = None

__all__ = ["BinaryCodec", "is_available"]

_I32 = struct.Struct(">i")
#: Version and type of a strict message, and the length of its method's name.
_HEAD = struct.Struct(">Ii")
_CALL, _ONEWAY = 0x80010001, 0x80010004
_REPLY, _EXCEPTION = 0x80010002, 0x80010003
_EMPTY: Final = b"\x00"
_MESSAGE, _TYPE = b"\x0b\x00\x01", b"\x08\x00\x02"


def is_available() -> bool:
    """Whether the library has its C codec here."""
    return fastbinary is not None


class _Input:
    """A transport of the C codec; the end of the bytes is an error, as whole messages are read."""

    __slots__ = ("cstringio_buf",)
    cstringio_buf: io.BytesIO

    def cstringio_refill(self, prefix: bytes, length: int) -> Any:
        raise EOFError("the arguments end early")


class _Protocol:
    """A protocol object of the C codec."""

    def __init__(self, limits: Limits) -> None:
        self.trans = _Input()
        self.string_length_limit = limits.max_frame_size
        self.container_length_limit = limits.max_container_size


class BinaryCodec(Codec):
    """Strict binary messages; from any thread."""

    def __init__(self, targets: Mapping[bytes, Target], limits: Limits, old: Codec) -> None:
        """*old* reads what has no version: the messages of old clients."""
        self._targets = targets
        self._old = old
        self._limits = limits
        self._mine = threading.local()
        for target in targets.values():
            name = target.name.encode()
            target.reply_head = _HEAD.pack(_REPLY, len(name)) + name
        self.decode: Callable[[Any, Any, Any], Any] = fastbinary.decode_binary
        self.encode: Callable[[Any, Any], bytes] = fastbinary.encode_binary

    def new_protocol(self) -> "_Protocol":
        """A stand-in for a protocol and its transport, for ``decode``; for one thread at a time."""
        return _Protocol(self._limits)

    def read(self, message: Any) -> Call:
        """The call in *message*; see :class:`Codec`."""
        data, start, end = message.data, message.start, message.end
        try:
            kind, length = _HEAD.unpack_from(data, start)
        except struct.error:
            raise Unanswerable("a message of less than 8 bytes") from None
        if kind < 0x80000000:
            return self._old.read(message)
        at = start + 8 + length
        if not start + 8 <= at <= end - 4:
            raise Unanswerable("a method's name that is longer than its message")
        name, seqid = data[start + 8 : at], data[at : at + 4]
        at += 4
        if kind != _CALL and kind != _ONEWAY:
            raise BadMessage(
                self._error(name, seqid, "not a call", TApplicationException.INVALID_MESSAGE_TYPE),
                f"a message of the type {kind & 0xFF}",
            )
        target = self._targets.get(name)
        if target is None:
            raise self.unknown(name, seqid)
        if at + 1 == end and data[at] == 0 and not target.method.arg_names:
            args = None
        else:
            args = self._arguments(data, at, end, target, name, seqid)
        return Call(self, message, target, seqid, args)

    def _arguments(
        self, data: bytes, at: int, end: int, target: Target, name: bytes, seqid: bytes
    ) -> Any:
        protocol = getattr(self._mine, "protocol", None)
        if protocol is None:
            protocol = self._mine.protocol = self.new_protocol()
        protocol.trans.cstringio_buf = buffer = io.BytesIO(data)
        buffer.seek(at)
        try:
            args = self.decode(None, protocol, target.args_coding)
            if buffer.tell() != end:
                raise ValueError("they do not end where the message does")
        except Exception as error:
            kind = TApplicationException.PROTOCOL_ERROR
            raise BadMessage(
                self._error(name, seqid, f"bad arguments: {self.reason(error)}", kind),
                f"bad arguments of {target.name}: {error!r}",
            ) from None
        finally:
            del protocol.trans.cstringio_buf
        return args

    def unknown(self, name: bytes, seqid: bytes) -> BadMessage:
        """What tells that there is no such method; the connection goes on."""
        text = name[:100].decode("utf-8", "replace")
        payload = self._error(
            name, seqid, f"Unknown function {text}", TApplicationException.UNKNOWN_METHOD
        )
        return BadMessage(payload, f"no method {text!r}", goes_on=True)

    # -- answers ----------------------------------------------------------------------------------
    def value(self, call: Call, value: Any) -> bytes:
        """The answer that is *value*."""
        target = call.target
        seqid: bytes = call.seqid
        if target.method.is_void:
            return target.reply_head + seqid + _EMPTY
        if target.result_class is None:
            return self.result(call, target.result(value))
        made = target.result_class()
        made.success = value
        return target.reply_head + seqid + self.encode(made, target.result_coding)

    def result(self, call: Call, result: Any) -> bytes:
        """The answer that is the struct *result*."""
        seqid: bytes = call.seqid
        return call.target.reply_head + seqid + self.encode(result, call.target.result_coding)

    def error(self, call: Call, error: TApplicationException) -> bytes:
        """The answer that is *error*."""
        return self._error(call.target.name.encode(), call.seqid, error.message or "", error.type)

    def _error(self, name: bytes, seqid: bytes, message: str, kind: int) -> bytes:
        text = message.encode("utf-8", "replace")
        return b"".join(
            (_HEAD.pack(_EXCEPTION, len(name)), name, seqid, _MESSAGE, _I32.pack(len(text)), text)
            + (_TYPE, _I32.pack(kind), _EMPTY)
        )

"""Binary messages on the quick way of the client.

Headers are made by ``struct`` and the rest by the library's C codec, called straight with the
generated ``thrift_spec``; that saves the layers of the generated client, its protocol and its
transport. Source of the format: Thrift's own "Thrift Binary protocol encoding".
"""

import io
import struct
import threading
from typing import Any, Final

from thrift.protocol import TBinaryProtocol

from sparts.thrift.clients.messages import ProtocolMessages, nonsense, read_reply
from sparts.thrift.errors import ClientError
from sparts.thrift.interface import Method

try:
    from thrift.protocol import fastbinary
except ImportError:  # no C compiler when the library was installed, or another interpreter
    fastbinary = None

__all__ = ["BinaryMessages"]

_SEQID = struct.Struct(">i")
#: Version and type of a message, and the length of its method's name.
_HEAD = struct.Struct(">Ii")
_CALL, _ONEWAY, _REPLY = 0x80010001, 0x80010004, 0x80010002
_NO_ARGUMENTS: Final = b"\x00"


class _Source:
    """What the C codec takes for a transport; the end of its bytes is an error."""

    __slots__ = ("cstringio_buf",)

    def cstringio_refill(self, prefix: bytes, length: int) -> Any:
        raise EOFError("it ends early")


class _Decoder:
    """What the C codec takes for a protocol."""

    __slots__ = ("trans",)
    #: The bytes that are there are the limit, as each element of a container takes one or more.
    string_length_limit = container_length_limit = 0x7FFFFFFF

    def __init__(self, trans: Any) -> None:
        self.trans = trans


class _ThreadsOwn(threading.local):
    """A decoder for each thread, as to make one costs more than to find it."""

    def __init__(self) -> None:
        self.decoder = _Decoder(_Source())


class _Form:
    """What all messages of one method have in common."""

    def __init__(self, method: Method, prefix: str, framed: bool) -> None:
        name = (prefix + method.name).encode()
        self.head = _HEAD.pack(_ONEWAY if method.oneway else _CALL, len(name)) + name
        #: Packs the frame's size (if there is one), the head and the sequence number.
        self.pack = struct.Struct(f">{'i' if framed else ''}{len(self.head)}si").pack
        name = method.name.encode()
        self.reply = _HEAD.pack(_REPLY, len(name)) + name
        # Made without a call of Python code, unlike the generated class, and filled alike.
        fields = [each[2] for each in method.result_spec or () if each is not None]
        self.result = type(f"{method.name}_result", (), dict.fromkeys(fields))


class BinaryMessages(ProtocolMessages):
    """Binary messages by the C codec; by the library where that does not know the fields."""

    def __init__(self, framed: bool, service: str | None, max_size: int) -> None:
        super().__init__(TBinaryProtocol.TBinaryProtocolAccelerated, framed, service, max_size)
        self._forms: dict[Method, _Form] = {}
        self._own = _ThreadsOwn()

    @staticmethod
    def is_available() -> bool:
        """Whether the library has its C codec here."""
        return fastbinary is not None

    def _form(self, method: Method) -> _Form:
        try:
            return self._forms[method]
        except KeyError:
            return self._forms.setdefault(method, _Form(method, self._prefix, self._framed))

    def encode(self, method: Method, arguments: Any, seqid: int) -> bytes:
        if method.args_coding is None:
            return super().encode(method, arguments, seqid)
        form = self._form(method)
        body: bytes = _NO_ARGUMENTS
        if method.arg_names:
            body = fastbinary.encode_binary(arguments, method.args_coding)
        size = len(form.head) + 4 + len(body)
        if size > self._max_size:
            self._check_size(size)
        if self._framed:
            return form.pack(size, form.head, seqid) + body
        return form.pack(form.head, seqid) + body

    def decode(self, method: Method, seqid: int, data: bytes) -> Any:
        form = self._form(method)
        head = form.reply + _SEQID.pack(seqid)
        if not data.startswith(head, self.start) or method.result_coding is None:
            return super().decode(method, seqid, data)
        buffer = io.BytesIO(data)
        buffer.seek(self.start + len(head))
        decoder = self._own.decoder
        decoder.trans.cstringio_buf = buffer
        result = _decoded(form.result(), decoder, method)
        decoder.trans.cstringio_buf = None
        if buffer.tell() != len(data):
            raise nonsense("there are bytes after its end")
        return result

    def decode_from(self, method: Method, seqid: int, transport: Any) -> Any:
        """As :meth:`decode`, from a ``WireTransport``, which tells no message's end."""
        form = self._form(method)
        head = form.reply + _SEQID.pack(seqid)
        if method.result_coding is None or not transport.skip(head):
            return read_reply(self.protocol, transport, method, seqid)
        return _decoded(form.result(), _Decoder(transport), method)


def _decoded(result: Any, decoder: _Decoder, method: Method) -> Any:
    try:
        return fastbinary.decode_binary(result, decoder, method.result_coding)
    except (ClientError, MemoryError):
        raise
    except Exception as reason:
        raise nonsense(str(reason) or type(reason).__name__) from reason

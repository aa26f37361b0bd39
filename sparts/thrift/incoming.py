"""What framings share: a message that came in, what they do, and the error for what is none."""

import struct
from typing import Final

from sparts.errors import SpartsError

__all__ = ["FrameError", "Framing", "Message", "protocol_of"]


class FrameError(SpartsError):
    """What a client sent is no Thrift message; nothing more can be read from the connection."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        #: A few words for a debug log.
        self.reason = reason


class Message:
    """One protocol message, ``data[start:end]``, without a frame around it."""

    __slots__ = ("codec", "data", "end", "envelope", "start")

    def __init__(
        self, data: bytes, start: int, end: int, codec: str, envelope: object = None
    ) -> None:
        self.data = data
        self.start = start
        self.end = end
        #: ``"binary"``, ``"compact"`` or ``"json"``.
        self.codec = codec
        #: What :meth:`Framing.wrap` needs to answer as the client spoke, if anything.
        self.envelope = envelope


class Framing:
    """One connection's bytes in, messages out; and answers wrapped as the client speaks.

    It knows no socket and no thread: one thread at a time may use it. Call :meth:`next` until it
    has nothing more, then :meth:`feed`; in another order it copies more. Once :meth:`next` has
    raised, the framing is of no use.
    """

    __slots__ = ()

    def feed(self, chunk: bytes) -> None:
        """Take in the bytes that came."""
        raise NotImplementedError

    def next(self) -> Message | None:
        """The next message that is whole; None when there is none.

        :raises FrameError: what the client sent is no message.
        """
        raise NotImplementedError

    def wrap(self, payload: bytes, message: Message) -> bytes:
        """The bytes to send for the answer *payload* to *message*, in the order of sending."""
        raise NotImplementedError

    @property
    def buffered(self) -> int:
        """The bytes held that are not part of a returned message; 0: there is no other to return.

        Of what is compressed, it is the compressed bytes.
        """
        raise NotImplementedError


# -- protocols, told by how a message begins ------------------------------------------------------
_BINARY: Final = b"\x80\x01"
_I32 = struct.Struct(">i")


def protocol_of(data: bytes, start: int, end: int) -> str:
    """The protocol of the whole message ``data[start:end]``, which is not empty; "" if none."""
    first = data[start]
    if first == 0x80:
        return "binary" if data.startswith(_BINARY, start, end) else ""
    if first == 0x82:
        return "compact" if end - start > 1 and data[start + 1] & 0x1F == 1 else ""
    if first == 0x5B:  # [
        return "json"
    if first == 0 and end - start > 4:
        # An old client's: no version, but the length of the name, the name, type and number.
        (length,) = _I32.unpack_from(data, start)
        return "binary" if 0 < length <= end - start - 9 else ""
    return ""

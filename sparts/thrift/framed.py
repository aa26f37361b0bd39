"""Frames: each message after its size, four bytes, as TFramedTransport and THeader send them."""

import re
import struct
from typing import Final

from sparts.thrift import theader
from sparts.thrift.incoming import FrameError, Framing, Message, protocol_of
from sparts.thrift.limits import Limits

__all__ = ["Framed", "refusal"]

_SIZE = struct.Struct(">i")
_pack_size = _SIZE.pack
#: A size, and how the message begins.
_unpack_head = struct.Struct(">iH").unpack_from
_STRICT_BINARY: Final = 0x8001
_HTTP: Final = frozenset(
    (b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"PATC", b"CONN", b"TRAC", b"PRI ")
)
_zeros = re.compile(rb"\0*").match


def refusal(size: int, head: bytes, limits: Limits) -> FrameError:
    """The error for a frame whose *size* is out of range; *head* are the bytes that hold it."""
    if size < 0:
        return FrameError(f"neither a frame nor a message begins with {head.hex(' ')}")
    if head[:2] == b"\x16\x03":
        return FrameError("a TLS handshake on a port without TLS")
    hint = "; it may be an HTTP client" if head in _HTTP else ""
    return FrameError(f"a frame of {size} bytes (limit {limits.max_frame_size}){hint}")


class Framed(Framing):
    """Messages in frames; those that come whole are not copied."""

    __slots__ = ("_at", "_chunk", "_limits", "_max", "_may_inflate", "_need", "_partial")

    def __init__(self, limits: Limits, may_inflate: bool = True) -> None:
        """*may_inflate*: whether a THeader frame may be compressed."""
        self._limits = limits
        self._max = limits.max_frame_size
        self._may_inflate = may_inflate
        # What was fed and not returned lies either in a chunk, from _at on, or in _partial.
        self._chunk: bytes | None = None
        self._at = 0
        #: The beginning of a frame of which there is less than _need bytes.
        self._partial: bytearray | None = None
        self._need = 0

    def feed(self, chunk: bytes) -> None:
        if self._chunk is None and self._partial is None:
            self._chunk = chunk
        else:
            self._append(chunk)

    def _append(self, chunk: bytes) -> None:
        if self._partial is None:
            self._chunk = (self._chunk or b"")[self._at :] + chunk
            self._at = 0
            return
        self._partial += chunk
        if len(self._partial) >= self._need:
            self._chunk = bytes(self._partial)
            self._partial = None

    def next(self) -> Message | None:
        chunk = self._chunk
        if chunk is None:
            return None
        at = self._at
        # The usual case on its own, as every call pays for it.
        try:
            size, begins = _unpack_head(chunk, at)
        except struct.error:
            return self._any()
        if begins == _STRICT_BINARY and 1 < size <= self._max:
            end = at + 4 + size
            if end == len(chunk):
                self._chunk = None
                self._at = 0
                return Message(chunk, at + 4, end, "binary")
            if end < len(chunk):
                self._at = end
                return Message(chunk, at + 4, end, "binary")
        return self._any()

    def _any(self) -> Message | None:
        """The next message of any kind."""
        found = self.frame()
        if found is None:
            return None
        data, start, end = found
        codec = protocol_of(data, start, end)
        if codec:
            return Message(data, start, end, codec)
        if data.startswith(theader.MAGIC, start, end):
            return theader.read(data, start, end, self._limits, self._may_inflate)
        begins = data[start : min(start + 8, end)].hex(" ")
        raise FrameError(f"a frame that holds no message; it begins with {begins}")

    def frame(self) -> tuple[bytes, int, int] | None:
        """The next whole frame that is not empty: the bytes it lies in, its start and its end.

        :raises FrameError: its size is out of range.
        """
        chunk, at = self._chunk, self._at
        if chunk is None:
            return None
        length = len(chunk)
        size = 0
        while size == 0:
            if length - at < 4:
                self._set_aside(chunk, at, 4)
                return None
            (size,) = _SIZE.unpack_from(chunk, at)
            if size == 0:
                # As many empty ones as there are: few bytes of a zlib stream may hold millions.
                zeros = _zeros(chunk, at)
                at += (zeros.end() - at) & ~3 if zeros else 4
        if not 0 < size <= self._max:
            raise refusal(size, chunk[at : at + 4], self._limits)
        end = at + 4 + size
        if end > length:
            self._set_aside(chunk, at, 4 + size)
            return None
        self._chunk = chunk if end < length else None
        self._at = end if end < length else 0
        return chunk, at + 4, end

    def _set_aside(self, chunk: bytes, at: int, need: int) -> None:
        """Keep what there is of a frame, but not the chunk, which may be much longer."""
        if at < len(chunk):
            self._partial = bytearray(memoryview(chunk)[at:])
            self._need = need
        self._chunk = None
        self._at = 0

    def wrap(self, payload: bytes, message: Message) -> bytes:
        envelope = message.envelope
        if envelope is None:
            return _pack_size(len(payload)) + payload
        return theader.wrap(payload, envelope)

    @property
    def buffered(self) -> int:
        if self._partial is not None:
            return len(self._partial)
        return len(self._chunk) - self._at if self._chunk is not None else 0

"""Connections that are one zlib stream each way, as TZlibTransport makes them; in frames or not."""

import struct
from typing import Final

from sparts.thrift.framed import Framed
from sparts.thrift.incoming import FrameError, Framing, Message
from sparts.thrift.inflate import Deflater, Inflater
from sparts.thrift.limits import Limits

__all__ = ["FramedZlib", "Zlib"]

#: What may be inflated, beside one whole message, before a message has come of it, bytes.
_SLACK: Final = 128 * 1024
_pack_size = struct.Struct(">i").pack


class Zlib(Framing):
    """A zlib stream in which there is another framing.

    It is inflated no further than to the next message, and to no more than one may have.
    """

    __slots__ = ("_deflater", "_inflater", "_inner", "_limit", "_silent")

    def __init__(self, limits: Limits, inner: Framing) -> None:
        """*inner* is fed with what was inflated."""
        self._inner = inner
        self._inflater = Inflater()
        #: Made for the first answer, as it takes some memory.
        self._deflater: Deflater | None = None
        self._limit = limits.max_frame_size
        #: Bytes inflated since the last message.
        self._silent = 0

    def feed(self, chunk: bytes | memoryview) -> None:
        self._inflater.feed(chunk)

    def next(self) -> Message | None:
        while True:
            message = self._inner.next()
            if message is not None:
                self._silent = 0
                return message
            piece = self._inflater.piece()
            if not piece:
                return None
            self._silent += len(piece)
            if self._silent > self._limit + _SLACK:
                raise FrameError(f"a zlib stream without a message in {self._silent} bytes")
            self._inner.feed(piece)

    def wrap(self, payload: bytes, message: Message) -> bytes:
        if self._deflater is None:
            self._deflater = Deflater()
        return self._deflater.deflate(self._inner.wrap(payload, message))

    @property
    def buffered(self) -> int:
        return self._inflater.buffered + self._inner.buffered


class FramedZlib(Framing):
    """Frames whose contents, one after the other, are a zlib stream; answers are such frames."""

    __slots__ = ("_frames", "_stream")

    def __init__(self, limits: Limits, inner: Framing) -> None:
        """*inner* is fed with what was inflated."""
        self._frames = Framed(limits)
        self._stream = Zlib(limits, inner)

    def feed(self, chunk: bytes) -> None:
        self._frames.feed(chunk)

    def next(self) -> Message | None:
        while True:
            message = self._stream.next()
            if message is not None:
                return message
            frame = self._frames.frame()
            if frame is None:
                return None
            data, start, end = frame
            self._stream.feed(memoryview(data)[start:end])

    def wrap(self, payload: bytes, message: Message) -> bytes:
        deflated = self._stream.wrap(payload, message)
        return _pack_size(len(deflated)) + deflated

    @property
    def buffered(self) -> int:
        return self._frames.buffered + self._stream.buffered

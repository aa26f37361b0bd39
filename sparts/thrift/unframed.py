"""Messages one after the other with nothing between them, as TBufferedTransport sends them."""

import re

from sparts.thrift.incoming import Framing, Message
from sparts.thrift.limits import Limits
from sparts.thrift.scanner import Scanner

__all__ = ["Unframed"]

_space = re.compile(rb"[ \t\r\n]*").match


class Unframed(Framing):
    """Messages of one protocol; those that come whole are not copied."""

    __slots__ = ("_at", "_chunk", "_codec", "_partial", "_scanner")

    def __init__(self, codec: str, limits: Limits) -> None:
        self._codec = codec
        self._scanner = Scanner(codec, limits)
        # What was fed and not returned lies either in a chunk, from _at on, or in _partial.
        self._chunk: bytes | None = None
        self._at = 0
        #: The beginning of one message.
        self._partial: bytearray | None = None

    def feed(self, chunk: bytes) -> None:
        if self._partial is not None:
            self._partial += chunk
        elif self._chunk is None:
            self._chunk = chunk
        else:
            self._chunk = self._chunk[self._at :] + chunk
            self._at = 0

    def next(self) -> Message | None:
        if self._partial is not None:
            return self._continued(self._partial)
        chunk, at = self._chunk, self._at
        if chunk is None:
            return None
        if self._codec == "json" and (space := _space(chunk, at)):
            at = space.end()  # a line end after the message, as people send it
        end = self._scanner.whole(chunk, at) if at < len(chunk) else 0
        if end:
            return self._message(chunk, at, end)
        self._chunk, self._at = None, 0
        if at < len(chunk):
            self._partial = bytearray(memoryview(chunk)[at:])
        return None

    def _continued(self, partial: bytearray) -> Message | None:
        end = self._scanner.grown(partial)
        if not end:
            return None
        self._partial = None
        return self._message(bytes(partial), 0, end)

    def _message(self, data: bytes, start: int, end: int) -> Message:
        self._chunk = data if end < len(data) else None
        self._at = end if end < len(data) else 0
        return Message(data, start, end, self._codec)

    def wrap(self, payload: bytes, message: Message) -> bytes:
        return payload

    @property
    def buffered(self) -> int:
        if self._partial is not None:
            return len(self._partial)
        return len(self._chunk) - self._at if self._chunk is not None else 0

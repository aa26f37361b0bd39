"""zlib with bounds: what little compressed may hold much, and nobody may make us keep it."""

import zlib
from typing import Final

from sparts.thrift.incoming import FrameError

__all__ = ["LEVEL", "Deflater", "Inflater", "inflate"]

#: Fast, with most of what there is to save.
LEVEL: Final = 1
#: The window and memory of a stream: about 32 KiB a connection, an eighth of the default.
_WINDOW_BITS: Final = 12
_MEMORY_LEVEL: Final = 5
#: Bytes inflated from, and to, in one go.
_TAKE: Final = 16 * 1024
_PIECE: Final = 64 * 1024


def inflate(data: bytes, limit: int) -> bytes:
    """What *data* was before it was compressed as a whole, at most *limit* bytes.

    :raises FrameError: it is more, or was not compressed so.
    """
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data, limit + 1)
    except zlib.error as error:
        raise FrameError(f"damaged zlib data: {error}") from None
    if len(plain) > limit:
        raise FrameError(f"a message of more than {limit} bytes when inflated")
    if not inflater.eof:
        raise FrameError("zlib data that ends early")
    return plain


class Inflater:
    """A zlib stream that is inflated piece by piece, and only when a piece is asked for."""

    __slots__ = ("_more", "_stream", "_tail", "_waiting")

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()
        self._waiting = bytearray()
        self._tail = b""
        #: Whether zlib may hold back some of its output.
        self._more = False

    @property
    def buffered(self) -> int:
        """Bytes that wait to be inflated; 0 only when there is nothing more to inflate."""
        return len(self._waiting) + len(self._tail) + self._more

    def feed(self, chunk: bytes | memoryview) -> None:
        """Take in bytes of the stream."""
        self._waiting += chunk

    def piece(self) -> bytes:
        """The next bytes, 64 KiB at most; b"" when more of the stream must come first.

        :raises FrameError: the stream is damaged, or goes on after its end.
        """
        while self._tail or self._waiting or self._more:
            if not self._tail and not self._more:
                self._tail = bytes(memoryview(self._waiting)[:_TAKE])
                del self._waiting[:_TAKE]
            if self._stream.eof:
                raise FrameError("bytes after the end of a zlib stream")
            try:
                plain = self._stream.decompress(self._tail, _PIECE)
            except zlib.error as error:
                raise FrameError(f"a damaged zlib stream: {error}") from None
            self._tail = self._stream.unconsumed_tail or self._stream.unused_data
            self._more = len(plain) == _PIECE and not self._stream.eof
            if plain:
                return plain
        return b""


class Deflater:
    """A zlib stream for a connection's answers, each flushed so that it can be read at once."""

    __slots__ = ("_stream",)

    def __init__(self) -> None:
        self._stream = zlib.compressobj(LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL)

    def deflate(self, data: bytes) -> bytes:
        """The next bytes of the stream, from which a reader gets all of *data*."""
        return self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)

"""Where an unframed message ends, which only its own structure tells.

The library's C codec finds it fastest: given a struct of which it knows no field, it skips them
all. But it starts at the beginning each time. So when a message comes in many pieces, the walk of
:mod:`sparts.thrift.walks` takes over, which goes on where it was: the time that a message takes is
proportional to its size, however it comes.
"""

import io
import struct
from typing import Any, Final

from sparts.thrift.incoming import FrameError, Message
from sparts.thrift.limits import Limits
from sparts.thrift.walks import HEADS, WALKS
from sparts.thrift.walks.json import check_sizes
from sparts.thrift.walks.nesting import Walk

try:
    from thrift.protocol import fastbinary
except ImportError:  # no C compiler when the library was installed, or another interpreter
    fastbinary = None

__all__ = ["Scanner", "check"]

#: How many bytes, for each one that came, the C codec may look at: as many as it skips in the time
#: that the walk takes for one.
_WORTH: Final = 16
_INCOMPLETE: Final = 0
_REFUSED: Final = -1


class _Incomplete(Exception):
    """The C codec wants more bytes than there are."""


class _Source:
    """A transport of the C codec that has what is there, and takes note of what is missing."""

    __slots__ = ("cstringio_buf", "missing")

    cstringio_buf: io.BytesIO
    missing: int

    def cstringio_refill(self, prefix: bytes, length: int) -> Any:
        self.missing = length - len(prefix)
        raise _Incomplete


class _Protocol:
    """A protocol object of the C codec."""

    __slots__ = ("container_length_limit", "string_length_limit", "trans")

    def __init__(self, limits: Limits) -> None:
        self.trans = _Source()
        self.string_length_limit = limits.max_frame_size
        self.container_length_limit = limits.max_container_size


class Scanner:
    """Finds the ends of the messages of one connection, one after the other.

    :meth:`whole` is for a new message; when not all of it is there, :meth:`grown` is for the same
    one each time that more has come. Both return 0 while the end is not there.
    """

    __slots__ = ("_codec", "_decode", "_limits", "_protocol", "_seen", "_walk", "_wanted")

    def __init__(self, codec: str, limits: Limits) -> None:
        self._codec = codec
        self._limits = limits
        self._decode: Any = getattr(fastbinary, f"decode_{codec}", None)
        self._protocol = _Protocol(limits)
        #: Bytes that this message has at least.
        self._wanted = 0
        #: Bytes that the C codec looked at for this message.
        self._seen = 0
        self._walk: Walk | None = None

    def whole(self, data: bytes, start: int) -> int:
        """The end of the message that begins at *start*.

        :raises FrameError: it is no message, or beyond the limits.
        """
        self._seen = 0
        self._walk = None
        end = self._skip(data, start) if self._decode else _REFUSED
        if end == _REFUSED:
            end = self._go_on(WALKS[self._codec](data, start, self._limits), start)
        return end

    def grown(self, data: bytearray) -> int:
        """The end of the message that begins *data*; raises as :meth:`whole`."""
        if len(data) < self._wanted:
            return _INCOMPLETE
        if self._walk is None:
            if self._decode and self._seen <= _WORTH * len(data):
                end = self._skip(data, 0)
                if end != _REFUSED:
                    return end
            self._walk = WALKS[self._codec](data, 0, self._limits)
        return self._go_on(self._walk, 0)

    def _skip(self, data: bytes | bytearray, start: int) -> int:
        """The end by the C codec; _REFUSED: let the walk find out what is wrong, if anything."""
        self._seen += len(data) - start
        try:
            at = HEADS[self._codec](data, start)
        except (IndexError, struct.error):
            return self._want(len(data) + 1 - start)
        if at >= len(data):
            return self._want(at + 1 - start)
        source = self._protocol.trans
        source.cstringio_buf = buffer = io.BytesIO(data)
        buffer.seek(at)
        try:
            self._decode(_NOTHING, self._protocol, _CODING)
        except _Incomplete:
            return self._want(len(data) + source.missing - start)
        except Exception:
            return _REFUSED
        finally:
            del source.cstringio_buf
        end = buffer.tell()
        self._want(end - start)
        return end

    def _go_on(self, walk: Walk, start: int) -> int:
        """The end by the walk."""
        try:
            self._want(next(walk) - start)
        except StopIteration as found:
            end: int = found.value
            self._want(end - start)
            return end
        return _INCOMPLETE

    def _want(self, size: int) -> int:
        """Take note that the message has *size* bytes, or more."""
        if size > self._limits.max_frame_size:
            raise FrameError(f"a message of {size} bytes (limit {self._limits.max_frame_size})")
        self._wanted = size
        return _INCOMPLETE


#: What the C codec would set fields of, and that it has none.
_NOTHING: Final = object()
_CODING: Final = [object, ()]


def check(message: Message, limits: Limits) -> None:
    """Refuse a whole *message* of any framing that goes beyond what its codec sees to.

    That is its depth: the library's reader of JSON has no limit, the C codec that of 64 structs.
    Of JSON, where each level is two or three brackets within each other, three times as many
    brackets are allowed; and as its reader checks no sizes, those of the containers are here.

    :raises FrameError: it is nested deeper than the limit, or ends early.
    """
    if message.codec == "json":
        check_sizes(message.data, message.start, message.end, limits)
    walk = WALKS[message.codec](message.data, message.start, limits)
    try:
        next(walk)
    except StopIteration as found:
        if found.value <= message.end:
            return
    raise FrameError("a message that ends early")

"""How a client frames its messages, told from the first bytes that it sends.

==================== ============================== =============================================
First bytes          Then                           What it is
==================== ============================== =============================================
``80 01``                                           unframed binary
``82``, ``.1``       (the version, low 5 bits)      unframed compact
``5B``, a ``[``                                     unframed JSON
``78``, zlib's check (``01``, ``5E``, ``9C``,       one zlib stream for the connection, in which
                     ``DA``)                        the rest of this table applies, but not zlib
size > 0, 4 bytes    a letter or ``_``              unframed binary of an old client: the size is
                                                    that of the method's name
size > 1, 4 bytes    ``78`` and zlib's check        frames whose contents are one zlib stream
size >= 0, 4 bytes   anything else                  frames
anything else                                       refused
==================== ============================== =============================================

Each frame holds one message. How it begins tells which, so that frames of one connection differ
as they like: ``80 01`` binary, ``82`` compact, ``[`` JSON, ``00`` an old client's binary, and
``0F FF`` a THeader frame, which names its protocol. A frame of size 0 is skipped.

Nothing is guessed. A size is at most 0x3FFFFFFF (:class:`Limits`), so a frame begins with a byte
below 0x40, and text, zlib and unframed messages with one above it. No message begins with a
letter, so a letter behind a size is a method's name; unless it is ``x`` and zlib's check, which
no name begins with.
"""

from typing import Final

from sparts.thrift.framed import Framed, refusal
from sparts.thrift.incoming import FrameError, Framing, Message
from sparts.thrift.limits import Limits
from sparts.thrift.unframed import Unframed
from sparts.thrift.zlibbed import FramedZlib, Zlib

__all__ = ["Detector", "FrameError", "Framing", "Message", "new_framing"]

#: What the name of a method begins with, and no message does.
_LETTERS: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")
#: 15 bits of window, no dictionary; the four levels of compression.
_ZLIB: Final = frozenset((b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"))


def new_framing(limits: Limits) -> "Detector":
    """The framing of a new connection, which finds out how the client speaks."""
    return Detector(limits)


class Detector(Framing):
    """Waits for the first bytes, at most six, and from then on leaves all to :attr:`settled`."""

    __slots__ = ("_held", "_limits", "_may_inflate", "settled")

    def __init__(self, limits: Limits, may_inflate: bool = True) -> None:
        """*may_inflate*: whether zlib is accepted."""
        #: The framing that the client uses, which may take this one's place; None: not known yet.
        self.settled: Framing | None = None
        self._held = b""
        self._limits = limits
        self._may_inflate = may_inflate

    def feed(self, chunk: bytes) -> None:
        if self.settled is not None:
            self.settled.feed(chunk)
        else:
            self._held = self._held + chunk if self._held else chunk

    def next(self) -> Message | None:
        if self.settled is None:
            if not self._held:
                return None
            self.settled = self._choose(self._held)
            if self.settled is None:
                return None
            self.settled.feed(self._held)
            self._held = b""
        return self.settled.next()

    def wrap(self, payload: bytes, message: Message) -> bytes:
        if self.settled is None:
            raise FrameError("an answer before any message")
        return self.settled.wrap(payload, message)

    @property
    def buffered(self) -> int:
        return len(self._held) if self.settled is None else self.settled.buffered

    def _choose(self, data: bytes) -> Framing | None:
        """The framing of what begins with *data*; None: too short to tell."""
        if data[0] == 0x5B:
            return Unframed("json", self._limits)
        if len(data) < 2:
            return None
        if data[:2] == b"\x80\x01":
            return Unframed("binary", self._limits)
        if data[0] == 0x82 and data[1] & 0x1F == 1:
            return Unframed("compact", self._limits)
        if data[:2] in _ZLIB:
            return self._inflating(Zlib(self._limits, Detector(self._limits, False)))
        return self._choose_frames(data) if len(data) >= 4 else None

    def _choose_frames(self, data: bytes) -> Framing | None:
        size = int.from_bytes(data[:4], "big", signed=True)
        if not 0 <= size <= self._limits.max_frame_size:
            raise refusal(size, data[:4], self._limits)
        if size and len(data) < 5:
            return None
        if size and data[4] in _LETTERS and data[4:6] not in _ZLIB:
            if data[4] == 0x78 and len(data) < 6 and size > 1:
                return None
            return Unframed("binary", self._limits)
        if size > 1 and data[4:6] in _ZLIB:
            return self._inflating(FramedZlib(self._limits, Detector(self._limits, False)))
        return Framed(self._limits, self._may_inflate)

    def _inflating(self, framing: Framing) -> Framing:
        if not self._may_inflate:
            raise FrameError("zlib within zlib")
        return framing

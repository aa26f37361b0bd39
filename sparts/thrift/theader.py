"""THeader frames: a message with a sequence number, transforms and headers of its own.

Source of the format: Apache Thrift's ``doc/specs/HeaderFormat.md``. The fields of a frame, after
its size: 2 bytes 0x0FFF, 2 bytes flags, 4 bytes sequence number, 2 bytes size of the header in
words of 4 bytes; then the header, padded with zeros: the protocol, the transforms, the headers,
all numbers as varints; then the message.
"""

import struct
import zlib
from typing import Final

from sparts.thrift.incoming import FrameError, Message, protocol_of
from sparts.thrift.inflate import LEVEL, inflate
from sparts.thrift.limits import Limits
from sparts.thrift.walks.compact import varint

__all__ = ["MAGIC", "Header", "read", "wrap"]

#: How a frame begins that has a header.
MAGIC: Final = b"\x0f\xff"
_HEAD = struct.Struct(">HHIH")
_FRAME = struct.Struct(">iHHIH")
_CODECS: Final = {0: "binary", 2: "compact"}
#: The only transform.
_ZLIB: Final = 1
#: The only kind of headers: pairs of a key and a value.
_KEY_VALUE: Final = 1
#: Headers of one message. Their bytes are bounded by the format: 256 KiB.
_MAX_HEADERS: Final = 256


class Header:
    """What is around the message in a THeader frame; the answer's is the same but for headers."""

    __slots__ = ("flags", "headers", "is_deflated", "protocol", "seqid")

    def __init__(self, flags: int, seqid: int) -> None:
        self.flags = flags
        self.seqid = seqid
        #: The protocol's number: 0 binary, 2 compact.
        self.protocol = 0
        #: Whether the message is compressed.
        self.is_deflated = False
        self.headers: dict[bytes, bytes] = {}


def read(data: bytes, start: int, end: int, limits: Limits, may_inflate: bool) -> Message:
    """The message in the frame ``data[start:end]``; its envelope is a :class:`Header`.

    :raises FrameError: the frame is damaged, or asks for a protocol or a transform unknown here.
    """
    if end - start < _HEAD.size:
        raise FrameError("a THeader frame that is too short")
    _, flags, seqid, words = _HEAD.unpack_from(data, start)
    at = start + _HEAD.size
    body = at + 4 * words
    if body >= end:
        raise FrameError("a THeader frame whose header is longer than itself, or all of it")
    header = Header(flags, seqid)
    try:
        _parse(data[at:body], header)
    except IndexError:
        raise FrameError("a THeader frame whose header ends early") from None
    if header.is_deflated:
        if not may_inflate:
            raise FrameError("zlib within zlib")
        data = inflate(data[body:end], limits.max_frame_size)
        body, end = 0, len(data)
    codec = _CODECS[header.protocol]
    if body == end or protocol_of(data, body, end) != codec:
        raise FrameError(f"a THeader frame without the {codec} message that its header announces")
    return Message(data, body, end, codec, header)


def _parse(raw: bytes, header: Header) -> None:
    """Fill *header* in; an IndexError when *raw* ends early."""
    header.protocol, at = varint(raw, 0)
    if header.protocol not in _CODECS:
        accepted = "0 binary, 2 compact"
        raise FrameError(f"a THeader frame of the protocol {header.protocol}; known: {accepted}")
    transforms, at = varint(raw, at)
    for _ in range(transforms):
        transform, at = varint(raw, at)
        if transform != _ZLIB:
            raise FrameError(f"a THeader frame with the transform {transform}; known: 1 zlib")
        if header.is_deflated:
            raise FrameError("zlib within zlib")
        header.is_deflated = True
    pairs = 0
    while at < len(raw):
        kind, at = varint(raw, at)
        if kind != _KEY_VALUE:
            return  # padding, or what is to be ignored when it is not known
        count, at = varint(raw, at)
        pairs += count
        if pairs > _MAX_HEADERS:
            raise FrameError(f"a THeader frame with more than {_MAX_HEADERS} headers")
        for _ in range(count):
            key, at = _text(raw, at)
            header.headers[key], at = _text(raw, at)


def _text(raw: bytes, at: int) -> tuple[bytes, int]:
    length, at = varint(raw, at)
    if length > len(raw) - at:
        raise IndexError
    return raw[at : at + length], at + length


#: The header of an answer, by protocol and whether it is compressed.
_ANSWERS: Final = {
    (0, False): b"\0\0\0\0",
    (2, False): b"\2\0\0\0",
    (0, True): b"\0\1\1\0",
    (2, True): b"\2\1\1\0",
}


def wrap(payload: bytes, envelope: object) -> bytes:
    """The frame of the answer *payload* to a message with that *envelope*."""
    if not isinstance(envelope, Header):
        raise TypeError(f"no header of a THeader frame: {envelope!r}")
    if envelope.is_deflated:
        payload = zlib.compress(payload, LEVEL)
    header = _ANSWERS[envelope.protocol, envelope.is_deflated]
    size = _HEAD.size + len(header) + len(payload)
    head = _FRAME.pack(size, 0x0FFF, envelope.flags, envelope.seqid, len(header) // 4)
    return b"".join((head, header, payload))

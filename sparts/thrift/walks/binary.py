"""The binary protocol. Source: Apache Thrift's ``doc/specs/thrift-binary-protocol.md``."""

import struct
from typing import Final

from sparts.thrift.incoming import FrameError
from sparts.thrift.limits import Limits
from sparts.thrift.walks.nesting import Data, Nesting, Walk, past_head

__all__ = ["head", "walk"]

_i32 = struct.Struct(">i").unpack_from
_two_i32 = struct.Struct(">ii").unpack_from
_VERSION_1: Final = -0x7FFF  # the upper half of 0x8001....

_STRING, _STRUCT, _MAP, _SET, _LIST = 11, 12, 13, 14, 15
#: The bytes before what they hold.
_BEFORE: Final = {_STRING: 4, _MAP: 6, _SET: 5, _LIST: 5}
#: bool, byte, double, i16, i32, i64, uuid.
_FIXED: Final = {2: 1, 3: 1, 4: 8, 6: 2, 8: 4, 10: 8, 16: 16}
_WIDTHS: Final = [
    0 if kind in _BEFORE or kind == _STRUCT else _FIXED.get(kind, -1) for kind in range(256)
]


def head(data: Data, at: int) -> int:
    """Where the struct of the message at *at* begins.

    :raises IndexError: it is too short; struct.error, too.
    """
    version, length = _two_i32(data, at)
    if version >= 0:
        return _old_head(data, at, version)
    if version >> 16 != _VERSION_1:
        raise FrameError(f"no binary message begins with {data[at : at + 4].hex(' ')}")
    if length < 0:
        raise FrameError(f"a method's name of {length} bytes")
    return at + 12 + int(length)


def _old_head(data: Data, at: int, length: int) -> int:
    """Of a message without a version: the length of the name, the name, type and number."""
    if length == 0 or not 1 <= data[at + 4 + length] <= 4:
        raise FrameError(f"no binary message begins with {data[at : at + 4].hex(' ')}")
    return at + 9 + length


def walk(data: Data, at: int, limits: Limits) -> Walk:
    """Walk to the end of the message at *at*."""
    at = yield from past_head(head, data, at)
    nesting = Nesting(_WIDTHS, limits)
    stack = nesting.stack
    while stack:
        inside = stack[-1]
        if inside is None:
            while len(data) <= at:
                yield at + 1
            kind = data[at]
            if kind == 0:
                stack.pop()
                at += 1
                continue
            at += 3
        elif inside[0]:
            inside[0] -= 1
            kind = inside[1]
            inside[1], inside[2] = inside[2], kind
        else:
            stack.pop()
            continue
        width = _WIDTHS[kind]
        if width > 0:
            at += width
        elif width < 0:
            raise FrameError(f"a value of the unknown type {kind}")
        elif kind == _STRUCT:
            nesting.open_struct()
        else:
            before = _BEFORE[kind]
            while len(data) < at + before:
                yield at + before
            at += before + _skip(data, at, kind, before, nesting)
    return at


def _skip(data: Data, at: int, kind: int, before: int, nesting: Nesting) -> int:
    """The bytes to skip of what a string or container holds, after those *before* it."""
    count: int = _i32(data, at + before - 4)[0]
    if kind == _MAP:
        return nesting.open_container(count, 2 * count, data[at], data[at + 1])
    if kind != _STRING:
        return nesting.open_container(count, count, data[at], data[at])
    if count < 0:
        raise FrameError(f"a string of {count} bytes")
    return count

"""The compact protocol. Source: Apache Thrift's ``doc/specs/thrift-compact-protocol.md``."""

from typing import Final

from sparts.thrift.incoming import FrameError
from sparts.thrift.limits import Limits
from sparts.thrift.walks.nesting import Data, Nesting, Walk, past_head

__all__ = ["head", "varint", "walk"]

_BINARY, _MAP, _STRUCT = 8, 11, 12
_BOOLS: Final = frozenset((1, 2))
_VARINTS: Final = frozenset((4, 5, 6))
_LISTS: Final = frozenset((9, 10))
#: stop, true, false, byte, i16, i32, i64, double, binary, list, set, map, struct, uuid.
_WIDTHS: Final = [-1, 1, 1, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 16, -1, -1]
#: All bytes of a varint but its last.
_HIGH: Final = bytes(range(0x80, 0x100))


def varint(data: Data, at: int) -> tuple[int, int]:
    """The number at *at* and where it ends; an IndexError when it goes on beyond the bytes."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise FrameError("a number of more than 10 bytes")


def head(data: Data, at: int) -> int:
    """Where the struct of the message at *at* begins; an IndexError when it is too short."""
    if data[at] != 0x82 or data[at + 1] & 0x1F != 1:
        raise FrameError(f"no compact message begins with {data[at : at + 2].hex(' ')}")
    _, at = varint(data, at + 2)
    length, at = varint(data, at)
    return at + length


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
            kind, delta = data[at] & 0x0F, data[at] >> 4
            at += 1
            if kind == 0:
                stack.pop()
                continue
            if not delta:  # the field's number follows
                at = yield from _numbers(data, at, 1)
            if kind in _BOOLS:  # which it is, is all of it
                continue
        elif not inside[0]:
            stack.pop()
            continue
        elif inside[1] in _VARINTS and inside[2] in _VARINTS:
            stack.pop()
            at = yield from _numbers(data, at, inside[0])
            continue
        else:
            inside[0] -= 1
            kind = inside[1]
            inside[1], inside[2] = inside[2], kind
        width = _WIDTHS[kind]
        if width > 0:
            at += width
        elif width < 0:
            raise FrameError(f"a value of the unknown type {kind}")
        elif kind in _VARINTS:
            if at < len(data) and data[at] < 0x80:
                at += 1  # the usual case, quicker
            else:
                at = yield from _numbers(data, at, 1)
        elif kind == _STRUCT:
            nesting.open_struct()
        else:
            while True:
                try:
                    at = _past_size(data, at, kind, nesting)
                    break
                except IndexError:
                    yield max(at, len(data)) + 1
    return at


def _numbers(data: Data, at: int, count: int) -> Walk:
    """Skip so many varints. Each has one byte below 0x80, its last: so many are looked for."""
    while count:
        while len(data) <= at:
            yield at + 1
        part = data[at : at + count]
        at += len(part)
        count -= len(part.translate(None, _HIGH))
    return at


def _past_size(data: Data, at: int, kind: int, nesting: Nesting) -> int:
    """Skip the size of a string or container, and what it holds if that has a known size.

    :raises IndexError: not all of the size is there.
    """
    values, count, kinds, at = _size(data, at, kind)
    if kind == _BINARY:
        return at + count
    return at + nesting.open_container(count, values, kinds >> 4, kinds & 0x0F)


def _size(data: Data, at: int, kind: int) -> tuple[int, int, int, int]:
    """The number of values and elements, the two kinds of values, and where all that ends."""
    if kind in _LISTS:
        count, kinds = data[at] >> 4, data[at] & 0x0F
        at += 1
        if count == 15:
            count, at = varint(data, at)
        return count, count, kinds << 4 | kinds, at
    count, at = varint(data, at)
    if kind == _BINARY or not count:
        return count, count, 0, at
    return 2 * count, count, data[at], at + 1

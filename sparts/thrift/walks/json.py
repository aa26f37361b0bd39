"""The JSON protocol: an array, told by its brackets; and the sizes that its containers announce."""

import re
from typing import Final

from sparts.thrift.incoming import FrameError
from sparts.thrift.limits import Limits
from sparts.thrift.walks.nesting import Data, Walk, past_head

__all__ = ["check_sizes", "head", "walk"]

_next_mark = re.compile(rb'["\[\]{}]').search
_next_in_string = re.compile(rb'["\\]').search
_QUOTE: Final = 0x22
_OPEN: Final = b"[{"
#: What a level has at most: a field's object, a map's array and its object.
_BRACKETS: Final = 3
#: The kinds and the size of a list, set or map. Within a string a quote has a backslash.
_sizes = re.compile(rb'\["[a-z0-9]{2,3}",(?:"[a-z0-9]{2,3}",)?\+?([0-9]+)').finditer


def head(data: Data, at: int) -> int:
    """Where the message's array begins; an IndexError when there is nothing."""
    if data[at] != 0x5B:
        raise FrameError(f"no JSON message begins with {data[at : at + 1]!r}")
    return at


def walk(data: Data, at: int, limits: Limits) -> Walk:
    """Walk to the end of the message at *at*."""
    at = yield from past_head(head, data, at)
    deepest = _BRACKETS * limits.max_depth + 1
    depth = 0
    while True:
        found = _next_mark(data, at)
        if found is None:
            at = max(at, len(data))
            yield at + 1
            continue
        at = found.end()
        mark = data[at - 1]
        if mark == _QUOTE:
            at = yield from _past_string(data, at)
        elif mark in _OPEN:
            depth += 1
            if depth > deepest:
                raise FrameError(f"a message nested deeper than {limits.max_depth} levels")
        else:
            depth -= 1
            if depth == 0:
                return at


def _past_string(data: Data, at: int) -> Walk:
    """Skip the rest of a string, and the quote that closes it."""
    while True:
        found = _next_in_string(data, at)
        if found is None:
            at = max(at, len(data))
            yield at + 1
        elif data[found.start()] == _QUOTE:
            return found.end()
        else:
            at = found.end() + 1  # what the backslash belongs to, which may not be there yet


def check_sizes(data: bytes, start: int, end: int, limits: Limits) -> None:
    """Refuse a message that announces a container of more elements than the limit."""
    for found in _sizes(data, start, end):
        digits = found[1].lstrip(b"0")
        if len(digits) > 9 or int(digits or b"0") > limits.max_container_size:
            size = digits[:20].decode()
            raise FrameError(f"a container of {size} elements (limit {limits.max_container_size})")

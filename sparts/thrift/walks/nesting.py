"""What walks share: a walk itself, how it begins, and what it is inside of.

A walk is a generator. It yields the number of bytes that it needs to go on, counted from the start
of its data, to which the caller appends them; and returns where the message ends. It may run ahead
of the bytes: what has a known size is skipped before it is there. It reads no value.
"""

import struct
from collections.abc import Callable, Generator

from sparts.thrift.incoming import FrameError
from sparts.thrift.limits import Limits

__all__ = ["Data", "Nesting", "Walk", "past_head"]

Walk = Generator[int, None, int]
Data = bytes | bytearray


def past_head(head: Callable[[Data, int], int], data: Data, at: int) -> Walk:
    """Walk to where *head* says that the message's head ends."""
    while True:
        try:
            return head(data, at)
        except (IndexError, struct.error):
            yield len(data) + 1


class Nesting:
    """The structs and containers that are open, the arguments being the first.

    On the stack a struct is None, a container is the number of values that are left, the kind of
    the next and of the one after it, which in a map take turns.
    """

    __slots__ = ("_limits", "_widths", "stack")

    def __init__(self, widths: list[int], limits: Limits) -> None:
        """*widths* are the sizes of values by kind; 0: it varies, -1: there is no such kind."""
        self.stack: list[list[int] | None] = [None]
        self._widths = widths
        self._limits = limits

    def open_struct(self) -> None:
        """Enter a struct."""
        self._check_depth()
        self.stack.append(None)

    def open_container(self, count: int, values: int, kind: int, other: int) -> int:
        """Enter one of *count* elements, in all *values* of the kinds *kind* and *other*.

        The bytes to skip when all values have a known size, and there is nothing to enter; or 0.
        """
        self._check_depth()
        limit = self._limits.max_container_size
        if not 0 <= count <= limit:
            raise FrameError(f"a container of {count} elements (limit {limit})")
        if count == 0:
            return 0
        width, other_width = self._widths[kind], self._widths[other]
        if width < 0 or other_width < 0:
            raise FrameError(f"a container of the unknown type {kind if width < 0 else other}")
        if width and other_width:
            return values * (width + other_width) // 2
        self.stack.append([values, kind, other])
        return 0

    def _check_depth(self) -> None:
        if len(self.stack) >= self._limits.max_depth:
            raise FrameError(f"a message nested deeper than {self._limits.max_depth} levels")

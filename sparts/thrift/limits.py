"""The limits of a Thrift server: what one client, and all of them together, may ask of it."""

import math
from dataclasses import dataclass, fields
from typing import Final

from sparts.errors import OptionError

__all__ = ["Limits"]

#: The largest frame that can be told from text, as HTTP's, and from an unframed message, bytes.
_FRAME_MAX: Final = 0x3FFFFFFF
#: How deep the library's C codec goes; it cannot be told otherwise.
_DEPTH_MAX: Final = 64


@dataclass(frozen=True)
class Limits:
    """What a server allows; sizes in bytes, times in seconds.

    :raises OptionError: a value is out of range.
    """

    #: Bytes of one message, also after inflating; at most 1 GiB - 1.
    max_frame_size: int = 16 * 1024 * 1024
    #: Elements of one list, set or map.
    max_container_size: int = 1_000_000
    #: Structs and containers within each other, the arguments being the first; 1 to 64.
    max_depth: int = 64
    #: Connections at once.
    max_connections: int = 10_000
    #: Calls of one connection that are under way at once, where handlers are ``async def``.
    max_pipelined: int = 64
    #: Calls that wait for a worker or are under way, of all connections.
    max_calls: int = 1_000
    #: Bytes of messages that came in part, of all connections.
    max_buffered: int = 256 * 1024 * 1024
    #: Seconds that a call may wait for a worker.
    queue_timeout: float = 5.0
    #: Seconds without a call after which a connection is closed; 0: never.
    idle_timeout: float = 600.0
    #: Seconds that a message may take to come in; 0: for ever.
    read_timeout: float = 30.0
    #: Seconds in which a client must take some of its answers; 0: it may take for ever.
    write_timeout: float = 30.0

    def __post_init__(self) -> None:
        highest = {"max_frame_size": _FRAME_MAX, "max_depth": _DEPTH_MAX}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name.endswith("_timeout"):
                _check(each.name, value, 0, math.inf, "seconds, 0 or more")
            else:
                top = highest.get(each.name, math.inf)
                accepted = "1 or more" if top == math.inf else f"1 to {top}"
                _check(each.name, value, 1, top, accepted)


def _check(name: str, value: float, low: float, high: float, accepted: str) -> None:
    if not low <= value <= high or value == math.inf:
        raise OptionError(f"{name} is {value!r}; accepted: {accepted}")

"""Walks through messages: slow, but they stop where the bytes end and go on when more have come."""

from collections.abc import Callable
from typing import Final

from sparts.thrift.limits import Limits
from sparts.thrift.walks import binary, compact, json
from sparts.thrift.walks.nesting import Data, Walk

__all__ = ["HEADS", "WALKS"]

#: What finds the position of the struct in a message (or of its array), by protocol.
HEADS: Final[dict[str, Callable[[Data, int], int]]] = {
    "binary": binary.head,
    "compact": compact.head,
    "json": json.head,
}
#: What walks through a message to its end, by protocol.
WALKS: Final[dict[str, Callable[[Data, int, Limits], Walk]]] = {
    "binary": binary.walk,
    "compact": compact.walk,
    "json": json.walk,
}

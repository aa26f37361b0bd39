"""Queues with a will of their own: by priority, or holding each item once."""

import heapq
import itertools
import numbers
import queue
from collections.abc import Callable
from typing import Any, TypeVar

from sparts.errors import SpartsError

__all__ = ["Duplicate", "PriorityQueue", "UniqueQueue"]

T = TypeVar("T")


class Duplicate(SpartsError):
    """The item was put into a :class:`UniqueQueue` before."""


class PriorityQueue(queue.Queue[T]):
    """A ``queue.Queue`` that gives the least item first, and equal ones as they came.

    It takes items of any type and never raises because two cannot be compared, neither in a
    producer nor in a worker: those count as equal. So ``(2, {...})`` and ``(2, {...})`` keep the
    order in which they came, before ``(3, {...})``, and objects without an order are got as they
    came. Where types are mixed that do not compare, each type is ordered by itself, one type
    after the other as they first came; all real numbers are one type.

    *key* gives what an item is ordered by, in place of the item itself; what it raises, ``put``
    raises. :meth:`put_first` and :meth:`put_last` are for what has no priority, such as the
    sentinel that ends a worker.
    """

    def __init__(self, maxsize: int = 0, key: Callable[[T], Any] | None = None) -> None:
        super().__init__(maxsize)
        self._key = key

    def put_first(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Put *item* before all others that have not been got; otherwise as ``put``."""
        self.put(_Placed(item, -1), block, timeout)  # type: ignore[arg-type]

    def put_last(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Put *item* behind all others, also those yet to come; otherwise as ``put``."""
        self.put(_Placed(item, 1), block, timeout)  # type: ignore[arg-type]

    # -- what queue.Queue calls, holding its lock -------------------------------------------------
    def _init(self, maxsize: int) -> None:
        self._heap: list[_Entry] = []
        self._numbers = itertools.count()
        self._kinds: dict[type, int] = {}

    def _qsize(self) -> int:
        return len(self._heap)

    def _put(self, item: Any) -> None:
        place, key = 0, None
        if isinstance(item, _Placed):
            item, place = item.item, item.place
        else:
            key = item if self._key is None else self._key(item)
        kind = self._kinds.setdefault(_kind(key), len(self._kinds)) if place == 0 else 0
        heapq.heappush(self._heap, _Entry(item, place, key, kind, next(self._numbers)))

    def _get(self) -> T:
        item: T = heapq.heappop(self._heap).item
        if not self._heap:
            self._kinds.clear()
        return item


class _Placed:
    """An item on its way through ``put`` that goes to the front (-1) or to the back (1)."""

    __slots__ = ("item", "place")

    def __init__(self, item: Any, place: int) -> None:
        self.item = item
        self.place = place


class _Entry:
    """An item in the heap, with what decides when its turn is."""

    __slots__ = ("item", "key", "kind", "number", "place")

    def __init__(self, item: Any, place: int, key: Any, kind: int, number: int) -> None:
        self.item = item
        self.place = place
        self.key = key
        self.kind = kind
        self.number = number

    def __lt__(self, other: "_Entry") -> bool:
        if self.place != other.place:
            return self.place < other.place
        if self.place == 0:
            try:
                if self.key < other.key:
                    return True
                if other.key < self.key:
                    return False
            except Exception:  # a TypeError, or what else comparing them raises (numpy: ValueError)
                if self.kind != other.kind:
                    return self.kind < other.kind
        return self.number < other.number


def _kind(key: Any) -> type:
    return numbers.Real if isinstance(key, numbers.Real) else type(key)


class UniqueQueue(queue.Queue[T]):
    """A ``queue.Queue`` that refuses an item which equals one that it has *seen*.

    An item is seen once it was put, until it is got; with *explicit_unsee* until
    :meth:`unsee` is called, say when the work on it is done. A ``put`` that fails because the
    queue is full leaves no trace. A ``put`` of a seen item raises :exc:`Duplicate`, or with
    *silent* returns without adding it; both at once, however full the queue is.

    Items must be hashable; for others ``put`` raises ``TypeError``.
    """

    def __init__(
        self, maxsize: int = 0, silent: bool = False, explicit_unsee: bool = False
    ) -> None:
        super().__init__(maxsize)
        self.silent = silent
        self.explicit_unsee = explicit_unsee

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Put *item*, waiting for room up to *timeout* seconds (None: for ever) if *block*.

        :raises Duplicate: it was seen, and the queue is not silent.
        :raises queue.Full: there was no room.
        :raises TypeError: it is not hashable.
        """
        try:
            with self.mutex:
                self._refuse_seen(item)
            super().put(item, block, timeout)
        except Duplicate:
            if not self.silent:
                raise

    def unsee(self, item: T) -> None:
        """Allow *item* to be put again; one that was never seen is fine."""
        with self.mutex:
            self._seen.discard(item)

    def _refuse_seen(self, item: T) -> None:
        try:
            seen = item in self._seen
        except TypeError as error:
            raise TypeError(
                f"a UniqueQueue holds hashable items, not {item!r} of type {type(item).__name__}; "
                "put something hashable in its place, such as a tuple or an id"
            ) from error
        if seen:
            raise Duplicate(f"{item!r} is in the queue already, or not unseen yet")

    # -- what queue.Queue calls, holding its lock -------------------------------------------------
    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._seen: set[T] = set()

    def _put(self, item: T) -> None:
        try:
            self._refuse_seen(item)  # another may have put it while this thread waited for room
        except Duplicate:
            self.not_full.notify()  # the room that this thread was woken for is for the next one
            raise
        super()._put(item)
        self._seen.add(item)

    def _get(self) -> T:
        item: T = super()._get()
        if not self.explicit_unsee:
            self._seen.discard(item)
        return item

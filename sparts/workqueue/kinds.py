"""Work queues with a will of their own: by priority, or holding each item once."""

from typing import Any

from sparts.collections import Duplicate, PriorityQueue
from sparts.context import ExecuteContext
from sparts.workqueue.core import WorkQueue
from sparts.workqueue.intake import Store, Wake

__all__ = ["PriorityWorkQueue", "UniqueWorkQueue"]


class _ByPriority(PriorityQueue[Any]):
    """Entries, the least first, with those methods of a deque that a work queue uses."""

    append = PriorityQueue._put
    popleft = PriorityQueue._get
    __len__ = PriorityQueue._qsize


class PriorityWorkQueue(WorkQueue):
    """The least item first, as a :class:`sparts.collections.PriorityQueue`."""

    def __init__(self, maxsize: int = 0, **settings: Any) -> None:
        super().__init__(maxsize, **{**settings, "locked": True})

    def _new_store(self) -> Store:
        return _ByPriority(key=_item_of)


def _item_of(entry: Any) -> Any:
    return entry.item if isinstance(entry, ExecuteContext) else entry


class UniqueWorkQueue(WorkQueue):
    """Refuses an item that equals one whose work is not over.

    An item is *seen* from when it was put until it has been run with success, has failed, is left
    at the end, or a worker found it cancelled: so also while it runs, and while it waits to be
    tried again.
    A ``put`` of a seen item raises Duplicate, or with *silent* returns, whereupon the future that
    came with it has failed so. Call :meth:`unsee` as the work begins if what is put from then on
    is to be run again. Items must be hashable.
    """

    def __init__(self, maxsize: int = 0, *, silent: bool = False, **settings: Any) -> None:
        super().__init__(maxsize, **{**settings, "locked": True})
        self.silent = silent
        self._seen: dict[Any, ExecuteContext] = {}

    def put(self, item: Any, block: bool | None = None, timeout: float | None = None) -> None:
        """Put *item* unless it was seen; otherwise as :meth:`WorkQueue.put`.

        :raises Duplicate: it was seen, and the queue is not silent.
        :raises TypeError: it is not hashable.
        """
        try:
            super().put(item, block, timeout)
        except Duplicate as error:
            if not self.silent:
                raise
            if isinstance(item, ExecuteContext):
                item.set_exception(error)

    def offer(self, item: Any, wake: Wake | None = None) -> bool:
        """As :meth:`WorkQueue.offer`.

        :raises Duplicate: it was seen.
        """
        context = item if isinstance(item, ExecuteContext) else ExecuteContext(1, item)
        with self._mutex:
            if self._is_seen(context.item):
                raise Duplicate(
                    f"{context.item!r} is in {self._name} already; wait until it is done"
                )
            taken = super().offer(context, wake)
            if taken:
                self._seen[context.item] = context
            return taken

    def _is_seen(self, item: Any) -> bool:
        try:
            return item in self._seen
        except TypeError as error:
            raise TypeError(
                f"{self._name} holds hashable items, not {item!r} of type {type(item).__name__}; "
                "put something hashable in its place, such as a tuple or an id"
            ) from error

    def retry(self, entry: Any, delay: float) -> None:
        """Put *entry* back; it stays seen, or is so again if it was unseen meanwhile."""
        with self._mutex:
            self._seen.setdefault(entry.item, entry)
        super().retry(entry, delay)

    def unsee(self, item: Any) -> None:
        """Allow *item* to be put again; one that was never seen is fine."""
        with self._mutex:
            self._seen.pop(item, None)

    def finish(self, context: ExecuteContext) -> None:
        """The work on *context* is over: unsee its item, unless that is another's by now."""
        with self._mutex:
            if self._seen.get(context.item) is context:
                del self._seen[context.item]

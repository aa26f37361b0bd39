"""What a stop left undone: counted, and the first few named."""

import logging
import reprlib
import threading
from typing import Any

__all__ = ["Leftovers"]

#: How many are named.
_NAMED = 5


class Leftovers:
    """The items that were not run, until they are reported; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._named: list[str] = []

    def add(self, item: Any) -> None:
        """Take in one more."""
        with self._lock:
            self._count += 1
            named = self._count <= _NAMED
        if named:
            self._named.append(reprlib.repr(item))

    def report(self, logger: logging.Logger) -> None:
        """Log a warning of what came since the last report, if anything did."""
        with self._lock:
            count, named = self._count, self._named
            self._count, self._named = 0, []
        if count:
            more = f" and {count - len(named)} more" if count > len(named) else ""
            were = "item was" if count == 1 else "items were"
            logger.warning("%d %s not run: %s%s", count, were, ", ".join(named), more)

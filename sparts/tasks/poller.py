"""Tasks that fetch a value again and again, and tell when it has changed."""

from typing import TYPE_CHECKING, Any

from sparts.context import ExecuteContext
from sparts.demand import not_running
from sparts.overrides import require_plain
from sparts.tasks.periodic import PeriodicTask

if TYPE_CHECKING:
    from sparts.vservice import VService

__all__ = ["PollerTask"]


class PollerTask(PeriodicTask):
    """Calls ``fetch`` as a periodic task runs, and ``onValueChanged`` when it gives something new.

    What either raises is as from any periodic task's ``execute``: it stops the service, TryLater
    has it fetch again. ``execute_async()`` fetches now; the value is the result of its future.
    """

    def __init__(self, service: "VService") -> None:
        super().__init__(service)
        self._last_value: Any = None
        self._has_value = False

    def initTask(self) -> None:
        """As :meth:`Periodic.initTask`; ``fetch`` must not be an ``async def`` either."""
        cure = "write def, or derive from AsyncioPeriodicTask and fetch in its execute"
        require_plain(self.fetch, self.name, cure)
        super().initTask()

    def fetch(self) -> Any:
        """Override: the present value, in the task's thread."""
        raise NotImplementedError(f"{self.name} needs a fetch(self)")

    def onValueChanged(self, old: Any, new: Any) -> None:
        """Override: *new* differs (``!=``) from the value before; *old* is None at the first.

        In the task's thread; :meth:`getValue` tells *new* already.
        """

    def execute(self, context: ExecuteContext | None = None) -> Any:
        """Fetch once; the value."""
        old, new = self._last_value, self.fetch()
        self._last_value = new
        if not self._has_value:
            self._has_value = True
            self.service.lifecycle.notify()
        if new != old:
            self.onValueChanged(old, new)
        return new

    def getValue(self, timeout: float | None = None) -> Any:
        """The last value fetched, also after the stop; from any thread but the task's own.

        Before the first it waits, for at most *timeout* seconds.

        :raises TimeoutError: there was none in that time.
        :raises RuntimeError: there is none, and as the service stops there will be none.
        """
        life = self.service.lifecycle
        if not self._has_value:
            life.wait_for(lambda: self._has_value or life.stop_requested, timeout)
        if self._has_value:
            return self._last_value
        if life.stop_requested:
            raise not_running()
        raise TimeoutError(f"{self.name} has no value after {timeout} s; is its fetch() slow?")

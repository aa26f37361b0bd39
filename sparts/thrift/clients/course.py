"""The course of a call that failed at first: what an error means for its endpoint and for it."""

from sparts.thrift.clients.endpoints import Balancer
from sparts.thrift.clients.retry import Tries
from sparts.thrift.clients.settings import Settings
from sparts.thrift.errors import (
    BadReply,
    BadStatus,
    CallTimeout,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    Overloaded,
    PoolExhausted,
)
from sparts.thrift.interface import Method

__all__ = ["Course", "note_health"]


def note_health(balancer: Balancer, index: int, error: Exception) -> None:
    """Tell *balancer* what the *error* of a call means for that endpoint."""
    unreachable = isinstance(error, ConnectFailed) or isinstance(error.__cause__, ConnectFailed)
    if unreachable or isinstance(error, ConnectionLost | BadReply) or _is_down(error):
        balancer.failed(index)
    elif isinstance(error, CallTimeout) and not isinstance(error, PoolExhausted):
        balancer.timed_out(index)


def _is_down(error: Exception) -> bool:
    """Whether a gateway, or the HTTP server itself, says that there is no service now."""
    return isinstance(error, BadStatus) and error.status_code in (502, 503, 504)


class Course:
    """One call that failed, and where it is tried again."""

    def __init__(
        self, settings: Settings, balancer: Balancer, method: Method, deadline: float
    ) -> None:
        """*deadline* is a time of ``time.monotonic()``."""
        idempotent = method.name in settings.idempotent
        self._tries = Tries(settings.retry, settings.retry_budget, idempotent, deadline)
        self._balancer = balancer
        self._method = method
        #: The endpoints that are not to be asked next, as long as there is another.
        self.tried: set[int] = set()

    def after(self, index: int, error: ClientError | Overloaded) -> float:
        """Seconds until the next try, after an *error* of that endpoint.

        :raises ClientError: *error* itself, with the method's name in it, when there is none.
        :raises Overloaded: as above.
        """
        note_health(self._balancer, index, error)
        self.tried.add(index)
        elsewhere = len(self.tried) < len(self._balancer.endpoints)
        try:
            delay = self._tries.delay_after(error, elsewhere)
        except ClientError:
            error.message = f"{self._method.name}(): {error}"
            error.args = (error.message,)
            raise
        if not elsewhere:
            self.tried.clear()
        return delay

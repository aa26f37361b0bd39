"""The blocking Thrift client, safe to share between threads.

    from sparts.thrift.client import ThriftClient

    with ThriftClient([("one", 9090), ("two", 9090)], module=example.Calculator) as client:
        client.add(1, 2)

Without other options it speaks the binary protocol, by the library's C codec, in frames.
"""

from collections.abc import Callable
from typing import Any, Self

from sparts.thrift.clients.caller import Caller
from sparts.thrift.clients.face import ClientFace
from sparts.thrift.interface import Method

__all__ = ["ThriftClient"]


class ThriftClient(ClientFace):
    """Calls the methods of a service: they are attributes, ``client.add(1, 2)``.

    Each endpoint has a pool of connections, which threads share. A call has one deadline for all
    that it takes, and is made again only where that is safe: it was never sent, the server says
    that it did not run it, or the method is declared in ``IDEMPOTENT``. After a fork the child
    makes connections of its own.

    A call raises the exceptions that the method declares, TApplicationException where the server
    says so, and else what is in ``sparts.thrift.errors``.
    """

    _caller: Caller

    def _begin(self) -> None:
        self._caller = Caller(self._settings)
        if not self._settings.lazy:
            self._caller.connect()

    def _remote(self, method: Method) -> Callable[..., Any]:
        # Not bound to this client, which would be a circle that only the collector breaks.
        call, timeout = self._caller.call, self._timeout

        def remote(*args: Any, **kwargs: Any) -> Any:
            return call(method, args, kwargs, timeout)

        return remote

    def close(self) -> None:
        """Close the connections and end the waits; calls under way still get their answers.

        More than once is fine. A call after it raises ClientClosed.
        """
        self._caller.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

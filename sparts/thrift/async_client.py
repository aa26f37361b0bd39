"""The asyncio Thrift client: the face of the blocking one, with ``await`` before each call.

from sparts.thrift.async_client import AsyncThriftClient

async with AsyncThriftClient(("localhost", 9090), module=example.Calculator) as client:
    await client.add(1, 2)
"""

from collections.abc import Callable
from typing import Any, Self

from sparts.thrift.clients.aiocaller import AsyncCaller
from sparts.thrift.clients.face import ClientFace
from sparts.thrift.interface import Method

__all__ = ["AsyncThriftClient"]


class AsyncThriftClient(ClientFace):
    """Calls the methods of a service from coroutines: ``await client.add(1, 2)``.

    It has the options of :class:`sparts.thrift.client.ThriftClient`, and works on any asyncio
    loop; one client is for one loop. Messages go in frames, with whichever protocol, or in HTTP
    requests. A call that is cancelled closes its connection. With ``lazy=False`` it connects on
    entering ``async with``.
    """

    _caller: AsyncCaller

    def _begin(self) -> None:
        self._caller = AsyncCaller(self._settings)

    def _remote(self, method: Method) -> Callable[..., Any]:
        # Not bound to this client, which would be a circle that only the collector breaks.
        call, timeout = self._caller.call, self._timeout

        async def remote(*args: Any, **kwargs: Any) -> Any:
            return await call(method, args, kwargs, timeout)

        return remote

    async def close(self) -> None:
        """Close the connections and end the waits; calls under way still get their answers.

        More than once is fine. A call after it raises ClientClosed.
        """
        await self._caller.close()

    async def __aenter__(self) -> Self:
        if not self._settings.lazy:
            await self._caller.connect()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

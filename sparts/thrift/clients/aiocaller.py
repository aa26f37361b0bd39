"""The asyncio client's calls; what may be tried again, and where, is as with the blocking one."""

import asyncio
import itertools
import math
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from thrift.Thrift import TApplicationException

from sparts.errors import OptionError
from sparts.thrift.clients import speech
from sparts.thrift.clients.aioconnection import AsyncConnection, connect
from sparts.thrift.clients.aiopool import AsyncPool
from sparts.thrift.clients.caller import MAX_SEQID
from sparts.thrift.clients.course import Course, note_health
from sparts.thrift.clients.endpoints import Balancer
from sparts.thrift.clients.forks import renew_in_child
from sparts.thrift.clients.messages import outcome
from sparts.thrift.clients.pool import CLOSED, exhausted
from sparts.thrift.clients.settings import Settings
from sparts.thrift.errors import CallTimeout, ClientClosed, ClientError, ConnectFailed, Overloaded
from sparts.thrift.interface import Method

__all__ = ["AsyncCaller"]


#: What a call can be at when its time is over.
_A_PLACE: Final = "no free connection to"
_CONNECTION: Final = "no connection to"
_ANSWER: Final = "no answer from"


@dataclass(slots=True)
class _Call:
    """One call, and what it is at, which the error of its deadline tells."""

    method: Method
    seqid: int
    request: bytes
    deadline: float
    index: int = -1
    waits_for: str = ""


class AsyncCaller:
    """Makes calls with the connections to all endpoints, in one loop at a time."""

    def __init__(self, settings: Settings) -> None:
        """:raises OptionError: the transport needs a thread that waits, or does not fit."""
        self._settings = settings
        self._speech = speech.speech_of(settings)
        if self._speech.kind not in (speech.FRAMED, speech.HTTP):
            raise OptionError(
                f"transport_class={settings.transport_class!r} does not tell where a message ends "
                "before it is read; give AsyncThriftClient TFramedTransport, THeaderTransport or "
                "a path (HTTP), or use ThriftClient"
            )
        self._encode = self._speech.encode
        self._balancer = Balancer(settings.endpoints, settings.primary_first)
        self._seqids = itertools.count(1)
        self._note_call = settings.retry_budget.note_call
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pools: list[AsyncPool] = []
        self._closed = False
        self._closing = asyncio.Event()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Leave the parent its loop and all that is in it: to close a thing there could harm it."""
        self._loop = None

    def _enter_loop(self) -> None:
        """See that the connections are those of the running loop.

        :raises ClientClosed: there are to be none any more.
        :raises ClientError: they are in use in another.
        """
        if self._closed:
            raise ClientClosed(CLOSED)
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            raise ClientError(
                "this client is in use in another event loop; make one for each loop, or close "
                "that loop before"
            )
        self._loop = loop
        self._closing = asyncio.Event()
        self._pools = [
            AsyncPool(self._settings.max_connections, self._settings.idle_timeout)
            for _ in self._settings.endpoints
        ]

    async def close(self) -> None:
        """Make no more calls, and wake those that wait for a connection or for another try."""
        self._closed = True
        self._closing.set()
        for pool in self._pools:
            await pool.close()

    async def connect(self) -> None:
        """See that there is a connection, to whichever endpoint can be connected to.

        :raises ConnectFailed: none can.
        """
        self._enter_loop()
        tried: set[int] = set()
        while True:
            index = self._pick(tried)
            try:
                self._pools[index].give(await self._take(index))
                return
            except ClientError as error:
                note_health(self._balancer, index, error)
                tried.add(index)
                if len(tried) == len(self._pools):
                    raise

    async def call(
        self, method: Method, args: tuple[Any, ...], kwargs: Mapping[str, Any], timeout: float
    ) -> Any:
        """Call *method*, and return or raise what came of it, within *timeout* seconds.

        :raises TypeError: the arguments are not those of the method.
        :raises ClientError: there is no answer, and no other try is left.
        :raises Overloaded: as above.
        """
        seqid = next(self._seqids) & MAX_SEQID
        request = self._encode(method, method.arguments(*args, **kwargs), seqid)
        self._note_call()
        self._enter_loop()
        call = _Call(method, seqid, request, time.monotonic() + timeout)
        try:
            async with asyncio.timeout(None if timeout == math.inf else timeout):
                result = await self._answer(call)
        except TimeoutError as error:
            if isinstance(error, ClientError):
                raise
            raise self._late(call) from None
        return None if method.oneway else outcome(method, result)

    def _late(self, call: _Call) -> CallTimeout:
        endpoint = self._settings.endpoints[call.index]
        if call.waits_for == _A_PLACE:
            error: CallTimeout = exhausted(endpoint, self._settings.max_connections)
        else:
            message = f"{call.waits_for} {endpoint} before the call's deadline"
            error = CallTimeout(message, maybe_run=call.waits_for == _ANSWER)
            if call.waits_for == _CONNECTION:
                self._balancer.failed(call.index)
        note_health(self._balancer, call.index, error)
        error.message = f"{call.method.name}(): {error}"
        error.args = (error.message,)
        return error

    # -- the attempts of one call -----------------------------------------------------------------
    async def _answer(self, call: _Call) -> Any:
        course: Course | None = None
        while True:
            index = self._pick(course.tried if course else ())
            try:
                return await self._attempt(index, call)
            except (ClientError, Overloaded) as error:
                course = course or Course(
                    self._settings, self._balancer, call.method, call.deadline
                )
                delay = course.after(index, error)
                if await self._closes_within(delay):
                    raise ClientClosed(CLOSED) from error

    async def _closes_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return False
        return True

    async def _attempt(self, index: int, call: _Call) -> Any:
        pool = self._pools[index]
        call.index, call.waits_for = index, _A_PLACE
        connection = await self._take(index, call)
        call.waits_for = _ANSWER
        try:
            result = await connection.exchange(call.method, call.seqid, call.request)
        except TApplicationException:
            pool.give(connection)  # an answer like any other
            self._balancer.succeeded(index)
            raise
        except BaseException:
            pool.drop(connection)
            raise
        pool.give(connection)
        self._balancer.succeeded(index)
        return result

    def _pick(self, tried: Collection[int]) -> int:
        if len(self._pools) == 1:
            return 0
        return self._balancer.pick(tried, lambda each: self._pools[each].has_room)

    # -- connections ------------------------------------------------------------------------------
    async def _take(self, index: int, call: _Call | None = None) -> AsyncConnection:
        pool = self._pools[index]
        connection = await pool.take()
        if connection is not None:
            return connection
        if call is not None:
            call.waits_for = _CONNECTION
        try:
            return await self._connected(index)
        except BaseException:
            pool.drop(None)
            raise

    async def _connected(self, index: int) -> AsyncConnection:
        settings, endpoint = self._settings, self._settings.endpoints[index]
        made = AsyncConnection(
            endpoint,
            self._speech.messages,
            settings.max_frame_size,
            self._speech.http_headers if self._speech.kind == speech.HTTP else None,
        )
        seconds = settings.connect_timeout
        tls = settings.tls if endpoint.is_secure else None
        try:
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                await connect(made, endpoint, tls, settings.server_name)
        except TimeoutError as error:
            raise ConnectFailed(
                f"cannot connect to {endpoint}: no answer in time (connect_timeout)"
            ) from error
        return made

"""The blocking client's calls: to which endpoint, over which connection, and what if it fails."""

import itertools
import threading
import time
from collections.abc import Collection, Mapping
from typing import Any, Final

from thrift.Thrift import TApplicationException

from sparts.thrift.clients import speech
from sparts.thrift.clients.binary import BinaryMessages
from sparts.thrift.clients.connections import (
    Connection,
    FramedConnection,
    StreamConnection,
    UnframedConnection,
)
from sparts.thrift.clients.course import Course, note_health
from sparts.thrift.clients.endpoints import Balancer
from sparts.thrift.clients.forks import renew_in_child
from sparts.thrift.clients.http import HttpConnection
from sparts.thrift.clients.messages import outcome
from sparts.thrift.clients.pool import CLOSED, Pool
from sparts.thrift.clients.settings import Settings
from sparts.thrift.clients.wire import Wire, connect
from sparts.thrift.errors import CallTimeout, ClientClosed, ClientError, ConnectFailed, Overloaded
from sparts.thrift.interface import Method

__all__ = ["MAX_SEQID", "Caller"]

#: The largest sequence number, an i32.
MAX_SEQID: Final = 0x7FFFFFFF


class Caller:
    """Makes calls with the connections to all endpoints; safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        """:raises OptionError: the transport and the protocol do not go together."""
        self._settings = settings
        self._speech = speech.speech_of(settings)
        self._encode = self._speech.encode
        self._balancer = Balancer(settings.endpoints, settings.primary_first)
        self._pools: list[Pool[Connection]] = [
            Pool(each, settings.max_connections, settings.idle_timeout)
            for each in settings.endpoints
        ]
        self._single = len(self._pools) == 1
        self._seqids = itertools.count(1)
        self._note_call = settings.retry_budget.note_call
        self._closed = threading.Event()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Another thread of the parent may have held the event's lock."""
        was_closed, self._closed = self._closed.is_set(), threading.Event()
        if was_closed:
            self._closed.set()

    def close(self) -> None:
        """Make no more calls, and wake those that wait for a connection or for another try."""
        self._closed.set()
        for pool in self._pools:
            pool.close()

    def connect(self) -> None:
        """See that there is a connection, to whichever endpoint can be connected to.

        :raises ConnectFailed: none can.
        """
        tried: set[int] = set()
        while True:
            index = self._pick(tried)
            now = time.monotonic()
            try:
                pool = self._pools[index]
                pool.give(self._take(index, now, now + self._settings.call_timeout))
                return
            except ClientError as error:
                note_health(self._balancer, index, error)
                tried.add(index)
                if len(tried) == len(self._pools):
                    raise

    def call(
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
        deadline = time.monotonic() + timeout
        index = 0 if self._single else self._pick(())
        try:
            result = self._attempt(index, method, seqid, request, deadline)
        except (ClientError, Overloaded) as error:
            result = self._again(index, error, method, seqid, request, deadline)
        return None if method.oneway else outcome(method, result)

    # -- the attempts of one call -----------------------------------------------------------------
    def _again(
        self,
        index: int,
        error: ClientError | Overloaded,
        method: Method,
        seqid: int,
        request: Any,
        deadline: float,
    ) -> Any:
        """Try until there is an answer, or no other try may follow the last *error*."""
        course = Course(self._settings, self._balancer, method, deadline)
        while True:
            delay = course.after(index, error)
            if self._closed.wait(delay):
                raise ClientClosed(CLOSED) from error
            index = self._pick(course.tried)
            try:
                return self._attempt(index, method, seqid, request, deadline)
            except (ClientError, Overloaded) as next_error:
                error = next_error

    def _attempt(
        self, index: int, method: Method, seqid: int, request: Any, deadline: float
    ) -> Any:
        pool = self._pools[index]
        connection = self._take(index, time.monotonic(), deadline)
        try:
            result = connection.exchange(method, seqid, request, deadline)
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
        return self._balancer.pick(tried, lambda each: self._pools[each].has_room)

    # -- connections ------------------------------------------------------------------------------
    def _take(self, index: int, now: float, deadline: float) -> Connection:
        pool = self._pools[index]
        connection = pool.take(now, deadline)
        if connection is not None:
            return connection
        try:
            return pool.adopt(self._connected(index, deadline))
        except BaseException:
            pool.drop(None)
            raise

    def _connected(self, index: int, deadline: float) -> Connection:
        settings, endpoint = self._settings, self._settings.endpoints[index]
        until = min(deadline, time.monotonic() + settings.connect_timeout)
        tls = settings.tls if endpoint.is_secure else None
        try:
            return self._connection(connect(endpoint, until, tls, settings.server_name))
        except ConnectFailed as error:
            if time.monotonic() < deadline:
                raise
            raise CallTimeout(f"{error}, and the call's deadline passed") from error

    def _connection(self, wire: Wire) -> Connection:
        messages, kind = self._speech.messages, self._speech.kind
        size = self._settings.max_frame_size
        if kind == speech.FRAMED:
            return FramedConnection(wire, messages, size)
        if kind == speech.HTTP:
            return HttpConnection(wire, messages, size, self._speech.http_headers)
        raw = self._speech.raw(wire, size)
        if kind == speech.UNFRAMED and isinstance(messages, BinaryMessages):
            return UnframedConnection(wire, messages, raw)
        return StreamConnection(wire, messages, raw, self._speech.transport)

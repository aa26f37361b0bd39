"""One message in, one answer out, on an asyncio loop: for transports that have no connections here.

Whatever may take long is done in the threads of a pool: plain methods, and the decoding of what
is large or in JSON. An ``async def`` method runs on the loop.
"""

import logging
import time
from functools import partial
from typing import Final

from sparts.thrift.incoming import FrameError, Message
from sparts.thrift.limits import Limits
from sparts.thrift.server import binary
from sparts.thrift.server.calls import Call, Client
from sparts.thrift.server.codec import BadMessage, Unanswerable
from sparts.thrift.server.dispatch import Dispatcher
from sparts.thrift.server.pool import CallPool, TooBusy

__all__ = ["Exchange", "Overloaded"]

#: Bytes of a message that the C codec decodes in a moment, so that it may be done on the loop.
_LIGHT: Final = 16 * 1024


class Overloaded(Exception):
    """The call was not run."""

    def __init__(self, why: str, payload: bytes = b"") -> None:
        """*payload* is the answer to give; b"" where the message was not even looked at."""
        super().__init__(why)
        self.payload = payload


class Exchange:
    """Answers messages by a :class:`Dispatcher`; for one asyncio loop's thread."""

    def __init__(self, dispatcher: Dispatcher, pool: CallPool, logger: logging.Logger) -> None:
        self._dispatcher = dispatcher
        self._pool = pool
        self._logger = logger
        self.limits = dispatcher.limits

    async def answer(self, message: Message, client: Client) -> bytes:
        """The answer to *message* of *client*, b"" where there is to be none.

        What the handler raises, an unknown method and bad arguments have an answer, too.

        :raises Unanswerable: it is no message of its protocol, or nested too deep.
        :raises Overloaded: there was no time for it.
        """
        read = partial(self._read, message, client, time.monotonic())
        try:
            if self._is_light(message):
                return await self._run(read())
            done = await self._pool.run(lambda: self._begin(read()))
        except BadMessage as refusal:
            self._logger.debug("Refused a message of %s: %s", client.peer, refusal)
            return refusal.payload
        except FrameError as error:
            raise Unanswerable(error.reason) from None
        except TooBusy as why:
            raise Overloaded(str(why)) from None
        return done if isinstance(done, bytes) else await self._run(done)

    def _is_light(self, message: Message) -> bool:
        return (
            message.end - message.start <= _LIGHT
            and message.codec != "json"
            and self.limits.max_depth == Limits.max_depth  # else it is looked through, in Python
            and binary.is_available()
        )

    def _read(self, message: Message, client: Client, arrived: float) -> Call:
        call = self._dispatcher.read(message)
        call.client, call.arrived = client, arrived
        return call

    def _begin(self, call: Call) -> bytes | Call:
        """In a thread of the pool: the answer; the call itself if it is for the loop to run."""
        if call.target.is_async:
            return call
        pending = call.target.counters.pending
        pending.add(call)
        try:
            return self._dispatcher.run(call)
        finally:
            pending.discard(call)

    async def _run(self, call: Call) -> bytes:
        target = call.target
        if target.is_quick and not target.is_async:
            return self._dispatcher.run(call)
        target.counters.pending.add(call)
        try:
            if not target.is_async:
                return await self._pool.run(partial(self._dispatcher.run, call))
            with self._pool.counted():
                return await self._dispatcher.run_async(call)
        except TooBusy as why:
            raise Overloaded(str(why), self._dispatcher.overloaded(call, str(why))) from None
        finally:
            target.counters.pending.discard(call)

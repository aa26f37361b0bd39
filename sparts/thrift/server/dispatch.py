"""From a message to its answer: which handler a call is for, running it, what its errors become."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from thrift.Thrift import TApplicationException

from sparts.thrift.errors import OVERLOADED
from sparts.thrift.framing import Message
from sparts.thrift.limits import Limits
from sparts.thrift.scanner import check
from sparts.thrift.server import binary
from sparts.thrift.server.calls import CLIENT, Call, RawTarget, Target
from sparts.thrift.server.codec import Codec
from sparts.thrift.server.library import LibraryCodec, ProcessorCodec, protocols

__all__ = ["Dispatcher", "targets_of"]

_PROTOCOLS = ("binary", "compact", "json")


def targets_of(services: Mapping[str, Mapping[str, Target]]) -> dict[bytes, Target]:
    """The methods of *services* by their names on the wire; those of ``""`` have no prefix."""
    return {
        f"{service}:{name}".encode() if service else name.encode(): target
        for service, targets in services.items()
        for name, target in targets.items()
    }


class Dispatcher:
    """Serves calls by a table of methods; from any number of threads."""

    def __init__(
        self,
        targets: Mapping[bytes, Target],
        limits: Limits,
        logger: logging.Logger,
        processor: Any = None,
    ) -> None:
        """*targets* by their names on the wire, with the service's before a colon in multiplex.

        A *processor* that is given gets all messages instead, as they are.
        """
        self.limits = limits
        self.targets = targets
        self._logger = logger
        #: Is told of what a handler raises to end the process; the client gets an internal error.
        self.fatal: Callable[[BaseException], object] = _raise
        #: The protocols whose messages are looked through before they are read: the library's JSON
        #: knows no bound, and its others know only that of the C codec.
        self._checked = {"json"} if limits.max_depth == Limits.max_depth else {*_PROTOCOLS}
        factories = protocols(limits)
        if processor is not None:
            all_methods = RawTarget(
                "process", lambda args: args[0].process(processor, args[1]), False
            )
            self.targets = {b"process": all_methods}
            self.codecs: dict[str, Codec] = {
                name: ProcessorCodec(factory, all_methods) for name, factory in factories.items()
            }
            return
        #: By the framing's names of the protocols.
        self.codecs = {name: LibraryCodec(factory, targets) for name, factory in factories.items()}
        if binary.is_available():
            quick = binary.BinaryCodec(targets, limits, self.codecs["old"])
            self.codecs["binary"] = quick

    def read(self, message: Message) -> Call:
        """The call in *message*.

        :raises FrameError: it is nested too deep.
        :raises BadMessage: it is refused with an answer.
        :raises Unanswerable: it is refused without one.
        """
        if message.codec in self._checked:
            check(message, self.limits)
        return self.codecs[message.codec].read(message)

    # -- running ----------------------------------------------------------------------------------
    def run(self, call: Call) -> bytes:
        """Run the handler in this thread; the answer, b"" where there is to be none."""
        CLIENT.set(call.client)
        try:
            value = call.target.invoke(call.args)
        except BaseException as error:
            return self.answer(call, None, error)
        return self.answer(call, value, None)

    async def run_async(self, call: Call) -> bytes:
        """As :meth:`run`, of an ``async def`` handler, on its loop."""
        CLIENT.set(call.client)
        try:
            value = await call.target.invoke(call.args)
        except (Exception, SystemExit) as error:
            return self.answer(call, None, error)
        return self.answer(call, value, None)

    def answer(self, call: Call, value: Any, error: BaseException | None) -> bytes:
        """The answer to a call that gave *value*, or raised *error*; the call is counted."""
        target = call.target
        if error is not None:
            payload = self.failed(call, error)
        elif target.method.oneway:
            payload = b""
        else:
            try:
                payload = call.codec.value(call, value)
            except Exception as misfit:
                payload = self.failed(call, misfit)
        target.count()
        target.time(1000.0 * (time.monotonic() - call.arrived))
        return payload

    def failed(self, call: Call, error: BaseException) -> bytes:
        """The answer to a call whose handler raised *error*, or whose result does not fit."""
        target = call.target
        declared = target.declared(error)
        if declared is not None:
            try:
                return call.codec.result(call, declared)
            except Exception as worse:
                error = worse
        target.counters.errors.increment()
        told = self._told(call, error)
        return b"" if target.method.oneway else call.codec.error(call, told)

    def _told(self, call: Call, error: BaseException) -> TApplicationException:
        """What the client is told of *error*; the rest is for the log."""
        peer = call.client.peer if call.client else "nobody"
        if isinstance(error, TApplicationException):
            self._logger.warning("%s() of %s: %s", call.target.name, peer, error)
            return error
        if isinstance(error, asyncio.CancelledError):
            self._logger.warning("%s() of %s was cancelled", call.target.name, peer)
            text = "The call was cancelled"
        elif not isinstance(error, Exception):
            self.fatal(error)
            text = "Internal error"
        else:
            self._logger.error("%s() failed, called by %s", call.target.name, peer, exc_info=error)
            text = "Internal error"
        return TApplicationException(TApplicationException.INTERNAL_ERROR, text)

    def overloaded(self, call: Call, why: str) -> bytes:
        """The answer to a call that is not run, b"" where there is to be none."""
        call.target.counters.overloaded.increment()
        if call.target.method.oneway:
            return b""
        kind = TApplicationException.INTERNAL_ERROR
        return call.codec.error(call, TApplicationException(kind, OVERLOADED + why))

    # -- what is counted --------------------------------------------------------------------------
    def counters(self) -> dict[str, Any]:
        """The counters of every method, by its name on the wire."""
        return {name.decode(): target.counters for name, target in self.targets.items()}


def _raise(error: BaseException) -> None:
    raise error

"""A Thrift server as a task: options, threads and lifecycle around the engine."""

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from thrift.TMultiplexedProcessor import TMultiplexedProcessor

from sparts.counters import CallbackCounter, Counter, HasCounters
from sparts.errors import TaskError
from sparts.net.bound import Listening, tls_context
from sparts.net.sockets import format_address
from sparts.tasks.thrift.handler import ThriftHandlerTask
from sparts.tasks.thrift.serving import Serving, front_of
from sparts.thrift.interface import Interface
from sparts.thrift.server.calls import Target
from sparts.thrift.server.dispatch import Dispatcher, targets_of
from sparts.thrift.server.options import ThriftOptions
from sparts.vtask import VTask

if TYPE_CHECKING:
    from sparts.vservice import VService

__all__ = ["ThriftServerTask"]


class ThriftServerTask(ThriftOptions, Listening, VTask):
    """Serves the service's Thrift handlers, each client in the way that it speaks.

    Framed and unframed, binary, compact, JSON, THeader and zlib are told apart by their first
    bytes. Plain methods run in ``threads`` threads at most; ``async def`` ones on the service's
    loop. A service with several servers gives each class an ``OPT_PREFIX``.
    """

    OPT_PREFIX = "thrift"
    DEPS: ClassVar[list[Any]] = [ThriftHandlerTask]
    #: The generated module of the service that it offers; None is whatever its handler has.
    MODULE: ClassVar[Any] = None
    #: True: it offers several services, by their names, to multiplexing clients.
    MULTIPLEX: ClassVar[bool] = False
    #: From ``initTask`` on.
    dispatcher: Dispatcher

    def __init__(self, service: "VService") -> None:
        super().__init__(service)
        self._front: Serving | None = None
        self._started = False
        self._stopping = False
        self._closing = threading.Lock()

    # -- which handlers ---------------------------------------------------------------------------
    def getHandlers(self) -> list[ThriftHandlerTask]:
        """The service's handlers that implement ``MODULE``; override to choose others."""
        handlers = [each for each in self.service.tasks if isinstance(each, ThriftHandlerTask)]
        if self.MODULE is None:
            return handlers
        wanted = Interface.of(self.MODULE).iface
        return [each for each in handlers if issubclass(each.interface.iface, wanted)]

    def _services(self) -> dict[str, ThriftHandlerTask]:
        """The handlers by the names of their services; ``""`` where there is no multiplexing.

        :raises TaskError: there is none, or it is not clear which.
        """
        found = self.getHandlers()
        if not found:
            raise TaskError(f"{self.name} has nothing to serve: {self._why_none()}")
        if not self.MULTIPLEX:
            if len(found) > 1:
                names = ", ".join(each.name for each in found)
                raise TaskError(
                    f"{self.name} could serve each of {names}; set {self.name}.MODULE to the "
                    "module of one, or MULTIPLEX = True to serve all"
                )
            return {"": found[0]}
        named: dict[str, ThriftHandlerTask] = {}
        for each in found:
            other = named.setdefault(each.service_name, each)
            if other is not each:
                raise TaskError(
                    f"{self.name}: {other.name} and {each.name} are both named "
                    f"{each.service_name!r}; give one of them another SERVICE_NAME"
                )
        return named

    def _why_none(self) -> str:
        handlers = [each for each in self.service.tasks if isinstance(each, ThriftHandlerTask)]
        if not handlers:
            return "list a subclass of ThriftHandlerTask in ALL_TASKS"
        having = ", ".join(f"{each.name} has {each.interface.name}" for each in handlers)
        wanted = Interface.of(self.MODULE).name if self.MODULE is not None else "that"
        return f"no handler implements {wanted}; {having}"

    def _targets(self, handler: ThriftHandlerTask) -> Mapping[str, Target]:
        if self.MODULE is None or self.MULTIPLEX:
            return handler.targets
        return {name: handler.targets[name] for name in Interface.of(self.MODULE).methods}

    def _own_processor(self, services: Mapping[str, ThriftHandlerTask]) -> Any:
        """What is to process messages instead of us, where a handler has a processor of its own."""
        if not any(each.has_own_processor for each in services.values()):
            return None
        if not self.MULTIPLEX:
            return services[""].processor
        processor = TMultiplexedProcessor()
        for name, each in services.items():
            processor.registerProcessor(name, each.processor)
        return processor

    # -- the life ---------------------------------------------------------------------------------
    def initTask(self) -> None:
        """Find the handlers, and bind the addresses, which do not listen yet.

        :raises TaskError: no handler serves, or it is not clear which.
        :raises OptionError: a host, group or certificate is wrong.
        :raises ListenError: an address is in use, or not to be had.
        """
        super().initTask()
        services = self._services()
        targets = targets_of({name: self._targets(each) for name, each in services.items()})
        self.dispatcher = Dispatcher(
            targets, self.limits(), self.logger, self._own_processor(services)
        )
        tls = tls_context(self, client_ca=self.client_ca)
        self._front = front_of(self, self.dispatcher, self.thread_limit, tls)
        self.LOOPLESS = self._front.is_loopless
        self.workers = self._front.workers
        self.in_flight = CallbackCounter(lambda: self._front.load if self._front else 0)
        self.bind()

    def getChildren(self) -> Mapping[str, HasCounters]:
        """What is counted of each method, by its name."""
        return self.dispatcher.counters() if hasattr(self, "dispatcher") else {}

    def _ownCounters(self) -> dict[str, Counter[Any]]:
        found = super()._ownCounters()
        if self._front is not None:
            found.update(self._front.gate.getCounters())
        return found

    def start(self) -> None:
        """Listen, and serve."""
        if self._bound is None or self._front is None:
            raise TaskError(f"{self.name} was not initialised")
        self._bound.listen()
        self._started = True
        self._front.open(self._bound.sockets)
        for address in self.bound_addrs:
            self.logger.info("%s Server Started on %s", self.name, format_address(address))
        super().start()

    def _runloop(self) -> None:
        if self._front is not None:
            self._front.run()

    def stop(self) -> None:
        """Begin to drain, and return at once."""
        super().stop()
        with self._closing:
            if self._stopping:
                return
            self._stopping = True
        if self._bound is not None:
            self._bound.remove_file()
        if self._front is not None and self._started:
            self._front.drain(self.drain_timeout)
        else:
            if self._front is not None:
                self._front.discard()
            self._finish()

    def join(self) -> None:
        """Wait until it has drained; by then no connection is left."""
        super().join()
        if self._stopping:
            if self._front is not None and self._started:
                self._front.join()
            self._finish()

    def _finish(self) -> None:
        if self._bound is not None:
            self._bound.close()

    @property
    def running(self) -> bool:
        """Whether it serves, or still drains."""
        return super().running or (self._front is not None and self._front.running)

"""Tornado as tasks: its IOLoop, which is the service's asyncio loop, and an HTTP server on it."""

import threading
from typing import TYPE_CHECKING, Any, ClassVar

import tornado.web
from tornado.ioloop import IOLoop

from sparts.counters import CallbackCounter, SampleType, counter, samples
from sparts.http.connection import Connection
from sparts.http.options import HTTPOptions
from sparts.http.server import HTTPServer
from sparts.net.bound import Listening, tls_context
from sparts.net.sockets import format_address
from sparts.net.tls import BadHandshake
from sparts.options import option
from sparts.tasks.asyncio import LOOPS, AsyncioLoopTask, call_soon
from sparts.vtask import SkipTask, VTask

if TYPE_CHECKING:
    from sparts.vservice import VService

__all__ = ["HelloWorldHandler", "TornadoHTTPTask", "TornadoIOLoopTask", "TornadoTask"]


class TornadoIOLoopTask(VTask):
    """The service's asyncio loop as Tornado's IOLoop.

    It leaves itself out where no task of the service needs it, unless the service has a true
    ``REQUIRE_TORNADO``.
    """

    OPT_PREFIX = "tornado"
    LOOPLESS = True
    DEPS: ClassVar[list[Any]] = [AsyncioLoopTask]
    loop_kind: str = option(
        name="loop",
        type=str,
        default="auto",
        choices=LOOPS,
        help="the event loop; auto is uvloop where it is installed (default: %(default)s)",
    )
    #: The IOLoop, from ``initTask`` on; it runs in the thread of the AsyncioLoopTask.
    ioloop: IOLoop

    def __init__(self, service: "VService") -> None:
        super().__init__(service)
        service.requireTask(AsyncioLoopTask).prefer(self.loop_kind, "--tornado-loop")

    def initTask(self) -> None:
        """Make the IOLoop."""
        required = getattr(self.service, "REQUIRE_TORNADO", False)
        if not (required or self.service.tasks.dependents(self)):
            raise SkipTask("no task needs it")
        super().initTask()
        loop = self.service.requireTask(AsyncioLoopTask).loop
        self.ioloop = IOLoop(make_current=False, asyncio_loop=loop)


class TornadoTask(VTask):
    """A task that works on Tornado's IOLoop; it has no thread of its own.

    The loop runs in another thread: call ``self.ioloop.add_callback(function)`` to get there.
    """

    LOOPLESS = True
    DEPS: ClassVar[list[Any]] = [TornadoIOLoopTask]

    @property
    def ioloop(self) -> IOLoop:
        """The service's IOLoop."""
        return self.service.requireTask(TornadoIOLoopTask).ioloop


class HelloWorldHandler(tornado.web.RequestHandler):
    """Answers ``Hello, world``."""

    def get(self) -> None:
        """Answer."""
        self.write("Hello, world")


class TornadoHTTPTask(HTTPOptions, Listening, TornadoTask):
    """An HTTP server of Tornado handlers; override ``getApplicationConfig`` with the routes.

    A handler reaches the service as ``self.settings["service"]`` and the task as
    ``self.settings["task"]``. A service with several gives each class an ``OPT_PREFIX``.
    """

    OPT_PREFIX = "http"
    #: Requests whose head came in.
    requests = counter()
    #: Connections cut at one of the time limits.
    timed_out = counter()
    #: Clients that were closed as they spoke no TLS, or none that both speak.
    failed_handshakes = counter()
    #: From the end of a request's head to the end of its answer.
    request_duration_ms = samples(types=[SampleType.AVG, SampleType.P99, SampleType.MAX])
    app: tornado.web.Application
    server: HTTPServer

    def __init__(self, service: "VService") -> None:
        super().__init__(service)
        self._started = False
        self._stopping = False
        self._drained = threading.Event()

    # -- override points --------------------------------------------------------------------------
    def getApplicationConfig(self) -> list[Any]:
        """The routes, as ``tornado.web.Application`` takes them; override."""
        return [("/", HelloWorldHandler)]

    def getApplicationSettings(self) -> dict[str, Any]:
        """The settings of the application; overriding, add to those of ``super()``."""
        return {"service": self.service, "task": self}

    def getServerSettings(self) -> dict[str, Any]:
        """Arguments for ``tornado.httpserver.HTTPServer``, like ``xheaders``; override."""
        return {}

    # -- the life ---------------------------------------------------------------------------------
    def initTask(self) -> None:
        """Make application and server, and bind the addresses, which do not listen yet.

        :raises OptionError: a host, group or certificate is wrong.
        :raises ListenError: an address is in use, or not to be had.
        """
        super().initTask()
        self.in_flight = CallbackCounter(lambda: self.server.in_flight)
        self.connections = CallbackCounter(lambda: len(self.server.connections))
        self.app = tornado.web.Application(
            self.getApplicationConfig(), **self.getApplicationSettings()
        )
        settings = {"ssl_options": tls_context(self, ("http/1.1",)), **self.getServerSettings()}
        self.server = _Server(self.app, task=self, limits=self.limits(), **settings)
        self.bind()

    def start(self) -> None:
        """Listen, and accept on the loop."""
        bound = self._bound or self.bind()
        bound.listen()
        self._started = True
        # A loop that died must not leave a join waiting.
        loop_task = self.service.requireTask(AsyncioLoopTask)
        loop_task.closed.add_done_callback(lambda _: self._finish())
        call_soon(loop_task.loop, lambda: self.server.add_sockets(bound.sockets))
        for address in self.bound_addrs:
            self.logger.info("%s Server Started on %s", self.name, format_address(address))
        super().start()

    def stop(self) -> None:
        """Begin to drain, and return at once."""
        super().stop()
        if self._stopping:
            return
        self._stopping = True
        loop = self.service.requireTask(AsyncioLoopTask).loop
        if not self._started or not call_soon(loop, self._drain):
            self._finish()

    def _drain(self) -> None:
        if self._bound is not None:
            self._bound.remove_file()
        self.server.drain(self.drain_timeout, self._finish)

    def _finish(self) -> None:
        if self._bound is not None:
            self._bound.close()
        self._drained.set()

    @property
    def running(self) -> bool:
        """Whether it serves, or still drains."""
        return self._started and not self._drained.is_set()

    def join(self) -> None:
        """Wait until it has drained; by then no connection is left."""
        super().join()
        if self._stopping:
            self._drained.wait()


class _Server(HTTPServer):
    """Counts for its task."""

    def initialize(  # type: ignore[override]
        self, application: Any, task: TornadoHTTPTask, **settings: Any
    ) -> None:
        super().initialize(application, logger=task.logger, **settings)
        self._counted = task.requests.increment
        self._timed = task.request_duration_ms.add
        self._cut = task.timed_out.increment
        self._no_tls = task.failed_handshakes.increment

    def request_began(self) -> None:
        super().request_began()
        self._counted()

    def request_ended(self, duration: float) -> None:
        super().request_ended(duration)
        self._timed(1000.0 * duration)

    def timed_out(self, connection: Connection, limit: str) -> None:
        super().timed_out(connection, limit)
        self._cut()

    def handshake_failed(self, error: BadHandshake) -> None:
        super().handshake_failed(error)
        self._no_tls()

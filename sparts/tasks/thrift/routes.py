"""What a route of an HTTP server serves: handlers, or a processor, made into what answers."""

import logging
import weakref
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from thrift.TMultiplexedProcessor import TMultiplexedProcessor

from sparts.errors import TaskError
from sparts.tasks.asyncio import AsyncioLoopTask
from sparts.tasks.thrift.handler import ThriftHandlerTask
from sparts.tasks.thrift.pool import ThriftPoolTask, default_pool
from sparts.thrift.limits import Limits
from sparts.thrift.server.dispatch import Dispatcher, targets_of
from sparts.thrift.server.exchange import Exchange
from sparts.thrift.server.pool import CallPool

__all__ = ["Routes"]

#: Where an application keeps them.
_KEY: Final = "sparts.thrift"


class Routes:
    """The Thrift routes of one application; for its loop's thread."""

    def __init__(self, application: Any) -> None:
        task = application.settings.get("task")
        self._logger = task.logger if task else logging.getLogger(__name__)
        self._service = application.settings.get("service")
        self._pool, self._limits = self._pool_for(application)
        # With what each was made of, as an id stands for that only as long as it is there.
        self._made: dict[tuple[int, int], tuple[Exchange, Any, Any]] = {}

    def _pool_for(self, application: Any) -> tuple[CallPool, Limits]:
        task = self._service.getTask(ThriftPoolTask) if self._service else None
        if task is not None:
            return task.pool, task.limits()
        pool = default_pool()
        if self._service:
            loop_task = self._service.requireTask(AsyncioLoopTask)
            loop_task.closed.add_done_callback(lambda _: pool.close())
        else:  # what of the application is left may not keep it
            weakref.finalize(application, pool.close)
        return pool, Limits()

    @classmethod
    def of(cls, application: Any) -> "Routes":
        """Those of *application*, a Tornado one; the same each time."""
        settings: MutableMapping[str, Any] = application.settings
        routes: Routes | None = settings.get(_KEY)
        if routes is None:
            settings[_KEY] = routes = cls(application)
        return routes

    def exchange(self, processor: Any, handler: Any) -> Exchange:
        """What answers the messages of the route that was given these; made once.

        :raises TaskError: what was given is no handler.
        :raises KeyError: there is no such task.
        """
        key = (id(processor), id(handler))
        if key not in self._made:
            self._made[key] = (self._new(processor, handler), processor, handler)
        return self._made[key][0]

    def _new(self, processor: Any, handler: Any) -> Exchange:
        if (processor is None) == (handler is None):
            raise TaskError("a Thrift route needs either processor= or handler=")
        if processor is None:
            handlers = self._handlers(handler)
            own = _own_processor(handlers)
        else:
            found = _handlers_behind(processor)
            handlers, own = found or {}, None if found else processor
        targets = targets_of({name: each.targets for name, each in handlers.items()})
        dispatcher = Dispatcher(targets, self._limits, self._logger, own)
        return Exchange(dispatcher, self._pool, self._logger)

    def _handlers(self, given: Any) -> dict[str, ThriftHandlerTask]:
        """The tasks *given*, by the names of their services if there are several."""
        several = given if isinstance(given, (list, tuple)) else [given]
        tasks = [self._handler(each) for each in several]
        named = {each.service_name if len(tasks) > 1 else "": each for each in tasks}
        if len(named) < len(tasks) or not tasks:
            names = ", ".join(f"{each.name} is {each.service_name!r}" for each in tasks) or "none"
            raise TaskError(f"handler= needs tasks whose SERVICE_NAME differ; given: {names}")
        return named

    def _handler(self, given: Any) -> ThriftHandlerTask:
        task = given
        if isinstance(given, (str, type)) and self._service is not None:
            task = self._service.requireTask(given)
        if not isinstance(task, ThriftHandlerTask):
            raise TaskError(
                f"handler={given!r} is no ThriftHandlerTask of the service; give its class"
            )
        return task


def _own_processor(handlers: Mapping[str, ThriftHandlerTask]) -> Any:
    """What is to process messages instead of us, where a handler has a processor of its own."""
    if not any(each.has_own_processor for each in handlers.values()):
        return None
    if "" in handlers:
        return handlers[""].processor
    processor = TMultiplexedProcessor()
    for name, each in handlers.items():
        processor.registerProcessor(name, each.processor)
    return processor


def _handlers_behind(processor: Any) -> dict[str, ThriftHandlerTask] | None:
    """The tasks whose methods a generated *processor* calls; None if it is of another kind."""
    parts = {"": processor}
    if type(processor) is TMultiplexedProcessor:
        parts = dict(processor.services)
        if processor.defaultProcessor is not None:
            parts[""] = processor.defaultProcessor
    found = {}
    for name, each in parts.items():
        handler = getattr(each, "_handler", None)
        task = getattr(handler, "handler_task", handler)
        if not isinstance(task, ThriftHandlerTask) or type(each) is not task.MODULE.Processor:
            return None
        found[name] = task
    return found

"""A task that has the methods of a Thrift service; servers of any kind find it and serve it."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from sparts.counters import HasCounters
from sparts.errors import TaskError
from sparts.tasks.asyncio import AsyncioLoopTask
from sparts.thrift.interface import Interface, InterfaceError
from sparts.thrift.server.calls import CLIENT, Client, Target
from sparts.vtask import SkipTask, VTask

__all__ = ["ThriftHandlerTask"]


class ThriftHandlerTask(VTask):
    """Subclass it, set ``MODULE`` to what the Thrift compiler made, and write its methods.

    A plain method may block: it gets a thread where it does. An ``async def`` runs on the service's
    loop, and must not. Declared exceptions reach the client as they are; any other is logged, and
    the client is told of an internal error.

    Many threads run the methods at once. ``sparts.tasks.thrift.current_client()`` tells who calls.
    """

    LOOPLESS = True
    #: The generated module of the service: that with the classes ``Iface`` and ``Processor``.
    MODULE: ClassVar[Any] = None
    #: Its name for multiplexing clients; by default the module's last part.
    SERVICE_NAME: ClassVar[str | None] = None
    #: From ``initTask`` on: the methods of the service.
    interface: Interface
    #: From ``initTask`` on: a generated processor that calls these methods. Put one of your
    #: own here (after ``super().initTask()``), and servers use it instead of calling the methods.
    processor: Any
    #: From ``initTask`` on: the handler for a processor of one's own, with just the methods.
    functions: Any

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        # Known before anything runs, so that the loop is there, and ends after, as for any task.
        try:
            names = () if cls.MODULE is None else Interface.of(cls.MODULE).methods
        except InterfaceError:
            return  # initTask tells
        if any(inspect.iscoroutinefunction(getattr(cls, name, None)) for name in names):
            cls.DEPS = [*vars(cls).get("DEPS", ()), AsyncioLoopTask]

    @property
    def service_name(self) -> str:
        """Its name for multiplexing clients."""
        return self.SERVICE_NAME or self.interface.name

    def getHandlers(self) -> Iterable[Any]:
        """The objects that have the methods, the first that has one counts; here only the task."""
        return [self]

    def initTask(self) -> None:
        """Find the methods.

        :raises InterfaceError: ``MODULE`` is no generated module of a service.
        :raises TaskError: methods of the service are missing; the message has their names.
        """
        if self.MODULE is None:
            if type(self).__subclasses__() or type(self) is ThriftHandlerTask:
                raise SkipTask("it has no MODULE")
            raise TaskError(
                f"{self.name}.MODULE is None; set it to the module that the Thrift compiler made "
                "of the service"
            )
        super().initTask()
        self.interface = Interface.of(self.MODULE)
        found = {name: self._function(name) for name in self.interface.methods}
        missing = [name for name, function in found.items() if function is None]
        if missing:
            raise TaskError(
                f"{self.name} lacks methods of {self.interface.name}: "
                f"{', '.join(f'{name}()' for name in missing)}; define them"
            )
        #: By name, what servers need of each method.
        self.targets: Mapping[str, Target] = {
            name: Target(method, found[name]) for name, method in self.interface.methods.items()
        }
        self.functions = _Functions(self, found)
        self.processor = self._generated = self.MODULE.Processor(self.functions)

    def _function(self, name: str) -> Any:
        """What is to be called for the method *name*; None if there is nothing."""
        for each in self.getHandlers():
            function = getattr(type(each), name, None)
            if function is getattr(self.interface.iface, name):
                continue  # the generated class, which does nothing
            if each is self and function is not None and function is getattr(VTask, name, None):
                continue  # what every task has, by chance of the same name
            if callable(getattr(each, name, None)):
                return getattr(each, name)
        return None

    def getChildren(self) -> Mapping[str, HasCounters]:
        """What is counted of each method, whatever server it was called on; by its name."""
        targets: Mapping[str, Target] = getattr(self, "targets", {})
        return {name: target.counters for name, target in targets.items()}

    @property
    def has_own_processor(self) -> bool:
        """Whether somebody put another processor in the place of the generated one."""
        return self.processor is not self._generated


class _Functions:
    """The methods as a generated processor finds them.

    A server that is not ours does not tell who calls: it is a client in any case.
    """

    def __init__(self, task: ThriftHandlerTask, found: Mapping[str, Callable[..., Any]]) -> None:
        self.handler_task = task
        vars(self).update({name: _of_a_client(function) for name, function in found.items()})


_UNKNOWN = Client(None, "an unknown client", "tcp")


def _of_a_client(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any) -> Any:
        if CLIENT.get() is not None:
            return function(*args)
        token = CLIENT.set(_UNKNOWN)
        try:
            return function(*args)
        finally:
            CLIENT.reset(token)

    return call

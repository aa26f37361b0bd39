"""The tasks of a service: dependency order for create, init and start, its reverse for the end."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from sparts.context import SkipTask
from sparts.errors import DependencyError, TaskError, nearest

if TYPE_CHECKING:
    from sparts.vservice import VService
    from sparts.vtask import VTask

__all__ = ["Tasks", "dependencies"]

T = TypeVar("T", bound="VTask")
TaskClass = type["VTask"]
Failed = Callable[["VTask", BaseException], object]


def dependencies(cls: TaskClass) -> list[Any]:
    """What *cls* depends on: its own ``DEPS`` and those of its bases, each once."""
    found: list[Any] = []
    for base in reversed(cls.__mro__):
        declared = vars(base).get("DEPS", ())
        if not isinstance(declared, (list, tuple)):
            raise DependencyError(f"{base.__name__}.DEPS is {declared!r}; write a list of tasks")
        found += [each for each in declared if each not in found]
    return found


class Tasks:
    """An ordered collection of task classes and, once created, of their instances.

    A dependency always stands before its dependents. Attribute access, indexing (by place, name or
    class), iteration and ``len`` give the instances, or the classes before ``create``.
    """

    def __init__(self, tasks: Iterable[TaskClass] = ()) -> None:
        self._classes: dict[str, TaskClass] = {}
        self._instances: dict[str, VTask] = {}
        self._found: dict[TaskClass, str | None] = {}  # what a class was resolved to
        self._initialised: list[VTask] = []
        #: The task whose start, init, stop or join runs now, and which; None between them.
        self.current: tuple[VTask, str] | None = None
        self.register_all(tasks)

    # -- which ------------------------------------------------------------------------------------
    def register(self, cls: TaskClass) -> None:
        """Add *cls* behind the tasks that it depends on; a second time does nothing.

        A dependency that is already there as a subclass counts as met.

        :raises DependencyError: a circle, a ``DEPS`` entry that is no task, or two tasks of a name.
        """
        self.register_all([cls])

    def register_all(self, classes: Iterable[TaskClass]) -> None:
        """Add all *classes* as :meth:`register` does; those given stand in for their bases."""
        given = list(classes)
        wanted = dict.fromkeys(given)
        for cls in given:
            self._add(cls, wanted, [])
        self._found.clear()

    def _add(self, cls: TaskClass, wanted: dict[TaskClass, None], path: list[TaskClass]) -> None:
        if cls in path:
            circle = " -> ".join(each.__name__ for each in path[path.index(cls) :] + [cls])
            raise DependencyError(f"the tasks' DEPS form a circle: {circle}; take one of them out")
        if not (isinstance(cls, type) and hasattr(cls, "DEPS")):
            where = f"{path[-1].__name__}.DEPS" if path else "the list of tasks"
            raise DependencyError(f"{where} holds {cls!r}, which is no VTask class")
        other = self._classes.get(cls.__name__)
        if other is cls:
            return
        if other is not None:
            raise DependencyError(
                f"two tasks are named {cls.__name__}: {_where(other)} and {_where(cls)}; rename one"
            )
        for dependency in dependencies(cls):
            if (
                isinstance(dependency, type)
                and self._classes.get(dependency.__name__) is dependency
            ):
                continue
            if dependency in wanted or not self._stand_in(dependency, cls, wanted, path):
                self._add(dependency, wanted, path + [cls])
        self._classes[cls.__name__] = cls

    def _stand_in(
        self, base: Any, cls: TaskClass, wanted: dict[TaskClass, None], path: list[TaskClass]
    ) -> bool:
        """Whether subclasses of *base* take its place; those that are still to come are added now.

        All of those that are wanted: who depends on a kind of task starts when each of it is ready.
        """
        if not isinstance(base, type):
            return False
        for each in wanted:
            if each is not cls and isinstance(each, type) and issubclass(each, base):
                self._add(each, wanted, path + [cls])
        return any(issubclass(each, base) for each in self._classes.values())

    def unregister(self, cls: TaskClass) -> None:
        """Take *cls* out again, before ``create``; nothing happens where it is not in."""
        if self._classes.get(cls.__name__) is cls:
            del self._classes[cls.__name__]
        self._found.clear()

    @property
    def classes(self) -> tuple[TaskClass, ...]:
        """The registered classes in start order."""
        return tuple(self._classes.values())

    def select(self, names: Iterable[str]) -> "Tasks":
        """A new collection of the tasks *names* and what they depend on.

        :raises KeyError: there is no task of such a name.
        """
        chosen = Tasks()
        chosen.register_all([self._class_named(name) for name in names])
        return chosen

    def _class_named(self, name: str) -> TaskClass:
        if name not in self._classes:
            known = ", ".join(self._classes) or "none"
            raise KeyError(f"no task {name!r}{nearest(name, self._classes)} (tasks: {known})")
        return self._classes[name]

    # -- the life ---------------------------------------------------------------------------------
    def create(self, service: "VService") -> None:
        """Make an instance of every class, in order."""
        for name, cls in tuple(self._classes.items()):
            self._instances[name] = cls(service)
            if "threads" not in vars(self._instances[name]):
                raise TaskError(f"{name}.__init__() did not call super().__init__(service); add it")
        self._found.clear()

    def init(self, until: Callable[[], bool] = bool) -> None:
        """Initialise all in order, leaving out those that raise SkipTask; end when *until()*."""
        for task in self._each("initTask", until):
            try:
                task.initTask()
            except SkipTask as reason:
                self.remove(task)
                task.logger.info("Left out%s", f": {reason}" if str(reason) else "")
                continue
            except BaseException:
                _release(task)
                raise
            if not task.initialised:
                raise TaskError(
                    f"{task.name}.initTask() did not call super().initTask(); add that line"
                )
            self._initialised.append(task)

    def start(self, until: Callable[[], bool] = bool, ready_timeout: float | None = None) -> None:
        """Start all in order, each when its dependencies are ready; end when *until()* is true.

        :raises TaskError: a dependency was not ready within *ready_timeout* seconds.
        """
        for task in self._each("start", until):
            for needed in self._needed_by(type(task)):
                if needed.waitReady(ready_timeout) or until():
                    continue
                raise TaskError(
                    f"{needed.name} was not ready within {ready_timeout:g} s (--ready-timeout); "
                    f"{task.name} waits for it"
                )
            if not until():
                task.started()
                task.start()

    def _each(self, phase: str, until: Callable[[], bool]) -> "Iterator[VTask]":
        for task in tuple(self._instances.values()):
            if until():
                break
            self.current = (task, phase)
            yield task
        self.current = None

    def end(self, failed: Failed) -> None:
        """Stop, then join, all that were initialised, in reverse order.

        Before a task is stopped all its dependents have been joined. *failed(task, error)* hears
        of what one raises; the others go on.
        """
        dependents = self._dependents()
        remaining = self._initialised
        unjoined: dict[str, VTask] = {}
        while remaining:
            task = remaining.pop()
            if not unjoined.keys().isdisjoint(dependents.get(task.name, ())):
                self._join(unjoined, failed)
            self._call(task, "stop", failed)
            unjoined[task.name] = task
        self._join(unjoined, failed)

    def _join(self, tasks: "dict[str, VTask]", failed: Failed) -> None:
        for task in tasks.values():
            self._call(task, "join", failed)
        tasks.clear()

    def _call(self, task: "VTask", phase: str, failed: Failed) -> None:
        self.current = (task, phase)
        try:
            getattr(task, phase)()
        except BaseException as error:
            failed(task, error)
        self.current = None

    def _dependents(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for task in self._instances.values():
            for needed in self._needed_by(type(task)):
                found.setdefault(needed.name, set()).add(task.name)
        return found

    def _needed_by(self, cls: TaskClass) -> "list[VTask]":
        """The tasks that those of *cls* depend on: of a dependency that is not there itself, all
        that are subclasses of it."""
        found: dict[str, VTask] = {}
        for kind in dependencies(cls):
            names = [kind.__name__]
            if self._classes.get(names[0]) is not kind:
                names = [name for name, each in self._classes.items() if issubclass(each, kind)]
            found.update((name, self._instances[name]) for name in names if name in self._instances)
        return list(found.values())

    def dependents(self, task: "VTask") -> "list[VTask]":
        """The tasks whose ``DEPS`` name *task*, directly."""
        return [self._instances[name] for name in self._dependents().get(task.name, ())]

    def remove(self, task: "VTask") -> None:
        """Take an instance out, so that the service goes on without it."""
        self._instances.pop(task.name, None)
        self._classes.pop(task.name, None)
        self._found.clear()

    # -- looking up -------------------------------------------------------------------------------
    @overload
    def get(self, key: str) -> "VTask | None": ...
    @overload
    def get(self, key: type[T]) -> T | None: ...
    def get(self, key: Any) -> Any:
        """The task of that name or class (a subclass's where only that is there), or None."""
        if isinstance(key, str):
            return self._instances.get(key)
        if key not in self._found:
            exact = self._classes.get(key.__name__) is key
            near = (each.__name__ for each in self._classes.values() if issubclass(each, key))
            self._found[key] = key.__name__ if exact else next(near, None)
        return self._instances.get(self._found[key] or "")

    @overload
    def require(self, key: str) -> "VTask": ...
    @overload
    def require(self, key: type[T]) -> T: ...
    def require(self, key: Any) -> Any:
        """As :meth:`get`, but never None.

        :raises KeyError: there is no such task.
        """
        task = self.get(key)
        if task is None:
            name = key if isinstance(key, str) else key.__name__
            known = ", ".join(self._instances) or "none"
            raise KeyError(f"no task {name!r}{nearest(name, self._instances)} (tasks: {known})")
        return task

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self.require(name)
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def _entries(self) -> Sequence[Any]:
        return tuple((self._instances or self._classes).values())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._entries())

    def __len__(self) -> int:
        return len(self._instances or self._classes)

    def __getitem__(self, key: Any) -> Any:
        return self._entries()[key] if isinstance(key, (int, slice)) else self.require(key)

    def __contains__(self, key: Any) -> bool:
        return key in self._entries() or (
            isinstance(key, (str, type)) and self.get(key) is not None
        )


def _release(task: "VTask") -> None:
    """Stop a task whose ``initTask`` failed half-way, to let go of what it had made by then."""
    if task.initialised:
        with contextlib.suppress(Exception):  # what it would stop may never have been made
            task.stop()
            task.join()


def _where(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"

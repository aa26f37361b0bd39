"""Tasks: dependency order, stand-ins, circles, selection and looking up."""

import argparse
from typing import Any

import pytest

from sparts.errors import DependencyError, TaskError
from sparts.vservice import VService
from sparts.vtask import REGISTERED, SkipTask, Tasks, VTask


class Base(VTask):
    LOOPLESS = True


class Store(Base):
    pass


class Cache(Base):
    DEPS = [Store]


class Web(Base):
    DEPS = [Cache, Store]


class BigStore(Store):
    pass


class Logs(Base):
    pass


def names(tasks: Any) -> list[str]:
    return [getattr(task, "__name__", None) or task.name for task in tasks]


def created(*classes: type[VTask]) -> tuple[Tasks, VService]:
    """The tasks of a service of *classes*, created."""
    service = VService(argparse.Namespace())
    service.tasks.register_all(classes)
    service.tasks.create(service)
    return service.tasks, service


def test_dependencies_come_first() -> None:
    """Whatever is registered, what it depends on stands before it, once."""
    assert ["Store", "Cache", "Web", "Logs"] == names(Tasks([Web, Store, Logs, Web]))
    tasks = Tasks()
    tasks.register(Web)
    assert (3, ["Store", "Cache", "Web"]) == (len(tasks), names(tasks))


def test_circle_is_printed() -> None:
    """A circle in DEPS is an error that prints it."""

    class One(Base):
        pass

    class Two(Base):
        DEPS = [One]

    class Three(Base):
        DEPS = [Two]

    One.DEPS = [Three]
    with pytest.raises(DependencyError, match="Two -> One -> Three -> Two"):
        Tasks([Two])


def test_a_subclass_adds_to_its_bases_deps() -> None:
    """A subclass with DEPS of its own keeps those of its bases."""

    class Mirrored(Cache):
        DEPS = [Logs]

    assert ["Store", "Logs", "Mirrored"] == names(Tasks([Mirrored]))


def test_deps_is_a_list() -> None:
    """DEPS that is one class, not a list of them, is an error that says so."""
    holder = type("Holder", (Base,), {"DEPS": Store})
    with pytest.raises(DependencyError, match=r"Holder\.DEPS is .*; write a list of tasks"):
        Tasks([holder])


def test_two_of_a_name() -> None:
    """Two classes of one name are refused, as names are how tasks are found."""
    other = type("Store", (Base,), {"__module__": "elsewhere"})
    with pytest.raises(DependencyError, match=r"named Store: .*Store and elsewhere\.Store"):
        Tasks([Store, other])


@pytest.mark.parametrize("wrong", [int, "Store", None, 3])
def test_no_task(wrong: Any) -> None:
    """What is no task class is refused, with the place where it stands."""
    with pytest.raises(DependencyError, match="the list of tasks holds"):
        Tasks([wrong])
    holder = type("Holder", (Base,), {"DEPS": [wrong]})
    with pytest.raises(DependencyError, match=r"Holder\.DEPS holds"):
        Tasks([holder])


@pytest.mark.parametrize("order", [[BigStore, Web], [Web, BigStore]])
def test_a_subclass_stands_in(order: list[type[VTask]]) -> None:
    """A dependency is met by a subclass that the service lists, wherever it lists it."""
    tasks, _ = created(*order)
    assert ["BigStore", "Cache", "Web"] == names(tasks)
    assert tasks.require(Store) is tasks.require(BigStore) is tasks["BigStore"]


def test_both_where_both_are_listed() -> None:
    """A base and its subclass listed together are two tasks, and the base is found exactly."""
    tasks, _ = created(BigStore, Store, Cache)
    assert ["BigStore", "Store", "Cache"] == names(tasks)
    assert "Store" == tasks.require(Store).name


def test_looking_up() -> None:
    """By name, class, attribute and place; a miss is None, KeyError or AttributeError."""
    tasks, service = created(Web)
    web = tasks.get("Web")
    assert web is tasks.get(Web) is tasks.Web is tasks[2] is tasks["Web"] is tasks[-1]
    assert service.requireTask(Web) is web is service.getTask("Web")
    assert "Web" in tasks
    assert Web in tasks
    assert Logs not in tasks
    assert tasks.get("Wub") is None is service.getTask(Logs)
    with pytest.raises(KeyError, match=r"no task 'Wub'; did you mean 'Web'.*Store, Cache, Web"):
        tasks.require("Wub")
    with pytest.raises(AttributeError, match="no task 'Logs'"):
        _ = tasks.Logs
    with pytest.raises(AttributeError):
        _ = tasks._hidden


def test_unregister_and_select() -> None:
    """A class can be taken out again; a selection brings what it depends on."""
    tasks = Tasks([Web, Logs])
    tasks.unregister(Logs)
    tasks.unregister(BigStore)
    assert ["Store", "Cache", "Web"] == names(tasks)
    assert ["Store", "Cache"] == names(tasks.select(["Cache"]))
    with pytest.raises(KeyError, match="no task 'Cash'; did you mean 'Cache'"):
        tasks.select(["Cash"])


def test_registered_tasks_are_in_every_service() -> None:
    """What registers itself is in services made from then on."""
    Logs.register()
    try:
        Logs.register()
        assert ["Logs"] == names(REGISTERED)
        assert ["Logs"] == names(VService(argparse.Namespace()).tasks)
    finally:
        REGISTERED.unregister(Logs)
    assert [] == names(VService(argparse.Namespace()).tasks)


def test_order_of_a_life() -> None:
    """Init and start follow dependencies; stop and join are the exact reverse of the start."""
    heard: list[str] = []

    def recording(name: str, deps: list[type[VTask]]) -> type[VTask]:
        def hear(phase: str) -> Any:
            def method(self: VTask) -> None:
                heard.append(f"{phase} {self.name}")
                getattr(Base, phase)(self)

            return method

        phases = {phase: hear(phase) for phase in ("initTask", "start", "stop", "join")}
        return type(name, (Base,), {"DEPS": deps, **phases})

    a = recording("A", [])
    b = recording("B", [])
    c = recording("C", [a])
    d = recording("D", [])
    tasks, _ = created(a, b, c, d)
    tasks.init()
    tasks.start()
    tasks.end(lambda task, error: heard.append(str(error)))
    assert [f"initTask {x}" for x in "ABCD"] == heard[:4]
    assert [f"start {x}" for x in "ABCD"] == heard[4:8]
    ends = heard[8:]
    assert [f"stop {x}" for x in "DCBA"] == [each for each in ends if each.startswith("stop")]
    assert [f"join {x}" for x in "DCBA"] == [each for each in ends if each.startswith("join")]
    assert ends.index("join C") < ends.index("stop A")


def test_one_that_fails_to_stop_hinders_no_other() -> None:
    """What a stop or a join raises is reported, and the others are ended all the same."""
    ended: list[str] = []
    failed: list[str] = []

    class Bad(Base):
        def stop(self) -> None:
            raise SystemExit(3)

        def join(self) -> None:
            raise ValueError("no")

    class Good(Base):
        def join(self) -> None:
            ended.append("Good")

    tasks, _ = created(Good, Bad)
    tasks.init()
    tasks.end(lambda task, error: failed.append(f"{task.name} {error!r}"))
    assert ["Bad SystemExit(3)", "Bad ValueError('no')"] == failed
    assert ["Good"] == ended


def test_skip() -> None:
    """A task that raises SkipTask is left out, and the rest goes on."""

    class Optional(Base):
        def initTask(self) -> None:
            raise SkipTask("not today")

    tasks, _ = created(Optional, Logs)
    tasks.init()
    assert ["Logs"] == names(tasks)
    assert tasks.get(Optional) is None


def test_a_half_initialised_task_lets_go() -> None:
    """A task whose initTask fails behind super's is stopped; that it cannot be hides nothing."""
    stopped: list[str] = []

    class Half(Base):
        def initTask(self) -> None:
            super().initTask()
            raise OSError("half")

        def stop(self) -> None:
            stopped.append(self.name)
            self.never_made.close()  # type: ignore[attr-defined]

    tasks, _ = created(Half)
    with pytest.raises(OSError, match="half"):
        tasks.init()
    assert ["Half"] == stopped


def test_forgotten_super() -> None:
    """An initTask that does not call super's is an error that says so."""

    class Forgetful(Base):
        def initTask(self) -> None:
            pass

    tasks, _ = created(Forgetful)
    with pytest.raises(TaskError, match=r"Forgetful\.initTask\(\) did not call super"):
        tasks.init()


def test_late_dependency_is_named() -> None:
    """A dependency that is not ready in time is an error that names it and who waits."""

    class Slow(Base):
        AUTO_READY = False

    class Waiting(Base):
        DEPS = [Slow]

    tasks, _ = created(Waiting)
    tasks.init()
    with pytest.raises(TaskError, match=r"Slow was not ready within 0\.01 s.*Waiting waits for it"):
        tasks.start(ready_timeout=0.01)

"""Counters: exact under threads, apart on each instance, listed by dotted names."""

import argparse
import math
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from sparts.counters import (
    Average,
    CallbackCounter,
    Count,
    Counter,
    HasCounters,
    Max,
    Min,
    Samples,
    SampleType,
    Sum,
    counter,
    samples,
)
from sparts.vservice import VService
from sparts.vtask import VTask

DEADLINE = 15


def in_threads(*functions: Callable[[], object]) -> None:
    """Runs them all at the same time, and waits for their end."""
    together = threading.Barrier(len(functions))
    errors: list[BaseException] = []

    def run(function: Callable[[], object]) -> None:
        together.wait(DEADLINE)
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert [] == errors
    assert not any(thread.is_alive() for thread in threads)


# -- what each tells ------------------------------------------------------------------------------
def test_sum() -> None:
    """A sum begins at 0, takes ones and other numbers, and is set back to any value."""
    total = Sum()
    assert 0 == total()
    total.increment()
    total.add(2)
    total.incrementBy(-5)
    assert -2 == total.getvalue() == total() == int(total)
    assert "-2" == str(total)  # integers stay integers
    total.reset(7)
    total.increment()
    assert 8 == total()
    total.reset()
    assert 0 == total()


def test_reset_leaves_no_rounding_error() -> None:
    """After a reset only what came after it counts, to the last bit, whatever was before."""
    total = Sum()
    for value in (0.1, 0.2, 1e300, math.nan):
        total.add(value)
    total.reset()
    total.add(0.5)
    assert 0.5 == total()


def test_a_threads_own_part() -> None:
    """What a thread adds to its part counts, also once it has ended; a reset gives it another."""
    total = Sum()
    total.add(2)

    def count() -> None:
        total.part()[0] += 5

    thread = threading.Thread(target=count)
    thread.start()
    thread.join(DEADLINE)
    part = total.part()
    part[0] += 1
    assert part is total.part()
    assert 8 == total()
    total.reset()
    part[0] += 100
    total.part()[0] += 3
    assert 3 == total()


def test_count() -> None:
    """A count tells how many values came, not what they were."""
    count = Count()
    for value in (5, None, "x"):
        count.add(value)
    assert 3 == count()
    count.reset()
    assert 0 == count()


@pytest.mark.parametrize(("cls", "expected"), [(Average, 2.5), (Max, 7), (Min, -3)])
def test_figures_of_values(cls: Any, expected: float) -> None:
    """Average, Max and Min tell of the values added since the last reset."""
    figure = cls()
    for value in (1, 5, -3, 7):
        figure.add(value)
    assert expected == figure()
    figure.reset()
    assert figure() is None


@pytest.mark.parametrize("cls", [Average, Max, Min])
def test_no_value(cls: Any) -> None:
    """Before the first value there is None: as text '__None__', as an int 0, as a float nan."""
    figure = cls()
    assert figure() is None
    assert "__None__" == str(figure)
    assert 0 == int(figure)
    assert math.isnan(float(figure))


@pytest.mark.parametrize("cls", [Max, Min])
def test_extremes_leave_out_nan(cls: Any) -> None:
    """A nan neither becomes the extreme nor hides what comes after it."""
    figure = cls()
    for value in (math.nan, 3, math.nan):
        figure.add(value)
    assert 3 == figure()


def test_int_of_what_no_integer_can_tell() -> None:
    """An infinite or undefined value is 0 as an int, so that a list of integers never fails."""
    strange: list[float | None] = [math.inf, -math.inf, math.nan, None]
    assert [0, 0, 0, 0] == [int(CallbackCounter(partial({"v": v}.get, "v"))) for v in strange]
    assert 2 == int(CallbackCounter(lambda: 2.9))


def test_callback() -> None:
    """A callback counter asks its callback each time, and hides no error of it."""
    values = iter([1, 2])
    asked = CallbackCounter(lambda: next(values))
    assert [1, 2] == [asked(), asked.getvalue()]
    with pytest.raises(StopIteration):
        asked()


# -- threads --------------------------------------------------------------------------------------
def test_increments_are_exact_under_threads() -> None:
    """Eight threads that count while others read lose not one, and a reader sees no step back."""
    total, ended = Sum(), threading.Event()
    seen: list[float] = []

    def count() -> None:
        for _ in range(50_000):
            total.increment()

    def read() -> None:
        while not ended.wait(0.001):
            seen.append(total())

    reader = threading.Thread(target=read)
    reader.start()
    in_threads(*[count] * 8)
    ended.set()
    reader.join(DEADLINE)
    assert 400_000 == total()
    assert sorted(seen) == seen


@pytest.mark.parametrize(
    ("cls", "expected"),
    [(Sum, 4 * 499_500), (Count, 4_000), (Average, 499.5), (Max, 999), (Min, 0)],
)
def test_every_counter_joins_its_threads(cls: Any, expected: float) -> None:
    """What several threads added is told as if one had added it all."""
    figure = cls()

    def add() -> None:
        for value in range(1_000):
            figure.add(value)

    in_threads(*[add] * 4)
    assert expected == figure()


def test_threads_that_end_leave_their_counts_and_no_memory() -> None:
    """Three thousand short-lived threads lose nothing, with a reader beside; few parts are kept."""
    total, ended = Sum(), threading.Event()
    seen: list[float] = []

    def read() -> None:
        while not ended.wait(0.0005):
            seen.append(total())

    def count() -> None:
        total.add(3)
        total.increment()

    reader = threading.Thread(target=read)
    reader.start()
    most = 0
    for _ in range(300):
        threads = [threading.Thread(target=count) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        most = max(most, len(total._parts))
    ended.set()
    reader.join(DEADLINE)
    assert 12_000 == total()
    assert sorted(seen) == seen
    assert most <= 10
    assert 0 == len(total._parts)


def test_reset_amid_counting_threads() -> None:
    """Whatever comes while it is reset counts either as before or as after, and then exactly."""
    total = Sum()
    halfway = threading.Barrier(5)

    def count() -> None:
        for _ in range(20_000):
            total.increment()
        halfway.wait(DEADLINE)
        halfway.wait(DEADLINE)
        for _ in range(20_000):
            total.increment()

    def reset() -> None:
        for _ in range(50):
            total.reset()
        halfway.wait(DEADLINE)
        assert 0 <= total() <= 80_000
        total.reset(5)
        halfway.wait(DEADLINE)

    in_threads(*[count] * 4, reset)
    assert 80_005 == total()


@pytest.fixture
def _frequent_switches() -> Iterator[None]:
    """Threads take turns a thousand times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_frequent_switches")
def test_average_is_never_torn() -> None:
    """A reader beside threads that add the same value never sees any other average."""
    average, ended = Average(), threading.Event()
    seen: set[float | None] = set()

    def read() -> None:
        while not ended.is_set():
            seen.add(average())

    def add() -> None:
        for _ in range(30_000):
            average.add(7)

    reader = threading.Thread(target=read)
    reader.start()
    in_threads(add, add)
    ended.set()
    reader.join(DEADLINE)
    assert {7.0} >= seen - {None}
    assert 7.0 == average()


def test_counting_amid_a_read() -> None:
    """What counts amid a read in the same thread, as a finaliser may, neither hangs nor is lost."""
    total = Sum()
    late: list[int] = []

    class Ended(list[Any]):
        def pop(self, *_: Any) -> Any:
            late.append(1)
            total.increment()
            return super().pop()

    in_threads(*[total.increment] * 3)
    total._ended = Ended(total._ended)
    in_threads(total)
    value = total()
    assert late
    assert 3 + len(late) == value


# -- declared on a class --------------------------------------------------------------------------
class Base(HasCounters):
    """Declares one of each."""

    n_done = counter()
    duration = samples(types=[SampleType.COUNT, SampleType.MAX], windows=[60])
    named = samples(types=[SampleType.SUM], windows=[5, 60], name="bytes.in")
    depth = CallbackCounter(lambda: 4)


class Derived(Base):
    """Inherits, overrides and adds."""

    n_done = Max()  # type: ignore[assignment]
    extra = Count()


def test_declaration_through_the_class() -> None:
    """Through the class it is the declaration, whatever instances do with theirs."""
    Base().n_done.increment()
    assert Base.n_done is vars(Base)["n_done"]
    assert 0 == Base.n_done()


def test_instances_count_apart() -> None:
    """Each instance has counters and samples of its own, always the same ones."""
    one, other = Base(), Base()
    one.n_done.increment()
    one.duration.add(5)
    assert one.n_done is one.n_done
    assert (1, 0) == (one.n_done(), other.n_done())
    assert (1, 0) == tuple(each.duration.getCounter("count.60") for each in (one, other))


def test_later_reads_are_plain_attributes() -> None:
    """After the first read the counter is in the instance's dictionary, and can be replaced."""
    one = Base()
    assert one.n_done is vars(one)["n_done"]
    mine = one.n_done = Sum()
    assert mine is one.n_done


def test_inherited_and_overridden() -> None:
    """A subclass counts in what it inherits and in what it declares by the same name."""
    one = Derived()
    one.n_done.add(5)
    one.n_done.add(3)
    one.duration.add(1)
    assert 5 == one.n_done()
    assert 1 == one.getCounter("duration.count.60")()


def test_threads_race_for_the_first_read() -> None:
    """Threads that read a declared counter for the first time all get the same one."""
    for _ in range(200):
        one = Base()
        in_threads(*[lambda one=one: one.n_done.increment()] * 4)
        assert 4 == one.n_done()


def test_declared_after_the_class_was_made() -> None:
    """A counter that is set on a class later is per instance and listed like any other."""

    class Plain(HasCounters):
        pass

    Plain.late = counter()  # type: ignore[attr-defined]
    one, other = Plain(), Plain()
    one.late.increment()  # type: ignore[attr-defined]
    assert (1, 0) == (one.getCounter("late")(), other.getCounter("late")())


def test_two_names_for_one_declaration() -> None:
    """A declaration with two names is one counter under both."""

    class Plain(HasCounters):
        new = old = counter()

    one = Plain()
    one.old.increment()
    assert {"new": 1, "old": 1} == {name: each() for name, each in one.getCounters().items()}


# -- listed ---------------------------------------------------------------------------------------
def test_listing() -> None:
    """Counters are listed by attribute; samples by attribute or own name, type and window."""
    one = Derived()
    one.duration.add(2.5)
    one.named.add(100)
    told = {name: each() for name, each in one.getCounters().items()}
    assert {
        "n_done": None,
        "duration.count.60": 1,
        "duration.max.60": 2.5,
        "bytes.in.sum.5": 100,
        "bytes.in.sum.60": 100,
        "depth": 4,
        "extra": 0,
    } == told


def test_listed_when_assigned_at_run_time() -> None:
    """A counter or samples assigned to the instance are listed, other attributes are not."""
    one = Base()
    one.late, one.odd, one.n_done = Sum(), 5, None  # type: ignore[attr-defined, assignment]
    one.times = Samples(windows=[60])  # type: ignore[attr-defined]
    assert {"late", "times.avg.60"} == one.getCounters().keys() - Base().getCounters().keys()
    assert {"n_done"} == Base().getCounters().keys() - one.getCounters().keys()


def test_hidden_by_a_subclass() -> None:
    """A subclass that sets the attribute to something else is rid of the counter."""

    class Silent(Base):
        n_done = None  # type: ignore[assignment]

    assert "n_done" not in Silent().getCounters()


class Parent(HasCounters):
    """Has two children."""

    n_all = counter()

    def __init__(self) -> None:
        self.children = {"First": Base(), "Second": Derived()}

    def getChildren(self) -> dict[str, Base]:
        return self.children


def test_children() -> None:
    """Children's counters are listed after their names, and found by the same dotted names."""
    parent = Parent()
    parent.children["First"].n_done.increment()
    parent.children["First"].named.add(8)
    listed = parent.getCounters()
    assert 1 == listed["First.n_done"]() == parent.getCounter("First.n_done")()
    assert 8 == parent.getCounter("First.bytes.in.sum.60")()
    assert parent.getCounter("n_all") is parent.n_all
    assert 1 + 6 + 7 == len(listed)
    assert {"extra"} == {k[7:] for k in listed if k[:7] == "Second."} - {
        k[6:] for k in listed if k[:6] == "First."
    }


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("n_al", "n_all"),
        ("First.n_doen", "First.n_done"),
        ("Frist.n_done", "First.n_done"),
        ("Second.duration.max.6", "Second.duration.max.60"),
    ],
)
def test_no_such_counter(wrong: str, near: str) -> None:
    """The error for an unknown name tells the name and the nearest that there is."""
    with pytest.raises(KeyError, match=f"no counter '{wrong}'; did you mean '{near}'"):
        Parent().getCounter(wrong)


@pytest.mark.parametrize("wrong", ["", ".", "First", "First.", "xyz", "xyz.abc.def"])
def test_no_such_counter_nor_any_near(wrong: str) -> None:
    """A name with nothing like it is an error of the same kind."""
    with pytest.raises(KeyError, match="no counter"):
        Parent().getCounter(wrong)


def test_override_that_lists_more() -> None:
    """What an override of getCounters adds is found by name too, also through the parent."""

    class More(Base):
        def getCounters(self) -> dict[str, Counter[Any]]:
            return super().getCounters() | {"more": CallbackCounter(lambda: 9)}

    parent = Parent()
    parent.children["First"] = More()
    assert 9 == parent.getCounter("First.more")()


def test_service_and_task() -> None:
    """Two services in one process, with a task of the same class, count apart."""

    class Fetcher(VTask):
        LOOPLESS = True
        fetched = counter()

    class Service(VService):
        ALL_TASKS = [Fetcher]
        requests = counter()

    def made() -> VService:
        service = Service(Service._buildArgumentParser().parse_args([], argparse.Namespace()))
        service.tasks.create(service)
        return service

    one, other = made(), made()
    one.requireTask(Fetcher).fetched.increment()
    assert {"requests", "Fetcher.fetched"} == one.getCounters().keys()
    assert (1, 0) == tuple(each.getCounter("Fetcher.fetched")() for each in (one, other))

"""The queues: order, equality, being full, and being queue.Queue in all else."""

import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparts.collections import Duplicate, PriorityQueue, UniqueQueue
from sparts.context import ExecuteContext
from sparts.errors import SpartsError
from sparts.timer import run_until_true

DEADLINE = 10.0

Make = Callable[..., "queue.Queue[Any]"]
BOTH = pytest.mark.parametrize("make", [PriorityQueue, UniqueQueue])


def filled(items: Any, made: "queue.Queue[Any] | None" = None) -> "queue.Queue[Any]":
    """A priority queue, or the one *made*, with *items* put in."""
    made = PriorityQueue() if made is None else made
    for item in items:
        made.put_nowait(item)
    return made


def drained(made: "queue.Queue[Any]") -> list[Any]:
    """All the items, in the order in which they are got."""
    return [made.get_nowait() for _ in range(made.qsize())]


def waiting(condition: threading.Condition, threads: int = 1) -> bool:
    """Whether so many *threads* wait on *condition*."""
    with condition:
        return threads == len(condition._waiters)  # type: ignore[attr-defined]


class Thread(threading.Thread):
    """Runs *call* and keeps what it raises."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.call = call
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.call()
        except BaseException as error:
            self.error = error

    def end(self) -> "BaseException | None":
        self.join(DEADLINE)
        assert not self.is_alive()
        return self.error


# -- both are queue.Queue -------------------------------------------------------------------------
@BOTH
def test_is_a_queue(make: Make) -> None:
    """It can stand wherever a queue.Queue is asked for."""
    assert isinstance(make(), queue.Queue)


@BOTH
def test_full(make: Make) -> None:
    """maxsize is honoured, and a timeout is kept."""
    made = make(maxsize=1)
    made.put(1)
    assert made.full()
    with pytest.raises(queue.Full):
        made.put_nowait(2)
    with pytest.raises(queue.Full):
        made.put(2, timeout=0.01)


@BOTH
def test_empty(make: Make) -> None:
    """Getting nothing is Empty, at once or after the timeout."""
    made = make()
    with pytest.raises(queue.Empty):
        made.get_nowait()
    with pytest.raises(queue.Empty):
        made.get(timeout=0.01)


@BOTH
def test_put_waits_for_room(make: Make) -> None:
    """A put on a full queue goes on once something is got."""
    made = make(maxsize=1)
    made.put(1)
    thread = Thread(lambda: made.put(2, timeout=DEADLINE))
    assert run_until_true(lambda: waiting(made.not_full), DEADLINE)
    assert 1 == made.get_nowait()
    assert thread.end() is None
    assert [2] == drained(made)


@BOTH
def test_get_waits_for_an_item(make: Make) -> None:
    """A get on an empty queue goes on once something is put."""
    made = make()
    got: list[Any] = []
    thread = Thread(lambda: got.append(made.get(timeout=DEADLINE)))
    assert run_until_true(lambda: waiting(made.not_empty), DEADLINE)
    made.put(5)
    assert thread.end() is None
    assert [5] == got


@BOTH
def test_task_done_and_join(make: Make) -> None:
    """join returns once every item put is done, and one too many is an error."""
    made = make()
    filled([1, 2], made)
    thread = Thread(made.join)
    drained(made)
    made.task_done()
    assert run_until_true(lambda: waiting(made.all_tasks_done), DEADLINE)
    made.task_done()
    assert thread.end() is None
    with pytest.raises(ValueError, match="too many"):
        made.task_done()


@BOTH
def test_many_threads(make: Make) -> None:
    """Among producers and consumers no item is lost, and none comes twice."""
    made = make(maxsize=3)
    got: list[int] = []

    def produce(first: int) -> None:
        for item in range(first, 1000, 4):
            made.put(item, timeout=DEADLINE)

    def consume() -> None:
        for _ in range(250):
            got.append(made.get(timeout=DEADLINE))

    threads = [Thread(partial(produce, first)) for first in range(4)]
    threads += [Thread(consume) for _ in range(4)]
    assert [None] * 8 == [thread.end() for thread in threads]
    assert list(range(1000)) == sorted(got)


# -- PriorityQueue --------------------------------------------------------------------------------
@given(st.lists(st.integers()))
def test_least_first(items: list[int]) -> None:
    """Items come out sorted."""
    assert sorted(items) == drained(filled(items))


@given(st.lists(st.tuples(st.integers(0, 3), st.dictionaries(st.text(), st.none()))))
def test_equal_ones_as_they_came(items: list[Any]) -> None:
    """Among equal priorities first in is first out, though what follows has no order."""
    assert sorted(items, key=lambda item: item[0]) == drained(filled(items))


def test_objects_without_an_order() -> None:
    """Plain objects, dicts and None are got as they came."""
    items = [object() for _ in range(50)]
    assert items == drained(filled(items))
    assert [{"b": 1}, {"a": 1}] == drained(filled([{"b": 1}, {"a": 1}]))
    assert [None, None] == drained(filled([None, None]))


MIXED = st.one_of(
    st.integers(), st.floats(allow_nan=False), st.text(), st.none(), st.tuples(st.integers())
)


@given(st.lists(MIXED))
def test_mixed_types(items: list[Any]) -> None:
    """Each type is ordered by itself, one type after the other as they first came."""

    def kind(item: Any) -> type:
        return float if isinstance(item, int) else type(item)

    kinds = list(dict.fromkeys(map(kind, items)))
    expected: list[Any] = []
    for each in kinds:
        mine = [item for item in items if kind(item) is each]
        expected += mine if each is type(None) else sorted(mine)
    assert expected == drained(filled(items))


def test_contexts() -> None:
    """Execute contexts are ordered by their items, and those that have no order come in turn."""
    low, high = ExecuteContext(item=1), ExecuteContext(item=2)
    assert [1, 2] == [each.item for each in drained(filled([high, low]))]
    odd = [ExecuteContext(item={}), ExecuteContext(item={})]
    assert [id(each) for each in odd] == [id(each) for each in drained(filled(odd))]


class Sour:
    """Raises something else than a TypeError when it is compared, as numpy's arrays do."""

    def __lt__(self, other: object) -> bool:
        raise ValueError("the truth value is ambiguous")


def test_comparing_that_raises() -> None:
    """Whatever comparing raises, neither put nor get does."""
    items = [Sour() for _ in range(5)]
    assert items == drained(filled(items))


def test_key() -> None:
    """key gives what the items are ordered by."""
    made: PriorityQueue[str] = PriorityQueue(key=len)
    assert ["c", "bb", "dd", "aaa"] == drained(filled(["aaa", "bb", "c", "dd"], made))


def test_key_that_raises() -> None:
    """What key raises reaches the producer, and the item is not in the queue."""
    made: PriorityQueue[Any] = PriorityQueue(key=len)
    with pytest.raises(TypeError, match="has no len"):
        made.put(3)
    assert 0 == made.qsize() == made.unfinished_tasks
    made.put("fine")
    assert "fine" == made.get_nowait()


def test_first_and_last() -> None:
    """A sentinel can stand before or behind everything, also what comes later, and as it came."""
    made: PriorityQueue[Any] = PriorityQueue(key=lambda item: item[0])
    made.put((1,))
    made.put_last("end")
    made.put_last(None)
    made.put_first("now")
    made.put_first("then")
    made.put((float("-inf"),))
    made.put((float("inf"),))
    expected = ["now", "then", (float("-inf"),), (1,), (float("inf"),), "end", None]
    assert expected == drained(made)


@pytest.mark.parametrize("name", ["put_first", "put_last"])
def test_first_and_last_heed_maxsize(name: str) -> None:
    """They wait for room as put does."""
    made: PriorityQueue[int] = PriorityQueue(1)
    made.put(1)
    with pytest.raises(queue.Full):
        getattr(made, name)(2, block=False)
    with pytest.raises(queue.Full):
        getattr(made, name)(2, timeout=0.01)


def test_types_are_forgotten() -> None:
    """An empty queue keeps nothing of the types that went through it."""
    made = PriorityQueue[Any]()
    filled([1, "a", object()], made)
    drained(made)
    assert {} == made._kinds


# -- UniqueQueue ----------------------------------------------------------------------------------
def test_duplicate() -> None:
    """An item that equals one in the queue is refused, and nothing of it is counted."""
    made = UniqueQueue[Any]()
    made.put((1, "a"))
    with pytest.raises(Duplicate, match=r"\(1, 'a'\)"):
        made.put((1, "a"))
    assert issubclass(Duplicate, SpartsError)
    assert 1 == made.qsize() == made.unfinished_tasks


def test_silent() -> None:
    """A silent queue ignores the duplicate."""
    made = UniqueQueue[int](silent=True)
    filled([1, 1, 2, 1], made)
    assert 2 == made.unfinished_tasks
    assert [1, 2] == drained(made)


def test_unseen_when_got() -> None:
    """Once it was got, an item may come again."""
    made = UniqueQueue[int]()
    made.put(1)
    made.get()
    made.put(1)
    assert [1] == drained(made)


def test_explicit_unsee() -> None:
    """With explicit_unsee it may come again only once it was unseen."""
    made = UniqueQueue[int](explicit_unsee=True)
    made.put(1)
    made.get()
    with pytest.raises(Duplicate):
        made.put(1)
    made.unsee(1)
    made.put(1)
    assert [1] == drained(made)


def test_unsee_of_what_was_never_seen() -> None:
    """It is no error."""
    UniqueQueue[int]().unsee(1)


def test_a_failed_put_leaves_no_trace() -> None:
    """An item for which there was no room is not seen."""
    made = UniqueQueue[int](1)
    made.put(1)
    for arguments in ({"block": False}, {"timeout": 0.01}):
        with pytest.raises(queue.Full):
            made.put(2, **arguments)
    made.get()
    made.put(2)
    assert [2] == drained(made)


@pytest.mark.parametrize("silent", [False, True])
def test_duplicate_on_a_full_queue(silent: bool) -> None:
    """A duplicate is told at once, without waiting for room."""
    made = UniqueQueue[int](1, silent)
    made.put(1)
    thread = Thread(lambda: made.put(1))
    error = thread.end()
    assert (type(None) if silent else Duplicate) is type(error)


def test_room_is_passed_on() -> None:
    """A waiter that turns out to be a duplicate wakes the next one in its place."""
    made = UniqueQueue[int](1, explicit_unsee=True)
    made.put(0)
    threads = []
    for number, item in enumerate([1, 1, 2], 1):
        threads.append(Thread(partial(made.put, item)))
        assert run_until_true(partial(waiting, made.not_full, number), DEADLINE)
    assert [0, 1, 2] == [made.get(timeout=DEADLINE) for _ in range(3)]
    assert [type(None), Duplicate, type(None)] == [type(thread.end()) for thread in threads]


@pytest.mark.parametrize("silent", [False, True])
def test_unhashable(silent: bool) -> None:
    """An item that cannot be told from others is an error that names it and the cure."""
    made = UniqueQueue[Any](silent=silent)
    with pytest.raises(TypeError, match=r"not \{'a': 1\} of type dict; put something hashable"):
        made.put({"a": 1})
    assert made.empty()

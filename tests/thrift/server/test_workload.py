"""Calls that wait for a worker: one that becomes free has them, one timer watches, late is late."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sparts.thrift.server.crew import Crew
from sparts.thrift.server.loop import Loop
from sparts.thrift.server.workload import Workload

DEADLINE = 10.0


class Asked:
    """As much of a call as waits."""

    def __init__(self, age: float = 0.0) -> None:
        self.arrived = time.monotonic() - age


class Desk:
    """A leader's desk: its crew, its loop, what waits and what was refused."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.crew = Crew(bool)
        self.loop = Loop()
        self.load = Workload(
            self.crew, self.loop, 5.0, lambda c, call, why: self.refused.append(why)
        )
        assert self.crew.stand_by()
        self.threads: list[threading.Thread] = []

    def _refuse(self, connection: Any, call: Any, why: str) -> None:
        self.refused.append(why)

    def stand_by(self) -> None:
        """Have a thread come, which stands by and, if it leads, leaves."""
        joined = threading.Event()

        def stands() -> None:
            self.load.stands_by()
            joined.set()

        self.threads.append(threading.Thread(target=self.crew.stand_by, args=(stands,)))
        self.threads[-1].start()
        assert joined.wait(DEADLINE)

    def wait(self, age: float = 0.0) -> Any:
        """A call that blocks comes."""
        work: Any = (object(), Asked(age))
        self.took = self.load.take_on(work)
        return work


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.crew.dismiss()
    for thread in made.threads:
        thread.join(DEADLINE)
    made.loop.close()


def test_taken_on(desk: Desk) -> None:
    """With a thread that stands by, the leader becomes the worker, and that thread leads."""
    desk.stand_by()
    desk.wait()
    assert desk.took
    assert 1 == desk.load.busy
    assert desk.load.next() is None
    assert 0 == desk.load.load


def test_waits_and_is_next(desk: Desk) -> None:
    """Without one it waits, and is what a worker runs next."""
    first, second = desk.wait(), desk.wait()
    assert not desk.took
    assert desk.load.employ() is None
    desk.load.begin()
    assert [first, second, None] == [desk.load.next() for _ in range(3)]
    assert 0 == desk.load.load


def test_who_comes_wakes_the_leader(desk: Desk) -> None:
    """A thread that stands by when a call waits already has the leader wake and be its worker."""
    work = desk.wait()
    desk.stand_by()
    events = desk.loop.wait(at_once=True)
    assert 1 == len(events)
    assert work == desk.load.employ()
    assert 1 == desk.load.busy


def test_one_timer(desk: Desk) -> None:
    """Whatever comes and goes, one timer watches what waits."""
    desk.load.begin()
    for _ in range(100):
        desk.wait()
        desk.load.next()
    assert 1 == len(desk.loop._timers)


def test_late(desk: Desk) -> None:
    """What has waited too long is refused, the others go on waiting."""
    desk.wait(age=6.0)
    kept = desk.wait()
    desk.load._refuse_late()
    assert ["no thread was free for 5 s"] == desk.refused
    desk.load.begin()
    assert kept == desk.load.next()

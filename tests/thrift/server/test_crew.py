"""Who leads: one at a time, passed on, taken from a leader that is stuck, and nobody looks idly."""

import threading
from typing import Any

import pytest

from sparts.thrift.server.crew import Crew
from sparts.timer import run_until_true

DEADLINE = 10.0


class Team:
    """Threads that stand by, each of which tells when it leads and waits for orders."""

    def __init__(self, number: int) -> None:
        self.taken: list[Any] = []
        self.crew = Crew(self.taken.append)
        self.leading = threading.Semaphore(0)
        self.order = threading.Semaphore(0)
        self.left = 0
        self.threads = [threading.Thread(target=self.run) for _ in range(number)]
        for thread in self.threads:
            thread.start()

    def run(self) -> None:
        if self.crew.stand_by():
            self.leading.release()
            assert self.order.acquire(timeout=DEADLINE)
        else:
            self.left += 1

    def someone_leads(self) -> bool:
        return self.leading.acquire(timeout=DEADLINE)

    def end(self) -> None:
        self.crew.dismiss()
        for _ in self.threads:
            self.order.release()
        for thread in self.threads:
            thread.join(DEADLINE)


@pytest.fixture
def team() -> Any:
    made = Team(4)
    yield made
    made.end()


def test_one_leads(team: Team) -> None:
    """Of all that stand by one leads; after a dismissal the others leave."""
    assert team.someone_leads()
    assert not team.leading.acquire(timeout=0.05)
    team.end()
    assert 3 == team.left


def test_passed_on(team: Team) -> None:
    """The loop is passed on until nobody stands by any more."""
    assert team.someone_leads()
    assert run_until_true(lambda: len(team.crew._standing) + bool(team.crew.watcher) == 3, DEADLINE)
    for _ in range(3):
        assert team.crew.pass_on()
        assert team.someone_leads()
    assert not team.crew.pass_on()


def test_taken_over(team: Team) -> None:
    """From a leader that is stuck in something another takes the loop, and says in what."""
    assert team.someone_leads()
    stuck = object()
    team.crew.claims[0] = stuck
    team.crew.attend()
    assert team.someone_leads()
    assert [stuck] == team.taken
    assert team.crew.claims.pop(0, None) is None
    team.crew.deposed()


def test_what_changes_is_not_stuck(team: Team) -> None:
    """A leader whose claims come and go keeps the loop."""
    assert team.someone_leads()
    for number in range(20_000):
        team.crew.claims[0] = number
        team.crew.attend()
        if team.crew.claims.pop(0, None) is None:
            pytest.fail(f"taken over at turn {number}")
    assert [] == team.taken or len(team.taken) < 2


def test_the_watcher_rests(team: Team) -> None:
    """Without traffic nobody watches; with the next of it somebody does."""
    assert team.someone_leads()
    team.crew.attend()
    assert run_until_true(lambda: team.crew.watcher is None, DEADLINE)
    team.crew.attend()
    assert team.crew.watcher is not None


def test_who_comes_late_leaves() -> None:
    """After the end nobody stays."""
    crew = Crew(bool)
    crew.dismiss()
    assert not crew.stand_by()

"""Time limits of connections: one timer, each phase its own time, and a moment at the end."""

from collections.abc import Callable
from typing import Any

import pytest

from sparts.thrift.limits import Limits
from sparts.thrift.server.connection import Phase
from sparts.thrift.server.patience import Patience


class At:
    """As much of a connection as is looked at."""

    def __init__(self, phase: Phase, since: float) -> None:
        self.phase, self.since = phase, since


class Timer:
    def __init__(self, due: float, callback: Callable[[], object]) -> None:
        self.due, self.callback, self.live = due, callback, True

    def cancel(self) -> None:
        self.live = False


class Loop:
    """A loop whose time stands still until it is told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def post(self, callback: Callable[[], object]) -> None:
        callback()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        self.timers.append(Timer(self.now + delay, callback))
        return self.timers[-1]

    def live(self) -> list[Timer]:
        return [each for each in self.timers if each.live]

    def go_to(self, now: float) -> None:
        """Let the time pass, and call what is due."""
        while due := [each for each in self.live() if each.due <= now]:
            first = min(due, key=lambda each: each.due)
            first.live = False
            self.now = first.due
            first.callback()
        self.now = now


@pytest.fixture
def loop() -> Loop:
    return Loop()


def patience(loop: Loop, connections: list[Any], up: list[Any]) -> Patience:
    def is_up(connection: Any) -> None:
        up.append(connection)
        connections.remove(connection)

    limits = Limits(idle_timeout=100, read_timeout=10, write_timeout=0)
    return Patience(limits, loop, lambda: connections, is_up)


def test_each_its_time(loop: Loop) -> None:
    """A slow message is up before an idle connection; one that is busy, or unlimited, never."""
    slow, idle = At(Phase.READING, 0.0), At(Phase.IDLE, 0.0)
    others = [At(Phase.BUSY, 0.0), At(Phase.WRITING, 0.0)]
    connections: list[Any] = [*others, idle, slow]
    up: list[Any] = []
    watcher = patience(loop, connections, up)
    for each in tuple(connections):
        watcher.watch(each)
    loop.go_to(9.0)
    assert [] == up
    loop.go_to(10.1)
    assert [slow] == up
    loop.go_to(99.0)
    assert [slow] == up
    loop.go_to(100.1)
    assert [slow, idle] == up
    loop.go_to(1000.0)
    assert others == connections


def test_one_timer(loop: Loop) -> None:
    """However often an earlier end comes up, there is one timer."""
    idle: Any = At(Phase.IDLE, 0.0)
    connections: list[Any] = [idle]
    watcher = patience(loop, connections, [])
    watcher.watch(idle)
    for second in range(1, 90):
        loop.go_to(float(second))
        slow: Any = At(Phase.READING, loop.now)
        connections.append(slow)
        watcher.watch(slow)
        connections.remove(slow)
        idle.since = loop.now
        assert 1 == len(loop.live())


def test_nothing_to_wait_for(loop: Loop) -> None:
    """With no connection left nothing wakes."""
    connections: list[Any] = [At(Phase.IDLE, 0.0)]
    up: list[Any] = []
    watcher = patience(loop, connections, up)
    watcher.watch(connections[0])
    loop.go_to(101.0)
    assert 1 == len(up)
    assert [] == loop.live()


def test_the_end(loop: Loop) -> None:
    """At a stop the idle ones have a moment left, the others their time."""
    idle, slow = At(Phase.IDLE, 0.0), At(Phase.READING, 0.0)
    connections: list[Any] = [idle, slow]
    up: list[Any] = []
    watcher = patience(loop, connections, up)
    loop.go_to(0.05)
    watcher.end_soon()
    loop.go_to(0.2)
    assert [idle] == up
    loop.go_to(10.5)
    assert [idle, slow] == up

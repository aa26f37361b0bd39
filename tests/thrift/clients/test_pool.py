"""The pool of the blocking client: bounds, order, age, and threads that wait."""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from sparts.thrift.clients.pool import Pool
from sparts.thrift.errors import ClientClosed, PoolExhausted

DEADLINE = 10.0


class Fake:
    """A connection that is nothing."""

    def __init__(self, quiet: bool = True) -> None:
        self.last_used = 0.0
        self.quiet = quiet
        self.closed = False

    def is_quiet(self) -> bool:
        return self.quiet

    def close(self) -> None:
        self.closed = True


def pool_of(limit: int, idle_timeout: float = math.inf) -> Pool[Fake]:
    """A pool."""
    return Pool("h:1", limit, idle_timeout)


def take(pool: Pool[Fake], wait: float = DEADLINE) -> Fake | None:
    """Take one now, or after a wait of that many seconds."""
    now = time.monotonic()
    return pool.take(now, now + wait)


def taken(pool: Pool[Fake]) -> Fake:
    """Take one, and make it where there is none."""
    return take(pool) or pool.adopt(Fake())


def waits(pool: Pool[Fake], count: int = 1) -> None:
    """Wait until so many threads wait."""
    end = time.monotonic() + DEADLINE
    while len(pool._tickets) < count:
        assert time.monotonic() < end
        threading.Event().wait(0.001)


def test_the_last_one_first() -> None:
    """What was given back last is taken first, so the others grow old."""
    pool = pool_of(3)
    one, other = taken(pool), taken(pool)
    assert 2 == pool.size
    pool.give(one)
    pool.give(other)
    assert [other, one, None] == [take(pool) for _ in range(3)]
    assert 3 == pool.size
    assert not pool.has_room


def test_no_more_than_the_limit() -> None:
    """At the limit a thread waits, until its deadline and not longer."""
    pool = pool_of(1)
    held = taken(pool)
    with pytest.raises(PoolExhausted, match="all 1 connections to h:1 were in use"):
        take(pool, 0.01)
    with pytest.raises(PoolExhausted):
        take(pool, -1.0)
    pool.give(held)
    assert held is take(pool)


@pytest.mark.parametrize("end", ["give", "drop"])
def test_who_waits_is_served_in_order(end: str) -> None:
    """The thread that waits longest has the next connection, or the place of a dropped one."""
    pool = pool_of(1)
    held = taken(pool)
    with ThreadPoolExecutor(3) as threads:
        calls: list[Future[Fake | None]] = []
        for count in range(1, 4):
            calls.append(threads.submit(take, pool))
            waits(pool, count)
        for each in calls:
            (pool.give if end == "give" else pool.drop)(held)
            assert (held if end == "give" else None) is each.result(DEADLINE)
    assert 1 == pool.size


def test_one_who_takes_again_does_not_push_in() -> None:
    """A thread that gives and takes at once goes behind those that wait."""
    pool = pool_of(1)
    held = taken(pool)
    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(take, pool)
        waits(pool)
        pool.give(held)
        with pytest.raises(PoolExhausted):
            take(pool, 0.01)
        assert held is other.result(DEADLINE)


def test_one_that_is_dead() -> None:
    """A connection that ended is closed, and its place is for a new one."""
    pool = pool_of(2)
    dead = taken(pool)
    pool.give(dead)
    dead.quiet = False
    assert take(pool) is None
    assert dead.closed
    assert 1 == pool.size


def test_too_old() -> None:
    """What was idle for too long is not used, and closed by the calls of others."""
    pool = pool_of(9, idle_timeout=5.0)
    several = [taken(pool) for _ in range(4)]
    for each in several:
        pool.give(each)
    now = several[-1].last_used
    several[0].last_used = several[1].last_used = now - 6.0
    assert several[3] is pool.take(now, math.inf)
    assert [True, True, False, False] == [each.closed for each in several]
    assert 2 == pool.size
    assert pool.take(now + 6.0, math.inf) is None
    assert several[2].closed


def test_close() -> None:
    """Closing ends the idle ones and the waits; what is in use is closed as it comes back."""
    pool = pool_of(2)
    idle, used = taken(pool), taken(pool)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(take, pool)
        waits(pool)
        pool.close()
        with pytest.raises(ClientClosed):
            waiting.result(DEADLINE)
    pool.give(idle)
    assert idle.closed
    assert not used.closed
    pool.drop(used)
    pool.close()
    assert (True, 0) == (used.closed, pool.size)
    with pytest.raises(ClientClosed):
        take(pool)


def test_a_child_of_a_fork() -> None:
    """It closes its copies, and neither waits for a lock nor counts what is the parent's."""
    pool = pool_of(2)
    used, idle = taken(pool), taken(pool)
    pool.give(idle)
    pool._lock.acquire()
    pool.after_fork()
    assert (True, True, 0) == (used.closed, idle.closed, pool.size)
    assert take(pool) is None


def test_one_served_as_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a thread gets in the moment in which it gives up goes to the next."""
    pool = pool_of(1)
    held = taken(pool)

    def late(ticket: object, deadline: float) -> None:
        pool.give(held)
        raise PoolExhausted("late")

    monkeypatch.setattr(pool, "_wait", late)
    with pytest.raises(PoolExhausted):
        take(pool)
    assert held is take(pool)

    def late_drop(ticket: object, deadline: float) -> None:
        pool.drop(held)
        raise PoolExhausted("late")

    monkeypatch.setattr(pool, "_wait", late_drop)
    with pytest.raises(PoolExhausted):
        take(pool)
    assert 0 == pool.size


def hammer(pool: Pool[Fake], used: set[Fake], limit: int) -> None:
    """Take and give many times, and see that nobody else has the same."""
    for number in range(400):
        connection = take(pool) or Fake()
        assert connection not in used
        used.add(connection)
        assert len(used) <= limit
        used.discard(connection)
        (pool.drop if number % 7 == 0 else pool.give)(connection)


def test_many_threads() -> None:
    """However threads take, give and drop: no connection has two users, none waits in vain."""
    pool, used = pool_of(3), set[Fake]()
    with ThreadPoolExecutor(12) as threads:
        work: list[Callable[[], None]] = [lambda: hammer(pool, used, 3)] * 12
        for each in [threads.submit(one) for one in work]:
            each.result(DEADLINE)
    assert pool.size <= 3
    assert not pool._tickets

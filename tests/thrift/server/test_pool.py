"""The threads beside a loop: what they run, what is refused, and how they end."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sparts.thrift.limits import Limits
from sparts.thrift.server.pool import CallPool, TooBusy

DEADLINE = 10.0


@contextlib.contextmanager
def threads(pool: CallPool, count: int = 1) -> Iterator[None]:
    """That many, which end with the block."""
    made = [threading.Thread(target=pool.work, name=f"worker-{n}") for n in range(count)]
    for thread in made:
        thread.start()
    try:
        yield
    finally:
        pool.close()
        for thread in made:
            thread.join(DEADLINE)
            assert not thread.is_alive()


async def caught_up(pool: CallPool) -> None:
    """Wait until the threads have seen all that was there."""
    await pool.run(bool)


def test_what_comes_of_it() -> None:
    """What a function gives or raises in a thread comes to who awaits it."""

    def fail() -> None:
        raise KeyError("x")

    async def main() -> str:
        with pytest.raises(KeyError):
            await pool.run(fail)
        return await pool.run(lambda: threading.current_thread().name)

    pool = CallPool(Limits())
    with threads(pool):
        assert "worker-0" == asyncio.run(main())
    assert 0 == pool.load


def test_what_waits_too_long_is_not_run() -> None:
    """It is refused at its time, and counts until a thread has seen that it is not to be run."""
    ran: list[int] = []

    async def main() -> None:
        for number in range(2):
            with pytest.raises(TooBusy, match="no thread was free for"):
                await pool.run(lambda number=number: ran.append(number))  # type: ignore[misc]
        assert 2 == pool.load
        with pytest.raises(TooBusy, match="2 calls wait or are under way"):
            await pool.run(bool)
        with threads(pool):
            pass
        await asyncio.sleep(0)

    pool = CallPool(Limits(max_calls=2, queue_timeout=0.001))
    asyncio.run(main())
    assert ([], 0) == (ran, pool.load)


def test_what_runs_on_the_loop_counts() -> None:
    """A block on the loop is one of the calls under way, however it ends."""

    async def main() -> None:
        with contextlib.suppress(KeyError), pool.counted():
            assert 1 == pool.load
            with pytest.raises(TooBusy):
                await pool.run(bool)
            with pytest.raises(TooBusy), pool.counted():
                raise AssertionError
            raise KeyError

    pool = CallPool(Limits(max_calls=1))
    asyncio.run(main())
    assert 0 == pool.load


def test_the_end() -> None:
    """What waits at the close is run, what comes later is refused."""
    go_on = threading.Event()

    async def main() -> list[Any]:
        with threads(pool):
            runs = [asyncio.ensure_future(pool.run(go_on.wait)) for _ in range(3)]
            await asyncio.sleep(0)
            pool.close()
            with pytest.raises(TooBusy, match="the service stops"):
                await pool.run(bool)
            go_on.set()
            return await asyncio.gather(*runs)

    pool = CallPool(Limits())
    assert [True] * 3 == asyncio.run(main())


def test_nobody_waits_any_more() -> None:
    """A function goes on when its awaiter was cancelled or the loop is closed, and harms no one."""
    began, go_on = threading.Semaphore(0), threading.Event()

    def work() -> None:
        began.release()
        assert go_on.wait(DEADLINE)

    async def main(cancel: bool) -> None:
        task = asyncio.ensure_future(pool.run(work))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(began.acquire, timeout=DEADLINE)
        if cancel:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go_on.set()
            await caught_up(pool)

    pool = CallPool(Limits())
    with threads(pool):
        asyncio.run(main(True))
        assert 0 == pool.load
        go_on.clear()
        asyncio.run(main(False))
        go_on.set()

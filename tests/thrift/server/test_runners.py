"""Runners: work begins at once, in a real task, with a context of its own."""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import pytest

from sparts.tasks.asyncio import new_loop
from sparts.thrift.server.calls import Client, current_client
from sparts.thrift.server.runners import Pending, Runners

CLIENT = Client(None, ("1.2.3.4", 5), "tcp")
LEFT: contextvars.ContextVar[str] = contextvars.ContextVar("LEFT", default="nothing")


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Any:
    """``run(test)``: calls *test(runners)* on a loop, outside of any task, step by step."""

    def start(*steps: Callable[[Runners], Any]) -> None:
        loop = new_loop(request.param)
        failed: list[BaseException] = []
        try:
            runners = Runners(loop)
            runners.prepare()

            def step(function: Callable[[Runners], Any]) -> None:
                try:
                    function(runners)
                except BaseException as error:
                    failed.append(error)

            for number, function in enumerate(steps, 1):
                loop.call_later(0.02 * number, step, function)
            loop.call_later(0.02 * (len(steps) + 1), runners.end)
            loop.call_later(0.02 * (len(steps) + 2), loop.stop)
            loop.run_forever()
            assert not asyncio.all_tasks(loop)
        finally:
            loop.close()
        if failed:
            raise failed[0]

    return start


def collect(pending: Any, into: list[Any]) -> None:
    assert isinstance(pending, Pending)
    pending.done = lambda value, error: into.append((value, error))


def test_value_at_once(run: Any) -> None:
    """What does not wait has ended when begin returns, or has raised."""

    async def quick() -> Any:
        return asyncio.current_task() is not None, current_client()

    async def fails() -> Any:
        raise KeyError("x")

    def step(runners: Runners) -> None:
        assert (True, CLIENT) == runners.begin(quick(), CLIENT)
        with pytest.raises(KeyError):
            runners.begin(fails(), CLIENT)
        assert (True, None) == runners.begin(quick(), None)

    run(step)


@pytest.mark.parametrize("at_once", [1, 5])
def test_value_later(run: Any, at_once: int) -> None:
    """What waits tells later; timeouts work within; more than there are runners run, too."""
    told: list[Any] = []

    async def slow(number: int) -> Any:
        async with asyncio.timeout(5):
            await asyncio.sleep(0.005)
        return number, current_client()

    def begin(runners: Runners) -> None:
        for number in range(at_once):
            collect(runners.begin(slow(number), CLIENT), told)

    run(begin, begin)
    assert [((n, CLIENT), None) for n in [*range(at_once)] * 2] == told


def test_cancelled(run: Any) -> None:
    """Work that is cancelled tells so, and the next goes on."""
    told: list[Any] = []

    async def cancels_itself() -> Any:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async def quick() -> Any:
        return 1

    run(
        lambda runners: collect(runners.begin(cancels_itself(), None), told),
        lambda runners: runners.prepare(),
        lambda runners: told.append(runners.begin(quick(), None)),
    )
    assert isinstance(told[0][1], asyncio.CancelledError)
    assert 1 == told[1]


def test_context_variables_do_not_leak(run: Any) -> None:
    """A variable that one piece of work sets is not set for the next."""
    seen: list[Any] = []

    async def sets() -> Any:
        before = LEFT.get()
        LEFT.set("something")
        return before

    def step(runners: Runners) -> None:
        outcome = runners.begin(sets(), None)
        if isinstance(outcome, Pending):
            collect(outcome, seen)
        else:
            seen.append((outcome, None))

    run(step, step, step)
    assert [("nothing", None)] * 3 == seen


def test_the_loops_end_while_it_rests() -> None:
    """A runner that rests when all tasks are cancelled ends."""

    async def main() -> None:
        Runners(asyncio.get_running_loop()).prepare()
        await asyncio.sleep(0.01)

    asyncio.run(main())

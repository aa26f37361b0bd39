"""The accept loop: out of descriptors, at the limit of connections, and its log lines."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from sparts.net import listener as module
from sparts.net.listener import AsyncioReactor, Listener
from sparts.tasks.asyncio import new_loop

DEADLINE = 10.0


class Server(socket.socket):
    """A listening socket whose ``accept`` fails as often as the test says."""

    def __init__(self) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self.setblocking(False)
        self.bind(("127.0.0.1", 0))
        self.listen(128)
        self.failures: list[int] = []
        self.tried: list[float] = []
        self.always = 0

    def accept(self) -> Any:
        self.tried.append(time.monotonic())
        code = self.failures.pop(0) if self.failures else self.always
        if code:
            raise OSError(code, os.strerror(code))
        return super().accept()


class Room:
    """A listener and what it has accepted."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.inside: list[socket.socket] = []
        self.clients: list[socket.socket] = []
        self.changed = asyncio.Condition()
        self.server = Server()
        self.listener = Listener(self._accepted, self._has_room, logging.getLogger("listener"))
        self.listener.open([self.server], AsyncioReactor(asyncio.get_running_loop()))

    def _accepted(self, sock: socket.socket, address: Any) -> None:
        self.inside.append(sock)
        self._tell()

    def _has_room(self) -> bool:
        return len(self.inside) < self.limit

    def _tell(self) -> None:
        async def tell() -> None:
            async with self.changed:
                self.changed.notify_all()

        self.telling = asyncio.ensure_future(tell())

    def come(self, number: int = 1) -> None:
        """Have *number* clients connect."""
        for _ in range(number):
            self.clients.append(socket.create_connection(self.server.getsockname(), DEADLINE))

    def leave(self) -> None:
        """Have one connection close."""
        self.inside.pop().close()
        self.listener.retry()

    async def has(self, number: int) -> None:
        """Wait until *number* are inside."""
        async with asyncio.timeout(DEADLINE), self.changed:
            await self.changed.wait_for(lambda: len(self.inside) == number)


@contextlib.asynccontextmanager
async def room(limit: int = 1000) -> AsyncIterator[Room]:
    """A room that is left empty."""
    made = Room(limit)
    try:
        yield made
    finally:
        made.listener.close()
        for sock in made.inside + made.clients:
            sock.close()
        await asyncio.sleep(0)


Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine, on both loops."""

    def go(coroutine: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=lambda: new_loop(request.param)) as runner:
            runner.run(coroutine)

    return go


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the listener logged."""
    return [record.getMessage() for record in caplog.records if record.name == "listener"]


def test_it_accepts_all(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """Everyone who comes is accepted, also more than it takes in one go."""

    async def main() -> None:
        async with room() as here:
            here.come(100)
            await here.has(100)

    run(main())
    assert [] == told(caplog)


def test_it_backs_off(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """Out of descriptors it tries again after 50, 100, 200 ms, and tells the beginning and end."""

    async def main() -> None:
        async with room() as here:
            here.server.failures = [errno.EMFILE, errno.ENFILE, errno.ENOMEM]
            here.come(2)
            await here.has(2)
            first, *later = here.server.tried
            expected = [first + 0.05, first + 0.15, first + 0.35]
            assert all(at - 0.01 <= t for at, t in zip(expected, later, strict=False))

    run(main())
    begun, ended = told(caplog)
    assert f"Cannot accept ({os.strerror(errno.EMFILE)})" in begun
    assert "again" in ended


def test_the_delay_has_an_end() -> None:
    """It doubles up to a second, no further."""

    async def main() -> None:
        delays: list[float] = []
        loop = asyncio.get_running_loop()
        later = loop.call_later

        def call_later(delay: float, callback: Any, *args: Any) -> asyncio.TimerHandle:
            if callback == here.listener._resume:
                delays.append(delay)
                if len(delays) == 7:
                    here.server.always = 0
                delay = 0.0
            return later(delay, callback, *args)

        async with room() as here:
            here.server.always = errno.EMFILE
            loop.call_later = call_later  # type: ignore[method-assign, assignment]
            here.come()
            await here.has(1)
        assert [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0] == delays

    with asyncio.Runner(loop_factory=lambda: new_loop("asyncio")) as runner:
        runner.run(main())


def test_a_connection_that_closes_ends_the_wait(run: Run) -> None:
    """It tries again at once when one of its connections closes."""

    async def main() -> None:
        async with room() as here:
            here.come()
            await here.has(1)
            here.listener._delay = 3600.0
            here.server.failures = [errno.EMFILE]
            here.come(2)
            while here.server.failures:
                await asyncio.sleep(0)
            here.leave()
            await here.has(2)

    run(main())


def test_the_limit(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """At the limit others wait, in the backlog, until one closes; nothing spins meanwhile."""

    async def main() -> None:
        async with room(limit=3) as here:
            here.come(5)
            await here.has(3)
            tried = len(here.server.tried)
            await asyncio.sleep(0.05)
            assert tried == len(here.server.tried)
            here.leave()
            await here.has(3)
            here.leave()
            here.leave()
            await here.has(2)

    run(main())
    assert ["At the limit of connections", "Accepting connections again"] == [
        line.split(" (")[0].split(",")[0] for line in told(caplog)
    ]


def test_it_repeats_itself_not(run: Run, caplog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shortage that comes and goes all the time is told once in a while."""

    async def main() -> None:
        async with room() as here:
            for number in range(1, 4):
                here.server.failures = [errno.EMFILE]
                here.come()
                await here.has(number)
            assert 2 == len(told(caplog))
            monkeypatch.setattr(module, "_QUIET", 0.0)
            here.server.failures = [errno.EMFILE]
            here.come()
            await here.has(4)

    run(main())
    assert 4 == len(told(caplog))


def test_one_that_is_lost_is_passed_over(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that broke while it waited does not hold up the next."""

    async def main() -> None:
        async with room() as here:
            here.server.failures = [errno.ECONNABORTED, errno.EPROTO]
            here.come()
            await here.has(1)

    run(main())
    assert [] == told(caplog)


def test_finishing_takes_in_who_waits(run: Run) -> None:
    """At the end those in the backlog are accepted, over the limit too; then it is over."""

    async def main() -> None:
        async with room(limit=70) as here:
            here.come(100)
            await here.has(70)
            done: list[int] = []
            here.listener.finish(lambda: done.append(len(here.inside)))
            assert [100] == done
            assert -1 == here.server.fileno()
            here.listener.retry()

    run(main())


def test_finishing_without_descriptors(run: Run) -> None:
    """Out of descriptors it keeps the socket, and takes in who waits when a connection closes."""

    async def main() -> None:
        async with room() as here:
            here.come()
            await here.has(1)
            here.listener._delay = 3600.0
            here.server.failures = [errno.EMFILE]
            here.come(2)
            done: list[int] = []
            here.listener.finish(lambda: done.append(len(here.inside)))
            assert (True, []) == (here.listener.is_open, done)
            here.leave()
            assert (False, [2]) == (here.listener.is_open, done)

    run(main())


def test_closing_while_backing_off(run: Run) -> None:
    """A close in the middle of a shortage leaves no timer behind."""

    async def main() -> None:
        async with room() as here:
            here.server.always = errno.EMFILE
            here.come()
            while not here.server.tried:
                await asyncio.sleep(0)
            timer: Any = here.listener._timer
            assert timer is not None
            here.listener.close()
            assert timer.cancelled()
            assert here.listener._timer is None

    run(main())

"""What drives a server's connections: the engine's own threads, or the service's asyncio loop."""

import logging
import socket
import ssl
import threading
from asyncio import CancelledError
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from sparts.errors import TaskError
from sparts.tasks.asyncio import AsyncioLoopTask, call_soon
from sparts.thrift.server import interval
from sparts.thrift.server.aio import AsyncioEngine
from sparts.thrift.server.calls import Call
from sparts.thrift.server.dispatch import Dispatcher
from sparts.thrift.server.engine import Engine
from sparts.thrift.server.gate import Gate
from sparts.vtask import VTask

__all__ = ["Serving", "front_of"]

#: Calls at a time of methods that need a thread beside those that serve.
_BESIDE: Final = 4


class Serving:
    """One server, as its task sees it; its subclasses say by what it is driven."""

    #: Whether it needs no threads of the task's.
    is_loopless: bool
    #: How many threads of the task's are to call ``run``.
    workers: int

    def __init__(self, engine: Engine | AsyncioEngine) -> None:
        self._served_by = engine
        #: Whether it serves, or still drains.
        self.running = False

    @property
    def gate(self) -> Gate:
        """Its connections."""
        return self._served_by.gate

    @property
    def load(self) -> int:
        """Calls under way or waiting."""
        return self._served_by.load

    def open(self, sockets: Iterable[socket.socket]) -> None:
        """Serve clients of *sockets*, which listen."""
        raise NotImplementedError

    def run(self) -> None:
        """What the task's threads run, if it needs any."""
        raise NotImplementedError

    def drain(self, timeout: float) -> None:
        """Begin to end, within *timeout* seconds."""
        raise NotImplementedError

    def join(self) -> None:
        """Wait until it has ended."""
        raise NotImplementedError

    def discard(self) -> None:
        """Let go of what never began."""
        self._served_by.discard()


def front_of(
    task: VTask, dispatcher: Dispatcher, threads: int, tls: ssl.SSLContext | None
) -> Serving:
    """What is to serve: the loop if every method is ``async def``, never blocks or needs a thread
    of its own; else threads.

    Where there are others, the threads hand the ``async def`` calls to the loop.
    """
    methods = dispatcher.targets.values()
    loop_task = None
    if any(each.is_async for each in methods):
        loop_task = task.service.getTask(AsyncioLoopTask)
        if loop_task is None:
            names = ", ".join(each.name for each in methods if each.is_async)
            raise TaskError(
                f"{task.name}: the async def methods {names} need the service's loop; write "
                "DEPS = [AsyncioLoopTask] in their handler"
            )
        if all(each.is_spawned or each.is_quick for each in methods):
            return _OnLoop(dispatcher, task.logger, loop_task, tls)
    spawn = _Spawn(task, dispatcher, loop_task)
    return _Threads(Engine(dispatcher, task.logger, threads, tls, spawn), spawn)


class _Threads(Serving):
    """The engine with threads of its own."""

    is_loopless = False

    def __init__(self, engine: Engine, spawn: "_Spawn") -> None:
        super().__init__(engine)
        self._engine = engine
        self._spawn = spawn
        self.workers = engine.threads + 1
        self._short = False

    def open(self, sockets: Iterable[socket.socket]) -> None:
        self.running = True
        if self._engine.threads:
            self._short = True
            interval.acquire()
        self._engine.open(sockets)

    def run(self) -> None:
        self._engine.run()

    def drain(self, timeout: float) -> None:
        self._engine.drain(timeout)

    def join(self) -> None:
        """The threads have ended."""
        self.running = False
        self._engine.discard()
        self._spawn.close()
        if self._short:
            self._short = False
            interval.release()


class _Spawn:
    """Runs calls for an engine whose threads are not to: on the loop those of ``async def``
    handlers, in a few threads more those of methods that need one."""

    def __init__(
        self, task: VTask, dispatcher: Dispatcher, loop_task: AsyncioLoopTask | None
    ) -> None:
        self._task = task
        self._dispatcher = dispatcher
        self._loop_task = loop_task
        # It has no thread until the first call.
        self._pool = ThreadPoolExecutor(_BESIDE, thread_name_prefix=f"{task.name}-beside")

    def __call__(self, call: Call, done: Callable[[bytes], None]) -> None:
        if call.target.is_async and self._loop_task is not None:
            future = self._loop_task.runInLoop(self._dispatcher.run_async(call))
        else:
            future = self._pool.submit(self._dispatcher.run, call)
        future.add_done_callback(lambda future: done(self._answer(call, future)))

    def _answer(self, call: Call, future: "Future[bytes]") -> bytes:
        error = None if future.cancelled() else future.exception()
        if error is None and not future.cancelled():
            return future.result()
        if error is not None:  # no Exception, as those are answered
            self._task.service.fail(error, self._task.name)
        return self._dispatcher.answer(call, None, CancelledError())

    def close(self) -> None:
        """Wait for the threads; nothing is called any more."""
        self._pool.shutdown()


class _OnLoop(Serving):
    """The engine on the service's loop."""

    is_loopless = True
    workers = 1

    def __init__(
        self,
        dispatcher: Dispatcher,
        logger: logging.Logger,
        loop_task: AsyncioLoopTask,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._ended = threading.Event()
        self._loop_task = loop_task
        self._engine = AsyncioEngine(dispatcher, logger, loop_task.loop, tls, self._ended.set)
        super().__init__(self._engine)

    def open(self, sockets: Iterable[socket.socket]) -> None:
        self.running = True
        # A loop that died must leave neither a join waiting nor a connection open.
        self._loop_task.closed.add_done_callback(lambda _: self._engine.abandon())
        self._soon(lambda: self._engine.open(sockets))

    def _soon(self, callback: Callable[[], object]) -> None:
        call_soon(self._loop_task.loop, callback)

    def run(self) -> None:
        """Nothing to do; the loop runs it."""

    def drain(self, timeout: float) -> None:
        self._soon(lambda: self._engine.drain(timeout))

    def join(self) -> None:
        """Wait until it has drained."""
        self._ended.wait()
        self.running = False

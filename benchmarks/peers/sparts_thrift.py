"""Ours: plain, async or processor (plain methods behind the generated processor), then options."""

import sys

from benchmarks.gen.bench import Bench
from benchmarks.peers import thrift_peers
from sparts.tasks.asyncio import AsyncioLoopTask
from sparts.tasks.thrift import ThriftHandlerTask, ThriftServerTask
from sparts.vservice import VService


class Plain(thrift_peers.Handler, ThriftHandlerTask):
    """Plain methods."""

    MODULE = Bench


class Async(thrift_peers.AsyncHandler, ThriftHandlerTask):
    """Coroutines."""

    MODULE = Bench


class OwnProcessor(Bench.Processor):  # type: ignore[misc]  # generated code is not typed
    """A user's own processor, which the server has to call as it is."""


class Processor(Plain):
    """Plain methods, each call through the generated processor."""

    def initTask(self) -> None:
        super().initTask()
        self.processor = OwnProcessor(self)


class Server(ThriftServerTask):
    MODULE = Bench


class PlainService(VService):
    ALL_TASKS = [Plain, Server]


class AsyncService(VService):
    ALL_TASKS = [AsyncioLoopTask, Async, Server]


class ProcessorService(VService):
    ALL_TASKS = [Processor, Server]


if __name__ == "__main__":
    service = {"plain": PlainService, "async": AsyncService, "processor": ProcessorService}
    service[sys.argv.pop(1)].initFromCLI()

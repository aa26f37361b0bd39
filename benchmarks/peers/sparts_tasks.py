"""Ours, of the tasks that KINDS (http,queue,...) name; says ``ready`` on stdout when it is."""

import asyncio
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from sparts.hooks import Hook
from sparts.vservice import VService
from sparts.vtask import VTask

HOUR = 3600.0


def http() -> list[type[VTask]]:
    from sparts.tasks.tornado import TornadoHTTPTask, TornadoIOLoopTask

    return [TornadoIOLoopTask, TornadoHTTPTask]


def slow_http() -> list[type[VTask]]:
    import tornado.web

    from sparts.tasks.tornado import TornadoHTTPTask, TornadoIOLoopTask

    class Slow(tornado.web.RequestHandler):
        async def get(self) -> None:
            await asyncio.sleep(0.05)
            self.write("Hello, world")

    class SlowHTTP(TornadoHTTPTask):
        def getApplicationConfig(self) -> list[Any]:
            return [*super().getApplicationConfig(), ("/slow", Slow)]

    return [TornadoIOLoopTask, SlowHTTP]


def queue() -> list[type[VTask]]:
    from sparts.tasks.queue import QueueTask

    class Consumer(QueueTask):
        WORKERS = 4

        def execute(self, item: Any, context: Any) -> None:
            pass

    return [Consumer]


def periodic() -> list[type[VTask]]:
    from sparts.tasks.periodic import PeriodicTask

    class Hourly(PeriodicTask):
        INTERVAL = HOUR

        def execute(self) -> None:
            pass

    return [Hourly]


def asyncio_periodic() -> list[type[VTask]]:
    from sparts.tasks.periodic import AsyncioPeriodicTask

    class AsyncioHourly(AsyncioPeriodicTask):
        INTERVAL = HOUR

        async def execute(self) -> None:
            pass

    return [AsyncioHourly]


def asyncio_queue() -> list[type[VTask]]:
    from sparts.tasks.queue import AsyncioQueueTask

    class AsyncioConsumer(AsyncioQueueTask):
        async def execute(self, item: Any, context: Any) -> None:
            pass

    return [AsyncioConsumer]


def asyncio_task() -> list[type[VTask]]:
    from sparts.tasks.asyncio import AsyncioTask

    class Waits(AsyncioTask):
        async def run(self) -> None:
            await asyncio.Event().wait()

    return [Waits]


def select() -> list[type[VTask]]:
    from sparts.tasks.select import SelectTask

    return [SelectTask]


def files() -> list[type[VTask]]:
    from sparts.tasks.file import DirectoryWatcherTask

    directory = tempfile.TemporaryDirectory()

    class Watcher(DirectoryWatcherTask):
        PATH = directory.name
        keep = directory

    return [Watcher]


def empty() -> list[type[VTask]]:
    return []


KINDS: dict[str, Callable[[], list[type[VTask]]]] = {
    each.__name__: each
    for each in (
        empty,
        http,
        slow_http,
        queue,
        asyncio_queue,
        periodic,
        asyncio_periodic,
        asyncio_task,
        select,
        files,
    )
}


class Ready(Hook):
    """Says so."""

    def after_start(self, service: VService) -> None:
        print("ready", flush=True)


class Service(VService):
    HOOKS = [Ready]
    ALL_TASKS = [task for kind in sys.argv.pop(1).split(",") for task in KINDS[kind]()]


if __name__ == "__main__":
    Service.initFromCLI()

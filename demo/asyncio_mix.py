"""A coroutine, a timer and HTTP on one asyncio loop: how late does the loop run what is due?

python demo/asyncio_mix.py
curl localhost:8000
"""

import asyncio

from tornado.web import RequestHandler

from sparts.counters import SampleType, samples
from sparts.tasks.asyncio import AsyncioTask
from sparts.tasks.periodic import AsyncioPeriodicTask
from sparts.tasks.tornado import TornadoHTTPTask
from sparts.vservice import VService

KINDS = [SampleType.AVG, SampleType.P99, SampleType.MAX]


class Lag(AsyncioTask):
    """Measures again and again how late it wakes up."""

    PAUSE = 0.05
    lag_ms = samples(types=KINDS, windows=[60])

    async def run(self):
        self.measured = asyncio.Event()
        while True:
            due = self.loop.time() + self.PAUSE
            await asyncio.sleep(self.PAUSE)
            self.lag_ms.add((self.loop.time() - due) * 1000)
            self.measured.set()


class Report(AsyncioPeriodicTask):
    """Logs the worst of the last minute, every two seconds."""

    INTERVAL = 2.0
    DEPS = [*AsyncioPeriodicTask.DEPS, Lag]

    async def execute(self):
        lag = self.service.requireTask(Lag)
        await lag.measured.wait()
        self.logger.info("late by at most %.3f ms", lag.lag_ms.getCounter("max.60"))


class LagHandler(RequestHandler):
    async def get(self):
        lag = self.settings["service"].requireTask(Lag)
        await lag.measured.wait()
        self.write(lag.lag_ms.getCounters())


class Web(TornadoHTTPTask):
    """Tells what was measured."""

    OPT_PREFIX = "http"
    DEPS = [*TornadoHTTPTask.DEPS, Lag]

    def getApplicationConfig(self):
        return [("/", LagHandler)]


class AsyncioMix(VService):
    ALL_TASKS = [Report, Web]
    DEFAULT_PORT = 8000


AsyncioMix.initFromCLI()

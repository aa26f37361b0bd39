"""An async Thrift handler that has its work done by the threads of a queue, and awaits it.

python demo/thrift_async.py
PYTHONPATH=demo python -c '
from gen.calculator import Calculator
from sparts.thrift.client import ThriftClient
with ThriftClient("localhost:9090", module=Calculator) as client:
    print(client.add(1, 2))'
"""

import asyncio
import time

from gen.calculator import Calculator
from gen.calculator.ttypes import DivisionByZero

from sparts.tasks.queue import QueueTask
from sparts.tasks.thrift import ThriftHandlerTask, ThriftServerTask
from sparts.vservice import VService


class Adder(QueueTask):
    """Adds slowly, four at a time; a thousand may wait, one more is an error."""

    WORKERS = 4
    MAX_ITEMS = 1000
    WHEN_FULL = "reject"

    def execute(self, item, context):
        time.sleep(0.05)  # the work
        return sum(item)


class Sums(ThriftHandlerTask):
    """Runs on the service's loop; a thousand calls that wait cost no thread."""

    MODULE = Calculator
    DEPS = [Adder]

    async def add(self, a, b):
        future = self.service.requireTask(Adder).submit((a, b))
        return await asyncio.wrap_future(future)

    async def divide(self, a, b):
        if b == 0:
            raise DivisionByZero(f"{a} / 0")
        return a // b


class AsyncThrift(VService):
    ALL_TASKS = [Sums, ThriftServerTask]
    DEFAULTS = {"thrift_port": 9090}


AsyncThrift.initFromCLI()

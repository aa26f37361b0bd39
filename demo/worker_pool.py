"""A timer feeds a queue, and ten workers empty it.

python demo/worker_pool.py
"""

import time

from sparts.tasks.periodic import PeriodicTask
from sparts.tasks.queue import QueueTask
from sparts.vservice import VService


class Consumer(QueueTask):
    """Works on what comes, ten at a time."""

    WORKERS = 10

    def execute(self, item, context):
        time.sleep(0.05)
        self.logger.info("worked on %s", item)


class Producer(PeriodicTask):
    """Puts a number into the queue every tenth of a second."""

    INTERVAL = 0.1
    DEPS = [Consumer]
    produced = 0

    def execute(self):
        self.produced += 1
        self.service.tasks.Consumer.queue.put(self.produced)


class WorkerPool(VService):
    ALL_TASKS = [Producer]


WorkerPool.initFromCLI()

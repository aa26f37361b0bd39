"""Prints the time once a second, by a task that any service takes in.

python demo/clock.py
"""

import time

from sparts.tasks.periodic import PeriodicTask
from sparts.vservice import VService


class PrintClock(PeriodicTask):
    INTERVAL = 1.0

    def execute(self):
        print(time.time(), flush=True)


PrintClock.register()
VService.initFromCLI()

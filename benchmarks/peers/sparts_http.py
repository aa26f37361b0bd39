"""Ours, the smallest: an HTTP service as the README has it; options as on any command line."""

from sparts.tasks.tornado import TornadoHTTPTask, TornadoIOLoopTask
from sparts.vservice import VService


class MyService(VService):
    ALL_TASKS = [TornadoIOLoopTask, TornadoHTTPTask]
    DEFAULT_PORT = 8000


if __name__ == "__main__":
    MyService.initFromCLI()

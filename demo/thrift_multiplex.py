"""Serves two Thrift services on one port; clients name the one that they mean.

python demo/thrift_multiplex.py
PYTHONPATH=demo python -c '
from gen.calculator import Journal
from sparts.thrift.client import ThriftClient
with ThriftClient("localhost:9090", module=Journal, multiplex_service="Journal") as journal:
    journal.note("it works")
    print(journal.lines())'
"""

from collections import deque

from gen.calculator import Calculator, Journal
from gen.calculator.ttypes import DivisionByZero

from sparts.tasks.thrift import ThriftHandlerTask, ThriftServerTask
from sparts.vservice import VService


class Sums(ThriftHandlerTask):
    """Is the service Calculator."""

    MODULE = Calculator

    def add(self, a, b):
        return a + b

    def divide(self, a, b):
        if b == 0:
            raise DivisionByZero(f"{a} / 0")
        return a // b


class Notes(ThriftHandlerTask):
    """Is the service Journal."""

    MODULE = Journal

    def initTask(self):
        super().initTask()
        self.kept = deque(maxlen=1000)

    def note(self, line):
        self.kept.append(line)
        self.logger.info("noted: %s", line)

    def lines(self, most):
        return list(self.kept)[-most:]


class Server(ThriftServerTask):
    """Serves both."""

    OPT_PREFIX = "thrift"
    MULTIPLEX = True


class Multiplexed(VService):
    ALL_TASKS = [Sums, Notes, Server]
    DEFAULTS = {"thrift_port": 9090}


Multiplexed.initFromCLI()

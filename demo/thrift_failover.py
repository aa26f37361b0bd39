"""Asks one of two servers every fifth of a second; when that dies, the other one.

python demo/thrift_async.py --thrift-port 9090 &
python demo/thrift_async.py --thrift-port 9091 &
python demo/thrift_failover.py
kill -9 %1
"""

from gen.calculator import Calculator

from sparts.counters import counter
from sparts.options import option
from sparts.tasks.periodic import PeriodicTask
from sparts.thrift.client import ThriftClient
from sparts.vservice import VService


class Caller(PeriodicTask):
    """Counts on, with the servers' help."""

    INTERVAL = 0.2
    servers: list[str] = option(
        nargs="+", default=["localhost:9090", "localhost:9091"], help="where the servers are"
    )
    answered = counter()

    def initTask(self):
        super().initTask()
        # A call that was lost on its way is made again only where that does no harm.
        self.client = ThriftClient(
            self.servers, module=Calculator, idempotent={"add"}, call_timeout=2.0
        )

    def execute(self):
        number = self.client.add(self.answered(), 1)
        self.answered.increment()
        self.logger.info("number %d", number)

    def join(self):
        super().join()
        self.client.close()


class Failover(VService):
    ALL_TASKS = [Caller]


Failover.initFromCLI()

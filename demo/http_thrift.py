"""Tells of itself by fb303 to Thrift clients of any kind, on a port of theirs and over HTTP.

python demo/http_thrift.py
python -c '
from sparts.gen.fb303 import FacebookService
from sparts.thrift.client import ThriftClient
for where in "localhost:9090", "http://localhost:8000/thrift":
    with ThriftClient(where, module=FacebookService) as client:
        print(client.getName(), client.getStatus(), client.getCounters())'
"""

from sparts.tasks.fb303 import FB303HandlerTask
from sparts.tasks.thrift import ThriftServerTask
from sparts.tasks.tornado import TornadoHTTPTask
from sparts.tasks.tornado_thrift import ThriftPoolTask, TornadoThriftHandler
from sparts.vservice import VService


class Status(FB303HandlerTask):
    """Answers what monitoring asks."""


class Web(TornadoHTTPTask):
    """Takes Thrift messages by POST."""

    OPT_PREFIX = "http"
    DEPS = [Status, ThriftPoolTask]

    def getApplicationConfig(self):
        return [("/thrift", TornadoThriftHandler, {"handler": Status})]


class HTTPThrift(VService):
    VERSION = "1.0"
    ALL_TASKS = [Status, ThriftServerTask, Web]
    DEFAULTS = {"thrift_port": 9090, "http_port": 8000}


HTTPThrift.initFromCLI()

"""Serves "Hello, world" over HTTP.

python demo/hello_http.py --http-port 8000
curl localhost:8000
"""

from sparts.tasks.tornado import TornadoHTTPTask, TornadoIOLoopTask
from sparts.vservice import VService


class MyService(VService):
    ALL_TASKS = [TornadoIOLoopTask, TornadoHTTPTask]
    DEFAULT_PORT = 8000


MyService.initFromCLI()

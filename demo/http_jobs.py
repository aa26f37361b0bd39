"""Takes jobs over HTTP, works on them in the background, and tells how far they are.

python demo/http_jobs.py
curl -d steps=20 localhost:8000/jobs
curl localhost:8000/jobs/1
"""

import dataclasses
import itertools
import queue
import threading
import time
from collections import OrderedDict

from tornado.web import HTTPError, RequestHandler

from sparts.tasks.queue import QueueTask
from sparts.tasks.tornado import TornadoHTTPTask
from sparts.vservice import VService


@dataclasses.dataclass
class Job:
    id: int
    steps: int
    done: int = 0


class Jobs(QueueTask):
    """Works on two jobs at a time; a hundred may wait, one more is refused."""

    WORKERS = 2
    MAX_ITEMS = 100
    WHEN_FULL = "reject"
    REMEMBERED = 1000

    def initTask(self):
        super().initTask()
        self.lock = threading.Lock()
        self.ids = itertools.count(1)
        self.known = OrderedDict()

    def begin(self, steps):
        job = Job(next(self.ids), steps)
        self.queue.put(job)
        with self.lock:
            self.known[job.id] = job
            if len(self.known) > self.REMEMBERED:
                self.known.popitem(last=False)
        return job

    def find(self, number):
        with self.lock:
            return self.known.get(number)

    def execute(self, job, context):
        while job.done < job.steps:
            time.sleep(0.02)  # the work
            job.done += 1
        self.logger.info("job %d is done", job.id)


class JobsHandler(RequestHandler):
    def post(self):
        steps = self.get_argument("steps", "10")
        if not (steps.isdecimal() and 0 < int(steps[:5]) <= 1000):
            raise HTTPError(400, reason="steps is a number from 1 to 1000")
        try:
            job = self.settings["service"].requireTask(Jobs).begin(int(steps))
        except queue.Full:
            raise HTTPError(503, reason="Too many jobs wait") from None
        self.set_status(202)
        self.set_header("Location", f"/jobs/{job.id}")
        self.write(dataclasses.asdict(job))


class JobHandler(RequestHandler):
    def get(self, number):
        job = self.settings["service"].requireTask(Jobs).find(int(number))
        if job is None:
            raise HTTPError(404)
        self.write(dataclasses.asdict(job))


class Web(TornadoHTTPTask):
    """Takes jobs, and tells of them."""

    OPT_PREFIX = "http"
    DEPS = [*TornadoHTTPTask.DEPS, Jobs]

    def getApplicationConfig(self):
        return [("/jobs", JobsHandler), ("/jobs/([0-9]+)", JobHandler)]


class JobService(VService):
    ALL_TASKS = [Web]
    DEFAULT_PORT = 8000


JobService.initFromCLI()

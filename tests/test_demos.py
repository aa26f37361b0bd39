"""Every program in demo/ is started, asked something, stopped, and ends with status 0."""

import contextlib
import importlib
import json
import os
import pathlib
import re
import select
import shlex
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import IO, Any

import pytest

from sparts.gen.fb303 import FacebookService
from sparts.gen.fb303.ttypes import fb_status
from sparts.thrift.client import ThriftClient

DEMO = pathlib.Path(__file__).resolve().parent.parent / "demo"
DEADLINE = 15.0
STARTED = "All tasks started"
#: What no demo logs; that a request was refused is a warning of Tornado's.
TROUBLE = re.compile(r"^(ERROR|WARNING):(?!tornado\.access:)|^Traceback", re.MULTILINE)

pytestmark = pytest.mark.skipif(
    not DEMO.is_dir(), reason="not here: there is no demo folder beside the tests"
)


class Demo:
    """A demo in a process of its own; what it prints and logs is read line by line."""

    def __init__(self, process: "subprocess.Popen[str]", output: IO[str]) -> None:
        self.process = process
        self._output = output
        self.log = ""

    def expect(self, pattern: str) -> "re.Match[str]":
        """Read until a line matches *pattern*; fail at the end of the output."""
        for line in self._output:
            self.log += line
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"{pattern!r} never came in:\n{self.log}")

    def port(self, task: str) -> int:
        """Where that task serves."""
        return int(self.expect(rf"{task} Server Started on 0\.0\.0\.0:(\d+)$").group(1))

    def url(self) -> str:
        """Where it serves, once it does."""
        port = self.expect(r"Server Started on 0\.0\.0\.0:(\d+)$").group(1)
        self.expect(STARTED)
        return f"http://127.0.0.1:{port}"

    def end(self, signum: int | None = signal.SIGINT) -> None:
        """Stop it, or with None let it end by itself; it must end well."""
        if signum is not None:
            self.process.send_signal(signum)
        self.log += self._output.read()
        assert 0 == self.process.wait(DEADLINE), self.log
        assert self.log.endswith("Instance shut down gracefully\n")
        assert not TROUBLE.search(self.log), self.log


@contextlib.contextmanager
def demo(name: str, *argv: str) -> Iterator[Demo]:
    """Run the demo *name*, for at most DEADLINE seconds."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(DEMO / name), *argv],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watchdog = threading.Timer(DEADLINE, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        with process.stdout:
            yield Demo(process, process.stdout)
    finally:
        watchdog.cancel()
        watchdog.join()
        process.kill()
        process.wait()


def get(url: str, data: bytes | None = None) -> Any:
    """The body of the answer, from JSON if it is that."""
    with urllib.request.urlopen(url, data, timeout=DEADLINE) as answer:
        body = answer.read().decode()
        return json.loads(body) if "json" in answer.headers["Content-Type"] else body


def test_empty() -> None:
    """The empty service starts and ends."""
    with demo("empty.py") as running:
        running.expect("^DEBUG:MyService:All tasks started$")
        running.end()
    assert "INFO:MyService:KeyboardInterrupt Received!  Stopping Tasks...\n" in running.log


def test_hello_http() -> None:
    """It says hello where its log says it serves."""
    with demo("hello_http.py", "--http-port", "0") as running:
        assert "Hello, world" == get(running.url())
        running.end(signal.SIGTERM)
    assert "INFO:MyService:SIGTERM Received!  Stopping Tasks...\n" in running.log


def test_clock() -> None:
    """It prints the time, and with another interval sooner again."""
    with demo("clock.py", "--PrintClock-interval", "0.05") as running:
        first = float(running.expect(r"^\d+\.\d+$").group())
        second = float(running.expect(r"^\d+\.\d+$").group())
        assert first < second
        running.end()


def test_worker_pool() -> None:
    """What the timer puts in, a worker works on."""
    with demo("worker_pool.py") as running:
        running.expect("^INFO:WorkerPool.Consumer:worked on 1$")
        running.expect("^INFO:WorkerPool.Consumer:worked on 3$")
        running.end()


def test_watch_command() -> None:
    """It logs the lines of its command, and ends with it; stopped, it takes the command along."""
    with demo("watch_command.py") as running:
        running.end(None)
    said = re.findall(r"^INFO:WatchCommand\.Watcher:(.*)$", running.log, re.MULTILINE)
    assert ["line 1", "line 2", "line 3", "over", "ended with status 0 after 4 lines"] == said
    with demo("watch_command.py", "--watch-command", "echo here; sleep 1000") as running:
        running.expect("Watcher:here$")
        running.end()
    assert "ended with status -15 after 1 lines" in running.log


def test_watch_command_leaves_nothing(tmp_path: pathlib.Path) -> None:
    """A stop by SIGTERM ends the command and what that has started in its turn."""
    held = tmp_path / "held"
    os.mkfifo(held)
    reader = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    try:
        command = f"exec 3>{shlex.quote(str(held))}; sleep 1000 & echo here; wait"
        with demo("watch_command.py", "--watch-command", command) as running:
            running.expect("Watcher:here$")
            running.end(signal.SIGTERM)
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        # A pipe hangs up when the last process that could write to it has ended.
        assert [(reader, select.POLLHUP)] == poll.poll(DEADLINE * 1000)
    finally:
        os.close(reader)


def test_http_jobs() -> None:
    """Jobs are worked on in the background while their progress is told; the stop finishes them."""
    with demo("http_jobs.py", "--http-port", "0") as running:
        url = running.url()
        assert {"id": 1, "steps": 3, "done": 0} == {**get(f"{url}/jobs", b"steps=3"), "done": 0}
        assert 50 == get(f"{url}/jobs", b"steps=50")["steps"]
        running.expect("INFO:JobService.Jobs:job 1 is done")
        assert {"id": 1, "steps": 3, "done": 3} == get(f"{url}/jobs/1")
        assert get(f"{url}/jobs/2")["done"] in range(51)
        for path, data, status in (("/jobs/9", None, 404), ("/jobs", b"steps=x", 400)):
            with pytest.raises(urllib.error.HTTPError, match=str(status)) as caught:
                get(url + path, data)
            caught.value.close()
        running.end()
    assert "INFO:JobService.Jobs:job 2 is done\n" in running.log


def test_asyncio_mix() -> None:
    """The coroutine measures, the timer logs it, and HTTP tells it."""
    with demo("asyncio_mix.py", "--http-port", "0", "--Report-interval", "0.1") as running:
        lag = get(running.url())
        assert {"avg.60", "p99.60", "max.60"} == {key.removeprefix("lag_ms.") for key in lag}
        running.expect(r"INFO:AsyncioMix.Report:late by at most \d+\.\d+ ms")
        running.end()


@pytest.fixture
def calculator(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The code that was made of ``calculator.thrift``, as the demos import it."""
    monkeypatch.syspath_prepend(DEMO)

    def module(name: str) -> Any:
        return importlib.import_module(f"gen.calculator.{name}")

    return module


def test_http_thrift() -> None:
    """It tells of itself to framed clients and over HTTP."""
    with demo("http_thrift.py", "--thrift-port", "0", "--http-port", "0") as running:
        framed = f"localhost:{running.port('ThriftServerTask')}"
        over_http = f"http://localhost:{running.port('Web')}/thrift"
        running.expect(STARTED)
        for calls, where in enumerate((framed, over_http), 1):
            with ThriftClient(where, module=FacebookService) as client:
                assert ("HTTPThrift", "1.0", fb_status.ALIVE) == (
                    client.getName(),
                    client.getVersion(),
                    client.getStatus(),
                )
                assert calls == client.getCounter("Status.getName.calls")
        running.end()


def test_thrift_multiplex(calculator: Any) -> None:
    """Each of its two services is there by its name."""
    with demo("thrift_multiplex.py", "--thrift-port", "0") as running:
        where = f"localhost:{running.port('Server')}"
        running.expect(STARTED)
        sums, notes = calculator("Calculator"), calculator("Journal")
        with ThriftClient(where, module=sums, multiplex_service="Calculator") as client:
            assert 3 == client.add(1, 2)
            with pytest.raises(calculator("ttypes").DivisionByZero):
                client.divide(1, 0)
        with ThriftClient(where, module=notes, multiplex_service="Journal") as client:
            client.note("it works")
            running.expect("noted: it works$")
            assert ["it works"] == client.lines()
        running.end()


def test_thrift_async(calculator: Any) -> None:
    """What a queue of threads has worked out is the answer of an async method."""
    with demo("thrift_async.py", "--thrift-port", "0") as running:
        where = f"localhost:{running.port('ThriftServerTask')}"
        running.expect(STARTED)
        with ThriftClient(where, module=calculator("Calculator")) as client:
            assert (3, 3) == (client.add(1, 2), client.divide(7, 2))
        running.end()


def test_thrift_failover() -> None:
    """When one of its two servers is killed, it goes on with the other."""
    with (
        demo("thrift_async.py", "--thrift-port", "0") as first,
        demo("thrift_async.py", "--thrift-port", "0") as second,
    ):
        servers = [f"localhost:{each.port('ThriftServerTask')}" for each in (first, second)]
        argv = ["--Caller-interval", "0.02", "--Caller-servers", *servers]
        with demo("thrift_failover.py", *argv) as running:
            running.expect("number 5$")
            first.process.kill()
            first.process.wait(DEADLINE)
            last = int(running.expect(r"number (\d+)$").group(1))
            running.expect(f"number {last + 10}$")
            running.end()
        second.end()


def test_all_were_run() -> None:
    """There is no demo that no test starts."""
    text = pathlib.Path(__file__).read_text(encoding="utf-8")
    assert {path.name for path in DEMO.glob("*.py")} == set(re.findall(r'demo\("(\w+\.py)"', text))

"""HTTP load over keep-alive connections, by wrk or of our own; ours tells what became of each."""

import errno
import re
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.harness import LOAD_CPUS, BenchmarkError, pinned

__all__ = ["Load", "Outcome", "measure"]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
#: Seconds in which every answer must come.
_PATIENCE = 10.0


@dataclass
class Outcome:
    """What became of the requests."""

    seconds: float = 0.0
    #: Answered in full, with a 2xx status.
    answered: int = 0
    #: Of those, after the event of ``Load.run``.
    answered_after: int = 0
    #: Answered with another status.
    bad: int = 0
    #: The answer broke off.
    cut: int = 0
    #: No byte of answer came on a connection that had had an answer before.
    lost: int = 0
    #: No byte of answer came on a fresh connection: the server may never have accepted it.
    unaccepted: int = 0
    #: No connection was had at all.
    refused: int = 0
    latencies: list[float] = field(default_factory=list, repr=False)

    @property
    def failed(self) -> int:
        """Requests that failed though the server had accepted them."""
        return self.bad + self.cut + self.lost

    @property
    def p99(self) -> float:
        """Of the latencies, in milliseconds."""
        ordered = sorted(self.latencies)
        return 1e3 * ordered[len(ordered) * 99 // 100] if ordered else 0.0


class _Client:
    """One connection, and its request under way."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.received = b""
        self.fresh = True
        self.sent_at = 0.0
        self.sock = socket.socket()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Load:
    """Keep-alive ``GET`` load on a port of the loopback, from this thread alone."""

    def __init__(self, port: int, connections: int, paths: Sequence[str] = ("/",)) -> None:
        """The connections take turns among *paths*."""
        self._port = port
        self._requests = [
            f"GET {paths[n % len(paths)]} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            for n in range(connections)
        ]
        self._clients: dict[int, _Client] = {}
        self._epoll = select.epoll()
        self._event_at: float | None = None
        self.outcome = Outcome()

    def run(
        self, seconds: float, event: Callable[[], object] | None = None, after: float = 0.0
    ) -> Outcome:
        """Load for so many seconds; then call *event*, and go on for up to *after* seconds.

        A connection that is refused is not tried again; when none is left, the load ends early.
        What is under way at the end does not count.
        """
        with pinned(LOAD_CPUS):
            began = time.perf_counter()
            for request in self._requests:
                self._open(request)
            self._turn_until(began + seconds)
            if event is not None:
                event()
                self._event_at = time.perf_counter()
                self._turn_until(self._event_at + after)
            self.outcome.seconds = time.perf_counter() - began
        for client in self._clients.values():
            client.sock.close()
        self._epoll.close()
        return self.outcome

    def _turn_until(self, end: float) -> None:
        while self._clients and (left := end - time.perf_counter()) > 0:
            for number, _ in self._epoll.poll(min(left, _PATIENCE)):
                self._on_readable(self._clients[number])

    def _open(self, request: bytes) -> None:
        client = _Client(request)
        try:
            client.sock.connect(("127.0.0.1", self._port))
        except OSError:
            self.outcome.refused += 1
            client.sock.close()
            return
        client.sock.setblocking(False)
        self._clients[client.sock.fileno()] = client
        self._epoll.register(client.sock, select.EPOLLIN)
        self._send(client)

    def _send(self, client: _Client) -> None:
        client.received = b""
        client.sent_at = time.perf_counter()
        try:
            client.sock.send(client.request)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise
            self._broke_off(client)

    def _on_readable(self, client: _Client) -> None:
        try:
            data = client.sock.recv(65536)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._broke_off(client)
            return
        client.received += data
        head, complete, body = client.received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if complete and len(body) >= (int(length[1]) if length else 0):
            self._answered(client, head)

    def _answered(self, client: _Client, head: bytes) -> None:
        outcome = self.outcome
        if head.startswith(b"HTTP/1.1 2"):
            outcome.answered += 1
            outcome.answered_after += self._event_at is not None
            outcome.latencies.append(time.perf_counter() - client.sent_at)
        else:
            outcome.bad += 1
        client.fresh = False
        if _CLOSE.search(head):
            self._reopen(client)
        else:
            self._send(client)

    def _broke_off(self, client: _Client) -> None:
        if client.received:
            self.outcome.cut += 1
        elif client.fresh:
            self.outcome.unaccepted += 1
        else:
            self.outcome.lost += 1
        self._reopen(client)

    def _reopen(self, client: _Client) -> None:
        del self._clients[client.sock.fileno()]
        self._epoll.unregister(client.sock)
        client.sock.close()
        self._open(client.request)


# -- throughput -----------------------------------------------------------------------------------
def measure(port: int, connections: int, seconds: int) -> Outcome:
    """The throughput and p99 of ``GET /``, by wrk where it is on the PATH.

    :raises BenchmarkError: a request failed, so that the figure would mean nothing.
    """
    wrk = shutil.which("wrk")
    found = _wrk(wrk, port, connections, seconds) if wrk else Load(port, connections).run(seconds)
    if found.failed or found.refused or found.unaccepted or not found.answered:
        raise BenchmarkError(f"the load failed: {found}")
    return found


def _wrk(wrk: str, port: int, connections: int, seconds: int) -> Outcome:
    url = f"http://127.0.0.1:{port}/"
    with pinned(LOAD_CPUS):
        done = subprocess.run(
            [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url],
            capture_output=True,
            text=True,
            timeout=seconds + _PATIENCE,
            check=False,
        )
    requests = re.search(r"(\d+) requests in ([\d.]+)s", done.stdout)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout)
    if done.returncode or requests is None or p99 is None:
        raise BenchmarkError(f"wrk failed: {done.stdout}{done.stderr}")
    errors = re.search(r"Non-2xx.*: (\d+)", done.stdout)
    broken = re.search(r"connect (\d+), read (\d+), write (\d+)", done.stdout)
    bad = int(errors[1]) if errors else 0
    return Outcome(
        seconds=float(requests[2]),
        answered=int(requests[1]) - bad,
        bad=bad,
        cut=sum(map(int, broken.groups())) if broken else 0,
        latencies=[float(p99[1]) * _UNITS[p99[2]] / 1e3],
    )

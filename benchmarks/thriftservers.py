"""The Thrift servers that the cases compare, what they are measured by, and the tables' rows."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from benchmarks.harness import (
    SERVER_CPUS,
    BenchmarkError,
    Process,
    Results,
    Sample,
    free_port,
    interleave,
    median,
    python,
    ratio,
    say_target,
)
from benchmarks.servers import Server
from benchmarks.servers import installed as _installed
from benchmarks.thriftcalls import PING
from benchmarks.thriftload import Load, allow_descriptors, generator, measure

__all__ = [
    "ASYNC",
    "BASE",
    "CANNED",
    "INLINE",
    "NONBLOCKING",
    "PROCESSOR",
    "TABLE_HEADERS",
    "THREADS",
    "ThriftServer",
    "compare",
    "peers",
    "row",
    "say_rate",
    "say_tails",
    "sparts",
]

BASE = "Apache TThreadedServer"
NONBLOCKING = "Apache TNonblockingServer"
_PROCESSES = "Apache TProcessPoolServer"
CANNED = "canned bytes, no Thrift"
INLINE = "sparts, threads 0"
THREADS = "sparts, 10 threads"
ASYNC = "sparts, async def"
PROCESSOR = "sparts, 10 threads, generated processor"

#: Of the peers: its name, its word in ``peers/thrift_peers.py``, the modules that it needs.
_PEERS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (BASE, "threaded", ()),
    ("Apache TThreadPoolServer", "threadpool", ()),
    (NONBLOCKING, "nonblocking", ()),
    (_PROCESSES, "processpool", ()),
    ("Apache TTornadoServer", "tornado", ()),
    ("thriftpy2, threaded", "thriftpy2_threaded", ("thriftpy2",)),
    ("thriftpy2, asyncio", "thriftpy2_asyncio", ("thriftpy2",)),
    (CANNED, "canned", ()),
)
#: Of ours: its name, and the words of ``peers/sparts_thrift.py``.
_OURS: dict[str, tuple[str, ...]] = {
    INLINE: ("plain", "--thrift-threads", "0"),
    THREADS: ("plain", "--thrift-threads", "10"),
    ASYNC: ("async",),
    f"{ASYNC}, asyncio's loop": ("async", "--asyncio-loop", "asyncio"),
    PROCESSOR: ("processor", "--thrift-threads", "10"),
}


@dataclass(frozen=True)
class ThriftServer(Server):
    """A server that is there as soon as it has answered a ping."""

    @contextlib.contextmanager
    def running(self) -> Iterator[tuple[Process, int]]:
        """The server on the server's core, answering on a free port, for a ``with`` block."""
        port = free_port()
        with Process(self.command(port), SERVER_CPUS) as process:
            process.answers(port, request=PING.frame)
            yield process, port


def peers(connections: int, *words: str) -> list[Server]:
    """Those with *words* (default: all) that can run here; pools as large as *connections*."""

    def command(word: str) -> Callable[[int], list[str]]:
        return lambda port: python("thrift_peers", word, port, connections)

    chosen = [peer for peer in _PEERS if not words or peer[1] in words]
    return _installed(*(ThriftServer(name, command(word), needs) for name, word, needs in chosen))


def sparts(*names: str) -> list[Server]:
    """Ours by those names."""
    options = ("--thrift-host", "127.0.0.1", "--level", "WARNING")

    def command(words: tuple[str, ...]) -> Callable[[int], list[str]]:
        return lambda port: python("sparts_thrift", *words, "--thrift-port", port, *options)

    return [ThriftServer(name, command(_OURS[name])) for name in names]


# -- measuring ------------------------------------------------------------------------------------
def compare(
    servers: Iterable[Server], load: Load, quick: bool, seconds: float = 2.0, rounds: int = 5
) -> Results:
    """Measure each server under *load* for *seconds* in so many interleaved rounds."""
    generator()  # before any server is started, as it may not be had here
    allow_descriptors(load.connections)  # the servers inherit it
    if quick:
        seconds, rounds = min(seconds, 0.5), 1
    subjects = {server.name: _sampled(server, load, seconds) for server in servers}
    return interleave(subjects, rounds)


def _sampled(server: Server, load: Load, seconds: float) -> Callable[[], Sample]:
    def sample() -> Sample:
        with server.running() as (process, port):
            try:
                got = measure(port, load, seconds, warmup=seconds / 4, server=process).check()
            except BenchmarkError as error:
                raise process.failed(f"{server.name}: {error}") from error
        return {
            "rate": got.rate,
            "cpu": 1e6 * got.server_cpu / got.busy.answered,
            "p99": got.busy.p99,
            "p999": got.busy.p999,
            "worst": got.busy.worst,
            "load": 100 * got.load_cpu,
            "rss": got.server_rss / 2**20,
            "connected": got.connected,
            "answered": got.answered,
            "side_rate": got.side_rate,
            "side_p50": got.side.p50,
        }

    return sample


# -- what is printed ------------------------------------------------------------------------------
TABLE_HEADERS = ["", "calls/s", "ratio", "CPU µs each", "ratio", "p99 ms", "p99.9 ms", "worst ms"]
TABLE_HEADERS += ["load %"]


def row(results: Results, name: str) -> list[str]:
    """The cells of TABLE_HEADERS; the load's core near 100 % is what limits the rate."""
    own_cpu = name != _PROCESSES  # else it is its children's
    return [
        name,
        f"{median(results, name, 'rate'):,.0f}",
        f"{ratio(results, name, BASE, 'rate'):.2f}",
        f"{median(results, name, 'cpu'):.1f}" if own_cpu else "-",
        f"{ratio(results, name, BASE, 'cpu'):.2f}" if own_cpu else "-",
        f"{median(results, name, 'p99'):.2f}",
        f"{median(results, name, 'p999'):.2f}",
        f"{median(results, name, 'worst'):.1f}",
        f"{median(results, name, 'load'):.0f}",
    ]


def say_rate(results: Results, name: str, wanted: float, base: str = BASE) -> None:
    """The target that *name* answers *wanted* times as many calls as *base*."""
    if name in results:
        found = ratio(results, name, base, "rate")
        say_target(f"{name} {wanted:g} x {base}", f"{found:.2f}", found >= wanted)


def say_tails(results: Results, name: str) -> None:
    """The target that the slowest answers of *name* are no later than those of the base."""
    for title, key in (("p99", "p99"), ("p99.9", "p999")):
        ours, theirs = (median(results, who, key) for who in (name, BASE))
        wanted = f"{title} of {name} at most that of {BASE}"
        say_target(wanted, f"{ours:.2f} ms, {theirs:.2f} ms", ours <= theirs)

"""Load of ready-made frames, by a small C program (``load.c``) that is compiled when it is needed.

Python would be the bottleneck: it cannot send and compare as fast as the servers answer.
"""

import functools
import json
import resource
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import DEADLINE, LOAD_CPUS, BenchmarkError, Process

__all__ = ["Call", "Load", "Measured", "Outcome", "allow_descriptors", "generator", "measure"]

_SOURCE = Path(__file__).with_name("load.c")
_COMPILERS = ("cc", "gcc", "clang")
#: Descriptors beside those of the connections.
_SPARE_DESCRIPTORS = 100


@dataclass(frozen=True)
class Call:
    """The bytes of a call, and those of the one reply that is right."""

    frame: bytes
    reply: bytes


@dataclass(frozen=True)
class Load:
    """Which connections there are; each has one call under way at most."""

    #: What busy connections call all the time, and idle ones once.
    call: Call
    busy: int = 16
    idle: int = 0
    #: So many others call *side_call* all the time.
    side: int = 0
    side_call: Call | None = None
    #: So many at most wait at once to be accepted and answered for the first time; 0 is all.
    at_once: int = 0

    @property
    def connections(self) -> int:
        """How many there are in all."""
        return self.busy + self.idle + self.side


@dataclass(frozen=True)
class Outcome:
    """What became of the calls of one kind of connections; times in ms."""

    answered: int
    #: Connections that had no answer while it was measured.
    silent: int
    p50: float
    p99: float
    p999: float
    #: The longest, also if it is still under way at the end.
    worst: float


@dataclass(frozen=True)
class Measured:
    """What a load gave."""

    busy: Outcome
    side: Outcome
    seconds: float
    connections: int
    #: Seconds until all were connected, and until each had been answered once.
    connected: float
    answered: float
    #: Replies with other bytes than the expected ones, and the first of them.
    mismatches: int
    wrong: bytes
    #: Connections that the server ended.
    broken: int
    #: Part of its core that the generator was busy for; near 1 it may be what limits the rate.
    load_cpu: float
    #: Seconds of CPU that the server used meanwhile, and bytes it had resident at the end.
    server_cpu: float = 0.0
    server_rss: int = 0

    @property
    def rate(self) -> float:
        """Calls a second of the busy connections."""
        return self.busy.answered / self.seconds

    @property
    def side_rate(self) -> float:
        """Calls a second of the side connections."""
        return self.side.answered / self.seconds

    def check(self) -> "Measured":
        """This, if every call was answered as it should be.

        :raises BenchmarkError: one was not, so that the figures would mean nothing.
        """
        if self.mismatches:
            raise BenchmarkError(f"{self.mismatches} wrong replies, the first: {self.wrong!r}")
        silent = self.busy.silent + self.side.silent
        if self.broken or silent:
            raise BenchmarkError(
                f"of {self.connections} connections the server ended {self.broken}, "
                f"and {silent} had no answer in {self.seconds:.1f} s"
            )
        return self


@functools.cache
def _directory() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="benchmarks-")  # gone at the end of this process


@functools.cache
def generator() -> Path:
    """The compiled load generator.

    :raises BenchmarkError: there is no C compiler here, or it fails.
    """
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        raise BenchmarkError(f"the load generator needs a C compiler: {', '.join(_COMPILERS)}")
    made = Path(_directory().name) / "load"
    command = [compiler, "-O2", "-o", str(made), str(_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{' '.join(command)} failed:\n{done.stderr}")
    return made


def allow_descriptors(connections: int) -> None:
    """Let this process, and those that it starts, have so many connections.

    :raises BenchmarkError: the hard limit is lower.
    """
    wanted = connections + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise BenchmarkError(f"ulimit -n allows {hard} descriptors, and {wanted} are needed")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def measure(
    port: int,
    load: Load,
    seconds: float,
    *,
    warmup: float = 0.5,
    timeout: float = DEADLINE,
    server: Process | None = None,
) -> Measured:
    """Load a port of the loopback for *warmup* and then *seconds* seconds.

    :param timeout: seconds within which every connection must be made and answered once.
    :param server: whose CPU and memory to look at meanwhile.
    :raises BenchmarkError: no compiler; or a connection could not be made or was not answered.
    """
    allow_descriptors(load.connections)
    command = _command(port, load, seconds, warmup, timeout)
    with Process(command, LOAD_CPUS) as process:
        if process.line(timeout + warmup + DEADLINE) != "loading":
            raise process.failed("said something else than 'loading'")
        before = server.cpu() if server else 0.0
        told = json.loads(process.line(seconds + DEADLINE))
        used = server.cpu() - before if server else 0.0
        return _measured(told, used, server.rss() if server else 0)


def _command(port: int, load: Load, seconds: float, warmup: float, timeout: float) -> list[str]:
    options: dict[str, Any] = {
        "port": port,
        "busy": load.busy,
        "idle": load.idle,
        "at-once": load.at_once,
        "frame": load.call.frame.hex(),
        "reply": load.call.reply.hex(),
        "seconds": seconds,
        "warmup": warmup,
        "timeout": timeout,
    }
    if load.side_call is not None:
        options["side"] = load.side
        options["side-frame"] = load.side_call.frame.hex()
        options["side-reply"] = load.side_call.reply.hex()
    return [str(generator()), *(f"--{name}={value}" for name, value in options.items())]


def _measured(told: dict[str, Any], server_cpu: float, server_rss: int) -> Measured:
    seconds = max(told["seconds"], 1e-6)  # none at all where no connection was left
    return Measured(
        busy=Outcome(**told["busy"]),
        side=Outcome(**told["side"]),
        seconds=seconds,
        connections=told["connections"],
        connected=told["connect_s"],
        answered=told["answered_s"],
        mismatches=told["mismatches"],
        wrong=bytes.fromhex(told["wrong"]),
        broken=told["broken"],
        load_cpu=told["load_cpu_s"] / seconds,
        server_cpu=server_cpu,
        server_rss=server_rss,
    )

"""Thrift clients: one thread that pings one call after the other, ours and the generated one."""

import json
from collections.abc import Callable

from benchmarks.harness import (
    LOAD_CPUS,
    Process,
    Results,
    Sample,
    interleave,
    median,
    python,
    ratio,
    say_target,
    table,
)
from benchmarks.thriftservers import peers

NAME = "thrift_client"
DESCRIPTION = "Thrift clients: sequential pings, ThriftClient beside the bare generated client"

_APACHE = "generated client"
_OURS = "sparts ThriftClient"
_HEADERS = ["", "calls/s", "ratio", "CPU µs", "ratio", "p50 ms", "p99 ms"]


def run(quick: bool = False) -> None:
    """Measure and print."""
    seconds, rounds = (0.5, 1) if quick else (2.0, 9)
    [server] = peers(1, "threaded")
    with server.running() as (_, port):
        kinds = {_APACHE: "apache", _OURS: "sparts"}
        subjects = {name: _pings(kind, port, seconds) for name, kind in kinds.items()}
        results = interleave(subjects, rounds)
    print(table(_HEADERS, (_row(results, name) for name in results)))
    found = ratio(results, _OURS, _APACHE, "rate")
    cpu = ratio(results, _OURS, _APACHE, "cpu")
    measured = f"{found:.3f}, with {cpu:.3f} of its CPU a call"
    say_target(f"{_OURS} no slower than the {_APACHE}", measured, found >= 1)


def _pings(kind: str, port: int, seconds: float) -> Callable[[], Sample]:
    def sample() -> Sample:
        with Process(python("thrift_client", kind, port, seconds), LOAD_CPUS) as process:
            told: dict[str, float] = json.loads(process.line())
            return told

    return sample


def _row(results: Results, name: str) -> list[str]:
    return [
        name,
        f"{median(results, name, 'rate'):,.0f}",
        f"{ratio(results, name, _APACHE, 'rate'):.2f}",
        f"{median(results, name, 'cpu'):.1f}",
        f"{ratio(results, name, _APACHE, 'cpu'):.2f}",
        f"{median(results, name, 'p50'):.3f}",
        f"{median(results, name, 'p99'):.3f}",
    ]

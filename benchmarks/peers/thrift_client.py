"""A client that pings as fast as it can: sparts or apache, PORT SECONDS; prints a line of JSON."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.gen.bench import Bench

#: Seconds of pings that do not count.
WARMUP = 0.3


def apache(port: int) -> Callable[[], Any]:
    """``ping`` of the bare generated client."""
    from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
    from thrift.transport.TSocket import TSocket
    from thrift.transport.TTransport import TFramedTransport

    transport = TFramedTransport(TSocket("127.0.0.1", port))
    transport.open()
    ping: Callable[[], Any] = Bench.Client(TBinaryProtocolAccelerated(transport)).ping
    return ping


def sparts(port: int) -> Callable[[], Any]:
    """``ping`` of ours, looked up at each call as users do."""
    from sparts.thrift.client import ThriftClient

    client: Any = ThriftClient.for_localhost(port, module=Bench)
    return lambda: client.ping()


def ping_until(ping: Callable[[], Any], end: float) -> list[float]:
    """Ping one after the other; the seconds that each took."""
    took = []
    at = time.perf_counter()
    while at < end:
        if ping() != "pong":
            raise SystemExit("a wrong answer")
        took.append((then := time.perf_counter()) - at)
        at = then
    return took


def main(kind: str, port: int, seconds: float) -> None:
    ping = {"apache": apache, "sparts": sparts}[kind](port)
    ping_until(ping, time.perf_counter() + WARMUP)
    cpu, began = time.process_time(), time.perf_counter()
    took = sorted(ping_until(ping, began + seconds))
    told = {
        "rate": len(took) / (time.perf_counter() - began),
        "cpu": 1e6 * (time.process_time() - cpu) / len(took),
        "p50": 1e3 * took[len(took) // 2],
        "p99": 1e3 * took[len(took) * 99 // 100],
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))

"""The calls of ``bench.thrift`` as bytes, framed binary, with the values that every case sends."""

import struct
from typing import Any

from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.Thrift import TMessageType
from thrift.transport.TTransport import TMemoryBuffer

from benchmarks.gen.bench import Bench
from benchmarks.gen.bench.ttypes import Echo
from benchmarks.thriftload import Call

__all__ = ["COMPUTE", "COMPUTE_SECONDS", "ECHO", "PING", "WAIT", "WAIT_SECONDS", "call"]

#: Seconds that the slow methods take.
WAIT_SECONDS = 0.05
COMPUTE_SECONDS = 0.005
#: Of every call; a server gives it back.
_SEQUENCE = 1


def call(name: str, *values: Any, gives: Any) -> Call:
    """The call of method *name* with *values*, and the reply that *gives* is its result."""
    arguments = getattr(Bench, f"{name}_args")(*values)
    result = getattr(Bench, f"{name}_result")(success=gives)
    return Call(
        _frame(name, TMessageType.CALL, arguments), _frame(name, TMessageType.REPLY, result)
    )


def _frame(name: str, kind: int, value: Any) -> bytes:
    """By the codec in Python, so that the one in C is held against another."""
    buffer = TMemoryBuffer()
    protocol = TBinaryProtocol(buffer)
    protocol.writeMessageBegin(name, kind, _SEQUENCE)
    value.write(protocol)
    protocol.writeMessageEnd()
    body: bytes = buffer.getvalue()
    return struct.pack("!I", len(body)) + body


def _echo_value() -> Any:
    return Echo(
        flag=True,
        small=-7,
        shorter=12_345,
        number=-123_456_789,
        big=1 << 60,
        ratio=3.141592653589793,
        name="the name of a thing, 32 letters.",
        raw=bytes(range(32, 64)),
        numbers=[n * 1_000_003 for n in range(50)],
        counts={"one": 1, "two": 2},
    )


PING = call("ping", gives="pong")
ECHO = call("echo", _echo_value(), gives=_echo_value())
WAIT = call("wait", WAIT_SECONDS, gives=WAIT_SECONDS)
COMPUTE = call("compute", COMPUTE_SECONDS, gives=COMPUTE_SECONDS)

"""Bytes that were damaged: bounded time and memory, no thread lost, and good clients are served."""

import os
import random
import resource
import socket
import struct
import threading
from typing import Any

import pytest
from thrift.protocol.TCompactProtocol import TCompactProtocol
from thrift.protocol.TJSONProtocol import TJSONProtocol
from thrift.transport.TTransport import TMemoryBuffer

from tests.thrift.server import kit
from tests.thrift.server.kit import Calculator, framed, full_item, message, tree

#: Frames in all modes together; more by hand: FUZZ_FRAMES=100000.
FRAMES = int(os.environ.get("FUZZ_FRAMES", "10000"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))


def encoded(protocol_class: Any, name: str, *args: Any) -> bytes:
    """A call by one of the library's protocols."""
    buffer = TMemoryBuffer()
    protocol = protocol_class(buffer)
    protocol.writeMessageBegin(name, 1, 7)
    getattr(Calculator, f"{name}_args")(*args).write(protocol)
    protocol.writeMessageEnd()
    return bytes(buffer.getvalue())


CALLS: list[tuple[str, tuple[Any, ...]]] = [
    ("add", (1, 2)),
    ("echo", (full_item(),)),
    ("tree", (tree(20),)),
    ("table", ({"a": [1, 2, 3], "b": []},)),
    ("text", ("some text",)),
]
GOOD = [message(name, *args) for name, args in CALLS]
GOOD += [
    encoded(each, *call[:1], *call[1])
    for each in (TCompactProtocol, TJSONProtocol)
    for call in CALLS
]


def damaged(rng: random.Random) -> bytes:
    """One of the good messages with a few bytes changed, cut, doubled or put in."""
    data = bytearray(rng.choice(GOOD))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data))
        match rng.randrange(5):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + rng.randint(1, 8)]
            case 2:
                data[at:at] = rng.randbytes(rng.randint(1, 8))
            case 3:
                data[at : at + 4] = struct.pack(">i", rng.choice([-1, 0, 2**31 - 1, -(2**31)]))
            case 4:
                data[at:at] = data[at : at + 16]
        data = data or bytearray(b"\x80")
    return framed(bytes(data)) if rng.random() < 0.8 else bytes(data)


def send_all(address: Any, frames: list[bytes]) -> None:
    """Send them, a few on each connection, and read what comes until the server has no more."""
    for at in range(0, len(frames), 5):
        with socket.create_connection(address, kit.DEADLINE) as sock:
            try:
                sock.sendall(b"".join(frames[at : at + 5]))
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass
            except ConnectionError:
                pass


@pytest.mark.timeout(600 if FRAMES > 10000 else 20)
def test_damaged_messages(served: kit.Served, caplog: pytest.LogCaptureFixture) -> None:
    """Damaged messages of every protocol leave the server as it was."""
    rng = random.Random(SEED)
    frames = [damaged(rng) for _ in range(FRAMES // len(kit.MODES))]
    caplog.set_level("CRITICAL")
    send_all(served.address, frames[:500])  # what is made once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    threads = {each.name for each in served.task.threads if each.is_alive()}
    halves = frames[0::2], frames[1::2]
    senders = [threading.Thread(target=send_all, args=(served.address, each)) for each in halves]
    for sender in senders:
        sender.start()
    while any(sender.is_alive() for sender in senders):
        assert "pong" == served.connect().ask("ping")
        senders[0].join(0.05)
    for sender in senders:
        sender.join()
    assert threads == {each.name for each in served.task.threads if each.is_alive()}
    served.until(lambda: served.counter("in_flight") == 0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
    assert not served.service._stop

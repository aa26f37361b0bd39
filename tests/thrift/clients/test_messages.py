"""What becomes of replies, and of those that something has changed on the way."""

import contextlib
import random
from typing import Any

import pytest
from example.ttypes import Item, Tree
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.protocol.TCompactProtocol import TCompactProtocolAccelerated
from thrift.protocol.TJSONProtocol import TJSONProtocol
from thrift.Thrift import TApplicationException, TMessageType
from thrift.transport.TTransport import TMemoryBuffer

from sparts.thrift.clients.binary import BinaryMessages
from sparts.thrift.clients.messages import Messages, ProtocolMessages, outcome
from sparts.thrift.errors import BadReply
from sparts.thrift.interface import Interface, Method

VALUES = {
    "ping": "pong",
    "echo": Item(id=1, name="x", numbers=[1, 2, 3], weights={"a": 1.0}, raw=b"r", marks={1}),
    "table": {"one": [1, 2], "two": []},
    "tree": Tree(1, [Tree(2, [Tree(3, [])])]),
    "words": {"a", "b"},
}
SPOKEN = {
    "quick": (BinaryMessages(False, None, 10**6), TBinaryProtocol),
    "library": (ProtocolMessages(TBinaryProtocol, False, None, 10**6), TBinaryProtocol),
    "compact": (
        ProtocolMessages(TCompactProtocolAccelerated, False, None, 10**6),
        TCompactProtocolAccelerated,
    ),
    "json": (ProtocolMessages(TJSONProtocol, False, None, 10**6), TJSONProtocol),
}


@pytest.fixture
def methods(calculator: Any) -> Any:
    """The example's methods."""
    return Interface.of(calculator).methods


def reply(protocol: Any, method: Method, value: Any) -> bytes:
    """The reply with *value*, to call 5."""
    buffer = TMemoryBuffer()
    made = protocol(buffer)
    made.writeMessageBegin(method.name, TMessageType.REPLY, 5)
    assert method.result_class is not None
    method.result_class(success=value).write(made)
    made.writeMessageEnd()
    data: bytes = buffer.getvalue()
    return data


@pytest.mark.parametrize("spoken", SPOKEN)
def test_replies(methods: Any, spoken: str) -> None:
    """The value in a reply is what the call returns, in every protocol."""
    messages, protocol = SPOKEN[spoken]
    for name, value in VALUES.items():
        result = messages.decode(methods[name], 5, reply(protocol, methods[name], value))
        assert value == outcome(methods[name], result)


def changed(data: bytes, chance: random.Random) -> bytes:
    """*data* with bytes that are others, missing, or too many."""
    made = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(made) or 1)
        change = chance.randrange(4)
        if change == 0:
            made[at : at + 1] = bytes([chance.randrange(256)])
        elif change == 1:
            del made[at : at + chance.randint(1, 8)]
        elif change == 2:
            made[at:at] = chance.randbytes(chance.randint(1, 8))
        else:
            made[at : at + 4] = chance.choice(
                [b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x00" * 4]
            )
    return bytes(made)


def harmless(messages: Messages, method: Method, data: bytes) -> None:
    """Decode it, which gives a value or one of two errors."""
    with contextlib.suppress(BadReply, TApplicationException):
        outcome(method, messages.decode(method, 5, data))


@pytest.mark.parametrize("spoken", SPOKEN)
def test_changed_replies(methods: Any, spoken: str) -> None:
    """Whatever bytes come, the call ends with a value or with an error that tells."""
    messages, protocol = SPOKEN[spoken]
    chance = random.Random(spoken)
    for name, value in VALUES.items():
        whole = reply(protocol, methods[name], value)
        for _ in range(400):
            harmless(messages, methods[name], changed(whole, chance))
    assert "pong" == outcome(
        methods["ping"],
        messages.decode(methods["ping"], 5, reply(protocol, methods["ping"], "pong")),
    )

"""Where unframed messages end, and what of a message goes beyond the limits."""

import random
import struct
import time
import tracemalloc
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from example import Calculator
from example.ttypes import Item, Tree
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.protocol.TCompactProtocol import TCompactProtocol
from thrift.protocol.TJSONProtocol import TJSONProtocol
from thrift.Thrift import TMessageType, TType
from thrift.transport.TTransport import TMemoryBuffer

from sparts.thrift import scanner
from sparts.thrift.framing import FrameError, Message, new_framing
from sparts.thrift.limits import Limits
from sparts.thrift.scanner import Scanner, check

PROTOCOLS: dict[str, Callable[[Any], Any]] = {
    "binary": TBinaryProtocol,
    "compact": TCompactProtocol,
    "json": TJSONProtocol,
}
LIMITS = Limits()

#: How each type is written: the method's name, and what makes a value.
SIMPLE: dict[int, tuple[str, Callable[[random.Random], Any]]] = {
    TType.BOOL: ("writeBool", lambda chance: chance.random() < 0.5),
    TType.BYTE: ("writeByte", lambda chance: chance.randint(-128, 127)),
    TType.I16: ("writeI16", lambda chance: chance.randint(-(2**15), 2**15 - 1)),
    TType.I32: ("writeI32", lambda chance: chance.randint(-(2**31), 2**31 - 1)),
    TType.I64: ("writeI64", lambda chance: chance.choice((0, 5, -7, 2**40, -(2**63)))),
    TType.DOUBLE: ("writeDouble", lambda chance: chance.random()),
    TType.STRING: ("writeString", lambda chance: chance.choice(('"\\[{é', "", "]}" * 60))),
    TType.UUID: ("writeUuid", lambda chance: uuid.UUID(int=chance.getrandbits(128))),
}
NESTED = (TType.STRUCT, TType.LIST, TType.SET, TType.MAP)


class Author:
    """Writes messages with random contents."""

    def __init__(self, protocol: Any, seed: int) -> None:
        self.protocol = protocol
        self.chance = random.Random(seed)

    def message(self) -> None:
        name = self.chance.choice(("a", "service:method", "n" * 200))
        self.protocol.writeMessageBegin(name, TMessageType.CALL, self.chance.randint(0, 2**31 - 1))
        self.struct(self.chance.randint(0, 4))
        self.protocol.writeMessageEnd()

    def struct(self, depth: int) -> None:
        self.protocol.writeStructBegin("")
        number = 0
        for _ in range(self.chance.randint(0, 6)):
            number += self.chance.choice((1, 1, 1, 20, 300))
            kind = self.kind(depth)
            self.protocol.writeFieldBegin("", kind, number)
            self.value(kind, depth)
            self.protocol.writeFieldEnd()
        self.protocol.writeFieldStop()
        self.protocol.writeStructEnd()

    def kind(self, depth: int) -> int:
        kinds = [*SIMPLE, *(NESTED * 3 if depth else ())]
        return int(self.chance.choice(kinds))

    def value(self, kind: int, depth: int) -> None:
        count = self.chance.choice((0, 1, 2, 14, 15, 16, 40) if depth < 3 else (0, 1, 2))
        if kind in SIMPLE:
            name, make = SIMPLE[kind]
            getattr(self.protocol, name)(make(self.chance))
        elif kind == TType.STRUCT:
            self.struct(depth - 1)
        elif kind == TType.MAP:
            # JSON has simple keys only.
            key, value = self.chance.choice(list(SIMPLE)), self.kind(depth - 1)
            self.protocol.writeMapBegin(key, value, count)
            for _ in range(count):
                self.value(key, 0)
                self.value(value, depth - 1)
            self.protocol.writeMapEnd()
        else:
            element = self.kind(depth - 1)
            self.protocol.writeListBegin(element, count)
            for _ in range(count):
                self.value(element, depth - 1)
            self.protocol.writeListEnd()


def written(codec: str, seed: int) -> bytes:
    """A message with random contents."""
    buffer = TMemoryBuffer()
    Author(PROTOCOLS[codec](buffer), seed).message()
    return bytes(buffer.getvalue())


def call(codec: str, method: str, *arguments: Any) -> bytes:
    """A message as the generated client writes it."""
    buffer = TMemoryBuffer()
    getattr(Calculator.Client(PROTOCOLS[codec](buffer)), f"send_{method}")(*arguments)
    return bytes(buffer.getvalue())


def nest(levels: int) -> Any:
    """A tree that makes so many levels, an even number, the arguments' struct being the first."""
    tree = Tree(1, None)
    for _ in range(levels // 2 - 1):
        tree = Tree(1, [tree])
    return tree


@pytest.fixture(params=["C codec", "walk"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test is run with the library's C codec, and without."""
    if request.param == "walk":
        monkeypatch.setattr(scanner, "fastbinary", None)
    return str(request.param)


# -- the end --------------------------------------------------------------------------------------
@pytest.mark.parametrize("codec", PROTOCOLS)
def test_the_end_is_found(codec: str, way: str) -> None:
    """The end of any message is found, whatever is before and behind it."""
    for seed in range(60):
        message = written(codec, seed)
        assert 3 + len(message) == Scanner(codec, LIMITS).whole(b"xyz" + message + b"\x82more", 3)


@pytest.mark.parametrize("codec", PROTOCOLS)
def test_a_part_is_no_end(codec: str, way: str) -> None:
    """No part of a message is taken for a message, wherever it is cut, and it can go on there."""
    chance = random.Random(0)
    for seed in range(60):
        message = written(codec, seed)
        for _ in range(20):
            found = Scanner(codec, LIMITS)
            at = chance.randrange(len(message))
            data = bytearray(message[:at])
            assert 0 == found.whole(b"xyz" + message[:at], 3)
            assert 0 == found.grown(data)
            middle = chance.randrange(at, len(message))
            data += message[at:middle]
            assert 0 == found.grown(data)
            data += message[middle:] + b"\x01"
            assert len(message) == found.grown(data)


@pytest.mark.parametrize("codec", PROTOCOLS)
def test_byte_by_byte(codec: str, way: str) -> None:
    """A message that comes byte by byte ends where it ends."""
    for seed in range(8):
        message = written(codec, seed)
        found = Scanner(codec, LIMITS)
        data = bytearray(message[:1])
        assert 0 == found.whole(message[:1], 0)
        for at in range(1, len(message)):
            assert 0 == found.grown(data)
            data.append(message[at])
        assert len(message) == found.grown(data)


# -- limits ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("codec", PROTOCOLS)
def test_the_deepest_message(codec: str, way: str) -> None:
    """Structs and containers may be nested to the limit, and no deeper."""
    for levels in (4, 62):
        data = call(codec, "tree", nest(levels))
        framed = Message(b"<" + data + b">", 1, 1 + len(data), codec)
        check(framed, Limits(max_depth=levels))
        assert len(data) == Scanner(codec, Limits(max_depth=levels)).whole(data, 0)
        # In JSON only brackets are counted, up to three for a level.
        less = levels - 1 if codec != "json" else levels // 3
        with pytest.raises(FrameError, match=f"nested deeper than {less} levels"):
            check(framed, Limits(max_depth=less))


@pytest.mark.parametrize("codec", ["binary", "compact"])
def test_deeper_than_the_c_codec_skips(codec: str, way: str) -> None:
    """An unframed message of 64 levels passes, though the C codec does not skip as many."""
    data = call(codec, "tree", nest(64))
    assert len(data) == Scanner(codec, LIMITS).whole(data, 0)
    with pytest.raises(FrameError, match="nested deeper than 64 levels"):
        Scanner(codec, LIMITS).whole(call(codec, "tree", nest(66)), 0)


@pytest.mark.parametrize(
    "data",
    [
        call("binary", "ping")[:-1] + b"\x0c\x00\x01" * 1_000_000,
        call("binary", "ping")[:-1] + b"\x0f\x00\x01" + b"\x0f\0\0\0\1" * 1_000_000,
        call("compact", "ping")[:-1] + b"\x1c" * 1_000_000,
        call("compact", "ping")[:-1] + b"\x19" * 1_000_000,
        b"[" * 1_000_000,
        b'[1,"ping",1,0,' + b'{"1":' * 1_000_000,
    ],
    ids=["structs", "lists", "compact structs", "compact lists", "arrays", "objects"],
)
def test_a_million_levels(data: bytes, way: str) -> None:
    """A million levels are refused, in or without frames, and take neither time nor memory."""
    with pytest.raises(FrameError, match="nested deeper than 64 levels"):
        feed(data)
    codec = {0x80: "binary", 0x82: "compact"}.get(data[0], "json")
    with pytest.raises(FrameError, match="nested deeper than 64 levels"):
        check(Message(data, 0, len(data), codec), LIMITS)


def feed(*pieces: bytes, limits: Limits = LIMITS) -> list[Message]:
    """The messages in the *pieces*, which the framing of a new connection is fed one by one."""
    framing = new_framing(limits)
    found = []
    for piece in pieces:
        framing.feed(piece)
        while (message := framing.next()) is not None:
            found.append(message)
    return found


TWO_BILLION = struct.pack(">i", 0x7FFFFFFF)
COMPACT_TWO_BILLION = b"\xff\xff\xff\xff\x07"


BINARY_BOMBS = [
    bytes((container, 0, 1, *kinds)) + TWO_BILLION
    for container in (13, 14, 15)
    for kind in (2, 3, 8, 11, 12, 15)
    for kinds in [(kind, kind) if container == 13 else (kind,)]
]
COMPACT_BOMBS = [
    bytes((0x10 | container, 0xF0 | kind)) + COMPACT_TWO_BILLION
    for container in (9, 10)
    for kind in (1, 3, 5, 8, 9, 12)
] + [b"\x1b" + COMPACT_TWO_BILLION + bytes((kind << 4 | kind,)) for kind in (1, 5, 8, 12)]


@pytest.mark.parametrize(
    ("codec", "bombs"),
    [("binary", BINARY_BOMBS), ("compact", COMPACT_BOMBS)],
    ids=["binary", "compact"],
)
def test_two_billion_elements(codec: str, bombs: list[bytes], way: str) -> None:
    """A few bytes that announce two billion elements are refused, and take no memory or time."""
    start = call(codec, "ping")[:-1]
    began = time.process_time()
    tracemalloc.start()
    try:
        for bomb in bombs:
            with pytest.raises(FrameError, match="a container of 2147483647 elements"):
                feed(start + bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
    assert time.process_time() - began < 1


@pytest.mark.parametrize("codec", PROTOCOLS)
def test_the_largest_container(codec: str, way: str) -> None:
    """A container may have as many elements as the limit, and not one more."""
    for limit in (20, 19):
        limits = Limits(max_container_size=limit)
        for argument in (
            Item(numbers=list(range(20))),
            Item(marks=set(range(20))),
            Item(weights={str(number): 1.0 for number in range(20)}),
        ):
            data = call(codec, "echo", argument)
            if limit == 20:
                (message,) = feed(data, limits=limits)
                check(message, limits)
            else:
                with pytest.raises(FrameError, match=r"a container of 20 elements \(limit 19\)"):
                    check(feed(data, limits=limits)[0], limits)


@pytest.mark.parametrize("size", ["2000000000", "+2000000000", "9" * 5000, "0" * 50 + "1000001"])
def test_json_that_announces_too_much(size: str) -> None:
    """JSON is refused for the size that it announces, before anybody reads it."""
    for kinds in ('"i32"', '"str","rec"', '"lst"'):
        data = f'[1,"echo",1,0,{{"1":{{"lst":[{kinds},{size}]}}}}]'.encode()
        with pytest.raises(FrameError, match=r"a container of \d+ elements"):
            check(Message(data, 0, len(data), "json"), LIMITS)


def test_json_in_strings() -> None:
    """What looks like brackets and sizes within a string of JSON is neither."""
    for text in ('["i32",2000000000]', "[" * 1000, '\\"[', "\\", '"', "]}", '[\\"i32\\",9999999'):
        data = call("json", "text", text)
        (message,) = feed(data + data[:1])
        assert len(data) == message.end
        check(message, LIMITS)


#: What cannot be within a message, and why.
NONSENSE = [
    ("binary", b"\x0b\x00\x01\xff\xff\xff\xff", "a string of -1 bytes"),
    ("binary", b"\x0f\x00\x01\x08\xff\xff\xff\xff", "a container of -1 elements"),
    ("binary", b"\x05\x00\x01", "a value of the unknown type 5"),
    ("binary", b"\x0f\x00\x01\x11\x00\x00\x00\x01", "a container of the unknown type 17"),
    ("binary", b"\x0d\x00\x01\x08\x00\x00\x00\x00\x01", "a container of the unknown type 0"),
    ("compact", b"\x1e", "a value of the unknown type 14"),
    ("compact", b"\x19\x1f", "a container of the unknown type 15"),
    ("compact", b"\x1b\x01\x80", "a container of the unknown type 0"),
    ("compact", b"\x18" + b"\xff" * 11, "a number of more than 10 bytes"),
    ("compact", b"\x18\xff\xff\xff\xff\x0f", "a message of 42949673"),
]


def test_nonsense_within(way: str) -> None:
    """A structure that cannot be is refused with what is wrong, once it is there."""
    for codec, body, reason in NONSENSE:
        data = call(codec, "ping")[:-1] + body + bytes(8)
        with pytest.raises(FrameError, match=reason):
            feed(data)
        with pytest.raises(FrameError, match=reason):
            feed(*(data[at : at + 1] for at in range(len(data))))


@pytest.mark.parametrize("codec", PROTOCOLS)
def test_check_sees_the_end(codec: str) -> None:
    """A frame's message that is cut short, or goes on into the next frame, is refused."""
    data = call(codec, "text", "abc")
    check(Message(data, 0, len(data), codec), LIMITS)
    for cut in (data, data[:-1]):
        with pytest.raises(FrameError, match="a message that ends early"):
            check(Message(cut, 0, len(data) - 1, codec), LIMITS)

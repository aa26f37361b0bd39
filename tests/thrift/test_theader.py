"""THeader frames, as Apache's THeaderTransport sends and reads them."""

import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from example import Calculator
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.protocol.TCompactProtocol import TCompactProtocol
from thrift.protocol.THeaderProtocol import THeaderProtocol
from thrift.transport.THeaderTransport import THeaderClientType, THeaderSubprotocolID
from thrift.transport.TTransport import TFramedTransport, TMemoryBuffer, TTransportBase
from thrift.transport.TZlibTransport import TZlibTransport

from sparts.thrift.framed import Framed
from sparts.thrift.framing import FrameError, Framing, Message, new_framing
from sparts.thrift.limits import Limits
from sparts.thrift.theader import Header
from sparts.thrift.zlibbed import Zlib

LIMITS = Limits()
PROTOCOLS = {
    "binary": (THeaderSubprotocolID.BINARY, TBinaryProtocol),
    "compact": (THeaderSubprotocolID.COMPACT, TCompactProtocol),
}
ZLIB = 1


class Wire(TTransportBase):  # type: ignore[misc]
    """What a client sends, and the answers that it reads."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.answers = b""

    def write(self, buf: bytes) -> None:
        self.sent += buf

    def flush(self) -> None:
        pass

    def read(self, sz: int) -> bytes:
        part, self.answers = self.answers[:sz], self.answers[sz:]
        return part

    def take(self) -> bytes:
        """What was sent since the last time."""
        sent = bytes(self.sent)
        self.sent.clear()
        return sent


class Client:
    """The generated client with Apache's THeader."""

    def __init__(self, codec: str, under: Callable[[Any], Any] = lambda wire: wire) -> None:
        self.wire = Wire()
        protocol_id, _ = PROTOCOLS[codec]
        self.protocol = THeaderProtocol(
            under(self.wire), (THeaderClientType.HEADERS,), default_protocol=protocol_id
        )
        self.stub = Calculator.Client(self.protocol)

    def send(self, method: str, *arguments: Any) -> bytes:
        getattr(self.stub, f"send_{method}")(*arguments)
        return self.wire.take()

    def read(self, method: str, answer: bytes) -> Any:
        self.wire.answers += answer
        return getattr(self.stub, f"recv_{method}")()


class Handler:
    """Answers the calls of the tests."""

    def text(self, value: str) -> str:
        return value

    def add(self, a: int, b: int) -> int:
        return a + b


def answer(message: Message) -> bytes:
    """The answer of the generated processor to *message*."""
    _, factory = PROTOCOLS[message.codec]
    out = TMemoryBuffer()
    given = factory(TMemoryBuffer(message.data[message.start : message.end]))
    Calculator.Processor(Handler()).process(given, factory(out))
    return bytes(out.getvalue())


def messages(framing: Framing, *pieces: bytes) -> list[Message]:
    """All messages that are in the *pieces*, fed one by one."""
    found = []
    for piece in pieces:
        framing.feed(piece)
        while (message := framing.next()) is not None:
            found.append(message)
    return found


def framed(codec: str, method: str, *arguments: Any) -> bytes:
    """A message in a plain frame."""
    wire = Wire()
    stub = Calculator.Client(PROTOCOLS[codec][1](TFramedTransport(wire)))
    getattr(stub, f"send_{method}")(*arguments)
    return wire.take()


def made(header: bytes, payload: bytes, flags: int = 0, words: int | None = None) -> bytes:
    """A THeader frame with that *header*, which is padded."""
    header += bytes(-len(header) % 4)
    count = len(header) // 4 if words is None else words
    body = struct.pack(">HHIH", 0x0FFF, flags, 7, count) + header + payload
    return struct.pack(">i", len(body)) + body


BINARY = framed("binary", "add", 1, 2)[4:]
COMPACT = framed("compact", "add", 1, 2)[4:]


# -- Apache's client ------------------------------------------------------------------------------
@pytest.mark.parametrize("transforms", [[], [ZLIB]], ids=["plain", "zlib"])
@pytest.mark.parametrize("codec", PROTOCOLS)
def test_apaches_client(codec: str, transforms: list[int]) -> None:
    """Apache's client is understood and answered with its protocol, transform and number."""
    client = Client(codec)
    for each in transforms:
        client.protocol.add_transform(each)
    for step in (1, 3, 10_000):
        framing = new_framing(LIMITS)
        for number in range(3):
            client.protocol.set_header(b"trace", b"id %d" % number)
            client.protocol.set_header(b"", b"")
            sent = client.send("text", "[" * 5000 + str(number))
            pieces = [sent[at : at + step] for at in range(0, len(sent), step)]
            (message,) = messages(framing, *pieces)
            header: Any = message.envelope
            assert codec == message.codec
            assert {b"trace": b"id %d" % number, b"": b""} == header.headers
            assert bool(transforms) is header.is_deflated
            wrapped = framing.wrap(answer(message), message)
            assert "[" * 5000 + str(number) == client.read("text", wrapped)
            assert (len(wrapped) < 1000) is bool(transforms)
        assert 0 == framing.buffered


def test_beside_plain_frames() -> None:
    """Frames with and without a header may share a connection; each is answered in its kind."""
    client = Client("compact")
    sent = [framed("binary", "add", 1, 2), client.send("add", 1, 2), framed("compact", "add", 1, 2)]
    framing = new_framing(LIMITS)
    found = messages(framing, b"".join(sent))
    assert ["binary", "compact", "compact"] == [message.codec for message in found]
    assert [False, True, False] == [isinstance(each.envelope, Header) for each in found]
    wrapped = [framing.wrap(answer(message), message) for message in found]
    assert 3 == client.read("add", wrapped[1])
    assert [b"\x80\x01", b"\x0f\xff", b"\x82\x41"] == [each[4:6] for each in wrapped]


def test_flags_and_number_come_back() -> None:
    """An answer has the flags and the sequence number of its call, whatever they are."""
    framing = new_framing(LIMITS)
    body = struct.pack(">HHIH", 0x0FFF, 0xABCD, 0xFFFFFFFE, 1) + b"\0\0\0\0" + BINARY
    (message,) = messages(framing, struct.pack(">i", len(body)) + body)
    wrapped = framing.wrap(b"answer", message)
    assert struct.pack(">iHHIH", 20, 0x0FFF, 0xABCD, 0xFFFFFFFE, 1) + b"\0\0\0\0answer" == wrapped


def test_in_a_zlib_stream() -> None:
    """THeader frames may be in a zlib stream, but not be compressed themselves."""
    client = Client("binary", TZlibTransport)
    framing = new_framing(LIMITS)
    (message,) = messages(framing, client.send("add", 1, 2))
    assert isinstance(framing.settled, Zlib)
    assert 3 == client.read("add", framing.wrap(answer(message), message))
    client.protocol.add_transform(ZLIB)
    framing.feed(client.send("add", 1, 2))
    with pytest.raises(FrameError, match="zlib within zlib"):
        framing.next()


def test_an_unknown_kind_of_headers_is_left_out() -> None:
    """What is in the header behind a kind of headers that is not known is not looked at."""
    framing = new_framing(LIMITS)
    known = b"\0\0\1\1\3key\5value"
    (message,) = messages(framing, made(known + b"\7\xff\xff\xff", BINARY))
    header: Any = message.envelope
    assert isinstance(framing.settled, Framed)
    assert {b"key": b"value"} == header.headers


# -- what is refused ------------------------------------------------------------------------------
def pairs(count: int) -> bytes:
    """A header with so many pairs."""
    return b"\0\0\1" + bytes((count & 0x7F | 0x80, count >> 7)) + b"\0\0" * count


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\0\0\0\x02\x0f\xff", "a THeader frame that is too short"),
        (b"\0\0\0\x09\x0f\xff" + bytes(7), "a THeader frame that is too short"),
        (made(b"", BINARY), "header ends early"),
        (made(b"\0\0", b""), "header is longer than itself"),
        (made(b"\0\0", BINARY, words=0xFFFF), "header is longer than itself"),
        (made(b"\1\0", BINARY), "of the protocol 1; known: 0 binary, 2 compact"),
        (made(b"\x80\x01\0", BINARY), "of the protocol 128"),
        (made(b"\0\1\2", BINARY), "with the transform 2; known: 1 zlib"),
        (made(b"\0\xff\xff\xff\xff\x07\3", BINARY), "with the transform 3"),
        (made(b"\0\2\1\1", zlib.compress(zlib.compress(BINARY))), "zlib within zlib"),
        (made(b"\0\xff\xff\xff", BINARY), "header ends early"),
        (made(b"\xff" * 12, BINARY), "a number of more than 10 bytes"),
        (made(b"\0\0\1\1\xff\xff\xff\x7f", BINARY), "header ends early"),
        (made(b"\0\0\1\1\3key\x04val", BINARY), "header ends early"),
        (made(pairs(257), BINARY), "with more than 256 headers"),
        (made(pairs(200) + b"\1\x39", BINARY), "with more than 256 headers"),
        (made(b"\2\0", BINARY), "without the compact message that its header announces"),
        (made(b"\0\0", COMPACT), "without the binary message that its header announces"),
        (made(b"\0\0", b"[1]"), "without the binary message"),
        (made(b"\0\1\1", zlib.compress(b"")), "without the binary message"),
        (made(b"\0\1\1", BINARY), "damaged zlib data"),
        (made(b"\0\1\1", zlib.compress(BINARY)[:-5]), "zlib data that ends early"),
    ],
)
def test_what_is_refused(data: bytes, reason: str) -> None:
    """A frame that is damaged or asks for what is unknown is refused with the reason."""
    with pytest.raises(FrameError, match=reason):
        messages(new_framing(LIMITS), data)


def test_as_many_headers_as_are_allowed() -> None:
    """256 headers pass."""
    keys = b"".join(b"\3%03x\0" % number for number in range(256))
    (message,) = messages(new_framing(LIMITS), made(b"\0\0\1\x80\2" + keys, BINARY))
    header: Any = message.envelope
    assert 256 == len(header.headers)


def test_the_largest_message() -> None:
    """A message may inflate to as many bytes as the limit, and not one more."""
    client = Client("binary")
    client.protocol.add_transform(ZLIB)
    sent = client.send("text", "x" * 5000)
    size = len(framed("binary", "text", "x" * 5000)) - 4
    (message,) = messages(new_framing(Limits(max_frame_size=size)), sent)
    assert size == message.end - message.start
    with pytest.raises(FrameError, match=f"more than {size - 1} bytes when inflated"):
        messages(new_framing(Limits(max_frame_size=size - 1)), sent)


def test_a_bomb_costs_nothing() -> None:
    """A frame that inflates to 50 MiB takes no more memory than one message may."""
    bomb = made(b"\0\1\1", zlib.compress(bytes(50 << 20), 9))
    framing = new_framing(Limits(max_frame_size=1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(FrameError, match="more than 1048576 bytes when inflated"):
            messages(framing, bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 << 20


def test_many_headers_cost_nothing() -> None:
    """A header of 256 KiB is refused at its 257th pair, or read in one go."""
    with pytest.raises(FrameError, match="more than 256 headers"):
        messages(new_framing(LIMITS), made(b"\0\0\1\xff\xff\x07" + b"\0" * 200_000, BINARY))
    large = b"\0\0\1\1\1k" + b"\x80\x80\x0f" + b"v" * 0x3C000
    (message,) = messages(new_framing(LIMITS), made(large, BINARY))
    header: Any = message.envelope
    assert {b"k": b"v" * 0x3C000} == header.headers


def test_nonsense_is_refused_and_nothing_else_fails() -> None:
    """Of damaged frames comes a message, a wait for more or a FrameError: never another error."""
    chance = random.Random(0)
    limits = Limits(max_frame_size=1 << 16)
    client = Client("compact")
    client.protocol.set_header(b"key", b"value")
    plain = client.send("text", "abc")
    client.protocol.set_header(b"key", b"value")
    client.protocol.add_transform(ZLIB)
    packed = client.send("text", "abc")
    for number in range(3000):
        changed = bytearray(packed if number % 2 else plain)
        for _ in range(chance.randint(1, 3)):
            changed[chance.randrange(4, len(changed))] = chance.randrange(256)
        framing = new_framing(limits)
        try:
            for message in messages(framing, bytes(changed), plain):
                framing.wrap(b"payload", message)
        except FrameError:
            continue

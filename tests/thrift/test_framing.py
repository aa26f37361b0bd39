"""Bytes in, messages out: every transport and protocol of Apache's library, and what is refused."""

import random
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from example import Calculator
from example.ttypes import Item, Tree
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.protocol.TCompactProtocol import TCompactProtocol
from thrift.protocol.TJSONProtocol import TJSONProtocol
from thrift.transport.TTransport import (
    TBufferedTransport,
    TFramedTransport,
    TMemoryBuffer,
    TTransportBase,
)
from thrift.transport.TZlibTransport import TZlibTransport

from sparts.thrift import scanner
from sparts.thrift.framed import Framed
from sparts.thrift.framing import FrameError, Framing, Message, new_framing
from sparts.thrift.limits import Limits
from sparts.thrift.scanner import check
from sparts.thrift.unframed import Unframed
from sparts.thrift.zlibbed import FramedZlib, Zlib

Factory = Callable[[Any], Any]

#: What a client speaks, and how that is called here. None is accelerated, as the library's zlib
#: transport loses what it inflates beyond 4 KiB when the C codec reads from it.
PROTOCOLS: dict[str, tuple[Factory, str]] = {
    "binary": (TBinaryProtocol, "binary"),
    "old binary": (lambda trans: TBinaryProtocol(trans, False, False), "binary"),
    "compact": (TCompactProtocol, "compact"),
    "json": (TJSONProtocol, "json"),
}
TRANSPORTS: dict[str, tuple[Factory, type[Framing]]] = {
    "framed": (TFramedTransport, Framed),
    "buffered": (TBufferedTransport, Unframed),
    "zlib": (TZlibTransport, Zlib),
    "buffered in zlib": (lambda wire: TBufferedTransport(TZlibTransport(wire)), Zlib),
    "framed in zlib": (lambda wire: TFramedTransport(TZlibTransport(wire)), Zlib),
    "zlib in frames": (lambda wire: TZlibTransport(TFramedTransport(wire)), FramedZlib),
}
LARGE = Item(
    id=2**62,
    name='größer "quoted\\" [{',
    numbers=list(range(-500, 500)),
    weights={f"w{number}": number / 7 for number in range(50)},
    raw=bytes(range(256)) * 4,
    marks=set(range(50)),
)
#: Calls and their answers.
CALLS: list[tuple[str, tuple[Any, ...], Any]] = [
    ("ping", (), "pong"),
    ("add", (2**40, -1), 2**40 - 1),
    ("echo", (LARGE,), LARGE),
    ("text", ("",), ""),
    ("nothing", (), None),
    ("table", ({"a": [1, 2], "": []},), {"a": [1, 2], "": []}),
    ("tree", (Tree(1, [Tree(2, []), Tree(3, [Tree(4, [])])]),), None),
]
CALLS[-1] = ("tree", CALLS[-1][1], CALLS[-1][1][0])


class Handler:
    """Answers the calls above."""

    def ping(self) -> str:
        return "pong"

    def add(self, a: int, b: int) -> int:
        return a + b

    def nothing(self) -> None:
        return None

    def echo(self, value: Any) -> Any:
        return value

    text = table = tree = echo


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


class Client:
    """The generated client, over a transport and a protocol."""

    def __init__(self, transport: Factory, protocol: Factory) -> None:
        self.wire = Wire()
        self.stub = Calculator.Client(protocol(transport(self.wire)))

    def send(self, method: str, *arguments: Any) -> bytes:
        """The bytes of one more call."""
        before = len(self.wire.sent)
        getattr(self.stub, f"send_{method}")(*arguments)
        return bytes(self.wire.sent[before:])

    def read(self, method: str, answer: bytes) -> Any:
        """What the client makes of the next *answer*."""
        self.wire.answers += answer
        return getattr(self.stub, f"recv_{method}")()


def bytes_of(protocol: str, method: str, *arguments: Any) -> bytes:
    """One message without a frame."""
    return Client(TBufferedTransport, PROTOCOLS[protocol][0]).send(method, *arguments)


def frame(payload: bytes) -> bytes:
    """A frame with that in it."""
    return struct.pack(">i", len(payload)) + payload


def messages(framing: Framing, pieces: Iterator[bytes] | list[bytes]) -> list[Message]:
    """All messages that are in the *pieces*, fed one by one."""
    found = []
    for piece in pieces:
        framing.feed(piece)
        while (message := framing.next()) is not None:
            found.append(message)
    return found


def answer(message: Message, protocol: Factory) -> bytes:
    """The answer of the generated processor to *message*."""
    payload = message.data[message.start : message.end]
    out = TMemoryBuffer()
    Calculator.Processor(Handler()).process(protocol(TMemoryBuffer(payload)), protocol(out))
    return bytes(out.getvalue())


# -- cuts -----------------------------------------------------------------------------------------
def whole(data: list[bytes]) -> Iterator[bytes]:
    yield from data


def at_once(data: list[bytes]) -> Iterator[bytes]:
    yield b"".join(data)


def bytewise(data: list[bytes]) -> Iterator[bytes]:
    for byte in b"".join(data):
        yield bytes((byte,))


def cut_at_random(seed: int, longest: int) -> Callable[[list[bytes]], Iterator[bytes]]:
    def cut(data: list[bytes]) -> Iterator[bytes]:
        chance = random.Random(seed)
        rest = b"".join(data)
        while rest:
            at = chance.randint(0, longest)
            yield rest[:at]
            rest = rest[at:]

    return cut


CUTS = [whole, at_once, bytewise, cut_at_random(1, 7), cut_at_random(2, 500)]
CUTS += [cut_at_random(3, 30_000)]


# -- every client ---------------------------------------------------------------------------------
def converse(transport: str, protocol: str, cut: Callable[[list[bytes]], Iterator[bytes]]) -> None:
    """The client sends all calls, is understood, and understands the answers."""
    made, kind = TRANSPORTS[transport]
    factory, codec = PROTOCOLS[protocol]
    client = Client(made, factory)
    sent = [client.send(method, *arguments) for method, arguments, _ in CALLS]
    framing = new_framing(Limits())
    found = messages(framing, cut(sent))
    assert [codec] * len(CALLS) == [message.codec for message in found]
    assert kind is type(framing.settled)
    assert 0 == framing.buffered
    for (method, _, result), message in zip(CALLS, found, strict=True):
        check(message, Limits())
        wrapped = framing.wrap(answer(message, factory), message)
        assert result == client.read(method, wrapped)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_client(transport: str, protocol: str) -> None:
    """Apache's clients are understood however their bytes come, and answered as they speak."""
    for cut in CUTS:
        converse(transport, protocol, cut)


def test_without_the_c_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unframed messages are understood, too, where the library has no C codec."""
    monkeypatch.setattr(scanner, "fastbinary", None)
    for protocol in PROTOCOLS:
        for cut in CUTS:
            converse("buffered", protocol, cut)


def test_frames_may_differ() -> None:
    """Each frame of a connection may hold a message of another protocol; empty ones are nothing."""
    payloads = [bytes_of(protocol, "add", 1, 2) for protocol in PROTOCOLS]
    framing = new_framing(Limits())
    found = messages(framing, [frame(b"") * 3 + b"".join(map(frame, payloads)) + frame(b"") * 2])
    assert payloads == [message.data[message.start : message.end] for message in found]
    assert [codec for _, codec in PROTOCOLS.values()] == [message.codec for message in found]
    assert [frame(b"x")] * 4 == [framing.wrap(b"x", message) for message in found]
    assert 0 == framing.buffered


@pytest.mark.parametrize("wrapped", [frame, lambda payload: payload], ids=["framed", "unframed"])
def test_a_whole_message_is_not_copied(wrapped: Callable[[bytes], bytes]) -> None:
    """Messages that come whole lie in the very bytes that were fed."""
    chunk = wrapped(bytes_of("binary", "echo", LARGE)) * 3
    found = messages(new_framing(Limits()), [chunk])
    assert 3 == len(found)
    assert all(chunk is message.data for message in found)


def test_settled_takes_over() -> None:
    """The framing that was found goes on by itself with what the detector had in hand."""
    sent = frame(bytes_of("binary", "ping"))
    framing = new_framing(Limits())
    framing.feed(sent[:4])
    assert framing.next() is None
    assert framing.settled is None
    assert 4 == framing.buffered
    framing.feed(sent[4:-1])
    assert framing.next() is None
    settled: Any = framing.settled
    assert len(sent) - 1 == framing.buffered == settled.buffered
    settled.feed(sent[-1:] + sent)
    assert ["binary", "binary"] == [settled.next().codec, settled.next().codec]
    assert settled.next() is None


def test_fed_before_all_was_taken() -> None:
    """Nothing is lost when more is fed than messages are taken."""
    for transport, (made, _) in TRANSPORTS.items():
        client = Client(made, TBinaryProtocol)
        framing = new_framing(Limits())
        taken = 0
        for number in range(20):
            sent = client.send("add", number, number)
            framing.feed(sent[:9])
            framing.feed(sent[9:])
            taken += number % 3 == 0 and framing.next() is not None
        taken += len(messages(framing, [b""]))
        assert 20 == taken, transport
        assert 0 == framing.buffered


def test_a_line_end_after_json() -> None:
    """White space between JSON messages is nothing, so that people can type them."""
    sent = bytes_of("json", "ping") + b"\r\n"
    framing = new_framing(Limits())
    assert 3 == len(messages(framing, [sent, sent + b" ", sent]))
    assert 0 == framing.buffered


def test_answers_of_zlib_are_one_stream() -> None:
    """Each answer can be read when it has come, and the later ones are smaller for the earlier."""
    client = Client(TZlibTransport, TBinaryProtocol)
    framing = new_framing(Limits())
    sizes = []
    for _ in range(3):
        (message,) = messages(framing, [client.send("echo", LARGE)])
        wrapped = framing.wrap(answer(message, TBinaryProtocol), message)
        sizes.append(len(wrapped))
        assert client.read("echo", wrapped) == LARGE
    small = Item(id=1, name="the same words again, again and again")
    for _ in range(2):
        (message,) = messages(framing, [client.send("echo", small)])
        wrapped = framing.wrap(answer(message, TBinaryProtocol), message)
        sizes.append(len(wrapped))
        assert client.read("echo", wrapped) == small
    assert sizes[4] < sizes[3]


# -- what is refused ------------------------------------------------------------------------------
def refused(data: bytes, limits: Limits = Limits()) -> str:  # noqa: B008 (it does not change)
    """The reason why *data* is refused, whole and byte by byte."""
    reasons = set()
    for pieces in ([data], [bytes((byte,)) for byte in data]):
        with pytest.raises(FrameError) as caught:
            messages(new_framing(limits), pieces)
        assert caught.value.reason == str(caught.value)
        reasons.add(caught.value.reason)
    (reason,) = reasons
    return reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xff\xff\xff", "neither a frame nor a message begins with ff ff ff ff"),
        (b"\x80\x00\x00\x00", "neither a frame nor a message begins with 80 00 00 00"),
        (b"\x80\x02\x00\x01", "neither a frame nor a message begins with 80 02 00 01"),
        (b"\x82\x22\x00\x01", "neither a frame nor a message begins with 82 22 00 01"),
        (b"\x7f\xff\xff\xff", "a frame of 2147483647 bytes (limit 16777216)"),
        (b"\x01\x00\x00\x01", "a frame of 16777217 bytes (limit 16777216)"),
        (
            b"POST / HTTP/1.1\r\n",
            "a frame of 1347375956 bytes (limit 16777216); it may be an HTTP client",
        ),
        (b"GET / HTTP/1.1\r\n", "a frame of 1195725856 bytes (limit 16777216); it may be an HTTP"),
        (b"PRI * HTTP/2.0\r\n", "it may be an HTTP client"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "a TLS handshake on a port without TLS"),
        (b"\x78\x20\x00\x00", "a frame of 2015363072 bytes"),
        (frame(b"{}"), "a frame that holds no message; it begins with 7b 7d"),
        (frame(b"\x80"), "a frame that holds no message; it begins with 80"),
        (frame(b"\x80\x02\x00\x01"), "a frame that holds no message; it begins with 80 02 00 01"),
        (frame(b"\x82\x22\x00\x01"), "a frame that holds no message"),
        (frame(b"\0\0\0\x09pi\x01\0\0\0\0\0"), "a frame that holds no message"),
        (frame(b"\0\0\0"), "a frame that holds no message"),
        (frame(b"ping")[:8] + b"\x09ping!\0\0\0\0\0", "no binary message begins with 00 00 00 04"),
        (b"\x80\x01\x00\x01\xff\xff\xff\xff", "a method's name of -1 bytes"),
        (b"\x78\x9c\xff\xff\xff\xff", "a damaged zlib stream"),
    ],
)
def test_what_is_no_message(data: bytes, reason: str) -> None:
    """What is no message is refused, as soon as that is sure, with what it may be."""
    assert reason in refused(data)


def test_what_follows_is_no_message() -> None:
    """The same is refused when it comes after messages, which are served."""
    for good, bad in [
        (frame(bytes_of("binary", "ping")), b"\xff\xff\xff\xff"),
        (frame(bytes_of("binary", "ping")), b"\x7f\xff\xff\xff"),
        (frame(bytes_of("binary", "ping")), frame(b"?" * 10)),
        (bytes_of("binary", "ping"), b"\x80\x02\x00\x01\0\0\0\0"),
        (bytes_of("binary", "ping"), b"\0\0\0\0\0\0\0\0"),
        (bytes_of("compact", "ping"), b"\x82\x22"),
        (bytes_of("json", "ping"), b"{"),
    ]:
        for pieces in ([good + bad], [good, bad], [good[:5], good[5:] + bad]):
            framing = new_framing(Limits())
            for piece in pieces[:-1]:
                framing.feed(piece)
                framing.next()
            framing.feed(pieces[-1])
            with pytest.raises(FrameError):
                messages(framing, [b""])


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_largest_message(transport: str) -> None:
    """A message may have as many bytes as the limit, and not one more."""
    made, _ = TRANSPORTS[transport]
    for protocol, (factory, codec) in PROTOCOLS.items():
        size = len(bytes_of(protocol, "echo", LARGE))
        sent = Client(made, factory).send("echo", LARGE)
        pieces = [sent[:100], sent[100:]]
        (message,) = messages(new_framing(Limits(max_frame_size=size)), pieces)
        assert (codec, size) == (message.codec, message.end - message.start)
        with pytest.raises(FrameError, match=rf"a (frame|message) of {size} bytes \(limit"):
            messages(new_framing(Limits(max_frame_size=size - 1)), pieces)


def test_an_announced_size_costs_nothing() -> None:
    """A client that announces 16 MiB and sends nothing costs no memory."""
    messages(new_framing(Limits()), [b"\x80\x01"])  # what is made once, is made now
    heads = [struct.pack(">i", 16 << 20), b"\x80\x01\x00\x01\x00\xff\xff\xf0name"]
    tracemalloc.start()
    found = [messages(new_framing(Limits()), [head + b"\x80\x01"]) for head in heads]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [[], []] == found
    assert peak < 50_000


@pytest.mark.parametrize("transport", ["framed", "buffered", "zlib", "zlib in frames"])
def test_small_packets_cost_what_they_hold(transport: str) -> None:
    """A client that sends byte by byte costs memory as it sent."""
    client = Client(TRANSPORTS[transport][0], TBinaryProtocol)
    sent = client.send("blob", random.Random(0).randbytes(30_000))
    framing = new_framing(Limits())
    tracemalloc.start()
    found = messages(framing, bytewise([sent[:-100]]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [] == found
    assert peak < 3 * len(sent) + 50_000
    assert framing.buffered < 2 * len(sent)
    assert 1 == len(messages(framing, [sent[-100:]]))


@pytest.mark.parametrize("protocol", ["binary", "compact", "json"])
def test_small_packets_take_no_time(protocol: str) -> None:
    """How long a message takes that comes byte by byte grows no faster than its size."""
    sent = bytes_of(protocol, "table", {f"key {number}": [number] for number in range(10_000)})
    began = time.process_time()
    assert 1 == len(messages(new_framing(Limits()), bytewise([sent])))
    assert time.process_time() - began < 5  # it is 0.2; scanned from the start each time, 30


# -- bombs ----------------------------------------------------------------------------------------
def deflated(plain: bytes) -> bytes:
    """A zlib stream that goes on."""
    stream = zlib.compressobj(9)
    return stream.compress(plain) + stream.flush(zlib.Z_SYNC_FLUSH)


@pytest.mark.parametrize("wrapped", [bytes, frame], ids=["a stream", "in frames"])
@pytest.mark.parametrize(
    "plain",
    [
        bytes(30 << 20),
        b"[" + b" " * (30 << 20),
        frame(b"\x80\x01") + bytes(30 << 20),
        bytes_of("binary", "text", "x")[:-6] + b"\x7f\xff\xff\xff" + bytes(1 << 20),
        bytes_of("json", "ping") + b"\n" * (30 << 20),
    ],
    ids=["empty frames", "white space", "after a message", "a long string", "line ends"],
)
def test_a_bomb_costs_nothing(plain: bytes, wrapped: Callable[[bytes], bytes]) -> None:
    """A few bytes that inflate to many take no more memory than one message may, and no time."""
    sent = wrapped(deflated(plain))
    limits = Limits(max_frame_size=1 << 20)
    framing = new_framing(limits)
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(FrameError):
            messages(framing, [sent])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    took = time.process_time() - began
    assert peak < 5 << 20
    assert took < 1


def test_messages_are_inflated_one_by_one() -> None:
    """A stream of a few bytes with a hundred thousand calls is inflated as they are taken."""
    sent = deflated(frame(bytes_of("binary", "ping")) * 100_000)
    framing = new_framing(Limits())
    framing.feed(sent)
    tracemalloc.start()
    found = [framing.next() for _ in range(1000)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert None not in found
    assert framing.buffered < len(sent) + 100_000
    assert peak < 500_000


def test_nothing_is_held_back() -> None:
    """When nothing is buffered there is no other message, wherever a zlib stream was cut."""
    ping = frame(bytes_of("binary", "ping"))
    overhead = len(frame(bytes_of("binary", "text", "")))
    for before in range(3, 8):
        # A message ends where 64 KiB do, zlib's repetition of the last one does not.
        first = "x" * ((64 << 10) - before * len(ping) - overhead)
        sent = deflated(frame(bytes_of("binary", "text", first)) + ping * 40)
        for end in range(len(sent) - 30, len(sent)):
            framing = new_framing(Limits())
            framing.feed(sent[:end])
            while framing.next() is not None and framing.buffered:
                pass
            assert framing.next() is None


def test_zlib_within_zlib() -> None:
    """A stream within a stream is refused, in whatever frames."""
    inner = deflated(bytes_of("binary", "ping"))
    for sent in (deflated(inner), deflated(frame(inner)), frame(deflated(inner))):
        assert "zlib within zlib" == refused(sent)
    assert "no message" in refused(frame(bytes_of("binary", "ping")) + frame(inner))


def test_after_the_end_of_a_stream() -> None:
    """A stream may end, but nothing may come after it."""
    ended = zlib.compress(bytes_of("binary", "ping"))
    framing = new_framing(Limits())
    assert 1 == len(messages(framing, [ended]))
    assert [] == messages(framing, [b""])
    assert "bytes after the end of a zlib stream" == refused(ended + b"x")


# -- nonsense -------------------------------------------------------------------------------------
def mutated(chance: random.Random, data: bytes) -> bytes:
    """*data* with a few bytes changed, lost or added."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed))
        kind = chance.randrange(4)
        if kind == 0:
            changed[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        elif kind == 1:
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del changed[at : at + chance.randint(1, 8)]
        else:
            changed[at:at] = chance.randbytes(chance.randint(1, 8))
        changed = changed or bytearray(1)
    return bytes(changed)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nonsense_is_refused_and_nothing_else_fails(transport: str) -> None:
    """Of damaged messages comes a message, a wait for more or a FrameError: never another error."""
    chance = random.Random(transport)
    limits = Limits(max_frame_size=1 << 16, max_container_size=1000, max_depth=8)
    item = Item(id=1, numbers=[1, 2], weights={"a": 1.0}, marks={3}, raw=b"\0\1")
    for factory, _ in PROTOCOLS.values():
        client = Client(TRANSPORTS[transport][0], factory)
        sent = client.send("echo", item) + client.send("tree", Tree(1, [Tree(2, [])]))
        for number in range(250):
            framing = new_framing(limits)
            data = mutated(chance, sent)
            pieces = cut_at_random(number, len(data) // 2)([data]) if number % 2 else [data]
            try:
                for message in messages(framing, pieces):
                    check(message, limits)
                    framing.wrap(b"payload", message)
            except FrameError:
                continue
            assert framing.buffered <= 1 << 17


def test_any_first_bytes() -> None:
    """Whatever the first bytes are, nothing but a FrameError comes of them."""
    chance = random.Random(0)
    for first in range(256):
        for length in (1, 2, 3, 4, 5, 6, 30):
            framing = new_framing(Limits())
            try:
                messages(framing, [bytes((first,)) + chance.randbytes(length)])
            except FrameError:
                continue

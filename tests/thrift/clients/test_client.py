"""The blocking client against Apache's servers, over all that they speak, and against bad ones."""

import inspect
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from example.ttypes import Colour, Item, Refused, Tree
from thrift.protocol import TBinaryProtocol, TCompactProtocol, THeaderProtocol, TJSONProtocol
from thrift.Thrift import TApplicationException
from thrift.transport import THeaderTransport, TTransport, TZlibTransport

from sparts.errors import OptionError, SpartsError
from sparts.thrift.client import ThriftClient
from sparts.thrift.clients.retry import Backoff, RetryBudget, RetryPolicy
from sparts.thrift.errors import (
    BadReply,
    CallTimeout,
    ClientClosed,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    Overloaded,
    PoolExhausted,
    RequestTooLarge,
)

DEADLINE = 10.0
QUICK = RetryPolicy(3, Backoff(0.001, 0.002))
ITEM = Item(
    id=1,
    name="é",
    numbers=[1, -(2**62)],
    weights={"a": 0.5},
    raw=b"\x00\xff",
    marks={1, 2},
    flag=False,
    colour=Colour.BLUE,
    small=-1,
    shorter=300,
)

Make = Callable[..., Any]
HEADERS = (THeaderTransport.THeaderClientType.HEADERS,)


@pytest.fixture
def client(apache: Any, calculator: Any) -> Any:
    """A client of the usual server."""
    with ThriftClient(apache.endpoint(), module=calculator) as made:
        yield made


# -- calls ----------------------------------------------------------------------------------------
def test_values(client: Any) -> None:
    """Values of every kind go there and come back."""
    assert "pong" == client.ping()
    assert 3 == client.add(1, 2)
    assert 3 == client.add(b=2, a=1)
    assert 11 == client.add(1)
    assert ITEM == client.echo(ITEM)
    assert "ü" == client.text("ü")
    assert b"\x00\x01" == client.blob(b"\x00\x01")
    assert {"a": [1, 2], "b": []} == client.table({"a": [1, 2], "b": []})
    assert {"one", "two"} == client.words()
    tree = Tree(1, [Tree(2, []), Tree(3, [Tree(4, [])])])
    assert tree == client.tree(tree)
    assert Colour.RED == client.paint(Colour.RED)
    assert client.negate(False) is True
    assert client.nothing() is None
    assert b"x" * 3_000_000 == client.blob(b"x" * 3_000_000)


def test_errors_of_the_server(client: Any) -> None:
    """Declared exceptions and TApplicationExceptions come as themselves, and harm nothing."""
    with pytest.raises(Refused) as refused:
        client.divide(1, 0)
    assert ("by zero", 7) == (refused.value.why, refused.value.code)
    with pytest.raises(TApplicationException, match=r"^anything$") as told:
        client.fail("anything")
    assert TApplicationException.INTERNAL_ERROR == told.value.type
    with pytest.raises(TApplicationException, match="fail failed: unknown result") as missing:
        client.fail("none")
    assert TApplicationException.MISSING_RESULT == missing.value.type
    assert 1 == client._caller._pools[0].size
    assert "pong" == client.ping()


def test_wrong_arguments(client: Any) -> None:
    """Arguments that do not fit are a TypeError, and nothing is sent."""
    with pytest.raises(TypeError, match=r"add\(a, b=10\)"):
        client.add()
    with pytest.raises(TypeError):
        client.add("one", 2)
    assert 0 == client._caller._pools[0].size
    assert 3 == client.add(1, 2)


@pytest.mark.parametrize(
    ("server", "options"),
    [
        ("framed", {"protocol_class": TBinaryProtocol.TBinaryProtocol}),
        ("framed", {"transport_class": TTransport.TFramedTransportFactory()}),
        ("framed", {"protocol_class": TBinaryProtocol.TBinaryProtocolAcceleratedFactory()}),
        ("framed-compact", {"protocol_class": TCompactProtocol.TCompactProtocolAccelerated}),
        ("framed-compact", {"protocol_class": TCompactProtocol.TCompactProtocol}),
        ("framed-json", {"protocol_class": TJSONProtocol.TJSONProtocol}),
        ("buffered", {"transport_class": TTransport.TBufferedTransport}),
        (
            "buffered",
            {
                "transport_class": TTransport.TBufferedTransport,
                "protocol_class": TBinaryProtocol.TBinaryProtocol,
            },
        ),
        (
            "buffered-compact",
            {
                "transport_class": TTransport.TBufferedTransport,
                "protocol_class": TCompactProtocol.TCompactProtocolAccelerated,
            },
        ),
        ("zlib", {"transport_class": TZlibTransport.TZlibTransport}),
        ("header", {"protocol_class": THeaderProtocol.THeaderProtocol}),
        ("header", {"transport_class": THeaderTransport.THeaderTransport}),
        (
            "header",
            {
                "transport_class": THeaderTransport.THeaderTransport,
                "protocol_class": TCompactProtocol.TCompactProtocolAccelerated,
            },
        ),
        ("header", {"protocol_class": THeaderProtocol.THeaderProtocolFactory(HEADERS)}),
        ("multiplexed", {"multiplex_service": "calc"}),
        (
            "multiplexed",
            {"multiplex_service": "calc", "protocol_class": TBinaryProtocol.TBinaryProtocol},
        ),
        ("http", {"path": "/thrift"}),
        ("http-compact", {"path": "", "protocol_class": TCompactProtocol.TCompactProtocol}),
        ("http-json", {"path": "/", "protocol_class": TJSONProtocol.TJSONProtocol}),
        ("unix", {}),
        ("simple", {}),
    ],
)
def test_every_transport(apache: Any, calculator: Any, server: str, options: Any) -> None:
    """Over every transport and protocol, results, errors and oneway calls work, one by one."""
    with ThriftClient(apache.endpoint(server), module=calculator, **options) as client:
        assert "pong" == client.ping()
        assert ITEM == client.echo(ITEM)
        with pytest.raises(Refused):
            client.divide(1, 0)
        with pytest.raises(TApplicationException, match="anything"):
            client.fail("anything")
        client.note(server)
        # The simple server takes one connection after the other.
        assert server in client.noted()
        assert "x" * 40_000 == client.text("x" * 40_000)


def test_zlib_for_long(apache: Any, calculator: Any, rogue: Make) -> None:
    """The limit of a compressed transport is that of one reply, when unpacked."""
    options: Any = {"transport_class": TZlibTransport.TZlibTransport, "max_frame_size": 100_000}
    with ThriftClient(apache.endpoint("zlib"), module=calculator, **options) as client:
        for _ in range(4):
            assert "x" * 60_000 == client.text("x" * 60_000)

    def bomb(peer: Any) -> None:
        peer.sock.recv(1000)
        peer.send(zlib.compress(bytes(10_000_000)))

    with (
        ThriftClient(rogue(bomb).endpoint, module=calculator, **options) as client,
        pytest.raises(BadReply, match="max_frame_size"),
    ):
        client.ping()


def test_another_service_of_a_multiplexed_server(apache: Any) -> None:
    """Each service is under its name."""
    import example.Clock

    endpoint = apache.endpoint("multiplexed")
    with ThriftClient(endpoint, module=example.Clock, multiplex_service="clock") as client:
        assert 12 == client.now()


def test_fields_without_numbers(calculator: Any, rogue: Make) -> None:
    """What the C codec would leave out is sent by the library's own code."""
    from sparts.thrift.clients.binary import BinaryMessages
    from sparts.thrift.interface import Interface

    method = Interface.of(calculator).methods["add"]
    blind = type(method)(
        **{
            **{name: getattr(method, name) for name in method.__slots__},
            "args_coding": None,
            "result_coding": None,
        }
    )
    messages = BinaryMessages(True, None, 1000)
    arguments = method.arguments(1, 2)
    assert messages.encode(method, arguments, 5) == messages.encode(blind, arguments, 5)


# -- the face -------------------------------------------------------------------------------------
def test_methods_are_attributes(client: Any) -> None:
    """A method shows its name, its comment and how it is called, as completion wants it."""
    assert {"ping", "add", "close", "with_timeout"} < set(dir(client))
    assert "wait" == client.wait.__name__
    assert "Calculator.wait" == client.wait.__qualname__
    assert client.wait.__doc__.startswith("Takes so many seconds.")
    assert "(a, b=10)" == str(inspect.signature(client.add))
    assert client.ping is client.ping


def test_a_misspelt_method(client: Any) -> None:
    """A method that is not there is an AttributeError, which names the nearest."""
    with pytest.raises(AttributeError, match="Calculator has no method 'dvide'; did you mean 'div"):
        _ = client.dvide
    assert not hasattr(client, "__nothing__")


def test_a_method_named_like_ours(client: Any) -> None:
    """Every method can be had by its name."""
    assert 3 == client.method("add")(1, 2)


def test_repr(calculator: Any) -> None:
    """It tells the service and where it is."""
    client = ThriftClient([("::1", 1), "unix:/x"], module=calculator)
    assert "<ThriftClient of Calculator at [::1]:1, unix:/x>" == repr(client)


def test_options_as_class_attributes(apache: Any, calculator: Any) -> None:
    """What a subclass declares holds unless a keyword says otherwise; None is no keyword."""

    class Mine(ThriftClient):
        MODULE = calculator
        TRANSPORT_CLASS = TTransport.TBufferedTransport
        CALL_TIMEOUT = 5.0

    _, port = apache.endpoint("buffered")
    with Mine.for_hostport("127.0.0.1", port, transport_class=None) as client:
        assert "pong" == client.ping()
        assert 5.0 == client._timeout
    _, port = apache.endpoint("framed")
    options: Any = {"transport_class": TTransport.TFramedTransport, "call_timeout": None}
    with Mine.for_localhost(port, **options) as client:
        assert "pong" == client.ping()
        assert float("inf") == client._timeout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "ThriftClient needs the module"),
        ({"modul": 1}, "no option 'modul'; did you mean 'module'"),
        ({"module": inspect}, "is no Thrift service"),
        ({"call_timeout": 0}, "call_timeout=0; give seconds"),
        ({"connect_timeout": "1"}, "connect_timeout='1'; give seconds"),
        ({"max_connections": 0}, "max_connections=0; give a whole number"),
        ({"idempotent": "ping"}, "give a set of names"),
        ({"idempotent": {"pong"}}, "names 'pong', which Calculator has not; did you mean 'ping'"),
        ({"transport_class": 3}, "transport_class=3; give a class"),
        ({"key": "x"}, "without cert"),
        ({"ca": "/no/such.pem"}, "ca='/no/such.pem' cannot be used"),
        ({"cert": "/no/such.pem"}, "cert='/no/such.pem' cannot be used"),
        ({"tls": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "ca": "x"}, "not beside it"),
        ({"path": "/", "http_headers": {"A": "b\r\nC: d"}}, "may not be 'A: b"),
        ({"path": "/é"}, "may not be 'POST /é"),
        ({"path": "/", "protocol_class": THeaderProtocol.THeaderProtocol}, "no use"),
    ],
)
def test_wrong_options(calculator: Any, options: Any, message: str) -> None:
    """A wrong option is told at once, with what would be right."""
    if options and "modul" not in options:
        options = {"module": calculator, **options}
    with pytest.raises(OptionError, match=message):
        ThriftClient(("localhost", 1), **options)


def test_http_and_plain_do_not_mix(calculator: Any) -> None:
    """One client speaks HTTP or does not; and TLS that is asked for is not left out."""
    with pytest.raises(OptionError, match="with and without HTTP"):
        ThriftClient(["http://a/", "b:1"], module=calculator)
    with pytest.raises(OptionError, match="TLS was asked for"):
        ThriftClient("http://a/", module=calculator, tls=True)


def test_not_lazy(apache: Any, calculator: Any, refused: Any) -> None:
    """Without laziness the connection is there, or known not to be, before the first call."""
    with ThriftClient([refused, apache.endpoint()], module=calculator, lazy=False) as client:
        assert [0, 1] == [pool.size for pool in client._caller._pools]
    with pytest.raises(ConnectFailed, match="Connection refused"):
        ThriftClient(refused, module=calculator, lazy=False)


# -- TLS ------------------------------------------------------------------------------------------
def test_tls(apache: Any, calculator: Any, folder: Path) -> None:
    """With the authority's file, or a context, calls go through TLS; the host may be named."""
    _, port = apache.endpoint("tls")
    ca = str(folder / "cert.pem")
    context = ssl.create_default_context(cafile=ca)
    options: Any
    for endpoint, options in [
        (("127.0.0.1", port), {"ca": ca}),
        (f"tls://localhost:{port}", {"tls": context}),
        (("127.0.0.1", port), {"ca": ca, "server_name": "localhost"}),
    ]:
        with ThriftClient(endpoint, module=calculator, **options) as client:
            assert "pong" == client.ping()
            assert "x" * 1_000_000 == client.text("x" * 1_000_000)
            assert 1 == client._caller._pools[0].size


def test_tls_without_trust(apache: Any, calculator: Any, folder: Path) -> None:
    """A server that is not trusted, or is another, is not spoken to."""
    endpoint, ca = apache.endpoint("tls"), str(folder / "cert.pem")
    options: Any
    for options, message in [
        ({"tls": True}, "certificate is not trusted: self-signed certificate"),
        ({"ca": ca, "server_name": "other"}, "not valid for 'other'"),
    ]:
        with (
            ThriftClient(endpoint, module=calculator, retry=QUICK, **options) as client,
            pytest.raises(ConnectFailed, match=message),
        ):
            client.ping()


def test_tls_with_a_certificate_of_our_own(apache: Any, calculator: Any, folder: Path) -> None:
    """A server may ask for the client's certificate."""
    endpoint, ca, key = apache.endpoint("tls-mutual"), folder / "cert.pem", folder / "key.pem"
    options: Any = {"module": calculator, "ca": str(ca), "retry": QUICK}
    with ThriftClient(endpoint, cert=str(ca), key=str(key), **options) as client:
        assert "pong" == client.ping()
    with ThriftClient(endpoint, **options) as client, pytest.raises(ClientError):
        client.ping()


def test_tls_against_a_plain_server(apache: Any, calculator: Any) -> None:
    """A server without TLS is told as that, in time."""
    options: Any = {"connect_timeout": 0.2, "retry": RetryPolicy(1)}
    with (
        ThriftClient(apache.endpoint(), module=calculator, tls=True, **options) as client,
        pytest.raises(ConnectFailed),
    ):
        client.ping()


# -- deadlines ------------------------------------------------------------------------------------
def timed(call: Callable[[], Any]) -> float:
    """Seconds until *call* raised CallTimeout."""
    began = time.monotonic()
    with pytest.raises(CallTimeout) as caught:
        call()
    assert isinstance(caught.value, TimeoutError)
    assert TTransport.TTransportException.TIMED_OUT == caught.value.type
    return time.monotonic() - began


def test_no_answer(calculator: Any, rogue: Make) -> None:
    """A server that never answers is waited for until the deadline, and asked once."""
    server = rogue(lambda peer: peer.until_end())
    options: Any = {"call_timeout": 0.1, "idempotent": {"ping"}}
    with ThriftClient(server.endpoint, module=calculator, **options) as client:
        assert 0.1 <= timed(client.ping) < 1.0
        assert 0 == client._caller._pools[0].size
    assert 1 == server.connections


def test_an_answer_that_trickles(calculator: Any, rogue: Make) -> None:
    """The deadline is for the whole call: bytes that keep coming do not put it off."""
    over = threading.Event()

    def trickle(peer: Any) -> None:
        request = peer.frame()
        for byte in peer.replied(request, b"\x00" * 10_000):
            peer.send(bytes([byte]))
            if over.wait(0.02):
                return

    server = rogue(trickle)
    with ThriftClient(server.endpoint, module=calculator) as client:
        assert 0.15 <= timed(client.with_timeout(0.15).ping) < 1.0
        over.set()


def test_a_call_that_is_not_taken(calculator: Any, rogue: Make) -> None:
    """To send has the same deadline; what was not sent whole was surely not run."""
    over = threading.Event()
    server = rogue(lambda peer: over.wait(DEADLINE))
    with ThriftClient(server.endpoint, module=calculator, call_timeout=0.1) as client:
        with pytest.raises(CallTimeout, match="did not take the call") as caught:
            client.blob(b"x" * 10_000_000)
        over.set()
    assert not caught.value.maybe_run


def test_a_connect_that_hangs(calculator: Any) -> None:
    """To connect has a limit of its own."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        options: Any = {"connect_timeout": 0.1, "retry": RetryPolicy(1)}
        with ThriftClient(full.getsockname(), module=calculator, **options) as client:
            with pytest.raises(ConnectFailed, match=r"no answer in time \(connect_timeout\)"):
                client.ping()
            with pytest.raises(CallTimeout, match="the call's deadline passed"):
                client.with_timeout(0.05).ping()
        for each in waiting:
            each.close()


def test_with_timeout(client: Any) -> None:
    """A view with another deadline shares the connections and leaves the client as it is."""
    view = client.with_timeout(0.05)
    assert "pong" == client.ping() == view.ping()
    assert 1 == client._caller._pools[0].size
    timed(lambda: view.wait(5.0))
    assert 0.1 == client.wait(0.1)
    with pytest.raises(OptionError, match="with_timeout=-1"):
        client.with_timeout(-1)


# -- answers that are none ------------------------------------------------------------------------
BAD: dict[str, tuple[Callable[[Any, bytes], None], str]] = {
    "garbage": (lambda peer, _: peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "max_frame_size"),
    "negative": (lambda peer, _: peer.send(b"\xff\xff\xff\xff"), "max_frame_size"),
    "huge": (lambda peer, _: peer.send(struct.pack(">i", 2**31 - 1)), "max_frame_size"),
    "noise": (lambda peer, _: peer.send(struct.pack(">i", 20) + b"\xa5" * 20), "no answer"),
    "empty": (lambda peer, _: peer.send(b"\x00\x00\x00\x00"), "no answer"),
    "seqid": (lambda peer, got: peer.reply(got, b"\x00", seqid=77), "sequence number 77"),
    "method": (lambda peer, got: peer.reply(got.replace(b"ping", b"pong"), b"\x00"), "'pong'"),
    "kind": (lambda peer, got: peer.reply(got, b"\x00", 1), "type 1"),
    "cut": (lambda peer, got: peer.reply(got, b"\x0b\x00\x00\x00\x00\x00\x09po"), "ends early"),
    "list": (lambda peer, got: peer.reply(got, b"\x0b\x00\x00\x7f\xff\xff\xff\x00"), "no answer"),
    "more": (lambda peer, got: peer.reply(got, b"\x00\x00"), "bytes after its end"),
    "two": (lambda peer, got: peer.send(2 * peer.replied(got, b"\x00")), "more came back"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_replies(calculator: Any, rogue: Make, name: str) -> None:
    """What is no answer to the call is told as that, and its connection not used again."""
    script, message = BAD[name]

    def serve(peer: Any) -> None:
        while request := peer.frame():
            if peer.number == 0:
                script(peer, request)
            else:
                peer.text(request)

    server = rogue(serve)
    with ThriftClient(server.endpoint, module=calculator, max_frame_size=10_000) as client:
        with pytest.raises(BadReply, match=message) as caught:
            client.ping()
        assert isinstance(caught.value, TTransport.TTransportException)
        assert str(caught.value).startswith("ping(): ")
        assert "pong" == client.ping()
    assert 2 == server.connections


def test_unframed_bad_replies(calculator: Any, rogue: Make) -> None:
    """Without frames, too, the bytes of a reply have a limit and an end."""

    def serve(peer: Any) -> None:
        peer.sock.recv(1000)
        head = b"\x80\x01\x00\x02\x00\x00\x00\x04ping" + struct.pack(">i", peer.number + 1)
        body = b"\x0b\x00\x00" + struct.pack(">i", 1000) + b"x" * 1000 + b"\x00"
        peer.send(
            [head + body, head + body + b"\x00", head + body[:3] + b"\x7f" * 70_000][peer.number]
        )
        peer.until_end()

    server = rogue(serve)
    options: Any = {"transport_class": TTransport.TBufferedTransport, "max_frame_size": 10_000}
    with ThriftClient(server.endpoint, module=calculator, **options) as client:
        assert "x" * 1000 == client.ping()
        client._caller._pools[0].after_fork()  # so that the next call connects anew
        with pytest.raises(BadReply, match="more came back"):
            client.ping()
        with pytest.raises(BadReply, match="max_frame_size"):
            client.ping()


def test_a_reply_in_pieces(calculator: Any, rogue: Make) -> None:
    """How the bytes of a reply are cut is of no account."""

    def serve(peer: Any) -> None:
        while request := peer.frame():
            for byte in peer.replied(request, b"\x0b\x00\x00\x00\x00\x00\x02ok\x00"):
                peer.send(bytes([byte]))

    with ThriftClient(rogue(serve).endpoint, module=calculator) as client:
        assert ["ok", "ok"] == [client.ping(), client.ping()]


def test_a_call_that_is_too_large(client: Any, apache: Any, calculator: Any) -> None:
    """What is over the limit is not sent."""
    for name in ("framed", "framed-compact"):
        options: Any = {"max_frame_size": 1000}
        if name != "framed":
            options["protocol_class"] = TCompactProtocol.TCompactProtocol
        with ThriftClient(apache.endpoint(name), module=calculator, **options) as small:
            with pytest.raises(RequestTooLarge, match="more than max_frame_size"):
                small.text("x" * 1000)
            assert 0 == small._caller._pools[0].size
            assert "x" * 900 == small.text("x" * 900)


# -- dead connections -----------------------------------------------------------------------------
@pytest.mark.parametrize("hard", [False, True])
def test_a_connection_that_was_closed_meanwhile(calculator: Any, rogue: Make, hard: bool) -> None:
    """A kept connection that the server closed is noticed before a call is sent on it."""
    closed = threading.Event()

    def serve(peer: Any) -> None:
        peer.text(peer.frame())
        if peer.number == 0:
            if hard:
                peer.close_hard()
            else:
                peer.sock.shutdown(socket.SHUT_WR)
            closed.set()
        peer.until_end() if not hard else None

    server = rogue(serve)
    with ThriftClient(server.endpoint, module=calculator) as client:
        assert "pong" == client.ping()
        assert closed.wait(DEADLINE)
        assert "pong" == client.ping()
    assert 2 == server.connections


def test_a_tls_connection_that_was_closed_meanwhile(
    calculator: Any, rogue: Make, folder: Path
) -> None:
    """With TLS, too; and what the TLS layer says to itself is not taken for an end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    closed = threading.Event()

    def serve(peer: Any) -> None:
        peer.sock = context.wrap_socket(peer.sock, server_side=True)
        peer.sock.settimeout(DEADLINE)
        for _ in range(1 if peer.number else 2):
            peer.text(peer.frame())
        peer.sock.close()
        closed.set()

    server = rogue(serve)
    with ThriftClient(server.endpoint, module=calculator, ca=str(folder / "cert.pem")) as client:
        assert "pong" == client.ping()
        assert "pong" == client.ping()
        assert 1 == server.connections
        assert closed.wait(DEADLINE)
        assert "pong" == client.ping()
    assert 2 == server.connections


@pytest.mark.parametrize("hard", [False, True])
def test_a_lost_call_is_not_sent_twice(calculator: Any, rogue: Make, hard: bool) -> None:
    """A call whose connection ends before the answer may have been run, so it is not repeated."""

    def serve(peer: Any) -> None:
        peer.frame()
        if hard:
            peer.close_hard()

    server = rogue(serve)
    with (
        ThriftClient(server.endpoint, module=calculator) as client,
        pytest.raises(ConnectionLost, match="before the answer came") as caught,
    ):
        client.ping()
    assert 1 == server.connections
    assert caught.value.maybe_run
    assert isinstance(caught.value, TTransport.TTransportException)
    assert isinstance(caught.value, SpartsError)


def test_a_reply_that_breaks_off(calculator: Any, rogue: Make) -> None:
    """Half an answer is none."""
    server = rogue(lambda peer: peer.send(peer.replied(peer.frame(), b"\x00" * 100)[:50]))
    with (
        ThriftClient(server.endpoint, module=calculator) as client,
        pytest.raises(ConnectionLost),
    ):
        client.ping()


def test_a_server_killed_in_a_call(mortal: Make, calculator: Any) -> None:
    """The kill of a server ends the call at once, long before its deadline."""
    server = mortal()
    with ThriftClient(server.endpoint(), module=calculator) as client:
        assert "pong" == client.ping()
        killer = threading.Timer(0.05, server.process.kill)
        killer.start()
        began = time.monotonic()
        with pytest.raises(ConnectionLost):
            client.wait(DEADLINE)
        assert time.monotonic() - began < 5.0
        killer.join()
        server.kill()
        with pytest.raises(ConnectFailed):
            client.ping()


# -- retries --------------------------------------------------------------------------------------
def losing(times: int) -> Callable[[Any], None]:
    """A script that loses the calls of so many connections."""

    def serve(peer: Any) -> None:
        while request := peer.frame():
            if peer.number < times:
                return
            peer.text(request)

    return serve


def test_an_idempotent_call_is_repeated(calculator: Any, rogue: Make) -> None:
    """What is declared idempotent is sent again after a loss, up to the policy's attempts."""
    options: Any = {"module": calculator, "idempotent": {"ping"}, "retry": QUICK}
    server = rogue(losing(2))
    with ThriftClient(server.endpoint, **options) as client:
        assert "pong" == client.ping()
    assert 3 == server.connections
    server = rogue(losing(9))
    with ThriftClient(server.endpoint, **options) as client, pytest.raises(ConnectionLost):
        client.ping()
    assert 3 == server.connections


def test_idempotent_methods_of_a_class(calculator: Any, rogue: Make) -> None:
    """The declaration may stand in the class."""

    class Mine(ThriftClient):
        MODULE = calculator
        IDEMPOTENT = {"ping"}

    with Mine(rogue(losing(1)).endpoint, retry=QUICK) as client:
        assert "pong" == client.ping()


def test_a_refused_connection(calculator: Any, refused: Any) -> None:
    """Where nobody listens the error says so, and is what Apache's users expect."""
    with (
        ThriftClient(refused, module=calculator, retry=QUICK) as client,
        pytest.raises(TTransport.TTransportException) as caught,
    ):
        client.ping()
    assert isinstance(caught.value, ConnectFailed)
    assert TTransport.TTransportException.NOT_OPEN == caught.value.type
    assert f"ping(): cannot connect to 127.0.0.1:{refused[1]}: Connection refused" == str(
        caught.value
    )


def test_a_server_that_comes_back(calculator: Any, rogue: Make) -> None:
    """A call that could not be sent waits for the next try, and goes when the server is back."""
    holder = socket.create_server(("127.0.0.1", 0))
    endpoint = holder.getsockname()
    holder.close()
    servers: list[Any] = []

    class Back(RetryBudget):
        def take(self) -> bool:
            servers.append(rogue(losing(0), socket.create_server(endpoint)))
            return True

    options: Any = {"retry": QUICK, "retry_budget": Back()}
    with ThriftClient(endpoint, module=calculator, **options) as client:
        assert "pong" == client.ping()
    assert 1 == servers[0].connections


def test_the_budget_ends_retries(calculator: Any, rogue: Make) -> None:
    """With the budget spent, calls fail at the first try."""
    server = rogue(losing(99))
    options: Any = {"idempotent": {"ping"}, "retry": RetryPolicy(9, Backoff(0.001, 0.002))}
    budget = RetryBudget(ratio=0.0, per_second=0.0, most=2.0)
    with ThriftClient(server.endpoint, module=calculator, retry_budget=budget, **options) as client:
        for _ in range(3):
            with pytest.raises(ConnectionLost):
                client.ping()
    assert 3 + 2 == server.connections


def test_no_retry_past_the_deadline(calculator: Any, refused: Any) -> None:
    """A wait that would end after the deadline is not begun: the error comes at once."""
    slow = RetryPolicy(3, Backoff(60.0, 60.0))
    with ThriftClient(refused, module=calculator, call_timeout=20.0, retry=slow) as client:
        began = time.monotonic()
        with pytest.raises(ConnectFailed):
            client.ping()
        assert time.monotonic() - began < 5.0


def test_overloaded(calculator: Any, rogue: Make) -> None:
    """A server that had no time did not run the call: it is repeated, on the same connection."""

    def serve(peer: Any) -> None:
        for number in range(2):
            request = peer.frame()
            if number == 0:
                peer.error(request, "overloaded: 5 calls wait")
            else:
                peer.text(request)
        while request := peer.frame():
            peer.error(request, "overloaded: 6 calls wait")

    server = rogue(serve)
    with ThriftClient(server.endpoint, module=calculator, retry=QUICK) as client:
        assert "pong" == client.ping()
        with pytest.raises(Overloaded, match=r"^overloaded: 6 calls wait$") as caught:
            client.ping()
    assert 1 == server.connections
    assert isinstance(caught.value, TApplicationException)
    assert TApplicationException.INTERNAL_ERROR == caught.value.type


# -- several endpoints ----------------------------------------------------------------------------
def test_turns(calculator: Any, rogue: Make) -> None:
    """Endpoints take turns; with primary_first the first has all calls."""
    one, other = rogue(losing(0)), rogue(losing(0))
    both = [one.endpoint, other.endpoint]
    with ThriftClient(both, module=calculator, primary_first=True) as client:
        assert ["pong"] * 4 == [client.ping() for _ in range(4)]
    assert (1, 0) == (one.connections, other.connections)
    with ThriftClient(both, module=calculator) as client:
        assert ["pong"] * 4 == [client.ping() for _ in range(4)]
    assert (2, 1) == (one.connections, other.connections)


def test_failover(mortal: Make, calculator: Any) -> None:
    """Of two servers one dies: idempotent calls all succeed, and it is left alone then."""
    one, other = mortal(), mortal()
    both = [one.endpoint(), other.endpoint()]
    options: Any = {"idempotent": {"ping", "wait"}, "retry": QUICK}
    with ThriftClient(both, module=calculator, **options) as client:
        assert ["pong"] * 4 == [client.ping() for _ in range(4)]
        with ThreadPoolExecutor(4) as threads:
            slow = [threads.submit(client.wait, 0.2) for _ in range(4)]
            one.kill()
            assert [0.2] * 4 == [each.result(DEADLINE) for each in slow]
        assert ["pong"] * 20 == [client.ping() for _ in range(20)]
        assert 0 == client._caller._pools[0].size


def test_a_dead_primary(apache: Any, calculator: Any, refused: Any) -> None:
    """To go on to the next endpoint after a refused connect costs neither wait nor budget."""
    none = RetryBudget(0.0, 0.0, 0.0)
    options: Any = {"primary_first": True, "retry": RetryPolicy(1), "retry_budget": none}
    with ThriftClient([refused, apache.endpoint()], module=calculator, **options) as client:
        assert "pong" == client.ping()
    with (
        ThriftClient([refused, refused], module=calculator, **options) as client,
        pytest.raises(ConnectFailed),
    ):
        client.ping()


def test_overloaded_goes_elsewhere(apache: Any, calculator: Any, rogue: Make) -> None:
    """What one server had no time for another may do."""

    def serve(peer: Any) -> None:
        while request := peer.frame():
            peer.error(request, "overloaded: too much")

    both = [rogue(serve).endpoint, apache.endpoint()]
    with ThriftClient(both, module=calculator, primary_first=True, retry=QUICK) as client:
        assert "pong" == client.ping()


# -- threads --------------------------------------------------------------------------------------
@pytest.mark.parametrize("server", ["framed", "buffered"])
def test_twenty_threads(apache: Any, calculator: Any, server: str) -> None:
    """Threads that share a client never get each other's answers."""
    transport = TTransport.TBufferedTransport if server == "buffered" else None
    options: Any = {"module": calculator, "max_connections": 7, "transport_class": transport}
    wrong: list[Any] = []
    client: Any

    def run(number: int) -> None:
        for each in range(60):
            text = f"{number} {each}" * (each + 1)
            if client.text(text) != text or client.add(number, each) != number + each:
                wrong.append((number, each))

    with ThriftClient(apache.endpoint(server), **options) as client:
        with ThreadPoolExecutor(20) as threads:
            list(threads.map(run, range(20)))
        assert [] == wrong
        assert client._caller._pools[0].size <= 7


def test_the_pool_is_bounded(calculator: Any, rogue: Make) -> None:
    """No more connections than allowed are made; a call that gets none in time says so."""
    asked, go = threading.Semaphore(0), threading.Event()

    def serve(peer: Any) -> None:
        while request := peer.frame():
            asked.release()
            go.wait(DEADLINE)
            peer.text(request)

    server = rogue(serve)
    options: Any = {"module": calculator, "max_connections": 2, "call_timeout": 5.0}
    with ThriftClient(server.endpoint, **options) as client, ThreadPoolExecutor(6) as threads:
        calls = [threads.submit(client.ping) for _ in range(6)]
        assert asked.acquire(timeout=DEADLINE)
        assert asked.acquire(timeout=DEADLINE)
        with pytest.raises(PoolExhausted, match=r"all 2 connections to .*max_connections") as got:
            client.with_timeout(0.1).ping()
        assert not got.value.maybe_run
        go.set()
        assert ["pong"] * 6 == [each.result(DEADLINE) for each in calls]
    assert 2 == server.connections


# -- the end --------------------------------------------------------------------------------------
def test_close(apache: Any, calculator: Any) -> None:
    """A closed client makes no calls and says so; to close it again is fine."""
    client: Any = ThriftClient(apache.endpoint(), module=calculator)
    view = client.with_timeout(1.0)
    assert "pong" == client.ping()
    client.close()
    client.close()
    for each in (client, view):
        with pytest.raises(ClientClosed, match=r"ping\(\): the client is closed"):
            each.ping()


def test_close_wakes_who_waits(calculator: Any, rogue: Make) -> None:
    """Who waits for a connection is told; a call that is under way gets its answer."""
    asked, go = threading.Event(), threading.Event()

    def serve(peer: Any) -> None:
        request = peer.frame()
        asked.set()
        go.wait(DEADLINE)
        peer.text(request)
        peer.until_end()

    server = rogue(serve)
    client: Any = ThriftClient(server.endpoint, module=calculator, max_connections=1)
    with ThreadPoolExecutor(2) as threads:
        under_way = threads.submit(client.ping)
        assert asked.wait(DEADLINE)
        waits = threads.submit(client.ping)
        while not client._caller._pools[0]._tickets:
            asked.wait(0.001)
        client.close()
        with pytest.raises(ClientClosed):
            waits.result(DEADLINE)
        go.set()
        assert "pong" == under_way.result(DEADLINE)
    assert 0 == client._caller._pools[0].size


def test_close_wakes_a_retry(calculator: Any, refused: Any) -> None:
    """A wait for another try ends, too."""
    patient = RetryPolicy(3, Backoff(8.0, 8.0))
    client: Any = ThriftClient(refused, module=calculator, retry=patient)
    threading.Timer(0.05, client.close).start()
    began = time.monotonic()
    with pytest.raises(ClientClosed):
        client.ping()
    assert time.monotonic() - began < 3.0


def test_nothing_keeps_it(apache: Any, calculator: Any) -> None:
    """A client is in no circle of references."""
    import weakref

    client: Any = ThriftClient(apache.endpoint(), module=calculator)
    assert "pong" == client.ping()
    client.close()
    gone = weakref.ref(client)
    del client
    assert gone() is None


FORK = """
import os, sys, threading
sys.path[:0] = sys.argv[2:]
import example.Calculator
from sparts.thrift.client import ThriftClient

client = ThriftClient.for_hostport("127.0.0.1", int(sys.argv[1]), module=example.Calculator)
assert client.ping() == "pong"
busy = threading.Thread(target=client.wait, args=(0.3,))
busy.start()
while client._caller._pools[0]._idle:  # until the thread has it
    busy.join(0.001)
before = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
          if os.path.exists(f"/proc/self/fd/{fd}")}
child = os.fork()
if child == 0:
    shared = [each for each in before if each.startswith("socket:")
              and any(os.path.realpath(f"/proc/self/fd/{fd}").endswith(each)
                      for fd in os.listdir("/proc/self/fd"))]
    ok = not shared and client._caller._pools[0].size == 0
    ok = ok and [client.add(1, n) for n in range(100)] == list(range(1, 101))
    client.close()
    os._exit(0 if ok else 1)
assert [client.add(2, n) for n in range(100)] == list(range(2, 102))
assert client._caller._pools[0].size == 2
busy.join()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert client.ping() == "pong"
client.close()
"""


def test_fork(apache: Any) -> None:
    """After a fork the child closes its copies and connects anew; the parent goes on as before."""
    generated = str(Path(__file__).parent.parent / "gen")
    root = str(Path(__file__).parents[3])
    command = [
        sys.executable,
        "-W",
        "error",
        "-W",
        "ignore::DeprecationWarning",
        "-c",
        FORK,
        str(apache.endpoint()[1]),
    ]
    command += ["-c", FORK, str(apache.endpoint()[1]), generated, root]
    done = subprocess.run(command, capture_output=True, timeout=DEADLINE)
    assert (0, b"") == (done.returncode, done.stderr)

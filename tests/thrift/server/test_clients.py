"""One port, any client: Apache's over each transport and protocol, at servers of each mode."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from thrift.protocol.TBinaryProtocol import TBinaryProtocol, TBinaryProtocolAccelerated
from thrift.protocol.TCompactProtocol import TCompactProtocol, TCompactProtocolAccelerated
from thrift.protocol.THeaderProtocol import THeaderProtocol
from thrift.protocol.TJSONProtocol import TJSONProtocol
from thrift.Thrift import TApplicationException
from thrift.transport.THeaderTransport import (
    THeaderClientType,
    THeaderSubprotocolID,
    THeaderTransformID,
)
from thrift.transport.TSocket import TSocket
from thrift.transport.TTransport import TBufferedTransport, TFramedTransport
from thrift.transport.TZlibTransport import TZlibTransport

from tests.thrift.server.kit import (
    DEADLINE,
    Calculator,
    Colour,
    Item,
    Refused,
    Served,
    full_item,
    tree,
)

TRANSPORTS: dict[str, Callable[[Any], Any]] = {
    "framed": TFramedTransport,
    "buffered": TBufferedTransport,
    "zlib": TZlibTransport,
    "zlib-in-frames": lambda sock: TZlibTransport(TFramedTransport(sock)),
    "frames-in-zlib": lambda sock: TFramedTransport(TZlibTransport(sock)),
}
PROTOCOLS: dict[str, Callable[[Any], Any]] = {
    "binary": lambda trans: TBinaryProtocolAccelerated(trans, fallback=False),
    "pure-binary": TBinaryProtocol,
    "old-binary": lambda trans: TBinaryProtocol(trans, strictRead=False, strictWrite=False),
    "compact": lambda trans: TCompactProtocolAccelerated(trans, fallback=False),
    "pure-compact": TCompactProtocol,
    "json": TJSONProtocol,
}


def header(protocol: int, deflated: bool) -> Callable[[Any], Any]:
    """THeader over a socket."""

    def make(sock: Any) -> Any:
        made = THeaderProtocol(TBufferedTransport(sock), [THeaderClientType.HEADERS], protocol)
        made.set_header(b"who", b"a test")
        if deflated:
            made.add_transform(THeaderTransformID.ZLIB)
        return made

    return make


WAYS: dict[str, Callable[[Any], Any]] = {
    f"{transport}-{protocol}": lambda sock, t=TRANSPORTS[transport], p=PROTOCOLS[protocol]: p(
        t(sock)
    )
    for transport, protocol in itertools.product(TRANSPORTS, PROTOCOLS)
} | {
    "header-binary": header(THeaderSubprotocolID.BINARY, False),
    "header-binary-zlib": header(THeaderSubprotocolID.BINARY, True),
    "header-compact": header(THeaderSubprotocolID.COMPACT, False),
    "header-compact-zlib": header(THeaderSubprotocolID.COMPACT, True),
}

#: Apache's TZlibTransport drops what it inflated beyond the value that its C codec asked for.
LOSSY = {f"{t}-{p}" for t in ("zlib", "zlib-in-frames") for p in ("binary", "compact")}


def client_of(served: Served, way: str, wrap: Any = lambda protocol: protocol) -> Any:
    """Apache's client for the calculator, speaking in that *way*."""
    sock = TSocket(*served.address)
    sock.setTimeout(DEADLINE * 1000)
    protocol = WAYS[way](sock)
    protocol.trans.open()
    served.keep(sock)
    return Calculator.Client(wrap(protocol))


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> str:
    """Each transport with each protocol."""
    return str(request.param)


def test_values(served: Served, way: str) -> None:
    """Values of every type pass both ways unharmed."""
    client = client_of(served, way)
    assert "pong" == client.ping()
    assert 2**62 + 1 == client.add(2**62, 1)
    assert full_item() == client.echo(full_item())
    assert Item(id=1) == client.echo(Item(id=1))
    assert "Zoë ✓\0" == client.text("Zoë ✓\0")
    assert "" == client.text("")
    assert bytes(range(256)) == client.blob(bytes(range(256)))
    assert {"a": [1, -1], "": []} == client.table({"a": [1, -1], "": []})
    assert {"one", "two"} == client.words()
    assert tree(20) == client.tree(tree(20))
    assert Colour.BLUE == client.paint(Colour.BLUE)
    assert (True, False) == (client.negate(False), client.negate(True))
    assert None is client.nothing()
    assert 0.0 == client.wait(0.0)


def test_errors(served: Served, way: str) -> None:
    """Each error comes as what it is, and the connection lives.

    A declared exception comes as itself; another one as an internal error, without its text; and
    who asks for a method that there is not is told so.
    """
    client = client_of(served, way)
    with pytest.raises(Refused) as refused:
        client.divide(1, 0)
    assert ("division by zero", 7) == (refused.value.why, refused.value.code)
    with pytest.raises(TApplicationException) as internal:
        client.fail("a secret")
    assert TApplicationException.INTERNAL_ERROR == internal.value.type
    assert "Internal error" == internal.value.message
    client.send_ping = lambda: _send(client, "pang")
    with pytest.raises(TApplicationException) as unknown:
        client.ping()
    assert TApplicationException.UNKNOWN_METHOD == unknown.value.type
    assert "pang" in unknown.value.message
    assert 5 == client.divide(10, 2)


def test_order(served: Served, way: str) -> None:
    """Calls that are sent before an answer is read are run and answered in order, oneway ones and
    one that is larger than what a socket takes at once among them."""
    client = client_of(served, way)
    served.handler.notes.clear()
    size = 0 if way in LOSSY else 2**16 if way.endswith("json") else 2**20  # it is slow at JSON
    client.note("one")
    for number in range(30):
        client.send_add(number, 1)
    client.note("raise")
    client.send_text("x" * size)
    client.note("two")
    client.send_noted()
    assert list(range(1, 31)) == [client.recv_add() for _ in range(30)]
    assert "x" * size == client.recv_text()
    assert ["one", "two"] == client.recv_noted()


def _send(client: Any, name: str) -> None:
    client._oprot.writeMessageBegin(name, 1, 0)
    Calculator.nothing_args().write(client._oprot)
    client._oprot.writeMessageEnd()
    client._oprot.trans.flush()

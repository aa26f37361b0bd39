"""What the tests of Thrift servers share: handlers, servers that run, and a raw client."""

import asyncio
import contextlib
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.Thrift import TApplicationException, TMessageType
from thrift.transport.TTransport import TMemoryBuffer

GENERATED = str(Path(__file__).resolve().parents[1] / "gen")
if GENERATED not in sys.path:
    sys.path.append(GENERATED)

from example import Base, Calculator, Clock
from example.ttypes import Colour, Item, Refused, Tree

from sparts.tasks.thrift import ThriftHandlerTask, ThriftServerTask
from sparts.testing import no_leaks, running
from sparts.timer import run_until_true

__all__ = [
    "DEADLINE",
    "LOCAL",
    "MODES",
    "NAMES",
    "PING",
    "Answer",
    "Base",
    "Calculator",
    "Clock",
    "Colour",
    "Item",
    "Now",
    "Peer",
    "Plain",
    "Refused",
    "Served",
    "ThriftHandlerTask",
    "ThriftServerTask",
    "Tree",
    "Waiting",
    "as_coroutine",
    "coroutines",
    "dial",
    "framed",
    "full_item",
    "message",
    "serving",
    "tree",
]

DEADLINE = 10.0
LOCAL = ["--thrift-host", "127.0.0.1"]


# -- handlers -------------------------------------------------------------------------------------
class Plain(ThriftHandlerTask):
    """The calculator, of plain methods."""

    MODULE = Calculator
    SERVICE_NAME = "Calculator"

    def initTask(self) -> None:
        super().initTask()
        self.notes: list[str] = []

    def ping(self) -> Any:
        return "pong"

    def add(self, a: int, b: int) -> Any:
        return a + b

    def divide(self, a: int, b: int) -> Any:
        if b == 0:
            raise Refused("division by zero", 7)
        return a // b

    def echo(self, item: Any) -> Any:
        return item

    def text(self, value: str) -> Any:
        return value

    def blob(self, data: bytes) -> Any:
        return data

    def table(self, given: Any) -> Any:
        return given

    def words(self) -> Any:
        return {"one", "two"}

    def tree(self, tree: Any) -> Any:
        return tree

    def paint(self, colour: int) -> Any:
        return colour

    def negate(self, value: bool) -> Any:
        return not value

    def nothing(self) -> Any:
        return None

    def wait(self, seconds: float) -> Any:
        time.sleep(seconds)
        return seconds

    def fail(self, message: str) -> Any:
        if message.startswith("refuse "):
            raise TApplicationException(TApplicationException.INVALID_TRANSFORM, message)
        raise RuntimeError(message)

    def note(self, word: str) -> Any:
        if word == "raise":
            raise RuntimeError("a oneway method that fails")
        self.notes.append(word)

    def noted(self) -> Any:
        return self.notes


def as_coroutine(function: Callable[..., Any]) -> Callable[..., Any]:
    """An ``async def`` that does what *function* does."""

    async def run(*args: Any) -> Any:
        return function(*args)

    return run


class Waiting(Plain):
    """``wait`` as a coroutine, the others plain."""

    async def wait(self, seconds: float) -> Any:
        await asyncio.sleep(seconds)
        return seconds


def coroutines(*names: str) -> dict[str, Any]:
    """Those methods of the calculator as coroutines."""
    return {name: as_coroutine(getattr(Plain, name)) for name in names}


NAMES = [name for name in vars(Plain) if callable(getattr(Plain, name)) and name != "initTask"]
#: All methods are ``async def``.
Async: Any = type("Async", (Waiting,), coroutines(*(n for n in NAMES if n != "wait")))
#: Every second one is.
Mixed: Any = type("Mixed", (Waiting,), coroutines(*NAMES[::2], "note", "noted"))


class Now(ThriftHandlerTask):
    """Another service."""

    MODULE = Clock

    def now(self) -> int:
        return 12345


#: How a server may run: its handler, and its options.
MODES: dict[str, tuple[Any, list[str]]] = {
    "inline": (Plain, ["--thrift-threads", "0"]),
    "threads": (Plain, []),
    "asyncio": (Async, ["--asyncio-loop", "asyncio"]),
    "uvloop": (Async, ["--asyncio-loop", "uvloop"]),
    "mixed": (Mixed, ["--asyncio-loop", "asyncio"]),
}


# -- values ---------------------------------------------------------------------------------------
def full_item() -> Any:
    """An item with all its fields."""
    return Item(
        id=2**62,
        name="Zoë ✓",
        numbers=[0, -1, 2**63 - 1, -(2**63)],
        weights={"a": 0.5, "": -1e300},
        raw=bytes(range(256)),
        marks={1, 2, -(2**31)},
        flag=False,
        colour=Colour.BLUE,
        small=-128,
        shorter=32767,
    )


def tree(depth: int) -> Any:
    """A tree of *depth* trees within each other."""
    made = Tree(0, [])
    for value in range(1, depth):
        made = Tree(value, [made])
    return made


# -- a server that runs ---------------------------------------------------------------------------
class Served:
    """A server in this process, and its clients, which it sees off."""

    def __init__(self, service: Any, server: type[ThriftServerTask]) -> None:
        self.service = service
        self.task: Any = service.requireTask(server)
        self._exits = contextlib.ExitStack()

    @property
    def address(self) -> Any:
        """``(host, port)``, or the path of a unix socket."""
        first = self.task.bound_addrs[0]
        return first if isinstance(first, str) else first[:2]

    @property
    def handler(self) -> Any:
        """The first handler that is there."""
        return next(t for t in self.service.tasks if isinstance(t, ThriftHandlerTask))

    def connect(self, tls: ssl.SSLContext | None = None) -> "Peer":
        """A raw connection; closed by :meth:`see_off`."""
        sock = dial(self.address)
        if tls is not None:
            sock = tls.wrap_socket(sock, server_hostname="localhost")
        return self._exits.enter_context(Peer(sock))

    def keep(self, closing: Any) -> Any:
        """Have *closing* closed by :meth:`see_off`."""
        self._exits.callback(closing.close)
        return closing

    @property
    def connections(self) -> int:
        """How many it has open."""
        return int(self.counter("open_connections"))

    def counter(self, name: str) -> Any:
        """The present value of the server's counter *name*."""
        return self.service.getCounter(f"{self.task.name}.{name}")()

    def until(self, reached: Callable[[], Any], what: str = "it came to that") -> None:
        """Wait until *reached*."""
        assert run_until_true(reached, DEADLINE), f"not within {DEADLINE:g} s: {what}"

    def until_counter(self, name: str, value: Any) -> None:
        """Wait until that counter has that value."""
        assert run_until_true(lambda: self.counter(name) == value, DEADLINE), (
            f"{name} is {self.counter(name)}, never was {value}"
        )

    def see_off(self) -> None:
        """Close the clients, and wait until the server has noticed."""
        self._exits.close()
        self.until_counter("open_connections", 0)


@contextlib.contextmanager
def serving(
    *handlers: Any, argv: Any = (), server: type[ThriftServerTask] = ThriftServerTask
) -> Iterator[Served]:
    """A server of those handlers."""
    tasks = [server, *handlers]
    # Not its own check: a server that lives longer than a test sees the timeout's thread change.
    with (
        no_leaks(ignore=["pytest_timeout *"]),
        running(tasks, *LOCAL, *argv, check_leaks=False) as service,
    ):
        served = Served(service, server)
        yield served
        if not service._stop:
            served.see_off()
        served._exits.close()


def dial(address: Any) -> socket.socket:
    """A connection to *address*."""
    if not isinstance(address, str):
        return socket.create_connection(address, DEADLINE)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(DEADLINE)
    sock.connect(address)
    return sock


# -- a raw client, of frames in the binary protocol -----------------------------------------------
class Peer:
    """A client's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(DEADLINE)
        self._read = b""

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send all of *data*."""
        self.sock.sendall(data)

    def call(self, name: str, *args: Any, seqid: int = 0) -> None:
        """Send a call, in a frame."""
        self.send(framed(message(name, *args, seqid=seqid)))

    def answer(self) -> "Answer":
        """Read an answer in a frame."""
        return Answer(self.frame())

    def ask(self, name: str, *args: Any) -> Any:
        """Call, and give the value or raise the exception that comes back."""
        self.call(name, *args)
        return self.answer().value(name)

    def frame(self) -> bytes:
        """What is in the next frame."""
        return self.exactly(struct.unpack(">i", self.exactly(4))[0])

    def exactly(self, size: int) -> bytes:
        """Exactly *size* bytes."""
        while len(self._read) < size:
            more = self.sock.recv(65536)
            if not more:
                raise EOFError(f"closed after {self._read!r}")
            self._read += more
        data, self._read = self._read[:size], self._read[size:]
        return data

    def is_closed(self) -> bool:
        """Wait for the end of the connection, reading what comes; False past the deadline."""
        try:
            while self.sock.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True


class Answer:
    """An answer of the binary protocol."""

    def __init__(self, data: bytes) -> None:
        self._protocol = TBinaryProtocol(TMemoryBuffer(data))
        self.data = data
        self.name, self.kind, self.seqid = self._protocol.readMessageBegin()

    def value(self, name: str) -> Any:
        """The value of the method *name*; raises what it is instead of one."""
        if self.kind == TMessageType.EXCEPTION:
            raise self.error()
        made = _struct_of(name, "result")()
        made.read(self._protocol)
        for field, value in vars(made).items():
            if field != "success" and value is not None:
                raise value
        return getattr(made, "success", None)

    def error(self) -> TApplicationException:
        """The error that it is."""
        error = TApplicationException()
        error.read(self._protocol)
        return error


def _struct_of(name: str, kind: str) -> Any:
    for module in (Calculator, Base, Clock):
        if hasattr(module, f"{name}_{kind}"):
            return getattr(module, f"{name}_{kind}")
    raise LookupError(name)


def message(
    name: str, *args: Any, seqid: int = 0, kind: int = TMessageType.CALL, wire_name: str = ""
) -> bytes:
    """A call in the binary protocol."""
    buffer = TMemoryBuffer()
    protocol = TBinaryProtocol(buffer)
    protocol.writeMessageBegin(wire_name or name, kind, seqid)
    _struct_of(name, "args")(*args).write(protocol)
    protocol.writeMessageEnd()
    return bytes(buffer.getvalue())


def framed(payload: bytes) -> bytes:
    """*payload* in a frame."""
    return struct.pack(">i", len(payload)) + payload


PING = framed(message("ping"))
PONG_SIZE = len(framed(b"\x80\x01\x00\x02\x00\x00\x00\x04ping\x00\x00\x00\x00")) + 7 + 4 + 1

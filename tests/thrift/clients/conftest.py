"""Servers for the clients: those of Apache's library in a process, and some that misbehave."""

import contextlib
import importlib
import json
import pathlib
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

DEADLINE = 10.0
SCRIPT = pathlib.Path(__file__).with_name("apache.py")
#: What the one process serves that lives through all tests.
NAMES = [
    "framed",
    "framed-compact",
    "framed-json",
    "buffered",
    "buffered-compact",
    "zlib",
    "header",
    "multiplexed",
    "http",
    "http-compact",
    "http-json",
    "unix",
    "tls",
    "tls-mutual",
    "simple",
]


@pytest.fixture(scope="session")
def calculator() -> Any:
    """The bindings of the example's service."""
    return importlib.import_module("example.Calculator")


class Apache:
    """A process with Apache's servers."""

    def __init__(self, folder: pathlib.Path, names: list[str]) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.process.stdout is not None
        self.where: dict[str, Any] = json.loads(self.process.stdout.readline())

    def endpoint(self, name: str = "framed") -> Any:
        """Where that server is."""
        where = self.where[name]
        return f"unix:{where}" if isinstance(where, str) else ("127.0.0.1", where)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(DEADLINE)

    def close(self) -> None:
        """Kill it and forget it."""
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@pytest.fixture(scope="session")
def folder(need: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with a certificate for localhost, ``cert.pem``, and its ``key.pem``."""
    made = tmp_path_factory.mktemp("thrift")
    command = [need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt"]
    command += ["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(made / "key.pem"), "-out", str(made / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return made


@pytest.fixture(scope="session")
def apache(folder: pathlib.Path) -> Iterator[Apache]:
    """Apache's servers, of every kind."""
    made = Apache(folder, NAMES)
    yield made
    made.close()


@pytest.fixture
def mortal(tmp_path: pathlib.Path) -> Iterator[Callable[[], Apache]]:
    """``mortal()``: a process with a framed server of Apache's, which the test may kill."""
    made: list[Apache] = []

    def make() -> Apache:
        made.append(Apache(tmp_path, ["framed"]))
        return made[-1]

    yield make
    for each in made:
        each.close()


# -- servers that misbehave -----------------------------------------------------------------------
class Peer:
    """The server's end of one connection, with a deadline for everything."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        #: Which connection this is, from 0.
        self.number = number
        sock.settimeout(DEADLINE)

    def frame(self) -> bytes:
        """The next message; b'' at the end of the connection."""
        head = self._exactly(4)
        return self._exactly(struct.unpack(">i", head)[0]) if len(head) == 4 else b""

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            with contextlib.suppress(ConnectionError):
                if more := self.sock.recv(size - len(data)):
                    data += more
                    continue
            return b""
        return data

    def send(self, data: bytes) -> None:
        """Send *data*, or what of it the client takes."""
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(data)

    # -- answers, to a message from frame() --
    def reply(self, request: bytes, body: bytes, kind: int = 2, seqid: int | None = None) -> None:
        """Answer with a message of that *kind* that has *body* after its head."""
        self.send(self.replied(request, body, kind, seqid))

    @staticmethod
    def replied(request: bytes, body: bytes, kind: int = 2, seqid: int | None = None) -> bytes:
        """What :meth:`reply` sends."""
        (length,) = struct.unpack_from(">i", request, 4)
        name, number = request[8 : 8 + length], request[8 + length : 12 + length]
        if seqid is not None:
            number = struct.pack(">i", seqid)
        message = struct.pack(">Ii", 0x80010000 | kind, length) + name + number + body
        return struct.pack(">i", len(message)) + message

    def text(self, request: bytes, text: str = "pong") -> None:
        """Answer with a string."""
        self.reply(request, b"\x0b\x00\x00" + _string(text) + b"\x00")

    def error(self, request: bytes, message: str, kind: int = 6) -> None:
        """Answer with a TApplicationException."""
        field = b"\x08\x00\x02" + struct.pack(">i", kind)
        self.reply(request, b"\x0b\x00\x01" + _string(message) + field + b"\x00", 3)

    def until_end(self) -> None:
        """Read until the client closes."""
        with contextlib.suppress(ConnectionError):
            while self.sock.recv(65536):
                pass

    def close_hard(self) -> None:
        """Close with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">i", len(data)) + data


class Rogue:
    """A server that does with each connection what *script* says."""

    def __init__(self, script: Callable[[Peer], None], sock: socket.socket | None = None) -> None:
        self._script = script
        self._sock = sock or socket.create_server(("127.0.0.1", 0), backlog=128)
        self.endpoint = self._sock.getsockname()[:2]
        #: How many connections there were.
        self.connections = 0
        self.errors: list[BaseException] = []
        self._peers: list[Peer] = []
        self._threads: list[threading.Thread] = []
        self._accepting = self._start(self._accept)

    def _start(self, target: Callable[..., None], *args: Any) -> threading.Thread:
        thread = threading.Thread(target=target, args=args, daemon=True)
        thread.start()
        return thread

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            peer = Peer(sock, self.connections)
            self.connections += 1
            self._peers.append(peer)
            self._threads.append(self._start(self._serve, peer))

    def _serve(self, peer: Peer) -> None:
        try:
            self._script(peer)
        except BaseException as error:
            self.errors.append(error)
        finally:
            peer.sock.close()

    def close(self) -> None:
        """Take no more connections, end those there are, and tell what went wrong."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self._accepting.join(DEADLINE)
        for peer in self._peers:
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE)
        assert [] == self.errors


@pytest.fixture
def rogue() -> Iterator[Callable[..., Rogue]]:
    """``rogue(script)``: a server that calls *script(peer)* for every connection."""
    made: list[Rogue] = []

    def make(script: Callable[[Peer], None], sock: socket.socket | None = None) -> Rogue:
        made.append(Rogue(script, sock))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def refused() -> Iterator[tuple[str, int]]:
    """An address of this machine where nobody listens; it is bound, so nobody will."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()

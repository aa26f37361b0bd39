"""A process with servers of Apache's library, which prints as JSON where they listen.

``apache.py FOLDER NAME...``: *FOLDER* takes the unix socket, and has the certificate of ``tls``.
"""

import functools
import json
import os
import pathlib
import ssl
import sys
import threading
import time
from typing import Any

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "gen"))

import example.Calculator
import example.Clock
from example.ttypes import Refused
from thrift.protocol import TBinaryProtocol, TCompactProtocol, THeaderProtocol, TJSONProtocol
from thrift.server import THttpServer, TServer
from thrift.Thrift import TApplicationException
from thrift.TMultiplexedProcessor import TMultiplexedProcessor
from thrift.transport import TSocket, TSSLSocket, TTransport, TZlibTransport

BINARY = TBinaryProtocol.TBinaryProtocolAcceleratedFactory
COMPACT = TCompactProtocol.TCompactProtocolAcceleratedFactory
JSON = TJSONProtocol.TJSONProtocolFactory
FRAMED = TTransport.TFramedTransportFactory
BUFFERED = TTransport.TBufferedTransportFactory


class Handler:
    """The example's service."""

    def __init__(self) -> None:
        self.words_noted: list[str] = []

    def ping(self) -> str:
        return "pong"

    def add(self, a: int, b: int) -> int:
        return a + b

    def divide(self, a: int, b: int) -> int:
        if b == 0:
            raise Refused("by zero", 7)
        return a // b

    def same(self, value: Any) -> Any:
        return value

    echo = text = blob = table = tree = paint = same

    def words(self) -> set[str]:
        return {"one", "two"}

    def negate(self, value: bool) -> bool:
        return not value

    def nothing(self) -> None:
        pass

    def wait(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    def fail(self, message: str) -> str | None:
        if message == "none":
            return None
        raise TApplicationException(TApplicationException.INTERNAL_ERROR, message)

    def note(self, word: str) -> None:
        self.words_noted.append(word)

    def noted(self) -> list[str]:
        return self.words_noted


class Clock:
    """The other service."""

    def now(self) -> int:
        return 12


def announced(base: Any, tell: Any, *args: Any, **kwargs: Any) -> Any:
    """A server socket of the class *base* that calls *tell(port)* when it listens."""

    class Listening(base):  # type: ignore[misc]
        def listen(self) -> None:
            super().listen()
            name = self.handle.getsockname()
            tell(name if isinstance(name, str) else name[1])

    return Listening(*args, **kwargs)


def serve(name: str, folder: pathlib.Path, tell: Any) -> None:
    """Serve as *name* says until the process ends."""
    handler = Handler()
    processor: Any = example.Calculator.Processor(handler)
    kind, _, protocol = name.partition("-")
    factory = {"compact": COMPACT, "json": JSON}.get(protocol, BINARY)()
    if kind == "http":
        server = THttpServer.THttpServer(processor, ("127.0.0.1", 0), factory)
        tell(server.httpd.server_address[1])
        server.serve()
    bind = functools.partial(announced, TSocket.TServerSocket, tell, "127.0.0.1", 0)
    transport: Any = BUFFERED() if kind == "buffered" else FRAMED()
    if kind == "zlib":
        transport = TZlibTransport.TZlibTransportFactory()
        # With the C codec this transport loses what does not fit its buffer.
        factory = TBinaryProtocol.TBinaryProtocolFactory()
    elif kind == "header":
        transport = TTransport.TTransportFactoryBase()
        factory = THeaderProtocol.THeaderProtocolFactory()
    elif kind == "multiplexed":
        processor = TMultiplexedProcessor()
        processor.registerProcessor("calc", example.Calculator.Processor(handler))
        processor.registerProcessor("clock", example.Clock.Processor(Clock()))
    elif kind == "unix":
        path = str(folder / "thrift.sock")
        bind = functools.partial(announced, TSocket.TServerSocket, tell, unix_socket=path)
    elif kind == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        if protocol == "mutual":
            context.load_verify_locations(folder / "cert.pem")
            context.verify_mode = ssl.CERT_REQUIRED
        bind = functools.partial(
            announced,
            TSSLSocket.TSSLServerSocket,
            tell,
            "127.0.0.1",
            0,
            ssl_context=context,
            validate_callback=lambda *_: None,
        )
    server_class = TServer.TSimpleServer if kind == "simple" else TServer.TThreadedServer
    server_class(processor, bind(), transport, factory).serve()


def main(folder: pathlib.Path, names: list[str]) -> None:
    """Serve as all *names* say, until the standard input ends."""
    where: dict[str, int | str] = {}
    ready = threading.Semaphore(0)

    def tell(name: str, address: int | str) -> None:
        where[name] = address
        ready.release()

    for name in names:
        args = (name, folder, functools.partial(tell, name))
        threading.Thread(target=serve, args=args, daemon=True).start()
    for _ in names:
        ready.acquire()
    print(json.dumps(where), flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])

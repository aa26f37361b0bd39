"""A connection of the engine: its socket, what it is at, and what is still to be sent."""

import contextlib
import enum
import socket
import ssl
from collections import deque
from typing import Any

from sparts.thrift.framed import Framed
from sparts.thrift.framing import Framing
from sparts.thrift.server.calls import Client, Target

__all__ = ["AGAIN", "READ_MORE", "READ_SIZE", "TURNS", "Connection", "Phase"]

#: Bytes read at once. It bounds what a client that pipelines many small calls gets done in one go.
READ_SIZE = 32 * 1024
#: The same while a large message comes in.
READ_MORE = 256 * 1024
#: Calls that one connection gets done in one go; a few bytes of zlib may hold many thousands.
TURNS = 1000
#: What a socket says that does not block but would.
AGAIN = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

#: Of Linux.
_MORE = getattr(socket, "MSG_MORE", 0)


class Phase(enum.IntEnum):
    """What a connection is at; the engine has a time limit for each but BUSY."""

    HANDSHAKE = 0
    #: Nothing has come yet.
    NEW = 1
    IDLE = 2
    READING = 3
    WRITING = 4
    #: A call is under way or waits; nothing is read meanwhile.
    BUSY = 5
    #: All is sent and no more comes; the client is to close.
    LEAVING = 6


class Connection:
    """One client; only the thread that has it in hand touches it."""

    __slots__ = (
        "appetite",
        "calls",
        "client",
        "fd",
        "framing",
        "held",
        "is_framed",
        "is_tls",
        "mask",
        "out",
        "parting",
        "phase",
        "recv",
        "since",
        "sock",
        "target",
    )

    def __init__(self, sock: socket.socket, client: Client, framing: Framing, now: float) -> None:
        self.sock = sock
        self.recv = sock.recv
        self.fd = sock.fileno()
        self.client = client
        self.framing = framing
        self.is_tls = isinstance(sock, ssl.SSLSocket)
        self.phase = Phase.HANDSHAKE if self.is_tls else Phase.NEW
        #: The method of the call that the leader is at.
        self.target: Target | None = None
        #: Whether its messages are known to come in frames.
        self.is_framed = False
        #: Bytes to read at once.
        self.appetite = READ_SIZE
        #: When the phase began, or something moved in it; monotonic seconds.
        self.since = now
        #: What the poller looks for; 0 while it is not registered.
        self.mask = 0
        #: Bytes that were accounted for, of a message that is not all there.
        self.held = 0
        #: What the socket has not taken yet.
        self.out: memoryview | None = None
        #: Calls under way whose answers are to be sent in this order; of the asyncio engine.
        self.calls: deque[Any] = deque()
        #: Whether it is to part once all is sent.
        self.parting = False

    def recognise(self) -> None:
        """From now on, leave out what only finds out how the client speaks, if that is known."""
        self.framing = getattr(self.framing, "settled", None) or self.framing
        self.is_framed = isinstance(self.framing, Framed)

    def receive(self) -> bytes | None:
        """What came; b"" at the end of the stream, None when nothing is there yet.

        :raises OSError: the connection broke.
        """
        try:
            return self.recv(self.appetite)
        except AGAIN:
            return None

    def more_is_there(self) -> bool:
        """Whether TLS has more in hand, of which the poller knows nothing."""
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0

    def send(self, data: Any, more: bool = False) -> bool:
        """Send; whether the socket took all. What it did not is kept in ``out``.

        With *more* the kernel may hold it back for what comes next, be it the goodbye: so a client
        that has the answer has also heard that it is the last.

        :raises OSError: the connection broke.
        """
        try:
            sent = self.sock.send(data, _MORE if more and not self.is_tls else 0)
        except AGAIN:
            sent = 0
        if sent == len(data):
            return True
        self.out = memoryview(data)[sent:]
        return False

    def say_goodbye(self) -> None:
        """Tell the client that nothing more comes; it is to close."""
        with contextlib.suppress(OSError, ValueError):
            if isinstance(self.sock, ssl.SSLSocket):
                self.sock.unwrap()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """End it from another thread: whoever has it in hand finds it broken."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

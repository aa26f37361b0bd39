"""What a server keeps of a method and of a call: how to run it, what to count, who asks.

A :class:`Target` is one method of one handler, a :class:`Call` one request for it. How requests
and answers look on the wire is the business of the codecs.
"""

import contextvars
import inspect
import operator
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sparts.counters import CallbackCounter, HasCounters, SampleType, counter, samples
from sparts.thrift.interface import Method

if TYPE_CHECKING:
    from sparts.thrift.server.codec import Codec

__all__ = [
    "Call",
    "Client",
    "MethodCounters",
    "RawTarget",
    "Target",
    "count_recent",
    "current_client",
]

#: ``struct ucred`` of Linux: process, user, group.
_UCRED = struct.Struct("3i")
_IMMUTABLE = (type(None), bool, int, float, str, bytes)


class Client:
    """Who is at the other end of a connection."""

    __slots__ = ("_sock", "kind", "peer")

    def __init__(self, sock: socket.socket | None, address: Any, kind: str = "") -> None:
        """*sock* is None where the connection is not ours to look at; *kind* is then its kind."""
        self._sock = sock
        #: ``"tcp"``, ``"unix"`` or ``"http"``.
        self.kind = kind or ("unix" if sock and sock.family == socket.AF_UNIX else "tcp")
        #: Its address as text, for logs.
        self.peer = _as_text(address) if self.kind != "unix" else "a unix socket"

    @property
    def uid(self) -> int | None:
        """The user at the other end of a unix socket, as the kernel tells; else None."""
        if self.kind != "unix" or self._sock is None or not hasattr(socket, "SO_PEERCRED"):
            return None
        try:
            told = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        except OSError:
            return None
        return int(_UCRED.unpack(told)[1])


def _as_text(address: Any) -> str:
    if not isinstance(address, tuple):
        return str(address)
    return f"[{address[0]}]:{address[1]}" if len(address) > 2 else f"{address[0]}:{address[1]}"


#: The client of the call that this thread, or this asyncio task, is at.
CLIENT: contextvars.ContextVar[Client | None] = contextvars.ContextVar("CLIENT", default=None)


def current_client() -> Client | None:
    """Who made the call that the handler is answering; None outside of one."""
    return CLIENT.get()


class MethodCounters(HasCounters):
    """What is counted of one method."""

    #: Calls that were answered, or run if they are oneway; those that failed are among them.
    calls = counter()
    #: Calls that ended in an exception which the interface does not declare.
    errors = counter()
    #: Calls that were refused, as too many waited or one waited too long.
    overloaded = counter()
    #: From when the call was read to when its answer is ready, milliseconds.
    duration_ms = samples(
        types=[SampleType.COUNT, SampleType.AVG, SampleType.P50]
        + [SampleType.P95, SampleType.P99, SampleType.P999, SampleType.MAX]
    )

    def __init__(self) -> None:
        #: What stands for the calls that are under way and did not end at once.
        self.pending: set[Any] = set()
        self.in_flight = CallbackCounter(lambda: len(self.pending))


class Target:
    """One method of one handler: how its arguments are made, what runs it, what it has learned."""

    def __init__(self, method: Method, function: Callable[..., Any]) -> None:
        self.method = method
        self.name = method.name
        self.is_async = inspect.iscoroutinefunction(function)
        #: Whether it is known never to block, so that it may run in any loop's thread.
        self.is_quick = bool(getattr(function, "never_blocks", False))
        #: Whether it may take so long that it is run beside the threads or the loop that serve.
        self.needs_thread = bool(getattr(function, "needs_thread", False)) and not self.is_async
        #: Whether somebody else runs it than the engine's own threads.
        self.is_spawned = self.is_async or self.needs_thread
        self.counters = MethodCounters()
        self.count = self.counters.calls.increment
        self.time = self.counters.duration_ms.add
        #: What a shortcut has timed and not counted yet, milliseconds; see ``count_recent``.
        self.recent: list[float] = []
        self.invoke = _invoker(function, method.arg_names)
        #: What the accelerated codecs fill in and read; None where there is no such way.
        self.args_coding = _light_args(method)
        self.result_coding = method.result_coding
        self.result_class: type[Any] | None = None
        if not method.is_void and method.result_coding is not None:
            fields = dict.fromkeys(_names(method.result_coding[1]))
            self.result_class = type(f"{method.name}_result", (), fields)
            self.result_coding = [self.result_class, method.result_coding[1]]
        #: Whether it has no arguments.
        self.takes_nothing = not method.arg_names
        #: Whether the accelerated codec and a shortcut are not enough for it.
        self.needs_layers = (
            method.oneway
            or method.result_spec is None
            or (self.args_coding is None and not self.takes_nothing)
        )
        #: How an answer of the binary protocol begins; of the codec.
        self.reply_head = b""
        #: Whether it was seen to block, so that it gets a thread of its own before it runs.
        self.blocks = False
        #: How many times in a row it was quick.
        self.streak = 0

    def result(self, value: Any) -> Any:
        """The struct of an answer."""
        made: Any = (self.result_class or self.method.result_class or object)()
        if not self.method.is_void:
            made.success = value
        return made

    def declared(self, error: BaseException) -> Any | None:
        """The struct of an answer that is the declared exception *error*; None if it is not one."""
        for field, kind in self.method.exceptions:
            if isinstance(error, kind):
                made = (self.result_class or self.method.result_class or object)()
                setattr(made, field, error)
                return made
        return None


def count_recent(targets: list[Target]) -> None:
    """Count what shortcuts have left in ``recent`` of these *targets*, and empty the list.

    To count many at once costs a third of what it costs one by one. Who runs a shortcut does it
    before it waits, so nothing stays uncounted for longer than a round of ready connections.
    """
    while targets:
        target = targets.pop()
        values, target.recent = target.recent, []
        target.counters.calls.add(len(values))
        target.counters.duration_ms.add_many(values)


class RawTarget(Target):
    """What gives the bytes of an answer itself, as no method of an interface does."""

    def __init__(self, name: str, invoke: Callable[[Any], Any], is_quick: bool = True) -> None:
        super().__init__(_RAW, invoke)
        self.name = name
        self.invoke = invoke
        self.is_quick = is_quick
        self.needs_layers = True


_RAW = Method(
    name="raw",
    args_class=object,
    result_class=None,
    args_spec=None,
    result_spec=None,
    args_coding=None,
    result_coding=None,
    arg_names=(),
    oneway=False,
    exceptions=(),
    exception_fields=(),
    is_void=False,
    doc="",
    signature=inspect.Signature(),
)


def _invoker(function: Callable[..., Any], names: tuple[str, ...]) -> Callable[[Any], Any]:
    """What calls *function* with the fields *names* of a struct."""
    if not names:
        return lambda args: function()
    get = operator.attrgetter(*names)
    if len(names) == 1:
        return lambda args: function(get(args))
    return lambda args: function(*get(args))


def _names(spec: tuple[Any, ...]) -> list[str]:
    return [each[2] for each in spec if each is not None]


def _light_args(method: Method) -> list[Any] | None:
    """A class that is made faster than the generated one; that where a default could be changed."""
    if method.args_spec is None:
        return None
    defaults = {each[2]: each[4] for each in method.args_spec if each is not None}
    if not all(isinstance(value, _IMMUTABLE) for value in defaults.values()):
        return method.args_coding
    return [type(f"{method.name}_args", (), defaults), method.args_spec]


class Call:
    """One request: which method, with what, and how it is to be answered."""

    __slots__ = ("args", "arrived", "client", "codec", "message", "seqid", "target")
    # Set by who read it, and not in the constructor, as that is run for every call.
    #: When it was read, monotonic seconds.
    arrived: float
    client: Client | None

    def __init__(self, codec: "Codec", message: Any, target: Target, seqid: Any, args: Any) -> None:
        self.codec = codec
        #: The message of the framing, which knows how to wrap the answer.
        self.message = message
        self.target = target
        #: As the codec has it: bytes or a number.
        self.seqid = seqid
        self.args = args

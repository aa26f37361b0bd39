"""The options of a Thrift server, for the task that has one."""

import argparse

from sparts.cli import seconds
from sparts.net.options import ListenOptions, positive
from sparts.options import HasOptions, option
from sparts.thrift.limits import Limits

__all__ = ["MessageOptions", "ThriftOptions"]


def _threads(text: str) -> int:
    return 0 if text.strip() == "0" else positive(text)


def _depth(text: str) -> int:
    value = positive(text)
    if value > Limits.max_depth:
        raise argparse.ArgumentTypeError(
            f"{text!r} is more than {Limits.max_depth}, which is where the codec ends"
        )
    return value


class MessageOptions(HasOptions):
    """How large and how deep a message may be, whatever brings it."""

    max_frame_size: int = option(
        type=positive,
        default=Limits.max_frame_size,
        metavar="BYTES",
        help="refuse a longer message (default: %(default)s)",
    )
    max_container_size: int = option(
        type=positive,
        default=Limits.max_container_size,
        metavar="N",
        help="refuse a list, set or map of more elements (default: %(default)s)",
    )
    max_depth: int = option(
        type=_depth,
        default=Limits.max_depth,
        metavar="N",
        help="refuse what is nested deeper, 1 to 64 (default: %(default)s)",
    )


class ThriftOptions(ListenOptions, MessageOptions):
    """Where to listen, and what a client may take; declared on a class, as its base."""

    thread_limit: int = option(
        name="threads",
        type=_threads,
        default=10,
        metavar="N",
        help="plain methods that may block at the same time; 0 runs all in the one thread that "
        "waits for clients (default: %(default)s)",
    )
    client_ca: str | None = option(
        metavar="PEM", help="with TLS: ask clients for a certificate that one in this file signed"
    )
    max_connections: int = option(
        type=positive,
        default=Limits.max_connections,
        metavar="N",
        help="accept no more at a time; others wait (default: %(default)s)",
    )
    max_pipelined: int = option(
        type=positive,
        default=Limits.max_pipelined,
        metavar="N",
        help="calls of one connection to async def methods at the same time; plain ones of a "
        "connection run one after another (default: %(default)s)",
    )
    max_calls: int = option(
        type=positive,
        default=Limits.max_calls,
        metavar="N",
        help="calls under way or waiting for a thread, in all; a further one is answered "
        "'overloaded' (default: %(default)s)",
    )
    max_buffered: int = option(
        type=positive,
        default=Limits.max_buffered,
        metavar="BYTES",
        help="hold no more of messages that came in part, in all (default: %(default)s)",
    )
    queue_timeout: float = option(
        type=seconds,
        default=Limits.queue_timeout,
        metavar="SECONDS",
        help="answer 'overloaded' to a call that waits longer for a thread (default: %(default)s)",
    )
    idle_timeout: float = option(
        type=seconds,
        default=Limits.idle_timeout,
        metavar="SECONDS",
        help="close connections without a call so long (default: %(default)s; 0: never)",
    )
    read_timeout: float = option(
        type=seconds,
        default=Limits.read_timeout,
        metavar="SECONDS",
        help="cut clients that take longer to send a message (default: %(default)s; 0: never)",
    )
    write_timeout: float = option(
        type=seconds,
        default=Limits.write_timeout,
        metavar="SECONDS",
        help="cut clients that read nothing of an answer so long (default: %(default)s; 0: never)",
    )
    drain_timeout: float = option(
        type=seconds,
        default=10.0,
        metavar="SECONDS",
        help="at a stop, close what is still open after that time (default: %(default)s)",
    )

    def limits(self) -> Limits:
        """What these options allow a client."""
        return Limits(
            max_frame_size=self.max_frame_size,
            max_container_size=self.max_container_size,
            max_depth=self.max_depth,
            max_connections=self.max_connections,
            max_pipelined=self.max_pipelined,
            max_calls=self.max_calls,
            max_buffered=self.max_buffered,
            queue_timeout=self.queue_timeout,
            idle_timeout=self.idle_timeout,
            read_timeout=self.read_timeout,
            write_timeout=self.write_timeout,
        )

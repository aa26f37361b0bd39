"""The options of an HTTP server, for the task that has one."""

import argparse

from sparts.cli import seconds
from sparts.http.server import Limits
from sparts.options import HasOptions, option

__all__ = ["HTTPOptions", "file_mode", "port_number", "positive"]


def port_number(text: str) -> int:
    """A TCP port, 0 to 65535."""
    return _whole(text, 0, 65535, "a port, 0 to 65535 (0: any free one)")


def positive(text: str) -> int:
    """A whole number, 1 or more."""
    return _whole(text, 1, 2**63 - 1, "a whole number, 1 or more")


def file_mode(text: str) -> str:
    """The rights of a file as octal digits, 0 to 777; kept as text."""
    try:
        if 0 <= int(text, 8) <= 0o777:
            return text
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a file's mode, like 660")


def _whole(text: str, lowest: int, highest: int, what: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = lowest - 1
    if not lowest <= value <= highest:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


class HTTPOptions(HasOptions):
    """Where to listen, and what a client may take; declared on a class, as its base."""

    host: str = option(
        type=str,
        default="0.0.0.0",
        help="addresses or names to listen on, with commas between; '' is all IPv4 and IPv6, "
        ":: all IPv6 (default: %(default)s)",
    )
    port: int = option(
        type=port_number,
        default=0,
        help="port to listen on; 0 is a free one (default: %(default)s)",
    )
    sock: str | None = option(
        metavar="PATH", help="listen on this unix socket, and on no host and port"
    )
    sock_mode: str = option(
        type=file_mode,
        default="660",
        metavar="MODE",
        help="who may connect to the unix socket, in octal (default: %(default)s)",
    )
    sock_group: str | None = option(metavar="GROUP", help="the group of the unix socket")
    cert: str | None = option(metavar="PEM", help="serve TLS with this certificate chain")
    key: str | None = option(metavar="PEM", help="the certificate's key, if in a file of its own")
    header_timeout: float = option(
        type=seconds,
        default=Limits.header_timeout,
        metavar="SECONDS",
        help="cut clients that take longer to send a head (default: %(default)s; 0: never)",
    )
    body_timeout: float = option(
        type=seconds,
        default=Limits.body_timeout,
        metavar="SECONDS",
        help="cut clients that take longer to send a body (default: %(default)s; 0: never)",
    )
    write_timeout: float = option(
        type=seconds,
        default=Limits.write_timeout,
        metavar="SECONDS",
        help="cut clients that read nothing of an answer so long (default: %(default)s; 0: never)",
    )
    idle_timeout: float = option(
        type=seconds,
        default=Limits.idle_timeout,
        metavar="SECONDS",
        help="close connections without a request so long (default: %(default)s; 0: never)",
    )
    max_header_size: int = option(
        type=positive,
        default=Limits.max_header_size,
        metavar="BYTES",
        help="refuse a longer request head (default: %(default)s)",
    )
    max_body_size: int = option(
        type=positive,
        default=Limits.max_body_size,
        metavar="BYTES",
        help="refuse a longer request body (default: %(default)s)",
    )
    max_connections: int = option(
        type=positive,
        default=Limits.max_connections,
        metavar="N",
        help="accept no more at a time; others wait (default: %(default)s)",
    )
    drain_timeout: float = option(
        type=seconds,
        default=10.0,
        metavar="SECONDS",
        help="at a stop, close what is still open after that time (default: %(default)s)",
    )
    backlog: int = option(
        type=positive,
        default=4096,
        metavar="N",
        help="clients that may wait to be accepted (default: %(default)s)",
    )

    def limits(self) -> Limits:
        """What these options allow a client."""
        return Limits(
            header_timeout=self.header_timeout,
            body_timeout=self.body_timeout,
            write_timeout=self.write_timeout,
            idle_timeout=self.idle_timeout,
            max_header_size=self.max_header_size,
            max_body_size=self.max_body_size,
            max_connections=self.max_connections,
        )

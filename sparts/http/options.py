"""The options of an HTTP server, for the task that has one."""

from sparts.cli import seconds
from sparts.http.server import Limits
from sparts.net.options import ListenOptions, positive
from sparts.options import option

__all__ = ["HTTPOptions"]


class HTTPOptions(ListenOptions):
    """Where to listen, and what a client may take; declared on a class, as its base."""

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

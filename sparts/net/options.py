"""The options of a server about where it listens, and the types of such options."""

import argparse
import shlex

from sparts.options import HasOptions, option

__all__ = ["ListenOptions", "file_mode", "port_number", "positive"]


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


class ListenOptions(HasOptions):
    """Where to listen, with TLS or without; declared on a class, as its base."""

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
    backlog: int = option(
        type=positive,
        default=4096,
        metavar="N",
        help="clients that may wait to be accepted (default: %(default)s)",
    )

    def asked_by(self, *names: str) -> str:
        """The options *names* as one writes them on the command line, where they are set."""
        given = {each.name: each for each in self._declaredOptions()}
        values = {name: given[name].__get__(self, type(self)) for name in names}
        return " ".join(
            f"{given[name].flag(self)} {shlex.quote(str(value))}"
            for name, value in values.items()
            if value is not None
        )

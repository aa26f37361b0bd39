"""The Thrift server by its old name, which promised framed clients that a slow one is no harm."""

from typing import Any

from sparts.tasks.thrift.server import ThriftServerTask

__all__ = ["NBServerTask"]


class NBServerTask(ThriftServerTask):
    """A Thrift server for framed clients, and, as any server here, for all others too."""

    @property
    def bound_host(self) -> Any:
        """The first address it is bound to, or the path of its unix socket."""
        first = self.bound_addrs[0]
        return first if isinstance(first, str) else first[0]

    @property
    def bound_port(self) -> int:
        """The port it is bound to; 0 on a unix socket."""
        first = self.bound_addrs[0]
        return 0 if isinstance(first, str) else int(first[1])

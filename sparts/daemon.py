"""The old place of daemons; see :mod:`sparts.ops.daemon`."""

from sparts.ops.daemon import daemonize, kill, read_pid, status

__all__ = ["daemonize", "kill", "read_pid", "status"]

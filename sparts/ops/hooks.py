"""The hooks that daemons and runit plug into a command line."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from sparts.hooks import Hook
from sparts.options import option

if TYPE_CHECKING:
    from sparts.vservice import VService

__all__ = ["DaemonHook", "RunitHook"]


class DaemonHook(Hook):
    """``--daemon``, ``--pidfile``, ``--kill`` and ``--status``."""

    INSTEAD = ("kill", "status")

    daemon: bool = option(action="store_true", help="run in the background, with a pidfile")
    pidfile: str | None = option(
        metavar="PATH", help="the daemon's pidfile (default: the service's DEFAULT_PID)"
    )
    kill: bool = option(action="store_true", help="stop the daemon of the pidfile, and exit")
    status: bool = option(
        action="store_true", help="tell whether the daemon of the pidfile runs, and exit"
    )

    def launch(self, service_class: "type[VService]", name: str, proceed: Callable[[], int]) -> int:
        if not (self.daemon or self.kill or self.status):
            return proceed()
        from sparts.ops import daemon

        logger = logging.getLogger(name)
        pidfile = self.pidfile or _pidfile(service_class)
        if self.kill:
            return daemon.kill_service(pidfile, logger)
        if self.status:
            return daemon.service_status(pidfile, logger)
        if self.options.logfile is None:
            logger.warning("Without --logfile, what the daemon logs once it has started is lost")
        return daemon.daemonize(proceed, name, pidfile, logger, until_started=True)

    def after_start(self, service: "VService") -> None:
        if self.daemon:
            from sparts.ops import daemon

            daemon.started()


def _pidfile(service_class: "type[VService]") -> str:
    default = service_class.DEFAULT_PID
    return str(default(service_class) if callable(default) else default)


class RunitHook(Hook):
    """``--runit-install``."""

    runit_install: bool = option(
        action="store_true", help="install the service under runit, and exit"
    )

    def launch(self, service_class: "type[VService]", name: str, proceed: Callable[[], int]) -> int:
        if not self.runit_install:
            return proceed()
        from sparts.ops import runit

        runit.install(name)
        return 0

"""Runs a command, logs what it writes as it comes, and ends when it has ended.

python demo/watch_command.py --watch-command 'ping -c 3 localhost'
"""

import subprocess

from sparts.counters import counter
from sparts.options import option
from sparts.tasks.select import ProcessStreamHandler, SelectTask
from sparts.vservice import VService


class Watcher(SelectTask):
    """Watches over one command; it is killed when the service stops first."""

    OPT_PREFIX = "watch"
    command: str = option(
        type=str,
        default="for n in 1 2 3; do echo line $n; sleep 0.1; done; echo over >&2",
        metavar="COMMAND",
        help="what to run, by the shell (default: %(default)s)",
    )
    n_lines = counter()

    def start(self):
        super().start()
        popen = subprocess.Popen(
            self.command,
            shell=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that what it starts is killed too
        )
        self.rest = ""
        ProcessStreamHandler(popen, self, self.take, on_exit=self.ended, encoding="utf-8")

    def take(self, text):
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            self.n_lines.increment()
            self.logger.info("%s", line)

    def ended(self, status):
        self.logger.info("ended with status %d after %d lines", status, self.n_lines())
        self.service.stop()


class WatchCommand(VService):
    ALL_TASKS = [Watcher]


WatchCommand.initFromCLI()

"""The container: a service made of tasks, started together and ended gracefully."""

import argparse
import copy
import logging
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar, overload

from sparts import cli, logs
from sparts.counters import HasCounters
from sparts.errors import SpartsError
from sparts.exports import HasExportedValues, HasWarnings
from sparts.hooks import Hook, Hooks
from sparts.lastwords import watch_exit
from sparts.lifecycle import Lifecycle, State
from sparts.options import HasOptions, option
from sparts.runner import Runner
from sparts.vtask import VTask

__all__ = ["VService"]

T = TypeVar("T", bound=VTask)


class VService(HasOptions, HasCounters, HasWarnings, HasExportedValues):
    """A service: subclass it, list its tasks in ``ALL_TASKS``, and call ``initFromCLI()``.

    An instance lives once, as :mod:`sparts.lifecycle` says; a restart makes a new one.
    """

    #: The classes of the service's tasks; what they depend on comes along.
    ALL_TASKS: ClassVar[list[Any]] = []
    #: The same by another name; both are honoured.
    TASKS: ClassVar[list[Any]] = []
    VERSION: ClassVar[str] = ""
    DEFAULT_LOGLEVEL: ClassVar[str] = "DEBUG"
    DEFAULT_LOGFILE: ClassVar[str | None] = None
    #: The pidfile's path, or a callable that gives it for a class.
    DEFAULT_PID: ClassVar[Any] = staticmethod(lambda cls: f"/var/run/{cls.__name__}.pid")
    #: Defaults for the tasks' options, by their names in the namespace: ``{'http_port': 8000}``.
    DEFAULTS: ClassVar[Mapping[str, Any]] = {}
    #: False: the signals stay as they are.
    REGISTER_SIGNAL_HANDLERS: ClassVar[bool] = True
    #: Hooks beside the default ones, as classes or ``"module:attr"``.
    HOOKS: ClassVar[list[str | type[Hook]]] = []

    #: Whether it was run by ``initFromCLI``, so that the process is to end when it has.
    _owns_process: ClassVar[bool] = False

    _only_tasks: list[str] | None = option(
        name="tasks",
        type=str,
        nargs="*",
        metavar="TASK",
        help="run only these tasks and what they depend on; with no names, list them",
    )
    level: str = option(
        type=str.upper,
        default=lambda cls: cls.DEFAULT_LOGLEVEL,
        choices=["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        help="log from this level upwards (default: %(default)s)",
    )
    logfile: str | None = option(
        default=lambda cls: cls.DEFAULT_LOGFILE,
        metavar="PATH",
        help="log to this file, not to stderr; a restart opens it anew",
    )
    dryrun: bool = option(
        action="store_true", help="for tasks that heed it: change nothing outside the process"
    )
    stop_timeout: float = option(
        type=cli.seconds,
        default=30.0,
        metavar="SECONDS",
        help="end the process with status 70 when a stop takes longer (default: %(default)s)",
    )
    ready_timeout: float = option(
        type=cli.seconds,
        default=30.0,
        metavar="SECONDS",
        help="fail the start when a task waits longer for one it needs (default: %(default)s)",
    )

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__()
        self._name = type(self).__name__
        self.options = options
        self._given = copy.copy(options)
        tasks = cli.all_tasks(type(self))
        cli.fill(type(self), tasks, options)
        self.start_time = time.time()
        self.lifecycle = Lifecycle(self.logger)
        self.hooks = Hooks.of(type(self), options)
        #: Whether it runs, or has run.
        self.launched = False
        #: Whether a fresh instance follows this one's end.
        self.restarting = False
        self._successor: VService | None = None
        self.tasks = cli.selected(tasks, self._only_tasks)
        self.preprocessOptions()

    # -- the ways in ------------------------------------------------------------------------------
    @classmethod
    def initFromCLI(cls, name: str | None = None) -> None:
        """Run the service as the command line says, until it is stopped; then return.

        Ends the process, with a non-zero status, after a failure or a wrong option.
        """

        def run() -> None:
            options = cli.parse(cls, sys.argv[1:])
            cls._owns_process = True
            cls.initFromOptions(options, name)

        cli.guarded(run, cls.__name__)

    @classmethod
    def initFromOptions(cls, ns: argparse.Namespace, name: str | None = None) -> None:
        """Run the service with the options *ns*, as :meth:`initFromCLI` does.

        :raises SystemExit: it failed; the code is the exit status.
        """
        cli.list_tasks(cls, ns)
        hooks = Hooks.of(cls, ns)

        def run() -> int:
            service = cls(ns)
            service.hooks = hooks
            if name is not None:
                service.name = name
            service.initLogging()
            if cls._owns_process:
                watch_exit(service.logger, service.stop_timeout)
            return Runner(service, foreground=True).run()

        status = hooks.launch(cls, name or cls.__name__, run)
        if status:
            sys.exit(status)

    def startBG(self) -> threading.Thread:
        """Start in the background, with no signal touched; join the thread after a stop.

        :raises LifecycleError: it was started before.
        """
        return Runner(self, foreground=False).start()

    @classmethod
    def _buildArgumentParser(cls) -> argparse.ArgumentParser:
        return cli.build_parser(cls)

    @classmethod
    def _makeArgumentParser(cls) -> argparse.ArgumentParser:
        """Override to give an ``argparse.ArgumentParser`` of one's own."""
        return cli.new_parser(cls)

    @classmethod
    def _addArguments(cls, ap: argparse.ArgumentParser) -> None:
        """Override, calling super, to add arguments that are not declared as options."""

    # -- override points --------------------------------------------------------------------------
    def preprocessOptions(self) -> None:
        """Look at the options, and change them, before anything else happens."""

    def initService(self) -> None:
        """Prepare the service after its tasks were created and before they are initialised."""

    def initLogging(self) -> None:
        """Set up logging by ``--level`` and ``--logfile``; not called by :meth:`startBG`."""
        logs.configure(self.loglevel, self.logfile)

    # -- who it is --------------------------------------------------------------------------------
    @property
    def name(self) -> str:
        """The service's name, in its logs and wherever it presents itself."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name
        self.lifecycle.logger = self.logger
        for task in self.getChildren().values():
            if isinstance(task, VTask):
                task.logger = logging.getLogger(f"{name}.{task.name}")

    @property
    def logger(self) -> logging.Logger:
        """The logger named after the service."""
        return logging.getLogger(self._name)

    @property
    def loglevel(self) -> int:
        """``--level`` as the number that :mod:`logging` knows."""
        return logging.getLevelNamesMapping()[self.level.upper()]

    # -- the end ----------------------------------------------------------------------------------
    @property
    def _stop(self) -> bool:
        return self.lifecycle.stop_requested

    def stop(self) -> None:
        """Ask the service to stop and return at once; in every phase, from any thread.

        After a restart it is the fresh instance that is asked.
        """
        self.restarting = False
        self.lifecycle.request_stop()
        if self._successor is not None:
            self._successor.stop()

    shutdown = stop

    def restart(self) -> None:
        """Ask for a stop and a fresh instance with the same options; a stop under way goes on."""
        if self._successor is not None:
            self._successor.restart()
        elif not self._stop:
            self.restarting = True
            self.lifecycle.request_stop()

    def renew(self) -> "VService":
        """A fresh instance with the options that this one was given."""
        fresh = type(self)(copy.copy(self._given))
        fresh.name, fresh.hooks, fresh.launched = self.name, self.hooks, True
        self._successor = fresh
        return fresh

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the service has ended, or *timeout* seconds; whether it has."""
        life = self.lifecycle
        return life.wait_for(lambda: life.ended or not self.launched, timeout)

    def fail(self, error: BaseException, source: str) -> None:
        """Log that the task (or hook) *source* failed, and stop the service as a failure."""
        if isinstance(error, SpartsError):
            self.logger.error("%s failed: %s", source, error)
        else:
            self.logger.error("Unhandled exception in %s", source, exc_info=error)
        self.restarting = False
        self.lifecycle.fail(source, error)

    @property
    def exit_status(self) -> int:
        """0, or what tells of the first failure."""
        return self.lifecycle.failure.status if self.lifecycle.failure else 0

    # -- readiness, tasks, options ----------------------------------------------------------------
    def isReady(self) -> bool:
        """Whether it runs and all its tasks are ready."""
        return self.lifecycle.state is State.RUNNING and all(t.isReady() for t in self.tasks)

    def waitReady(self, timeout: float | None = None) -> bool:
        """Wait until it is ready, is to stop, or *timeout* seconds passed; whether it is ready."""
        self.lifecycle.wait_for(lambda: self._stop or self.isReady(), timeout)
        return self.isReady()

    @overload
    def getTask(self, name: str) -> VTask | None: ...
    @overload
    def getTask(self, name: type[T]) -> T | None: ...
    def getTask(self, name: Any) -> Any:
        """The task of that name or class, or None."""
        return self.tasks.get(name)

    @overload
    def requireTask(self, name: str) -> VTask: ...
    @overload
    def requireTask(self, name: type[T]) -> T: ...
    def requireTask(self, name: Any) -> Any:
        """The task of that name or class.

        :raises KeyError: there is none.
        """
        return self.tasks.require(name)

    def getChildren(self) -> dict[str, HasCounters]:
        """The tasks by name."""
        return {task.name: task for task in self.tasks if isinstance(task, VTask)}

    def getOption(self, name: str, default: Any = None) -> Any:
        """The option *name* (as in the namespace), or *default* where it is None or absent."""
        value = getattr(self.options, name.replace("-", "_"), None)
        return default if value is None else value

    def setOption(self, name: str, value: Any) -> None:
        """Set the option *name*, converted as its declaration says; a new name is taken as it is.

        :raises OptionError: the value is not of the declared type.
        """
        cli.set_option(self, name.replace("-", "_"), value)

    def getOptions(self) -> dict[str, Any]:
        """A copy of all options and their values."""
        return dict(vars(self.options))

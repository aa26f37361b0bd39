"""A service in the background of a test: started on free ports, awaited until ready, ended."""

import argparse
import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

from sparts import cli
from sparts.errors import SpartsError
from sparts.hooks import Hook
from sparts.options import HasOptions, Option
from sparts.testing.leaks import no_leaks
from sparts.vservice import VService
from sparts.vtask import VTask

__all__ = ["Background", "ServiceFailed", "running", "service_class"]

S = TypeVar("S", bound=VService)
Target = type[VService] | type[VTask] | Sequence[type[VTask]]
#: Seconds that a start, and a stop, may take in a test.
DEADLINE = 10.0


class ServiceFailed(SpartsError):
    """The service of a test failed; ``__cause__`` is what its task raised, where one did."""


def service_class(target: Target) -> type[VService]:
    """*target* itself, or a new service class of the task or tasks that it is."""
    if isinstance(target, type) and issubclass(target, VService):
        return target
    tasks = list(target) if isinstance(target, Sequence) else [target]
    for each in tasks:
        if not (isinstance(each, type) and issubclass(each, VTask)):
            raise TypeError(
                f"{each!r} is no VTask class; give a VService class, a VTask or several"
            )
    return type("TestService", (VService,), {"ALL_TASKS": tasks, "__module__": __name__})


def free_ports(cls: type[VService]) -> list[str]:
    """Flags that set to 0, so that the system chooses, every port option with a default."""
    parser = cls._buildArgumentParser()
    owners: list[type[HasOptions]] = [cls, *cli.all_tasks(cls).classes]
    return [
        f"{each.flag(owner)}=0"
        for owner in owners
        for each in owner._declaredOptions()
        if _is_port(each) and parser.get_default(owner._optionDest(each)) is not None
    ]


def _is_port(declared: Option) -> bool:
    words = declared.name.replace("-", "_").split("_")
    return words[-1] == "port" and declared.nargs is None and not declared.is_flag


class Background(Generic[S]):
    """One service, run in the background; :func:`running` and the test cases are made of it."""

    def __init__(self, target: Any, argv: Sequence[object] = ()) -> None:
        """*argv* is the command line; ports that it does not name are free ones.

        :raises SystemExit: it is wrong; what is wrong was written to stderr.
        """
        cls = service_class(target)
        given = [f"--stop-timeout={DEADLINE:g}", *free_ports(cls), *map(str, argv)]
        service: Any = cls(cli.parse(cls, given))
        self._follow = _Follow(service)
        self.thread: threading.Thread | None = None

    @property
    def service(self) -> S:
        """The service; after a restart the fresh one."""
        service: S = self._follow.service
        return service

    def start(self, timeout: float = DEADLINE) -> None:
        """Start, and wait at most *timeout* seconds until the service is ready.

        :raises ServiceFailed: it did not become ready; it has ended.
        """
        service = self.service
        self.thread = service.startBG()
        if service.waitReady(timeout) or service.lifecycle.stop_requested:
            self.check()
            return
        waiting = [task.name for task in service.tasks if not task.isReady()]
        current = service.tasks.current
        where = f", in {current[0].name}.{current[1]}()" if current else ""
        self.stop()
        raise ServiceFailed(
            f"{service.name} was not ready within {timeout:g} s{where}; "
            f"it waited for {', '.join(waiting) or 'no task'}"
        )

    def check(self) -> None:
        """Raise if the service failed.

        :raises ServiceFailed: it did; the service has ended.
        """
        failure = self.service.lifecycle.failure
        if failure is not None:
            self.stop()
            raise ServiceFailed(f"{failure.source} failed: {failure.error!r}") from failure.error

    def stop(self) -> None:
        """Stop, and wait until the service has ended or was given up on at its deadline."""
        self._follow.end()
        if self.thread is not None:
            self.thread.join(self.service.stop_timeout + DEADLINE)


class _Follow(Hook):
    """Knows the service's present instance, also across restarts."""

    def __init__(self, service: VService) -> None:
        super().__init__(argparse.Namespace())
        self.service: Any = service
        self._ending = False
        self._lock = threading.Lock()
        service.hooks.add(self)

    def before_start(self, service: VService) -> None:
        with self._lock:
            self.service = service
        if self._ending:
            service.stop()

    def end(self) -> None:
        with self._lock:
            self._ending = True
        self.service.stop()


@overload
def running(
    target: type[S], *argv: object, timeout: float = ..., check_leaks: bool = ...
) -> "contextlib.AbstractContextManager[S]": ...
@overload
def running(
    target: type[VTask] | Sequence[type[VTask]],
    *argv: object,
    timeout: float = ...,
    check_leaks: bool = ...,
) -> "contextlib.AbstractContextManager[VService]": ...
@contextlib.contextmanager
def running(
    target: Any, *argv: object, timeout: float = DEADLINE, check_leaks: bool = True
) -> Iterator[Any]:
    """Run a service, a task or a list of tasks in the background of the block.

    ``with running(MyService, "--http-host", "127.0.0.1") as service: ...`` gives the service when
    it is ready, and ends it after the block. *argv* is its command line; port options that it does
    not name are 0, so that the system chooses. No signal and no logging is touched.

    :raises ServiceFailed: the service was not ready within *timeout* seconds, or it failed before
        the block's end; what its task raised is the ``__cause__``.
    :raises LeakError: a thread, a descriptor or an asyncio task of the block or the service is
        left; not with *check_leaks* False.
    :raises SystemExit: the command line is wrong; what is wrong was written to stderr.
    """
    with no_leaks() if check_leaks else contextlib.nullcontext():
        background: Background[Any] = Background(target, argv)
        background.start(timeout)
        try:
            yield background.service
        except BaseException as error:
            background.stop()
            failure = background.service.lifecycle.failure
            if failure is not None:
                error.add_note(f"The service failed too: {failure.source}: {failure.error!r}")
            raise
        background.stop()
        background.check()

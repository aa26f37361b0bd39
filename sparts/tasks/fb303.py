"""fb303: what a service tells of itself to monitoring tools, and the few things they may ask of it.

List ``FB303HandlerTask`` and a server in ``ALL_TASKS``; or extend the interface by your own::

    class MyHandler(FB303HandlerTask):
        MODULE = MyService      # service MyService extends fb303.FacebookService

        def ping(self):
            return "pong"

Everybody may read. What changes or stops the service is for those who run it: see
``--fb303-allow-control``.
"""

import os
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from thrift.Thrift import TApplicationException

from sparts.counters import counter
from sparts.declarations import option_texts, set_from_text
from sparts.errors import SpartsError, TaskError, nearest
from sparts.gen.fb303 import FacebookService
from sparts.gen.fb303.ttypes import fb_status
from sparts.lifecycle import State
from sparts.options import option
from sparts.profiler import profile
from sparts.tasks.thrift.handler import ThriftHandlerTask
from sparts.thrift.interface import Interface
from sparts.thrift.server.calls import Client, current_client
from sparts.vtask import VTask

if TYPE_CHECKING:
    from sparts.vservice import VService

__all__ = ["FB303HandlerTask"]

F = TypeVar("F", bound=Callable[..., Any])
#: What an i64 holds.
_I64 = range(-(2**63), 2**63)
#: How much getStatusDetails tells: so many things that are wrong, of so many characters each.
_TOLD = 20
_WIDTH = 300
#: Characters of a refusal, which may have in it what the client sent.
_LONGEST = 1000


def _never_blocks(method: F) -> F:
    """For any loop's thread; see :class:`sparts.thrift.server.calls.Target`."""
    method.never_blocks = True  # type: ignore[attr-defined]
    return method


def _needs_thread(method: F) -> F:
    """For none of the threads that serve."""
    method.needs_thread = True  # type: ignore[attr-defined]
    return method


class FB303HandlerTask(ThriftHandlerTask):
    """Answers monitoring tools: the whole of fb303's FacebookService.

    A subclass adds its own methods and may override these, but for getCounters() and getCounter(),
    which mean something else on a task: the counters themselves.
    """

    OPT_PREFIX = "fb303"
    MODULE: ClassVar[Any] = FacebookService
    allow_control: bool = option(
        action="store_true",
        help="let every client set options, take profiles, restart and stop the service; without "
        "it only a client on a unix socket may that is of the service's user, or root",
    )
    #: Calls that were refused as they change or stop the service.
    control_refused = counter()

    def __init__(self, service: "VService") -> None:
        super().__init__(service)
        self._counters = _Counters(self)
        self._stopping = threading.Event()

    def initTask(self) -> None:
        """Find the methods.

        :raises TaskError: ``MODULE`` is of a service that does not extend fb303's.
        """
        super().initTask()
        if self.interface.methods.keys().isdisjoint(Interface.of(FacebookService).methods):
            raise TaskError(
                f"{self.name}: {self.interface.name} does not extend fb303.FacebookService; have "
                "it do so in its .thrift file, or derive from ThriftHandlerTask"
            )
        self.service.lifecycle.on_stop_request(self._stopping.set)

    def getHandlers(self) -> Iterable[Any]:
        """The counters in numbers, and the task for all else."""
        return [self._counters, self]

    # -- who it is, and how it is -----------------------------------------------------------------
    @_never_blocks
    def getName(self) -> str:
        """The service's name."""
        return self.service.name

    @_never_blocks
    def getVersion(self) -> str:
        """Its ``VERSION``."""
        return self.service.VERSION

    @_never_blocks
    def aliveSince(self) -> int:
        """When it started, in Unix seconds; a restart is a start."""
        return int(self.service.start_time)

    @_never_blocks
    def getStatus(self) -> int:
        """Its ``fb_status``: WARNING where threads have ended or warnings are registered."""
        return _condition(self.service)[0]

    @_never_blocks
    def getStatusDetails(self) -> str:
        """What there is to say about the status: what it waits for, or what is wrong."""
        return _condition(self.service)[1]

    # -- its options ------------------------------------------------------------------------------
    @_never_blocks
    def getOptions(self) -> dict[str, str]:
        """The declared options, as texts; of a secret one only whether it has a value."""
        return option_texts(self.service)

    @_never_blocks
    def getOption(self, key: str) -> str:
        """One of them.

        :raises TApplicationException: there is none of that name.
        """
        found = option_texts(self.service)
        name = key.replace("-", "_")
        if name not in found:
            raise _refusal(f"no option {key[:100]!r}{nearest(key[:100], found)}")
        return found[name]

    @_never_blocks
    def setOption(self, key: str, value: str) -> None:
        """Set any declared option to what *value* means on a command line, a list's words together.

        It holds until a restart, for what reads the option from now on: a server has read its port.

        :raises TApplicationException: it may not, there is no such option, or no such value.
        """
        who = self._check_control("setOption")
        try:
            set_from_text(self.service, key, value)
        except SpartsError as error:
            raise _refusal(str(error)) from None
        now = self.getOption(key)  # which hides what is secret
        self.logger.info("Option %s set to %r by %s", key, now[:_WIDTH], who)

    # -- control ----------------------------------------------------------------------------------
    @_needs_thread
    def getCpuProfile(self, profileDurationInSec: int) -> str:
        """Where the process spends its time during so many seconds, 1 to 60; see ``profiler``.

        One at a time; a stop ends it early.

        :raises TApplicationException: it may not, it is too long, or another one is under way.
        """
        self._check_control("getCpuProfile")
        try:
            return profile(profileDurationInSec, self._stopping)
        except SpartsError as error:
            raise _refusal(str(error)) from None

    @_never_blocks
    def reinitialize(self) -> None:
        """Ask for a restart."""
        who = self._check_control("reinitialize")
        self.logger.info("%s asks for a restart", who)
        self.service.restart()

    @_never_blocks
    def shutdown(self) -> None:
        """Ask for a stop."""
        who = self._check_control("shutdown")
        self.logger.info("%s asks for a stop", who)
        self.service.shutdown()

    def _check_control(self, method: str) -> str:
        """Who calls, where they may; code in this process may always.

        :raises TApplicationException: they may not.
        """
        client = current_client()
        if client is None:
            return "this process"
        is_ours = client.kind == "unix" and client.uid in (0, os.geteuid())
        if not (is_ours or self.allow_control):
            self.control_refused.increment()
            raise _refusal(
                f"{method}() is refused {_where(client)}: start the service with "
                f"--{self._optionPrefix()}-allow-control, or call over a unix socket as its user"
            )
        return client.peer if client.uid is None else f"{client.peer} (user {client.uid})"


class _Counters:
    """The two methods whose names on a task mean the counters, not their values."""

    def __init__(self, task: VTask) -> None:
        self._task = task
        self._told: set[str] = set()

    @_needs_thread
    def getCounters(self) -> dict[str, int]:
        """The values of the service's counters by their dotted names, towards zero.

        What has no value that an i64 holds is left out: None, nan, or a text. So is a counter whose
        callback fails, which is logged the first time.
        """
        found = {}
        for name, each in self._task.service.getCounters().items():
            try:
                value = _as_i64(each())
            except Exception as error:
                self._tell(name, error)
                continue
            if value is not None:
                found[name] = value
        return found

    @_needs_thread
    def getCounter(self, key: str) -> int:
        """One of them; 0 where there is none of that name or no value, as fb303's tools expect."""
        each = self._task.service.getCounters().get(key)
        return 0 if each is None else _as_i64(each()) or 0

    def _tell(self, name: str, error: Exception) -> None:
        if name not in self._told:
            self._told.add(name)
            self._task.logger.warning("The counter %s fails; it is left out", name, exc_info=error)


def _as_i64(value: Any) -> int | None:
    """*value* as an i64 tells it; None where it cannot."""
    if value is None or isinstance(value, (str, bytes)):
        return None
    try:
        whole = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return whole if whole in _I64 else None


# -- the status -----------------------------------------------------------------------------------
def _condition(service: "VService") -> tuple[int, str]:
    """The fb_status of *service*, and the words to it."""
    life = service.lifecycle
    failed = f"{life.failure.source} failed; the log tells why" if life.failure else ""
    if life.ended:
        return (fb_status.DEAD, failed) if failed else (fb_status.STOPPED, "")
    if life.stop_requested:
        return fb_status.STOPPING, failed or ("for a restart" if service.restarting else "")
    if life.state is State.NEW:
        return fb_status.DEAD, "not started"
    tasks = [each for each in service.tasks if isinstance(each, VTask)]
    wrong = [line for each in tasks for line in _dead_threads(each)]
    wrong += service.getWarnings().values()
    if life.state is State.RUNNING and wrong:
        more = [f"and {len(wrong) - _TOLD} more"] if len(wrong) > _TOLD else []
        return fb_status.WARNING, "; ".join([each[:_WIDTH] for each in wrong[:_TOLD]] + more)
    waiting = [each.name for each in tasks if not each.isReady()]
    if life.state is not State.RUNNING or waiting:
        return fb_status.STARTING, f"not ready: {', '.join(waiting)}" if waiting else ""
    return fb_status.ALIVE, ""


def _dead_threads(task: VTask) -> Iterable[str]:
    """What to say of threads of *task* that have ended, though nobody asked for a stop."""
    threads = task.threads
    dead = [each.name for each in threads if each.ident is not None and not each.is_alive()]
    if dead:
        yield f"{task.name}: {len(dead)} of {len(threads)} threads ended ({', '.join(dead)})"


# -- refusals -------------------------------------------------------------------------------------
def _refusal(message: str) -> TApplicationException:
    return TApplicationException(TApplicationException.UNKNOWN, message[:_LONGEST])


def _where(client: Client) -> str:
    if client.kind != "unix":
        return f"over {client.kind.upper()}"
    return "to an unknown user" if client.uid is None else f"to user {client.uid}"

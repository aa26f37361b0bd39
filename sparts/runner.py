"""Runs a service from its start to its end, with a guard that keeps signals and the deadline.

The service is started, waited for and stopped in one thread (the main one, or one of its own after
``startBG``). A second thread, the guard, sleeps on a queue: signals and stop requests only put a
message there. So a signal is heard in every phase, also while a task hangs in its init, and
a stop that takes too long is ended from outside.
"""

import queue
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sparts.errors import LifecycleError, SpartsError, TaskError
from sparts.lastwords import PATIENCE, STATUS_OVERRUN, end_process, say
from sparts.lifecycle import State, exit_status
from sparts.logs import thread_stacks
from sparts.signals import Signals

if TYPE_CHECKING:
    from sparts.vservice import VService

__all__ = ["Runner"]

STATUS_INTERRUPTED = 128 + signal.SIGINT
_STOP, _ENDED, _DONE = "stop", "ended", "done"


class Runner:
    """Runs one service, and the fresh instances that restarts make of it, to the end."""

    def __init__(self, service: "VService", foreground: bool) -> None:
        """*foreground*: the process is the service's own, with its signals and its exit."""
        if service.lifecycle.state is not State.NEW or service.launched:
            raise LifecycleError(f"{service.name} was started before; make a new instance")
        service.launched = True
        self._service = service
        self._foreground = foreground
        self._ending = False
        self._status = 0
        self._mail: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._flow = threading.current_thread()
        self._guard = threading.Thread(
            target=self._watch, name=f"{service.name}-guard", daemon=True
        )

    def run(self) -> int:
        """Run in this thread until the end; the exit status."""
        self._flow = threading.current_thread()
        self._guard.start()
        with Signals(self._mail.put, self._foreground and self._service.REGISTER_SIGNAL_HANDLERS):
            self._run_all()
            self._mail.put(_DONE)
            self._guard.join()
        return self._status

    def start(self) -> threading.Thread:
        """Run in a thread of its own; the thread returned ends when the service has."""
        self._flow = threading.Thread(
            target=self._run_in_background, name=f"{self._service.name}-main", daemon=True
        )
        self._guard.start()
        self._flow.start()
        return self._guard

    def _run_in_background(self) -> None:
        try:
            self._run_all()
        finally:
            self._mail.put(_DONE)

    def _run_all(self) -> None:
        while True:
            old = self._service
            self._live(old)
            self._mail.put(_ENDED)
            self._status = old.exit_status
            if not old.restarting or self._is_ending() or not self._renew(old):
                return
            if self._is_ending() or not old.restarting:  # a stop came between the two instances
                self._service.stop()

    def _is_ending(self) -> bool:
        return self._ending

    def _renew(self, old: "VService") -> bool:
        """Put a fresh instance in the place of *old*; False if it cannot be made."""
        try:
            self._service = old.renew()
        except Exception as error:
            old.logger.error("Cannot restart", exc_info=error)
            self._status = exit_status(error)
            return False
        if self._foreground:
            try:
                self._service.initLogging()
            except SpartsError as error:
                self._service.logger.error("%s; the log goes on as it was", error)
        return True

    # -- one life, in the flow thread -------------------------------------------------------------
    def _live(self, service: "VService") -> None:
        service.lifecycle.on_stop_request(lambda: self._mail.put(_STOP))
        try:
            self._start(service)
            service.lifecycle.wait_for(lambda: service.lifecycle.stop_requested)
        except KeyboardInterrupt:  # where the signal handlers are not ours
            self._log_stop(service, "KeyboardInterrupt")
            service.stop()
        except BaseException as error:
            current = service.tasks.current
            service.fail(error, current[0].name if current else service.name)
        self._end(service)

    def _start(self, service: "VService") -> None:
        life = service.lifecycle

        def stopping() -> bool:
            return life.stop_requested

        if stopping():
            return
        life.move(State.STARTING)
        service.hooks.starting(service)
        if stopping():
            return
        service.tasks.create(service)
        service.initService()
        service.tasks.init(stopping)
        service.tasks.start(stopping, service.ready_timeout)
        if stopping():
            return
        life.move(State.RUNNING)
        service.logger.debug("All tasks started")
        service.hooks.started(service)

    def _end(self, service: "VService") -> None:
        life = service.lifecycle
        if life.ended:
            return
        life.move(State.STOPPING)
        service.hooks.stopping(service)
        service.tasks.end(lambda task, error: service.fail(error, task.name))
        service.hooks.stopped(service)
        if life.failure is None:
            service.logger.info("Instance shut down gracefully")
        else:
            service.logger.error(
                "Instance failed in %s; exit status %d", life.failure.source, life.failure.status
            )
        life.finish()

    # -- the guard --------------------------------------------------------------------------------
    def _watch(self) -> None:
        deadline: float | None = None
        interrupts = 0
        while True:
            try:
                mail = self._mail.get(timeout=deadline and max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return self._overrun()
            if mail is _DONE:
                break
            if mail is _STOP:
                deadline = time.monotonic() + self._service.stop_timeout
            elif mail is _ENDED:
                deadline = None
            else:
                interrupts += mail == signal.SIGINT
                if interrupts > 1:
                    self._exit(STATUS_INTERRUPTED, self._log_second)
                self._on_signal(mail)
        if self._flow is not threading.main_thread():
            self._flow.join(PATIENCE)
        return None

    def _on_signal(self, signum: int) -> None:
        logger = self._service.logger
        if signum == signal.SIGUSR1:
            say(lambda: logger.warning("SIGUSR1 Received!  Threads:\n%s", thread_stacks()))
        elif signum == signal.SIGHUP:
            say(lambda: logger.info("SIGHUP Received!  Restarting..."))
            self._service.restart()
        else:
            self._ending = True
            name = "KeyboardInterrupt" if signum == signal.SIGINT else signal.Signals(signum).name
            say(lambda: self._log_stop(self._service, name))
            self._service.stop()

    def _log_stop(self, service: "VService", why: str) -> None:
        service.logger.info("%s Received!  Stopping Tasks...", why)

    def _log_second(self) -> None:
        self._service.logger.error("Second KeyboardInterrupt; ending at once")

    def _overrun(self) -> None:
        service = self._service
        if self._foreground:
            self._exit(STATUS_OVERRUN, lambda: self._report(service))
        say(lambda: self._report(service))
        life = service.lifecycle
        life.fail("the stop", TaskError(f"not done within {service.stop_timeout:g} s"))
        if life.state is not State.STOPPING:
            life.move(State.STOPPING)
        life.finish()

    def _report(self, service: "VService") -> None:
        current = service.tasks.current
        busy = current[0] if current else None
        alive = [task for task in service.tasks if task is busy or getattr(task, "running", False)]
        service.logger.error(
            "Still not stopped after %g s (--stop-timeout): %s",
            service.stop_timeout,
            ", ".join(task.name for task in alive) or "no task, but a hook or the service itself",
        )
        for task in alive:
            stack = task.stacks()
            if current and task is current[0] and (current[1] != "join" or not stack):
                stack += f"In {task.name}.{current[1]}(), {self._flow_stack()}"
            service.logger.error("%s is still alive after %.1f s\n%s", task.name, task.age, stack)
        if not alive:
            service.logger.error("%s", self._flow_stack())

    def _flow_stack(self) -> str:
        return thread_stacks([self._flow])

    def _exit(self, status: int, speak: Callable[[], None]) -> None:
        def last_words() -> None:
            speak()
            self._service.hooks.stopped(self._service)

        end_process(status, last_words)

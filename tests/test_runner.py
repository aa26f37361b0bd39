"""The runner: a service as a process of its own, under signals, failures and deadlines."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import IO

import pytest

PRELUDE = """
import os, sys, threading, time
from sparts.vservice import VService
from sparts.vtask import VTask

class Loop(VTask):
    def initTask(self):
        super().initTask()
        self.stopped = threading.Event()
    def _runloop(self):
        self.stopped.wait()
    def stop(self):
        self.stopped.set()

class Hang(VTask):
    def _runloop(self):
        threading.Event().wait()
"""
STARTED = "All tasks started"


class Program:
    """A service program in a process of its own; what it logs is read line by line."""

    def __init__(self, code: str, *argv: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(code), *argv],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.stderr: IO[str] = self.process.stderr
        self.log = ""

    def expect(self, text: str) -> str:
        """Read until a line with *text*; fail at the end of the log."""
        for line in self.stderr:
            self.log += line
            if text in line:
                return line
        raise AssertionError(f"{text!r} never came in:\n{self.log}")

    def kill(self, signum: int) -> None:
        self.process.send_signal(signum)

    def end(self) -> int:
        """The exit status, once the process has ended by itself."""
        self.log += self.stderr.read()
        return self.process.wait(10)


Run = Callable[..., Program]


@pytest.fixture
def run() -> Iterator[Run]:
    programs: list[Program] = []

    def start(code: str, *argv: str) -> Program:
        programs.append(Program(code, *argv))
        return programs[-1]

    yield start
    for program in programs:
        program.process.kill()
        program.process.wait()
        program.stderr.close()


EMPTY = """
class MyService(VService):
    pass
MyService.initFromCLI()
print("returned", file=sys.stderr)
"""


def test_interrupt_is_a_graceful_end(run: Run) -> None:
    """^C: the contract's three lines, initFromCLI returns, exit status 0."""
    program = run(EMPTY)
    program.expect(STARTED)
    program.kill(signal.SIGINT)
    assert 0 == program.end()
    assert [
        "DEBUG:MyService:All tasks started",
        "INFO:MyService:KeyboardInterrupt Received!  Stopping Tasks...",
        "INFO:MyService:Instance shut down gracefully",
        "returned",
    ] == program.log.splitlines()


def test_terminate_twice_is_a_graceful_end(run: Run) -> None:
    """SIGTERM names itself; a second one while it stops changes nothing."""
    program = run(
        """
        class Slow(Loop):
            def join(self):
                time.sleep(0.2)
        class MyService(VService):
            ALL_TASKS = [Slow]
        MyService.initFromCLI()
        """
    )
    program.expect(STARTED)
    program.kill(signal.SIGTERM)
    program.expect("INFO:MyService:SIGTERM Received!  Stopping Tasks...")
    program.kill(signal.SIGTERM)
    assert 0 == program.end()
    assert "Instance shut down gracefully" in program.log


HANGING = """
class MyService(VService):
    ALL_TASKS = [Hang, Loop]
MyService.initFromCLI()
"""


def test_second_interrupt_ends_at_once(run: Run) -> None:
    """A second ^C does not wait for a task that hangs."""
    program = run(HANGING)
    program.expect(STARTED)
    program.kill(signal.SIGINT)
    program.expect("KeyboardInterrupt Received!")
    program.kill(signal.SIGINT)
    assert 130 == program.end()
    assert "ending at once" in program.log


def test_overrun_names_task_and_stack(run: Run) -> None:
    """Past --stop-timeout the task still alive is logged with its stack; the status is 70."""
    program = run(HANGING, "--stop-timeout", "0.2")
    program.expect(STARTED)
    program.kill(signal.SIGTERM)
    assert 70 == program.end()
    assert "Still not stopped after 0.2 s (--stop-timeout): Hang\n" in program.log
    assert "Hang is still alive after" in program.log
    assert "in _runloop" in program.log


@pytest.mark.parametrize("how", ["sleep", "compute"])
def test_signal_during_a_hanging_init(run: Run, how: str) -> None:
    """SIGTERM while a task's init hangs ends the process by the deadline, and says where it was."""
    program = run(
        f"""
        class Stuck(VTask):
            LOOPLESS = True
            def initTask(self):
                super().initTask()
                self.logger.info("here")
                while True:
                    {"time.sleep(1000)" if how == "sleep" else "pass"}
        class MyService(VService):
            ALL_TASKS = [Loop, Stuck]
        MyService.initFromCLI()
        """,
        "--stop-timeout",
        "0.2",
    )
    program.expect("here")
    program.kill(signal.SIGTERM)
    assert 70 == program.end()
    assert "In Stuck.initTask()" in program.log


def test_signal_during_init_starts_no_more(run: Run) -> None:
    """SIGTERM during an init that returns ends gracefully, with nothing started."""
    program = run(
        """
        class Asks(VTask):
            LOOPLESS = True
            def initTask(self):
                super().initTask()
                self.logger.info("here")
                sys.stdin.read(1)
        class MyService(VService):
            ALL_TASKS = [Asks, Loop]
        import signal
        r, w = os.pipe()
        sys.stdin = os.fdopen(r)
        old = VService.stop
        def stop(self):
            old(self)
            os.write(w, b"xx")
        MyService.stop = stop
        MyService.initFromCLI()
        """
    )
    program.expect("here")
    program.kill(signal.SIGTERM)
    assert 0 == program.end()
    assert STARTED not in program.log
    assert "Instance shut down gracefully" in program.log


@pytest.mark.parametrize(
    ("raised", "status"),
    [("ValueError('x')", 1), ("SystemExit(7)", 7), ("SystemExit()", 1), ("GeneratorExit()", 1)],
)
def test_a_failing_thread_is_the_exit_status(run: Run, raised: str, status: int) -> None:
    """What a worker raises ends the process with a status that tells, all others stopped."""
    program = run(
        f"""
        class Bad(VTask):
            def _runloop(self):
                raise {raised}
        class MyService(VService):
            ALL_TASKS = [Loop, Bad]
        MyService.initFromCLI()
        """
    )
    assert status == program.end()
    assert "Unhandled exception in Bad" in program.log
    assert f"Instance failed in Bad; exit status {status}" in program.log


def test_hangup_restarts_with_the_same_options(run: Run) -> None:
    """SIGHUP makes a fresh instance with the options of the command line, logging included."""
    program = run(EMPTY, "--level", "debug")
    program.expect(STARTED)
    program.kill(signal.SIGHUP)
    program.expect("SIGHUP Received!  Restarting...")
    program.expect("Instance shut down gracefully")
    program.expect(STARTED)
    program.kill(signal.SIGINT)
    assert 0 == program.end()
    assert 1 == program.log.count("returned")


def test_usr1_logs_every_thread(run: Run) -> None:
    """SIGUSR1 logs the stacks of all threads, and the service goes on."""
    program = run(
        """
        class MyService(VService):
            ALL_TASKS = [Loop]
        MyService.initFromCLI()
        """
    )
    program.expect(STARTED)
    program.kill(signal.SIGUSR1)
    program.expect("SIGUSR1 Received!")
    program.kill(signal.SIGTERM)
    assert 0 == program.end()
    for thread in ("MainThread", "Loop", "MyService-guard"):
        assert f"Thread {thread}:\n" in program.log
    assert "in _runloop" in program.log


def test_a_signal_that_another_thread_gets_is_heard(run: Run) -> None:
    """Where the system hands SIGTERM to a task's thread, the main thread waits on, and it ends."""
    program = run(
        """
        import signal
        class Gets(Loop):
            def _runloop(self):
                self.service.waitReady()
                signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
                super()._runloop()
        class MyService(VService):
            ALL_TASKS = [Gets]
        MyService.initFromCLI()
        """
    )
    assert 0 == program.end()
    assert "SIGTERM Received!  Stopping Tasks..." in program.log


def test_log_file_is_opened_anew(run: Run, tmp_path: os.PathLike[str]) -> None:
    """After a rotation SIGHUP lets the old file go and writes a new one."""
    path = os.path.join(tmp_path, "log")
    program = run(EMPTY + "\n", "--logfile", path)
    _wait_for(path, STARTED)
    os.rename(path, path + ".1")
    program.kill(signal.SIGHUP)
    _wait_for(path, STARTED)
    program.kill(signal.SIGTERM)
    assert 0 == program.end()
    assert "SIGHUP" in _read(path + ".1")
    assert "shut down gracefully" in _read(path)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _wait_for(path: str, text: str) -> None:
    from sparts.timer import run_until_true

    run_until_true(lambda: text in _read(path), 10)
    assert text in _read(path)


def test_signals_left_alone(run: Run) -> None:
    """Without signal handlers of ours ^C is Python's own, and still a graceful end."""
    program = run(
        """
        class MyService(VService):
            REGISTER_SIGNAL_HANDLERS = False
            ALL_TASKS = [Loop]
        MyService.initFromCLI()
        """
    )
    program.expect(STARTED)
    program.kill(signal.SIGINT)
    assert 0 == program.end()
    assert "KeyboardInterrupt Received!  Stopping Tasks..." in program.log
    assert "Traceback" not in program.log


def test_background_touches_no_signal() -> None:
    """startBG leaves the process's signal handlers as they are."""
    import argparse

    from sparts.vservice import VService

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    before = [signal.getsignal(each) for each in signals]
    service = VService(argparse.Namespace())
    thread = service.startBG()
    assert service.waitReady(10)
    assert before == [signal.getsignal(each) for each in signals]
    service.stop()
    thread.join(10)
    assert service.join(10)


def test_handlers_come_back(run: Run) -> None:
    """After initFromCLI has returned the program has its own signal handlers again."""
    program = run(
        """
        import signal
        mine = lambda *_: None
        signal.signal(signal.SIGTERM, mine)
        VService.initFromCLI()
        print("same" if signal.getsignal(signal.SIGTERM) is mine else "other", file=sys.stderr)
        """
    )
    program.expect(STARTED)
    program.kill(signal.SIGTERM)
    assert 0 == program.end()
    assert program.log.endswith("same\n")


def test_an_idle_service_does_not_wake_up(run: Run) -> None:
    """A service with a waiting task makes not one context switch in a second."""
    program = run(
        """
        class MyService(VService):
            ALL_TASKS = [Loop]
        MyService.initFromCLI()
        """
    )
    program.expect(STARTED)
    pid = program.process.pid
    _settle(pid)
    before = _switches(pid)
    with pytest.raises(subprocess.TimeoutExpired):
        program.process.wait(1.0)
    assert before == _switches(pid)


def _settle(pid: int) -> None:
    """Wait until every thread of the process sleeps."""
    from sparts.timer import run_until_true

    def asleep() -> bool:
        base = f"/proc/{pid}/task"
        return all(_read(f"{base}/{t}/stat").split(") ")[1][0] == "S" for t in os.listdir(base))

    run_until_true(asleep, 10)


def _switches(pid: int) -> int:
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        for line in _read(f"/proc/{pid}/task/{thread}/status").splitlines():
            if "ctxt_switches" in line:
                total += int(line.split()[1])
    return total


def test_a_stuck_log_does_not_hold_up_the_end(run: Run) -> None:
    """With a stderr that nobody reads, SIGTERM still ends the process by its deadline."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    code = (
        PRELUDE
        + """
class MyService(VService):
    ALL_TASKS = [Loop]
    DEFAULT_LOGLEVEL = "INFO"
    def initService(self):
        os.close(int(sys.argv.pop()))
sys.argv, started = sys.argv[:-1], sys.argv[-1:]
VService.initService = lambda self: os.close(int(started[0]))
del MyService.initService
MyService.initFromCLI()
"""
    )
    alive, started = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--stop-timeout", "0.3", str(started)],
        stderr=writer,
        pass_fds=[started],
    )
    os.close(started)
    os.read(alive, 1)  # at its end the service starts
    process.send_signal(signal.SIGTERM)
    try:
        assert 70 == process.wait(10)
    finally:
        process.kill()
        process.wait()
        for descriptor in (reader, writer, alive):
            os.close(descriptor)


def test_a_thread_of_the_program_does_not_hold_up_the_end(run: Run) -> None:
    """A thread that is no daemon and never ends is named, and the process ended with 70."""
    program = run(
        """
        class Starts(Loop):
            def start(self):
                super().start()
                threading.Thread(target=threading.Event().wait, name="forgotten").start()
        class MyService(VService):
            ALL_TASKS = [Starts]
        MyService.initFromCLI()
        """,
        "--stop-timeout",
        "0.2",
    )
    program.expect(STARTED)
    program.kill(signal.SIGTERM)
    assert 70 == program.end()
    assert "shut down gracefully" in program.log
    assert "not the process, after 0.2 s (--stop-timeout): forgotten" in program.log


def test_a_forked_child_has_its_signals_back(run: Run) -> None:
    """A child that a task forks dies of SIGTERM, as any process does."""
    program = run(
        """
        import signal
        class Forks(Loop):
            def _runloop(self):
                reader, writer = os.pipe()
                pid = os.fork()
                if pid == 0:
                    os.write(writer, b"x")
                    time.sleep(60)
                    os._exit(0)
                os.read(reader, 1)
                os.kill(pid, signal.SIGTERM)
                self.logger.info("child: %s", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        class MyService(VService):
            ALL_TASKS = [Forks]
        MyService.initFromCLI()
        """
    )
    assert "child: -15" in program.expect("child:")
    program.kill(signal.SIGTERM)
    assert 0 == program.end()


def test_a_restart_survives_a_log_that_is_gone(run: Run, tmp_path: os.PathLike[str]) -> None:
    """SIGHUP with a log file that cannot be opened anew says so in the old one, and goes on."""
    folder = os.path.join(tmp_path, "logs")
    os.mkdir(folder)
    path = os.path.join(folder, "log")
    program = run(EMPTY, "--logfile", path)
    _wait_for(path, STARTED)
    os.rename(folder, folder + ".old")
    old = os.path.join(folder + ".old", "log")
    program.kill(signal.SIGHUP)
    _wait_for(old, "the log goes on as it was")
    program.kill(signal.SIGTERM)
    assert 0 == program.end()
    assert 2 == _read(old).count("shut down gracefully")


def test_late_signals_change_nothing(run: Run) -> None:
    """SIGTERM again and again while the process ends does not turn a graceful end into a death."""
    program = run(
        """
        class MyService(VService):
            pass
        MyService.initFromCLI()
        import atexit
        atexit.register(lambda: None)
        """
    )
    program.expect(STARTED)
    program.kill(signal.SIGTERM)
    program.expect("shut down gracefully")
    while program.process.poll() is None:
        program.kill(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.process.wait(0.005)
    assert 0 == program.end()

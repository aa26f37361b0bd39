"""The testing kit: what it starts, what it waits for, and what it fails a test for."""

import asyncio
import os
import pathlib
import subprocess
import sys
import textwrap
import threading
import unittest
from collections.abc import Callable
from typing import Any

import pytest

from sparts.options import option
from sparts.testing import (
    BaseSpartsTestCase,
    LeakError,
    MultiTaskTestCase,
    ServiceFailed,
    ServiceTestCase,
    SingleTaskTestCase,
    no_leaks,
    running,
)
from sparts.vservice import VService
from sparts.vtask import VTask

DEADLINE = 10.0


class Loop(VTask):
    """Runs until it is stopped."""

    port: int = option(type=int, default=8000)
    peer_port: int = option(type=int, default=8001)
    debug_port: int | None = option(type=int)
    important: str = option(type=str, default="x")

    def initTask(self) -> None:
        super().initTask()
        self.stopped = threading.Event()

    def _runloop(self) -> None:
        self.stopped.wait()

    def stop(self) -> None:
        super().stop()
        self.stopped.set()


class Second(Loop):
    DEPS = [Loop]


class Looping(VService):
    ALL_TASKS = [Loop]
    DEFAULT_PORT = 9000
    DEFAULTS = {"Loop_port": 9000}
    admin_port: int = option(type=int, default=9001)


class Fails(Loop):
    """Fails when it is told to."""

    def _runloop(self) -> None:
        super()._runloop()
        raise OSError("no luck")


# -- running ------------------------------------------------------------------------------------
def test_running_gives_a_ready_service() -> None:
    """The block has the service when it is ready; after it the service has ended."""
    with running(Looping) as service:
        assert service.isReady()
        assert isinstance(service, Looping)
        assert service.requireTask(Loop).running
    assert service.join(0)
    assert 0 == service.exit_status


@pytest.mark.parametrize("target", [Second, [Loop, Second], (Second,)])
def test_running_takes_tasks(target: Any) -> None:
    """A task, or several, run in a service made for them, with what they depend on."""
    with running(target) as service:
        assert ["Loop", "Second"] == [task.name for task in service.tasks]


def test_running_wants_tasks() -> None:
    """What is neither a service class nor a task class is named."""
    with pytest.raises(TypeError, match="'Loop' is no VTask class"), running(["Loop"]):  # type: ignore[list-item]
        pass


def test_ports_are_free_ones_unless_given() -> None:
    """Options that are ports and have a default are 0, those on the command line what it says."""
    with running(Looping, "--Loop-peer-port", 7777) as service:
        task = service.requireTask(Loop)
        assert (0, 7777, None, "x") == (
            task.port,
            task.peer_port,
            task.debug_port,
            task.important,
        )
        assert 0 == service.admin_port


def test_a_failing_start_raises_the_failure() -> None:
    """A start that fails raises an error that names the task, caused by what the task raised."""

    class Bad(Loop):
        def initTask(self) -> None:
            raise ValueError("no luck")

    with pytest.raises(ServiceFailed, match=r"Bad failed: ValueError\('no luck'\)") as caught:
        running(Bad).__enter__()
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_start_that_hangs_is_given_up() -> None:
    """A service that is not ready in time is stopped, and the error names who was waited for."""

    class Never(Loop):
        AUTO_READY = False

    with (
        pytest.raises(ServiceFailed, match=r"not ready within 0.05 s; it waited for Never$"),
        running([Loop, Never], timeout=0.05),
    ):
        pass


def test_a_failure_in_the_block_raises() -> None:
    """A service that fails while the block runs fails the block, though the block went well."""
    with pytest.raises(ServiceFailed, match="Fails failed: OSError"), running(Fails) as service:
        service.requireTask(Fails).stopped.set()
        assert service.join(DEADLINE)


def test_the_blocks_own_failure_comes_first() -> None:
    """What the block raises passes, with a note of the service's failure."""
    with pytest.raises(KeyError) as caught, running(Fails) as service:
        service.requireTask(Fails).stopped.set()
        service.join(DEADLINE)
        raise KeyError("mine")
    assert ["The service failed too: Fails: OSError('no luck')"] == caught.value.__notes__
    assert service.join(0)


def test_a_restarted_service_is_ended_too() -> None:
    """After a restart it is the fresh instance that is ended."""
    fresh = threading.Semaphore(0)

    class Restarts(VService):
        def initService(self) -> None:
            fresh.release()

    with running(Restarts) as service:
        assert fresh.acquire(timeout=DEADLINE)
        service.restart()
        assert fresh.acquire(timeout=DEADLINE)


def test_a_restart_at_the_end_is_ended_too() -> None:
    """A restart that is still under way when the block ends leaves nothing running."""
    with running(Looping) as service:
        service.restart()


def test_a_wrong_command_line_ends_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong flag is told on stderr, and exits 2, before anything starts."""
    with pytest.raises(SystemExit, match="2"):
        running(Looping, "--no-such").__enter__()
    assert "unrecognized arguments: --no-such" in capsys.readouterr().err


# -- leaks --------------------------------------------------------------------------------------
def test_a_leaked_thread_is_named() -> None:
    """A thread that outlives the wait is named, with where it stands."""
    release = threading.Event()
    thread = threading.Thread(target=lambda: release.wait(DEADLINE), name="stray")
    with (
        pytest.raises(LeakError, match=r"(?s)thread 'stray', alive at\n.*release\.wait"),
        no_leaks(timeout=0.01),
    ):
        thread.start()
    with no_leaks(timeout=0.01, ignore=["st*"]):
        threading.Thread(target=lambda: release.wait(DEADLINE), name="stray").start()
    release.set()
    thread.join()


def test_a_thread_that_ends_in_time_is_no_leak() -> None:
    """A thread is waited for."""
    release = threading.Event()
    ended: list[str] = []

    def run() -> None:
        release.wait(DEADLINE)
        ended.append("yes")

    with no_leaks():
        threading.Thread(target=run).start()
        threading.Timer(0.05, release.set).start()
    assert ["yes"] == ended


def test_a_leaked_descriptor_is_named() -> None:
    """An open file is told by its path, a socket by its address."""
    import socket

    with pytest.raises(LeakError, match=r"file descriptor \d+: /dev/zero"), no_leaks():
        number = os.open("/dev/zero", os.O_RDONLY)
    os.close(number)
    with (
        pytest.raises(LeakError, match=r"socket:\[\d+\] \('127.0.0.1', \d+\)"),
        no_leaks(),
    ):
        listening = socket.create_server(("127.0.0.1", 0))
    listening.close()


def test_a_leaked_asyncio_task_is_named() -> None:
    """A task of any loop that is not done is told by its name and coroutine."""

    async def waits() -> None:
        await asyncio.Event().wait()

    loop = asyncio.new_event_loop()
    with pytest.raises(LeakError, match=r"asyncio task 'stray', pending: .*waits"), no_leaks():
        task = loop.create_task(waits(), name="stray")
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()


def test_what_the_first_uvloop_opens_is_no_leak() -> None:
    """The pipe that libuv opens once in a process, and keeps, is not the block's."""
    pytest.importorskip("uvloop")
    code = """
        from sparts.testing import no_leaks
        with no_leaks():
            import uvloop
            uvloop.new_event_loop().close()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=DEADLINE)


def test_what_was_there_before_is_no_leak() -> None:
    """Only what is new counts, and what the block closed does not."""
    read, write = os.pipe()
    with no_leaks():
        inner = os.pipe()
        for each in inner:
            os.close(each)
    os.close(read)
    os.close(write)


def test_an_exception_passes_a_leak() -> None:
    """What the block raises is not hidden by what it left."""
    with pytest.raises(KeyError), no_leaks():
        number = os.open("/dev/zero", os.O_RDONLY)
        raise KeyError
    os.close(number)


def test_running_finds_leaks() -> None:
    """What a task does not give back fails the block that ran it."""
    opened: list[int] = []

    class Opens(Loop):
        def initTask(self) -> None:
            super().initTask()
            opened.append(os.open("/dev/zero", os.O_RDONLY))

    with pytest.raises(LeakError, match="/dev/zero"), running(Opens):
        pass
    with running(Opens, check_leaks=False):
        pass
    for number in opened:
        os.close(number)


# -- the fixtures -------------------------------------------------------------------------------
FIXTURES = """
import os
from sparts.vservice import VService
from sparts.vtask import VTask

class Good(VTask):
    LOOPLESS = True

class Bad(VTask):
    LOOPLESS = True
    def initTask(self):
        raise ValueError("no luck")

def test_two(sparts_service):
    first, second = sparts_service(Good), sparts_service([Good], "--level", "INFO")
    assert first.isReady() and second.isReady() and second.level == "INFO"

def test_fails(sparts_service):
    sparts_service(Bad)

def test_leaks(sparts_service):
    os.open("/dev/zero", os.O_RDONLY)

def test_alone(sparts_no_leaks):
    os.open("/dev/null", os.O_RDONLY)
"""

IGNORING = """
import os
import pytest

@pytest.fixture
def sparts_ignored_leaks():
    return ["/dev/*"]

def test_leaks(sparts_service):
    os.open("/dev/zero", os.O_RDONLY)
"""

SKIPPED = """
from sparts.tests.base import BaseSpartsTestCase, Skip

raise Skip("no such library here")
"""


def command(folder: pathlib.Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run python in *folder*, with the plugin and without any other."""
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)), COLUMNS="100")
    env.update(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTEST_PLUGINS="sparts.testing.plugin")
    env.pop("CI", None)
    words = (sys.executable, "-m", *words)
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=15)


def test_the_fixtures(tmp_path: pathlib.Path) -> None:
    """The fixtures start services, and fail the tests that fail to start or leave things behind."""
    tmp_path.joinpath("test_kit.py").write_text(FIXTURES, encoding="utf-8")
    tmp_path.joinpath("test_ignoring.py").write_text(IGNORING, encoding="utf-8")
    done = command(tmp_path, "pytest", "-q", "-p", "no:cacheprovider")
    assert "1 failed, 4 passed, 2 errors" in done.stdout
    assert "ServiceFailed: Bad failed: ValueError('no luck')" in done.stdout
    assert "/dev/zero" in done.stdout
    assert "/dev/null" in done.stdout


@pytest.mark.parametrize(
    ("runner", "said"), [("pytest -q -rs", "1 skipped"), ("unittest discover", "(skipped=1)")]
)
def test_skip_at_import(tmp_path: pathlib.Path, runner: str, said: str) -> None:
    """Skip, raised while a test module is imported, skips the module with its reason."""
    tmp_path.joinpath("test_kit.py").write_text(SKIPPED, encoding="utf-8")
    done = command(tmp_path, *runner.split())
    assert said in done.stdout + done.stderr
    assert "FAILED" not in done.stderr
    assert "no such library here" in done.stdout + done.stderr or "unittest" in runner


def test_the_plugin_is_light(tmp_path: pathlib.Path) -> None:
    """A test run that uses no fixture of ours imports the plugin and nothing else of sparts."""
    code = """
    import sys

    def test_it():
        names = {name for name in sys.modules if name.partition(".")[0] == "sparts"}
        assert names == {"sparts", "sparts.testing", "sparts.testing.plugin"}
    """
    tmp_path.joinpath("test_light.py").write_text(textwrap.dedent(code), encoding="utf-8")
    done = command(tmp_path, "pytest", "-q", "-p", "no:cacheprovider")
    assert "1 passed" in done.stdout, done.stdout


# -- unittest -----------------------------------------------------------------------------------
def outcome(case: type[unittest.TestCase]) -> list[str]:
    """Run the case; the last lines of what failed, one for each failure or error."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert 0 < result.testsRun
    return [text.strip() for _, text in result.failures + result.errors]


class TestService(ServiceTestCase):
    """A case of a service has it running, with the arguments that it gives."""

    def getServiceClass(self) -> type[VService]:
        return Looping

    def getCreateArgs(self) -> list[str]:
        return ["--level", "INFO"]

    def test_it_runs(self) -> None:
        """The service is ready, and its runloop is what ends with it."""
        assert self.service.isReady()
        assert "INFO" == self.service.level
        assert 0 == self.requireTask(Loop).port
        assert self.runloop.is_alive()
        self.service.stop()
        self.runloop.join(DEADLINE)
        assert not self.runloop.is_alive()


class TestTasks(MultiTaskTestCase):
    """A case of tasks runs them in one service."""

    TASKS = [Loop, Second]

    def test_they_run(self) -> None:
        """Both are there."""
        assert self.requireTask(Second).running
        assert "TestService" == self.service.name


class TestTask(SingleTaskTestCase):
    """A case of one task has it as self.task."""

    TASK = Second

    def test_it_runs(self) -> None:
        """It is the running one."""
        assert self.task is self.service.requireTask(Second)
        with self.mock.patch.object(self.task, "stop_now", create=True) as stop_now:
            self.task.stop_now()
        stop_now.assert_called_once_with()


class TestExpectedFailure(SingleTaskTestCase):
    """A test may be about a failure."""

    TASK = Fails

    def test_it(self) -> None:
        """The failure that was expected fails nothing."""
        self.expectFailure()
        self.task.stopped.set()


class TestAssertions(BaseSpartsTestCase):
    """Each assertion passes what it says and fails its opposite, naming the value."""

    def test_each(self) -> None:
        """All of them."""
        here = os.path.dirname(__file__)
        nowhere = os.path.join(here, "no such file")
        pairs: list[tuple[Callable[..., None], tuple[Any, ...], tuple[Any, ...], str]] = [
            (self.assertNotNone, (0,), (None,), "None"),
            (self.assertEmpty, ([],), ([1],), r"\[1\] is not empty"),
            (self.assertNotEmpty, ({1: 2},), ("",), "'' is empty"),
            (self.assertExists, (here,), (nowhere,), "no such file' does not exist"),
            (self.assertNotExists, (nowhere,), (here,), "exists"),
            (self.assertContains, (1, [1]), (2, [1]), "2 not found"),
            (self.assertNotContains, (2, [1]), (1, [1]), "1 unexpectedly found"),
        ]
        for check, passing, failing, said in pairs:
            check(*passing)
            with pytest.raises(AssertionError, match=said):
                check(*failing)
            with pytest.raises(AssertionError, match="why"):
                check(*failing, "why")


def test_what_fails_a_case() -> None:
    """A failing start, a failure while it runs, an expected one that does not come, and a leak."""

    class Bad(Loop):
        def initTask(self) -> None:
            raise ValueError("no luck")

    class Starts(SingleTaskTestCase):
        TASK = Bad

        def test(self) -> None:
            pass

    class Ends(SingleTaskTestCase):
        TASK = Fails

        def test(self) -> None:
            self.task.stopped.set()

    class Expects(SingleTaskTestCase):
        TASK = Loop

        def test(self) -> None:
            self.expectFailure()

    class Leaks(BaseSpartsTestCase):
        def test(self) -> None:
            leaked.append(os.open("/dev/zero", os.O_RDONLY))

    class Ignores(Leaks):
        IGNORE_LEAKS = ["/dev/z*"]

    class Unchecked(Leaks):
        CHECK_LEAKS = False

    leaked: list[int] = []
    for case, said in {
        Starts: "ServiceFailed: Bad failed: ValueError('no luck')",
        Ends: "ServiceFailed: Fails failed: OSError('no luck')",
        Expects: "was expected to fail, and did not",
        Leaks: "/dev/zero",
    }.items():
        (text,) = outcome(case)
        assert said in text
    assert [] == outcome(Ignores) == outcome(Unchecked)
    for number in leaked:
        os.close(number)


def test_a_setup_without_super_is_told() -> None:
    """Asking for the service before super().setUp() says so."""

    class Early(SingleTaskTestCase):
        TASK = Loop

        def setUp(self) -> None:
            self.addCleanup(lambda: self.service)

        def test(self) -> None:
            pass

    assert "call super().setUp() in Early" in outcome(Early)[0]


def test_the_old_name() -> None:
    """sparts.tests.base gives the same classes, and sparts.tests.dummy nothing."""
    import sparts.tests.base
    import sparts.tests.dummy

    assert sparts.tests.base.SingleTaskTestCase is SingleTaskTestCase
    assert [] == [name for name in vars(sparts.tests.dummy) if not name.startswith("__")]

"""Daemons, as real processes: how they come, how they end, and who is never signalled."""

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sparts
import sparts.daemon
from sparts.errors import MissingExtra
from sparts.fileutils import NamedTemporaryDirectory
from sparts.ops import daemon
from sparts.ops.pidfile import AlreadyRunning, Holder, PidFile
from sparts.ops.process import Process, start_of
from sparts.timer import run_until_true

DEADLINE = 15.0
LOGGER = logging.getLogger("service")
SOURCE = str(Path(sparts.__file__).parents[1])

PRELUDE = """
import json, logging, os, signal, sys
from sparts.errors import SpartsError
from sparts.ops.daemon import daemonize, started
logger = logging.getLogger("service")

def log_to(path):
    logging.basicConfig(filename=path, level="INFO")

def until_killed():
    signal.pause()

def facts():
    '''What the daemon is, in the file "facts".'''
    known = {
        "pid": os.getpid(), "sid": os.getsid(0), "umask": os.umask(0), "cwd": os.getcwd(),
        "streams": [os.readlink(f"/proc/self/fd/{n}") for n in range(3)],
        "descriptors": len(os.listdir("/proc/self/fd")) - 1,
    }
    with open("facts.new", "w") as file:
        json.dump(known, file)
    os.rename("facts.new", "facts")
    signal.pause()
"""
SERVICE = """
import threading
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

class MyService(VService):
    ALL_TASKS = [Loop]
"""

Done = subprocess.CompletedProcess[str]


class Place:
    """A directory where programs are run that become daemons with the pidfile ``pid``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pidfile = path / "pid"

    def command(self, code: str, *argv: str) -> dict[str, Any]:
        program = PRELUDE + textwrap.dedent(code)
        environment = {**os.environ, "PYTHONPATH": SOURCE, "PYTHONWARNINGS": "error"}
        return {
            "args": [sys.executable, "-c", program, *argv],
            "cwd": self.path,
            "env": environment,
            "text": True,
        }

    def run(self, code: str, *argv: str, **options: Any) -> Done:
        """Run the program; it returns when all that holds its output has ended or left it."""
        return subprocess.run(
            **{**self.command(code, *argv), "capture_output": True, "timeout": DEADLINE, **options}
        )

    def start(self, code: str, *argv: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            **self.command(code, *argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def launch(self, code: str, *argv: str) -> Process:
        """Run the program and give the daemon that it has become."""
        done = self.run(code, *argv)
        assert ("", 0) == (done.stderr, done.returncode)
        return self.process()

    def process(self) -> Process:
        holder = PidFile(self.pidfile).read()
        assert holder is not None
        process = holder.process()
        assert process is not None
        return process

    def await_path(self, name: str) -> Path:
        """The path of the file *name*, once it is there."""
        assert run_until_true((self.path / name).exists, DEADLINE), f"{name} never came"
        return self.path / name

    def await_file(self, name: str) -> str:
        """The content of the file *name*, once it is there."""
        return self.await_path(name).read_text()

    def files(self) -> set[str]:
        return set(os.listdir(self.path))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place whose daemon, if one is left, is ended after the test."""
    made = Place(tmp_path)
    yield made
    holder = PidFile(made.pidfile).read() if made.pidfile.is_file() else None
    process = holder.process() if holder and holder.start else None
    if process is not None:
        with process:
            process.signal(signal.SIGKILL)
            process.wait(DEADLINE)


def end(process: Process, signum: int = signal.SIGTERM) -> None:
    """Signal *process* and wait for its end."""
    with process:
        process.signal(signum)
        assert process.wait(DEADLINE)


PLAIN = "daemonize(until_killed, 'service', 'pid', logger)"


# -- becoming one ---------------------------------------------------------------------------------
def test_daemon_and_its_end(place: Place) -> None:
    """The launching process ends with 0 once the pidfile is held; it goes when the daemon does."""
    process = place.launch(PLAIN)
    assert daemon.status(str(place.pidfile), LOGGER)
    assert process.pid == daemon.read_pid(str(place.pidfile), LOGGER)
    end(process)
    assert set() == place.files()


def test_what_a_daemon_is(place: Place) -> None:
    """A session of its own without terminal, /dev/null as its streams, directory and umask kept."""
    with place.launch(
        "os.umask(0o027); kept = open('other', 'w')\ndaemonize(facts, 'service', 'pid', logger)"
    ) as process:
        facts = json.loads(place.await_file("facts"))
        assert process.pid == facts["pid"]
        assert facts["sid"] not in (facts["pid"], os.getsid(0))  # so it can take no terminal either
        assert str(place.path) == facts["cwd"]
        assert 0o027 == facts["umask"]
        assert ["/dev/null"] * 3 == facts["streams"]
        assert 3 == facts["descriptors"]
        assert 0o644 == place.pidfile.stat().st_mode & 0o777
        end(process)


def test_nothing_is_done_twice(place: Place) -> None:
    """What was printed before comes once, and what was to be done at exit is the daemon's to do."""
    done = place.run(
        """
        import atexit
        atexit.register(lambda: open(f"exit-{os.getpid()}", "w").close())
        print("before", flush=False)
        daemonize(until_killed, "service", "pid", logger)
        """
    )
    assert ("before\n", "", 0) == (done.stdout, done.stderr, done.returncode)
    process = place.process()
    end(process)
    assert {f"exit-{process.pid}"} == place.files()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(place: Place, closed: str) -> None:
    """A launching process that lacks some of the standard streams makes no difference."""
    command = place.command("daemonize(facts, 'service', 'pid', logger)")
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *command.pop("args")]
    assert 0 == subprocess.run(shell, **command, timeout=DEADLINE).returncode
    facts = json.loads(place.await_file("facts"))
    assert (["/dev/null"] * 3, 3) == (facts["streams"], facts["descriptors"])
    end(place.process())
    assert "pid" not in place.files()


def test_log_file_is_kept(place: Place) -> None:
    """The logger's open file goes on being written to."""
    process = place.launch(
        """
        log_to("log")
        def command():
            logger.info("from the daemon")
            signal.pause()
        daemonize(command, "service", "pid", logger)
        """
    )
    assert run_until_true(lambda: "from the daemon" in place.await_file("log"), DEADLINE)
    end(process)


def test_second_one(place: Place) -> None:
    """A second daemon is refused in one line with its status, and the first goes on."""
    process = place.launch(PLAIN)
    done = place.run(f"from sparts.cli import guarded\nguarded(lambda: {PLAIN}, 'service')")
    expected = (
        f"service: error: it is running already: pid {process.pid} holds {place.pidfile}; "
        "stop that one first (--kill), or name another pidfile (--pidfile)\n"
    )
    assert (expected, 1) == (done.stderr, done.returncode)
    assert not process.wait(0.0)
    end(process)


def test_many_at_once(place: Place) -> None:
    """Of those launched at once exactly one stays."""
    launched = [place.start(PLAIN) for _ in range(4)]
    said = [popen.communicate(timeout=DEADLINE)[1] for popen in launched]
    assert [0, 1, 1, 1] == sorted(popen.returncode for popen in launched)
    assert 3 == sum("is running already" in each for each in said)
    end(place.process())
    assert set() == place.files()


def test_refused_before_the_fork(tmp_path: Path) -> None:
    """Where the pidfile is not free the caller gets the exception, and is no daemon."""
    path = tmp_path / "pid"
    path.write_text(str(os.getppid()))
    with pytest.raises(AlreadyRunning):
        daemon.daemonize(pytest.fail, "service", str(path), LOGGER)


def test_pidfile_that_cannot_be_written(place: Place) -> None:
    """It is one line of the launching process, and its status is not 0."""
    done = place.run("daemonize(until_killed, 'service', 'none/pid', logger)")
    expected = (
        f"service: error: pidfile {place.path}/none/pid cannot be written: "
        "No such file or directory; mend that, or name another (--pidfile)\n"
    )
    assert (expected, 1) == (done.stderr, done.returncode)


def test_stale_pidfile(place: Place) -> None:
    """What a killed daemon left does not hinder the next."""
    end(place.launch(PLAIN), signal.SIGKILL)
    assert {"pid"} == place.files()
    end(place.launch(PLAIN))
    assert set() == place.files()


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "daemon", None)
    with pytest.raises(MissingExtra, match=r"daemonize needs python-daemon.*'sparts\[daemon\]'"):
        daemon.daemonize(pytest.fail, "service", str(tmp_path / "pid"), LOGGER)


def test_import_is_lazy() -> None:
    """The library is loaded by nothing but daemonize."""
    code = "import sys, sparts.ops.daemon, sparts.daemon; print('daemon' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, timeout=DEADLINE
    )
    assert b"False\n" == done.stdout


def test_facade() -> None:
    """The old import path has the functions of the new one."""
    for name in sparts.daemon.__all__:
        assert getattr(daemon, name) is getattr(sparts.daemon, name)


# -- its end --------------------------------------------------------------------------------------
ENDS = [
    ("return 0", []),
    ("return None", []),
    ("return 3", []),
    ("sys.exit(4)", []),
    ("sys.exit('gone')", ["ERROR:service:gone"]),
    ("raise SpartsError('what and why')", ["ERROR:service:what and why"]),
    ("1 / 0", ["ERROR:service:Unhandled exception in the daemon", "ZeroDivisionError"]),
]


@pytest.mark.parametrize(("statement", "lines"), ENDS)
def test_end_of_the_command(place: Place, statement: str, lines: list[str]) -> None:
    """However the command ends the pidfile goes, and what it raises is in the log."""
    done = place.run(
        f"""
        log_to("log")
        def command():
            os.mkfifo("go")
            open("go").read()
            {statement}
        daemonize(command, "service", "pid", logger)
        """
    )
    assert 0 == done.returncode
    with place.process() as process:
        place.await_path("go").write_text("go")
        assert process.wait(DEADLINE)
    assert {"go", "log"} == place.files()
    log = (place.path / "log").read_text()
    assert all(line in log for line in lines)
    assert bool(lines) == bool(log)


def test_pidfile_of_another_stays(place: Place) -> None:
    """A daemon whose pidfile someone took over leaves that alone."""
    with place.launch(PLAIN) as process:
        place.pidfile.write_text("1234\n")
        end(process)
    assert "1234\n" == place.pidfile.read_text()
    place.pidfile.unlink()


def test_forked_children_leave_the_pidfile(place: Place) -> None:
    """The pidfile goes with the daemon, not with a process that it forked."""
    process = place.launch(
        """
        def command():
            if os.fork() == 0:
                sys.exit(0)
            os.wait()
            open("forked", "w").close()
            signal.pause()
        daemonize(command, "service", "pid", logger)
        """
    )
    place.await_file("forked")
    assert "pid" in place.files()
    end(process)
    assert {"forked"} == place.files()


# -- until it has started -------------------------------------------------------------------------
def test_until_started(place: Place) -> None:
    """The launching process waits for started(); till then what the daemon says is heard."""
    done = place.run(
        """
        def command():
            print("starting")
            print("careful", file=sys.stderr)
            started()
            print("not heard")
            started()
            signal.pause()
        daemonize(command, "service", "pid", logger, until_started=True)
        """
    )
    assert ("starting\n", "careful\n", 0) == (done.stdout, done.stderr, done.returncode)
    end(place.process())


FAILURES = [
    ("return 0", 0, ""),
    ("return 3", 3, "the daemon ended with status 3 before it had started; see its log"),
    ("raise SpartsError('a')", 1, "the daemon ended with status 1 before it had started"),
    ("os._exit(5)", 1, "the daemon ended before it had started; see its log"),
    ("os.kill(os.getpid(), 9)", 1, "the daemon ended before it had started; see its log"),
    ("os.kill(os.getpid(), 15)", 143, "the daemon ended with status 143 before it had started"),
]


@pytest.mark.parametrize(("statement", "status", "said"), FAILURES)
def test_end_before_it_has_started(place: Place, statement: str, status: int, said: str) -> None:
    """The status is the launching process's own, which tells how it came."""
    done = place.run(
        f"""
        def command():
            {statement}
        daemonize(command, "service", "pid", logger, until_started=True)
        """
    )
    assert status == done.returncode
    assert said in done.stderr
    assert bool(said) == bool(done.stderr)


WAITS = """
def command():
    os.mkfifo("go")
    open("go").read()
    started()
    signal.pause()
log_to("log")
daemonize(command, "service", "pid", logger, until_started=True)
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_launching_process_is_ended(place: Place, signum: signal.Signals) -> None:
    """Whoever interrupts the launch is left with no daemon."""
    popen = place.start(WAITS)
    place.await_path("go")
    with place.process() as process:
        popen.send_signal(signum)
        assert (130 if signum == signal.SIGINT else -signum) == popen.wait(DEADLINE)
        (place.path / "go").write_text("go")
        assert process.wait(DEADLINE)
    popen.communicate(timeout=DEADLINE)
    assert {"go", "log"} == place.files()
    assert "has gone; the daemon ends too" in (place.path / "log").read_text()


def test_started_in_the_foreground(capfd: pytest.CaptureFixture[str]) -> None:
    """In what is no daemon, started() does nothing."""
    daemon.started()
    print("still heard")
    assert "still heard\n" == capfd.readouterr().out


# -- a service's command line ---------------------------------------------------------------------
def service(place: Place, *argv: str, code: str = "") -> Done:
    """Run the service's command line."""
    return place.run(f"{SERVICE}\n{code}\nMyService.initFromCLI()", "--pidfile", "pid", *argv)


def test_service(place: Place) -> None:
    """--daemon, --status and --kill do what they say, with the LSB's statuses."""
    done = service(place, "--status")
    assert (f"MyService is not running (no pidfile {place.pidfile})\n", 3) == told(done)
    done = service(place, "--daemon", "--logfile", "log")
    assert ("", "", 0) == (done.stdout, done.stderr, done.returncode)
    assert "DEBUG:MyService:All tasks started\n" == (place.path / "log").read_text()
    pid = place.pidfile.read_text().split()[0]
    assert (f"MyService is running (pid {pid})\n", 0) == told(service(place, "--status"))
    assert (f"MyService is stopped (was pid {pid})\n", 0) == told(service(place, "--kill"))
    assert {"log"} == place.files()
    done = service(place, "--kill")
    expected = f"not running: there is no pidfile {place.pidfile}\n"
    assert (expected, 7) == (done.stderr, done.returncode)


def told(done: Done) -> tuple[str, int]:
    assert "" == done.stderr
    return done.stdout, done.returncode


def test_service_that_fails_to_start(place: Place) -> None:
    """--daemon tells of it as the foreground would, with its status, and leaves no pidfile."""
    done = service(place, "--daemon", "--logfile", "none/log")
    assert 2 == done.returncode
    assert "--logfile none/log: No such file or directory" in done.stderr
    assert "MyService: error: the daemon ended with status 2" in done.stderr
    assert set() == place.files()


def test_restart_of_a_daemon(place: Place) -> None:
    """SIGHUP gives a fresh instance in the same process, which still holds the pidfile."""
    assert 0 == service(place, "--daemon", "--logfile", "log").returncode
    with place.process() as process:
        process.signal(signal.SIGHUP)
        started = "All tasks started"
        assert run_until_true(lambda: place.await_file("log").count(started) == 2, DEADLINE)
        assert str(process.pid) == place.pidfile.read_text().split()[0]
        end(process)
    assert {"log"} == place.files()


# -- those that run -------------------------------------------------------------------------------
@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is no daemon of ours."""
    with subprocess.Popen(["sleep", "60"]) as popen:
        yield popen
        popen.kill()


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The signals that are sent in the test; none really is."""
    sent: list[Any] = []
    monkeypatch.setattr(os, "kill", lambda *a: sent.append(a))
    monkeypatch.setattr(os, "killpg", lambda *a: sent.append(a))
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *a: sent.append(a), raising=False)
    return sent


NO_PIDS = [b"", b"\n", b"0", b"-1", b"-1\n", b"4294967297", b"9" * 30, b"\xff\x00", b"abc", b"1 2"]


@pytest.mark.parametrize("data", NO_PIDS)
def test_nothing_is_signalled(tmp_path: Path, data: bytes, signals: list[Any]) -> None:
    """An empty pidfile, or one of nonsense, is no pid, and is never signalled for."""
    path = tmp_path / "pid"
    for act, expected in {
        daemon.read_pid: None,
        daemon.status: False,
        daemon.kill: False,
        daemon.kill_service: 1 if data.strip() else 7,
        daemon.service_status: 4 if data.strip() else 1,
    }.items():
        path.write_bytes(data)
        assert expected == act(str(path), LOGGER)
    assert [] == signals


def test_read_pid(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It reads the pid, of a dead process too, and says what is wrong with a file."""
    path = tmp_path / "pid"
    assert daemon.read_pid(str(path), LOGGER) is None
    path.write_text("1234\n")
    assert 1234 == daemon.read_pid(str(path), LOGGER)
    assert [] == caplog.records
    path.write_text("-1")
    assert daemon.read_pid(str(path), LOGGER) is None
    assert ["ERROR"] == [record.levelname for record in caplog.records]


@pytest.mark.parametrize("ours", [False, True])
def test_status_and_kill(
    tmp_path: Path, sleeper: "subprocess.Popen[bytes]", ours: bool, caplog: Any
) -> None:
    """A live process is signalled once, be just its pid in the file or its start as well."""
    path = tmp_path / "pid"
    path.write_bytes(Holder(sleeper.pid, start_of(sleeper.pid) if ours else "").format())
    assert daemon.status(str(path), LOGGER)
    assert daemon.kill(str(path), LOGGER, signal.SIGUSR1)
    assert -signal.SIGUSR1 == sleeper.wait(DEADLINE)
    assert [] == caplog.records
    assert not daemon.kill(str(path), LOGGER)
    assert "not running: removed" in caplog.text
    assert not path.exists()


def test_kill_sends_sigterm(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    """Without a signal it is SIGTERM."""
    (tmp_path / "pid").write_text(str(sleeper.pid))
    assert daemon.kill(str(tmp_path / "pid"), LOGGER)
    assert -signal.SIGTERM == sleeper.wait(DEADLINE)


@pytest.mark.parametrize("act", [daemon.status, daemon.kill])
@pytest.mark.parametrize("start", ["", "5@boot"])
def test_stale_is_removed(
    tmp_path: Path, act: Callable[..., bool], start: str, sleeper: "subprocess.Popen[bytes]"
) -> None:
    """The file of an ended process goes, also if another has its pid now; that is left alone."""
    path = tmp_path / "pid"
    if not start:
        sleeper.kill()
        sleeper.wait(DEADLINE)
    path.write_bytes(Holder(sleeper.pid, start).format())
    assert not act(str(path), LOGGER)
    assert not path.exists()
    assert (sleeper.poll() is None) == bool(start)


def test_no_pidfile(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where there is no pidfile nothing runs."""
    path = str(tmp_path / "pid")
    assert not daemon.status(path, LOGGER)
    assert not daemon.kill(path, LOGGER)
    assert f"not running: there is no pidfile {path}" in caplog.text


def test_kill_service_waits(
    tmp_path: Path, sleeper: "subprocess.Popen[bytes]", capsys: pytest.CaptureFixture[str]
) -> None:
    """It returns when the process has ended, and the pidfile that it left is gone."""
    path = tmp_path / "pid"
    path.write_text(str(sleeper.pid))
    assert 0 == daemon.kill_service(str(path), LOGGER)
    assert -signal.SIGTERM == sleeper.wait(0)
    assert not path.exists()
    assert f"service is stopped (was pid {sleeper.pid})\n" == capsys.readouterr().out


def test_kill_service_in_vain(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A process that does not end in time is told of, with the cure, and keeps its pidfile."""
    path = tmp_path / "pid"
    code = "import signal; signal.signal(15, signal.SIG_IGN); print('x', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as popen:
        assert popen.stdout is not None
        popen.stdout.readline()
        path.write_text(str(popen.pid))
        assert 1 == daemon.kill_service(str(path), LOGGER, timeout=0.01)
        assert f"pid {popen.pid} has not ended within 0.01 s" in caplog.text
        assert f"kill -KILL {popen.pid}" in caplog.text
        assert path.exists()
        popen.kill()


def test_service_status_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That a daemon died is told as often as one asks."""
    path = tmp_path / "pid"
    path.write_bytes(Holder(os.getpid(), "5@boot").format())
    expected = f"service is dead (pid {os.getpid()}), and left its pidfile {path}\n"
    for _ in range(2):
        assert 1 == daemon.service_status(str(path), LOGGER)
        assert expected == capsys.readouterr().out
    assert path.exists()


AS_ANOTHER = """
import json
from sparts.ops import daemon
logging.basicConfig(level="INFO")
path, pid = sys.argv[1:]
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
acts = [daemon.status, daemon.kill, daemon.service_status, daemon.kill_service]
print(json.dumps([act(path, logger) for act in acts]))
"""


@pytest.fixture
def not_ours(sleeper: "subprocess.Popen[bytes]") -> int:
    """The pid of a process that AS_ANOTHER may not signal."""
    return sleeper.pid if os.getuid() == 0 else 1


@pytest.fixture
def public() -> Iterator[Place]:
    """A place that every user may look at, as pytest's own are not."""
    with NamedTemporaryDirectory() as directory:
        os.chmod(directory.name, 0o755)
        yield Place(Path(directory.name))


def as_another(place: Place, pid: int) -> tuple[list[Any], str]:
    done = place.run(AS_ANOTHER, str(place.pidfile), str(pid))
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_process_of_another_user(public: Place, not_ours: int) -> None:
    """It is seen to run, cannot be killed, and that is an error line."""
    for start in ("", start_of(not_ours)):
        public.pidfile.write_bytes(Holder(not_ours, start).format())
        results, log = as_another(public, not_ours)
        assert [True, False, 0, 4] == results
        assert 2 == log.count(f"ERROR:service:pid {not_ours} of")
        assert "belongs to another user; do it as that user or as root" in log


@pytest.mark.skipif(os.getuid() != 0, reason="not here: only root can make a file of another user")
def test_pidfile_of_another_user(public: Place, not_ours: int) -> None:
    """A pidfile that may not be read tells nothing, and that is an error line."""
    public.pidfile.write_text(str(not_ours))
    public.pidfile.chmod(0)
    results, log = as_another(public, not_ours)
    assert [False, False, 4, 4] == results
    assert 4 == log.count("cannot be read: Permission denied; run this as a user who may")

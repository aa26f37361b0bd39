"""Installing under runit: what is made, what is refused, and that runsvdir runs it."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sparts
import sparts.runit
from sparts import cli
from sparts.errors import SpartsError
from sparts.fileutils import resolve_partition
from sparts.ops import runit
from sparts.ops.runit import RunitError
from sparts.timer import run_until_true
from sparts.vservice import VService

DEADLINE = 15.0
SOURCE = str(Path(sparts.__file__).parents[1])

SERVICE = """
import os, threading
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

class Service(VService):
    ALL_TASKS = [Loop]

Service.initFromCLI()
"""


class Dirs:
    """Where a test installs to."""

    def __init__(self, path: Path) -> None:
        self.watched, self.services, self.logs = path / "service", path / "sv", path / "log"
        self.watched.mkdir()

    def install(self, name: str = "echo", command: tuple[str, ...] = ("echo", "hi")) -> str:
        return runit.install(
            name,
            command,
            runsvdir=str(self.watched),
            service_dir=str(self.services),
            log_dir=str(self.logs),
        )

    def run(self, name: str = "echo") -> Path:
        return self.services / name / "run"


@pytest.fixture
def dirs(tmp_path: Path) -> Dirs:
    return Dirs(tmp_path)


# -- what is made ---------------------------------------------------------------------------------
def test_scripts(dirs: Dirs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The run script runs the command where it was installed, and the log's runs svlogd."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "/a b")
    assert str(dirs.watched / "echo") == dirs.install(command=("echo", "a b", "$HOME"))
    lines = dirs.run().read_text().splitlines()
    assert "#!/bin/sh" == lines[0]
    expected = ["exec 2>&1", f"cd {tmp_path} || exit 1", "export PYTHONPATH='/a b'"]
    assert [*expected, "exec echo 'a b' '$HOME'"] == lines[2:]
    log = (dirs.services / "echo" / "log" / "run").read_text()
    assert log.endswith(f"\nexec svlogd -tt {dirs.logs / 'echo'}\n")


def test_modes_and_link(dirs: Dirs) -> None:
    """The scripts may be run, the log's directory is there, and the link leads to the service."""
    umask = os.umask(0o077)
    try:
        link = dirs.install()
    finally:
        os.umask(umask)
    for script in (dirs.run(), dirs.services / "echo" / "log" / "run"):
        assert 0o755 == script.stat().st_mode & 0o777
    assert (dirs.logs / "echo").is_dir()
    assert str(dirs.services / "echo") == os.readlink(link)


def test_it_says_what_it_did(dirs: Dirs, capsys: pytest.CaptureFixture[str]) -> None:
    """One line tells where things are, and that nothing starts as long as no runsvdir runs."""
    link = dirs.install()
    said = capsys.readouterr().out
    assert f"echo is installed in {dirs.services / 'echo'}, linked to by {link}" in said
    assert said.endswith(f"it starts once a runsvdir watches {dirs.watched}\n")


def test_again(dirs: Dirs) -> None:
    """To install again replaces the command."""
    dirs.install(command=("one",))
    dirs.install(command=("two",))
    assert "exec two" == dirs.run().read_text().splitlines()[-1]
    assert ["log", "run"] == sorted(os.listdir(dirs.services / "echo"))


OWN = """
import sys
from sparts.ops import runit
dirs = sys.argv.pop(1).split(":")
runit.install("own", runsvdir=dirs[0], service_dir=dirs[1], log_dir=dirs[2])
"""


def install_own(dirs: Dirs, *argv: str) -> "subprocess.CompletedProcess[str]":
    """Run a program that installs its own command line."""
    where = f"{dirs.watched}:{dirs.services}:{dirs.logs}"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", OWN, where, *argv],
        env={**os.environ, "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


def test_own_command_line(dirs: Dirs) -> None:
    """By default it is this command line, interpreter's flags and all, without the flag."""
    assert 0 == install_own(dirs, "--port", "8000", "--runit-install").returncode
    command = dirs.run("own").read_text().partition("\nexec ")[2].partition("\nexec ")[2]
    where = f"{dirs.watched}:{dirs.services}:{dirs.logs}"
    expected = [sys.executable, "-W", "error", "-c", OWN, where, "--port", "8000"]
    assert expected == shlex.split(command)


def test_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """--runit-install installs under the service's name, and runs nothing."""
    installed: list[str] = []
    monkeypatch.setattr(runit, "install", installed.append)
    options = cli.parse(VService, ["--runit-install"])
    VService.initFromOptions(options, name="mine")
    assert ["mine"] == installed


def test_facade() -> None:
    """The old import path has the functions of the new one."""
    for name in sparts.runit.__all__:
        assert getattr(runit, name) is getattr(sparts.runit, name)


# -- what is refused ------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "-x", "a b", "a\n", "a\0"])
def test_names(dirs: Dirs, name: str) -> None:
    """A name that is no name of a directory for runsvdir is refused, and nothing is made."""
    with pytest.raises(RunitError, match="cannot name a service under runit"):
        dirs.install(name)
    assert not dirs.services.exists()
    assert issubclass(RunitError, SpartsError)


@pytest.mark.parametrize("script", ["run", "log/run"])
def test_service_of_another_making(dirs: Dirs, script: str) -> None:
    """A service that we did not make is left alone."""
    path = dirs.services / "echo" / script
    path.parent.mkdir(parents=True)
    path.write_bytes(b"#!/bin/sh\nexec \xff\n")
    with pytest.raises(RunitError, match=f"{path} is there already, and not of our making"):
        dirs.install()
    assert b"#!/bin/sh\nexec \xff\n" == path.read_bytes()
    assert [] == os.listdir(dirs.watched)


def test_link_of_another(dirs: Dirs, tmp_path: Path) -> None:
    """A link that leads elsewhere, or nowhere, is left alone."""
    (dirs.watched / "echo").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunitError, match=f"{dirs.watched}/echo is there already"):
        dirs.install()
    assert not dirs.services.exists()


def test_what_fails(dirs: Dirs) -> None:
    """What the system refuses is told with the path."""
    dirs.services.write_text("a file")
    with pytest.raises(RunitError, match=f"{dirs.services}.*: (Not a directory|File exists)"):
        dirs.install()


def test_daemon_is_refused(dirs: Dirs) -> None:
    """runit runs services in the foreground, so --daemon is an error."""
    done = install_own(dirs, "--daemon", "--runit-install")
    assert 1 == done.returncode
    assert "RunitError: runit runs services in the foreground" in done.stderr
    assert not dirs.services.exists()


# -- where runsvdir is ----------------------------------------------------------------------------
def test_usual_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no runsvdir runs it is those of the usual places that there are."""
    monkeypatch.setattr(runit, "_running_dirs", list)
    monkeypatch.setattr(runit, "_USUAL_PLACES", (str(tmp_path / "none"), str(tmp_path)))
    assert [str(tmp_path)] == runit.get_runsvdir_dirs()


def test_no_runsvdir_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says where was looked and what to install."""
    monkeypatch.setattr(runit, "_running_dirs", list)
    monkeypatch.setattr(runit, "_USUAL_PLACES", ("/none",))
    with pytest.raises(RunitError, match="none of /none; install runit"):
        runit.install("echo", ["echo"])


def test_no_writable_runsvdir(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the directories that this user may not write to."""
    monkeypatch.setattr(runit, "_running_dirs", lambda: ["/proc", "/proc/self"])
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RunitError, match="may not write to /proc, /proc/self; install as root"):
        runit.install("echo", ["echo"])


def test_writable_one_is_taken(
    dirs: Dirs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of several it is the first that this user may write to."""
    monkeypatch.setattr(runit, "_running_dirs", lambda: ["/proc", str(dirs.watched)])
    monkeypatch.setattr(os, "access", lambda path, mode: resolve_partition(path) != "/proc")
    link = runit.install("echo", ["echo"], service_dir=str(dirs.services), log_dir=str(dirs.logs))
    assert str(dirs.watched / "echo") == link
    assert "it starts within 5 s" in capsys.readouterr().out


# -- the real one ---------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["{}", "service"])
def test_running_runsvdir_is_found(dirs: Dirs, need: Callable[[str], str], path: str) -> None:
    """The directory of a running runsvdir is found, by its absolute path however it was given."""
    watched = str(dirs.watched)
    assert watched not in runit._running_dirs()
    command = [need("runsvdir"), "-P", path.format(watched)]
    with subprocess.Popen(command, cwd=dirs.watched.parent) as popen:
        assert run_until_true(lambda: watched in runit.get_runsvdir_dirs(), DEADLINE)
        popen.kill()
    assert watched not in runit._running_dirs()


@pytest.fixture
def runsvdir(dirs: Dirs, need: Callable[[str], str]) -> Iterator[None]:
    """A runsvdir for the directory that is watched; it ends with all that it runs."""
    with subprocess.Popen([need("runsvdir"), "-P", str(dirs.watched)]) as popen:
        yield
        popen.send_signal(signal.SIGHUP)
        popen.wait(DEADLINE)
    assert run_until_true(lambda: not supervised(dirs), DEADLINE)


def supervised(dirs: Dirs) -> list[str]:
    """The services and logs that a runsv still looks after."""
    pids = [path.read_text().strip() for path in dirs.services.glob("**/supervise/pid")]
    return [pid for pid in pids if pid]


def test_service_under_runsvdir(
    dirs: Dirs,
    need: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """runsvdir starts it, keeps its log, and `sv stop` is a graceful stop."""
    monkeypatch.setenv("PYTHONPATH", SOURCE)
    link = dirs.install("svc", (sys.executable, "-c", SERVICE))
    request.getfixturevalue("runsvdir")  # only now: it looks at once, and then every 5 s
    log = dirs.logs / "svc" / "current"

    def logged(text: str) -> bool:
        return run_until_true(lambda: log.exists() and text in log.read_text(), DEADLINE)

    assert logged("DEBUG:Service:All tasks started")
    stop = [need("sv"), "-w", str(int(DEADLINE)), "stop", link]
    assert 0 == subprocess.run(stop, capture_output=True, timeout=2 * DEADLINE).returncode
    assert logged("INFO:Service:Instance shut down gracefully")

"""The command line: --tasks, errors that a user made, names and versions."""

import argparse
import os
import subprocess
import sys
from typing import Any

import pytest

from sparts import cli
from sparts.errors import DependencyError, MissingExtra, OptionError, SpartsError
from sparts.vservice import VService
from sparts.vtask import VTask


class Store(VTask):
    LOOPLESS = True


class Web(VTask):
    LOOPLESS = True
    DEPS = [Store]


class Logs(VTask):
    LOOPLESS = True


class Shop(VService):
    VERSION = "1.2"
    ALL_TASKS = [Web, Logs]


def test_tasks_without_names_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    """--tasks alone lists the tasks and exits 1."""
    with pytest.raises(SystemExit) as caught:
        cli.parse(Shop, ["--tasks"])
    assert 1 == caught.value.code
    assert "Tasks:\n  Store\n  Web\n  Logs\n" == capsys.readouterr().out


def test_tasks_selects(capsys: pytest.CaptureFixture[str]) -> None:
    """--tasks with names runs those and what they depend on; a wrong name gets the nearest."""
    service = Shop(cli.parse(Shop, ["--tasks", "Web"]))
    assert ["Store", "Web"] == [each.__name__ for each in service.tasks]
    with pytest.raises(SystemExit) as caught:
        cli.parse(Shop, ["--tasks", "Wob"])
    assert 2 == caught.value.code
    assert "--tasks: no task 'Wob'; did you mean 'Web'" in capsys.readouterr().err


def test_tasks_in_a_namespace(capsys: pytest.CaptureFixture[str]) -> None:
    """initFromOptions heeds --tasks as the command line does."""
    with pytest.raises(SystemExit) as caught:
        Shop.initFromOptions(argparse.Namespace(tasks=[]))
    assert 1 == caught.value.code
    assert "Web" in capsys.readouterr().out
    with pytest.raises(OptionError, match="no task 'Wob'"):
        Shop(argparse.Namespace(tasks=["Wob"]))


@pytest.mark.parametrize("wrong", [Store, "Store", None])
def test_all_tasks_is_a_list(wrong: Any) -> None:
    """ALL_TASKS that is no list is an error that says so."""
    service = type("Wrong", (VService,), {"ALL_TASKS": wrong})
    with pytest.raises(DependencyError, match=r"Wrong\.ALL_TASKS is .*; write a list of tasks"):
        cli.parse(service, [])


def test_every_service_has_these_options() -> None:
    """The options of the contract are there, with no value that does anything by itself."""
    options = cli.parse(VService, [])
    for name in ("tasks", "logfile", "dryrun", "daemon", "kill", "status", "runit_install"):
        assert not getattr(options, name)
    assert ("DEBUG", 30.0) == (options.level, options.stop_timeout)
    assert hasattr(options, "pidfile")


@pytest.mark.parametrize(("columns", "width"), [("60", 60), ("0", 80), ("", 80), ("wide", 80)])
def test_help_is_as_wide_as_the_terminal(columns: str, width: int) -> None:
    """COLUMNS is how wide the help is; without it and without a terminal it is 80."""
    code = "from sparts.vservice import VService; VService.initFromCLI()"
    done = subprocess.run(
        [sys.executable, "-c", code, "-h"],
        env=os.environ | {"COLUMNS": columns, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    widest = max(map(len, done.stdout.splitlines()))
    assert width - 20 < widest <= width - 2


def test_parsing_loads_no_module_for_the_terminal_or_for_mistakes() -> None:
    """A start loads neither shutil nor difflib, which together take 3 ms."""
    code = (
        "import sys; sys.modules.update(shutil=None, difflib=None)\n"
        "from sparts import cli; from sparts.vservice import VService\n"
        "cli.parse(VService, ['--level', 'INFO'])"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """A service with a VERSION tells it."""
    with pytest.raises(SystemExit) as caught:
        cli.parse(Shop, ["--version"])
    assert 0 == caught.value.code
    assert "Shop 1.2\n" == capsys.readouterr().out


def test_own_parser_and_arguments() -> None:
    """_makeArgumentParser and _addArguments are override points."""

    class Own(Shop):
        @classmethod
        def _makeArgumentParser(cls) -> argparse.ArgumentParser:
            return argparse.ArgumentParser(prog="own")

        @classmethod
        def _addArguments(cls, ap: argparse.ArgumentParser) -> None:
            super()._addArguments(ap)
            ap.add_argument("--extra", default="e")

    assert "own" == Own._buildArgumentParser().prog
    assert "e" == cli.parse(Own, []).extra


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (SpartsError("the cure"), 1, "Shop: error: the cure\n"),
        (
            MissingExtra("files", "watchfiles", "files"),
            2,
            "Shop: error: files needs watchfiles; install it with: pip install 'sparts[files]'\n",
        ),
        (KeyboardInterrupt(), 130, "Shop: interrupted\n"),
    ],
)
def test_a_users_mistake_is_one_line(
    error: BaseException, status: int, said: str, capsys: Any
) -> None:
    """An error of ours is one line on stderr and a status, with no traceback."""

    def run() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        cli.guarded(run, "Shop")
    assert status == caught.value.code
    assert said == capsys.readouterr().err


def command(*argv: str, code: str = "") -> "subprocess.CompletedProcess[str]":
    program = f"from sparts.vservice import VService\n{code or 'VService.initFromCLI()'}"
    return subprocess.run(
        [sys.executable, "-c", program, *argv], capture_output=True, text=True, timeout=15
    )


@pytest.mark.parametrize("flag", ["--no-such", "--stop-timeout=x", "--level=LOUD"])
def test_a_wrong_option_exits_2(flag: str) -> None:
    """A wrong option ends the process with status 2 and a message, before anything started."""
    done = command(flag)
    assert 2 == done.returncode
    assert flag.partition("=")[0] in done.stderr
    assert "Traceback" not in done.stderr


def test_unwritable_log_file(tmp_path: Any) -> None:
    """A log file that cannot be opened is one line that names it."""
    path = os.path.join(tmp_path, "missing", "log")
    done = command("--logfile", path)
    assert 2 == done.returncode
    assert f"VService: error: --logfile {path}: No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_name_of_the_service() -> None:
    """initFromCLI(name) is the name in the log."""
    code = """
class Ends(VService):
    def initService(self):
        self.stop()
Ends.initFromCLI(name="night")
"""
    done = command(code=code)
    assert 0 == done.returncode
    assert "INFO:night:Instance shut down gracefully\n" == done.stderr


def test_a_circle_is_one_line() -> None:
    """A circle in DEPS ends the command with status 2 and the circle."""
    code = """
from sparts.vtask import VTask
class A(VTask): pass
class B(VTask): DEPS = [A]
A.DEPS = [B]
class S(VService): ALL_TASKS = [A]
S.initFromCLI()
"""
    done = command(code=code)
    assert 2 == done.returncode
    assert "A -> B -> A" in done.stderr
    assert "Traceback" not in done.stderr

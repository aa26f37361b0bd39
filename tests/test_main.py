"""The command sparts: its verbs, and run with every way to name a service wrongly."""

import pathlib
import subprocess
import sys

import pytest

from sparts import __main__ as command
from sparts import __version__
from sparts.commands import run
from sparts.vservice import VService

HELLO = """
import sys
from sparts.vservice import VService

class MyService(VService):
    def initService(self):
        self.logger.info("%s as %s", self.level, __name__)
        self.stop()

class Group:
    Inner = MyService

number = 3
MyService.initFromCLI()
"""
FILES = {
    "hello.py": HELLO,
    "pkg/__init__.py": "",
    "pkg/deep.py": HELLO,
    "broken.py": "\nimport not_there",
    "wrong.py": "x = (",
    "extra.py": "from sparts.errors import MissingExtra\nraise MissingExtra('x', 'lib', 'files')",
}


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def sparts(folder: pathlib.Path, *words: str) -> "subprocess.CompletedProcess[str]":
    code = f"import sys; sys.path[:] = {sys.path!r}"  # the console script adds no folder either
    code += "; from sparts.__main__ import main; sys.exit(main())"
    argv = [sys.executable, "-c", code, *words]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=15)


@pytest.mark.parametrize(
    ("words", "module"),
    [
        ("hello:MyService -- --level info", "hello"),
        ("hello:MyService --level info", "hello"),
        ("hello:Group.Inner --level=INFO", "hello"),
        ("pkg.deep:MyService -- --level INFO", "pkg.deep"),
    ],
)
def test_run(folder: pathlib.Path, words: str, module: str) -> None:
    """run finds the service from the current directory and gives it what stands behind it.

    It runs once, though the module starts it when it is imported.
    """
    done = sparts(folder, "run", *words.split())
    said = f"INFO:MyService:INFO as {module}\nINFO:MyService:Instance shut down gracefully\n"
    assert said == done.stderr
    assert 0 == done.returncode


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("hello", "'hello' does not say which service, like hello:Name; services in hello: MyS"),
        ("hello:", "'hello:' is not module:Service, like app:MyService"),
        (":X", "':X' is not module:Service"),
        ("hello.py:MyService", "a module goes by its name: hello:MyService"),
        ("./pkg/deep.py:MyService", "a module goes by its name: pkg.deep:MyService"),
        ("helo:MyService", "no module 'helo'; did you mean 'hello'?"),
        ("pkg.dep:MyService", "no module 'pkg.dep'; did you mean 'deep'?; pkg has deep"),
        ("hello.deep:MyService", "hello is a module, not a package"),
        ("hello:MySrvice", "hello has no 'MySrvice'; did you mean 'MyService'?"),
        ("hello:numbr", "hello has no 'numbr'; did you mean 'number'?"),
        ("hello:number", "hello:number is 3, which is no VService class"),
        ("extra:X", "x needs lib; install it with: pip install 'sparts[files]'"),
    ],
)
def test_a_wrong_name_is_one_line(folder: pathlib.Path, words: str, said: str) -> None:
    """What is wrong with the name is told in one line, status 2, without a traceback."""
    done = sparts(folder, "run", words)
    assert 2 == done.returncode
    assert said in done.stderr
    assert 1 == done.stderr.count("\n")
    assert done.stderr.startswith("sparts run: error: ")


@pytest.mark.parametrize(
    ("target", "last"),
    [
        ("broken:X", "ModuleNotFoundError: No module named 'not_there'"),
        ("wrong:X", "SyntaxError: '(' was never closed"),
    ],
)
def test_a_module_that_raises(folder: pathlib.Path, target: str, last: str) -> None:
    """A module that raises shows its own traceback, without frames of ours, and status 1."""
    done = sparts(folder, "run", target)
    assert 1 == done.returncode
    assert last == done.stderr.splitlines()[-1]
    assert target.replace(":X", ".py") in done.stderr
    assert "sparts" not in done.stderr.replace(str(folder), "")


def test_load_leaves_no_trace(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an import, whether it went well or not, a service starts again as ever."""
    before = VService.__dict__["initFromCLI"]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    assert "MyService" == run.load("hello:MyService").__name__
    with pytest.raises(SystemExit):
        run.load("broken:X")
    assert VService.__dict__["initFromCLI"] is before


def test_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    """Help lists the verbs, each with its first line; no verb, or a wrong one, is an error."""
    assert 0 == command.main(["--help"])
    assert "run       Run a service" in capsys.readouterr().out
    assert 2 == command.main([])
    assert "usage: sparts VERB" in capsys.readouterr().out
    assert 2 == command.main(["rnu"])
    assert "sparts: no verb 'rnu'; did you mean 'run'?; verbs: run\n" == capsys.readouterr().err
    assert 0 == command.main(["--version"])
    assert f"sparts {__version__}\n" == capsys.readouterr().out


@pytest.mark.parametrize(("words", "status"), [([], 2), (["-h"], 0)])
def test_run_usage(words: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    """run without a service tells how it is written."""
    with pytest.raises(SystemExit) as caught:
        command.main(["run", *words])
    assert status == caught.value.code
    assert "usage: sparts run module:Service" in capsys.readouterr().out


def test_as_a_module(folder: pathlib.Path) -> None:
    """python -m sparts is the same command."""
    argv = [sys.executable, "-m", "sparts", "--version"]
    path = {"PYTHONPATH": str(pathlib.Path(command.__file__).parents[1])}
    done = subprocess.run(argv, cwd=folder, env=path, capture_output=True, text=True, timeout=15)
    assert f"sparts {__version__}\n" == done.stdout

"""README and docs: every Python snippet runs, and every file that they point to is there."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib.metadata import entry_points

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = sorted([*ROOT.glob("README.md"), *ROOT.glob("docs/*.md")])
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
#: What has pytest know our fixtures where sparts is not installed but run from its tree.
INSTALLED = any(each.name == "sparts" for each in entry_points(group="pytest11"))
PLUGIN = [] if INSTALLED else ["-p", "sparts.testing.plugin"]
#: What was made of .thrift files lies there.
GENERATED = [str(ROOT / "demo" / "gen")]
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), *GENERATED])}

pytestmark = pytest.mark.skipif(not DOCS, reason="not here: README.md and docs/")


def snippets() -> list[object]:
    return [
        pytest.param(found.group(1), id=f"{path.name}-{number}")
        for path in DOCS
        for number, found in enumerate(SNIPPET.finditer(path.read_text("utf-8")), 1)
    ]


@pytest.mark.parametrize("code", snippets())
def test_snippet(code: str, tmp_path: pathlib.Path, need: Callable[[str], str]) -> None:
    """A service starts and ends gracefully, tests pass, and any other snippet runs through."""
    if "CompileContext" in code:
        need("thrift")
    program = tmp_path / "snippet.py"
    program.write_text(code, encoding="utf-8")
    serves = "initFromCLI()" in code
    words = ["--http-port", "0"] if "TornadoHTTPTask" in code and serves else []
    words += ["--thrift-port", "0"] if "ThriftServerTask" in code and serves else []
    runner = ["-m", "pytest", "-q", *PLUGIN] if "def test_" in code else []
    process = subprocess.Popen(
        [sys.executable, "-W", "error", *runner, str(program), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env=ENV,
    )
    assert process.stdout is not None
    said = ""
    with process, process.stdout:
        try:
            for line in process.stdout:
                said += line
                if serves and "All tasks started" in line:
                    process.send_signal(signal.SIGINT)
            status = process.wait(10)
        finally:
            process.kill()
    assert (0, serves) == (status, "shut down gracefully" in said), said
    assert "ERROR" not in said


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.name))
def test_links(path: pathlib.Path) -> None:
    """A relative link leads to a file that is there."""
    for target in LINK.findall(path.read_text("utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.name))
def test_options_exist(path: pathlib.Path) -> None:
    """An option that the docs name, of the container, of HTTP or of Thrift, is one."""
    code = """
        from sparts.vservice import VService
        from sparts.tasks.fb303 import FB303HandlerTask
        from sparts.tasks.thrift import ThriftServerTask
        from sparts.tasks.tornado import TornadoHTTPTask
        from sparts.tasks.tornado_thrift import ThriftPoolTask
        class Web(TornadoHTTPTask): DEPS = [ThriftPoolTask]
        class Any(VService): ALL_TASKS = [Web, FB303HandlerTask, ThriftServerTask]
        Any.initFromCLI()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), "-h"]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, timeout=15)
    known = done.stdout
    ours = r"`(--(?:http|tornado|thrift|fb303|stop|ready|log)[a-z0-9-]*)"
    for flag in re.findall(ours, path.read_text("utf-8")):
        assert re.search(rf"{flag}(?![\w-])", known), flag

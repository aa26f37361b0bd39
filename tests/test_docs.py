"""README and docs: every Python snippet runs, and every file that they point to is there."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = sorted([*ROOT.glob("README.md"), *ROOT.glob("docs/*.md")])
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
#: What has pytest know our fixtures where sparts is not installed but run from its tree.
INSTALLED = any(each.name == "sparts" for each in entry_points(group="pytest11"))
PLUGIN = [] if INSTALLED else ["-p", "sparts.testing.plugin"]
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

pytestmark = pytest.mark.skipif(not DOCS, reason="not here: README.md and docs/")


def snippets() -> list[object]:
    return [
        pytest.param(found.group(1), id=f"{path.name}-{number}")
        for path in DOCS
        for number, found in enumerate(SNIPPET.finditer(path.read_text("utf-8")), 1)
    ]


@pytest.mark.parametrize("code", snippets())
def test_snippet(code: str, tmp_path: pathlib.Path) -> None:
    """A service starts and ends gracefully, tests pass, and any other snippet runs through."""
    program = tmp_path / "snippet.py"
    program.write_text(code, encoding="utf-8")
    serves = "initFromCLI()" in code
    words = ["--http-port", "0"] if "TornadoHTTPTask" in code and serves else []
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
    """An option that the docs name, of the container or of HTTP, is one."""
    code = """
        from sparts.vservice import VService
        from sparts.tasks.tornado import TornadoHTTPTask
        class Web(TornadoHTTPTask): pass
        class Any(VService): ALL_TASKS = [Web]
        Any.initFromCLI()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), "-h"]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, timeout=15)
    known = done.stdout
    for flag in re.findall(r"`(--(?:http|tornado|stop|ready|log)[a-z-]*)", path.read_text("utf-8")):
        assert f"{flag} " in known + " ", flag

"""Logs: where they go, a full disk, stacks of threads."""

import logging
import os
import subprocess
import sys
import threading

import pytest

from sparts import logs

CODE = """
import logging, sys
from sparts import logs
logs.configure(logging.INFO, sys.argv[1] if len(sys.argv) > 1 else None)
for number in range(5):
    logging.getLogger("x").info("line %d", number)
    logging.getLogger("x").debug("unseen")
"""


def run(code: str = CODE, *argv: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code, *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=15)


def test_basic_format_on_stderr() -> None:
    """Without a file the lines go to stderr in the basic format, from the level upwards."""
    assert [f"INFO:x:line {n}" for n in range(5)] == run().stderr.splitlines()


def test_a_full_disk_is_said_once() -> None:
    """A log file on a full disk costs lines, not the service, and is told in one line."""
    done = run(CODE, "/dev/full")
    assert "log file /dev/full cannot be written (No space left on device)" in done.stderr
    assert 1 == done.stderr.count("/dev/full") - done.stderr.count("flush")
    assert 0 == done.returncode


def test_a_programs_own_handlers_stay() -> None:
    """A program that set up logging by itself keeps its handlers, and gets no second one."""
    code = "import logging; logging.basicConfig(format='mine %(message)s')\n" + CODE
    assert [f"mine line {n}" for n in range(5)] == run(code).stderr.splitlines()


def test_again_opens_the_file_anew(tmp_path: "os.PathLike[str]") -> None:
    """Configured again, as at a restart, a moved file is let go and lines come once."""
    path = os.path.join(tmp_path, "log")
    code = (
        CODE
        + f"""
import os
os.rename({path!r}, {path + ".1"!r})
logs.configure(logging.INFO, {path!r})
logging.getLogger("x").info("new")
"""
    )
    assert "" == run(code, path).stderr
    with open(path, encoding="utf-8") as file:
        assert "INFO:x:new\n" == file.read()


def test_stacks_name_threads() -> None:
    """All threads have their stacks told by name, without what every thread begins with."""
    release = threading.Event()
    thread = threading.Thread(target=lambda: release.wait(10), name="sleeper")
    thread.start()
    text = logs.thread_stacks()
    only = logs.thread_stacks([thread])
    release.set()
    thread.join()
    assert "Thread sleeper:\n" in text
    assert "Thread MainThread:\n" in text
    assert "Thread MainThread:\n" not in only
    assert "_bootstrap" not in only
    assert "" == logs.thread_stacks([thread])


@pytest.mark.parametrize("path", ["/", "/no/such/folder/log"])
def test_a_file_that_cannot_be_opened(path: str) -> None:
    """What cannot be opened for writing is an error that names it and the cure."""
    with pytest.raises(logs.LogFileError, match=f"--logfile {path}: .*; name a file that"):
        logs.configure(logging.INFO, path)

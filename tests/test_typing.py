"""What a user's type checker sees: options, requireTask and subclasses check under --strict."""

import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("mypy")

USER = """
from typing import assert_type

from sparts.cli import seconds
from sparts.options import option
from sparts.sparts import option as same_option
from sparts.vservice import VService
from sparts.vtask import VTask


class Consumer(VTask):
    port: int = option(type=int, default=8000)
    host = option(type=str, default=lambda cls: "localhost")
    quiet: bool = option(action="store_true", help="say less")
    sizes: list[int] = option(type=int, nargs="*")
    rate: float = same_option("rate", float, 1.0)
    INTERVAL = 5.0
    pause: float = option(type=seconds, default=lambda cls: cls.INTERVAL, metavar="SECONDS")

    def _runloop(self) -> None:
        assert_type(self.port, int)
        assert_type(self.host, str)
        self.port = 9


class Producer(VTask):
    DEPS = [Consumer]

    def initTask(self) -> None:
        super().initTask()
        assert_type(self.service.requireTask(Consumer), Consumer)
        assert_type(self.service.getTask(Consumer), Consumer | None)
        assert_type(self.service.requireTask("Consumer"), VTask)


class Mine(VService):
    ALL_TASKS = [Producer]
    DEFAULT_PORT = 8000
    DEFAULTS = {"Consumer_quiet": True}
"""


def check(code: str, folder: pathlib.Path) -> str:
    program = folder / "user.py"
    program.write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    return done.stdout + done.stderr


@pytest.mark.timeout(120)
def test_a_users_code_checks(tmp_path: pathlib.Path) -> None:
    """Options are typed as their values, and requireTask(Cls) as Cls; a wrong use is found."""
    assert "Success" in check(USER, tmp_path)
    said = check(USER + "\n\nConsumer.host.bit_length()\n", tmp_path)
    assert '"str" has no attribute "bit_length"' in said

"""Optional libraries: whether they are there, without importing them."""

import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import pytest

from sparts import deps

#: By its path, as beside an installed sparts the libraries may lie too.
SHOW = f"""import runpy
d = runpy.run_path({deps.__file__!r})
print(d["HAS_PSUTIL"], d["HAS_THRIFT"], d["HAS_DAEMONIZE"])"""
NAMES = ["psutil", "thrift", "daemon"]


def show(code: str = SHOW, *, cwd: Path | None = None, bare: bool = False) -> str:
    """What *code* prints in a fresh interpreter, *bare* one that has none of the libraries."""
    found = [] if bare else [*filter(None, sys.path)]
    code = f"import sys; sys.path += {found!r}\n{code}"
    flags = ["-S"] if bare else []
    done = subprocess.run(
        [sys.executable, *flags, "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=15,
        check=True,
    )
    return done.stdout.strip()


def test_what_is_installed() -> None:
    """Each name says what an import of the library would."""
    there = [importlib.util.find_spec(name) is not None for name in NAMES]
    assert there == [deps.HAS_PSUTIL, deps.HAS_THRIFT, deps.HAS_DAEMONIZE]


def test_nothing_is_installed() -> None:
    """An interpreter without the libraries has none of them."""
    assert "False False False" == show(bare=True)


def test_a_directory_is_no_library(tmp_path: Path) -> None:
    """A directory of the library's name in the working directory does not count."""
    for name in NAMES:
        (tmp_path / name).mkdir()
    assert "False False False" == show(cwd=tmp_path, bare=True)


def test_nothing_is_imported() -> None:
    """Looking does not load the libraries."""
    assert "[]" == show(f"import sparts.deps; print([n for n in {NAMES} if n in sys.modules])")


def test_a_module_without_a_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that was put in place by hand counts as there."""
    made = types.ModuleType("psutil")
    monkeypatch.setitem(sys.modules, "psutil", made)
    assert deps._installed("psutil")

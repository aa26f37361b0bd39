"""Context managers: what they change is as it was, also after an exception."""

import importlib
import os
import sys
import types
from pathlib import Path

import pytest

from sparts import ctx


def test_tmpdir_is_empty_and_goes() -> None:
    """It gives the path of a new directory and removes it with what is in it."""
    with ctx.tmpdir() as path:
        assert [] == os.listdir(path)
        (Path(path) / "sub").mkdir()
        (Path(path) / "sub" / "file").write_text("x")
    assert not os.path.exists(path)


def test_tmpdir_goes_after_an_exception() -> None:
    """An exception passes through, and the directory is removed all the same."""
    with pytest.raises(KeyError), ctx.tmpdir() as path:
        raise KeyError
    assert not os.path.exists(path)


def test_add_path_appends() -> None:
    """Without an index the path comes last, for as long as the block lasts."""
    before = list(sys.path)
    with ctx.add_path("/somewhere"):
        assert [*before, "/somewhere"] == sys.path
    assert before == sys.path


def test_add_path_at_an_index() -> None:
    """With an index it comes there; a path object does."""
    before = list(sys.path)
    with ctx.add_path(Path("/somewhere"), 0):
        assert ["/somewhere", *before] == sys.path
    assert before == sys.path


def test_add_path_after_an_exception() -> None:
    """An exception passes through, and the path is as it was."""
    before = list(sys.path)
    with pytest.raises(KeyError), ctx.add_path("/somewhere"):
        raise KeyError
    assert before == sys.path


@pytest.mark.parametrize("path", ["/one", "."])
@pytest.mark.parametrize("index", [None, 0, 1])
def test_add_path_leaves_others_alone(
    path: str, index: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An equal entry stays where it was, and so does what was added meanwhile."""
    monkeypatch.setattr(sys, "path", ["/zero", path, "/two"])
    with ctx.add_path(path, index):
        sys.path.append("/three")
    assert ["/zero", path, "/two", "/three"] == sys.path


def test_add_path_taken_out_by_someone_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no error if the entry is gone at the end."""
    monkeypatch.setattr(sys, "path", ["/zero"])
    with ctx.add_path("/one"):
        sys.path.remove("/one")
    assert ["/zero"] == sys.path


def test_add_path_sees_fresh_modules(tmp_path: Path) -> None:
    """A module that was written a moment before can be imported."""
    with ctx.module_snapshot(), ctx.add_path(tmp_path):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("ctx_fresh")
        (tmp_path / "ctx_fresh.py").write_text("value = 3")
        with ctx.add_path(tmp_path):
            assert 3 == importlib.import_module("ctx_fresh").value


def test_chdir(tmp_path: Path) -> None:
    """The process is in the directory for as long as the block lasts."""
    before = os.getcwd()
    with ctx.chdir(tmp_path):
        assert os.path.realpath(tmp_path) == os.getcwd()
    assert before == os.getcwd()


def test_chdir_after_an_exception(tmp_path: Path) -> None:
    """An exception passes through, and the process is back where it was."""
    before = os.getcwd()
    with pytest.raises(KeyError), ctx.chdir(tmp_path):
        raise KeyError
    assert before == os.getcwd()


def test_chdir_to_nowhere(tmp_path: Path) -> None:
    """A directory that is not there is an OSError, and the process stays where it is."""
    before = os.getcwd()
    with pytest.raises(FileNotFoundError), ctx.chdir(tmp_path / "none"):
        pytest.fail("was entered")
    assert before == os.getcwd()


def test_module_snapshot() -> None:
    """What was imported, taken out or replaced is at the end as it was."""
    sys.modules.pop("colorsys", None)
    kept, replaced = sys.modules["json"], sys.modules["os"]
    before = dict(sys.modules)
    with ctx.module_snapshot():
        importlib.import_module("colorsys")
        del sys.modules["json"]
        sys.modules["os"] = types.ModuleType("os")
        assert "colorsys" in sys.modules
    assert before == sys.modules
    assert kept is sys.modules["json"]
    assert replaced is sys.modules["os"]


def test_module_snapshot_after_an_exception() -> None:
    """An exception passes through, and the modules are as they were."""
    before = dict(sys.modules)
    with pytest.raises(KeyError), ctx.module_snapshot():
        raise KeyError(sys.modules.pop("json"))
    assert before == sys.modules

"""The bindings that are part of the source are what the compiler makes of their .thrift files."""

import importlib.util
import pathlib
import shutil
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import sparts.gen.fb303
from sparts.gen.fb303 import FacebookService, ttypes
from sparts.thrift.compiler import compile as compile_thrift

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FB303 = ROOT / "thrift/fb303.thrift"
PACKAGE = pathlib.Path(sparts.gen.fb303.__file__ or "").parent

#: The interface that monitoring tools know: each method with the numbers and names it takes.
METHODS = {
    "getName": [],
    "getVersion": [],
    "getStatus": [],
    "getStatusDetails": [],
    "getCounters": [],
    "getCounter": [(1, "key")],
    "setOption": [(1, "key"), (2, "value")],
    "getOption": [(1, "key")],
    "getOptions": [],
    "getCpuProfile": [(1, "profileDurationInSec")],
    "aliveSince": [],
    "reinitialize": [],
    "shutdown": [],
}


def modules_in(folder: pathlib.Path) -> dict[str, str]:
    """The texts of the modules in *folder*."""
    return {file.name: file.read_text("utf-8") for file in folder.glob("*.py")}


def version_of(modules: dict[str, str]) -> str:
    """The line that tells which compiler made *modules*."""
    return modules["ttypes.py"].splitlines()[1]


@pytest.mark.parametrize(
    ("source", "kept"),
    [(FB303, PACKAGE), (HERE / "example.thrift", HERE / "gen/example")],
    ids=["fb303", "example"],
)
def test_up_to_date(
    source: pathlib.Path, kept: pathlib.Path, need: Callable[[str], str], tmp_path: pathlib.Path
) -> None:
    """They are, text for text, where the compiler is of the version that made them."""
    if not source.exists():
        pytest.skip(f"not here: {source.name}")
    need("thrift")
    package = compile_thrift(source, tmp_path).package
    made, former = modules_in(tmp_path.joinpath(*package.split("."))), modules_in(kept)
    if version_of(made) != version_of(former):
        pytest.skip(f"not here: {version_of(former).strip('# ')}, which made {kept.name}")
    stale = {name for name in made | former if made.get(name) != former.get(name)}
    assert set() == stale, f"make {kept} anew of {source}"


def test_fb303() -> None:
    """fb303 has the methods, arguments and numbers that others know."""
    found = {name for name in vars(FacebookService.Iface) if not name.startswith("_")}
    assert set(METHODS) == found
    for name, fields in METHODS.items():
        spec = getattr(FacebookService, f"{name}_args").thrift_spec
        assert fields == [each[0:3:2] for each in spec if each]
    oneway = {name for name in METHODS if not hasattr(FacebookService, f"{name}_result")}
    assert {"reinitialize", "shutdown"} == oneway
    status = ["DEAD", "STARTING", "ALIVE", "STOPPING", "STOPPED", "WARNING"]
    assert dict(enumerate(status)) == ttypes.fb_status._VALUES_TO_NAMES


# -- setup.py -------------------------------------------------------------------------------------
@pytest.fixture
def setup_py(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The functions of setup.py, which itself finds nothing to build."""
    if not (ROOT / "setup.py").exists() or not FB303.exists():
        pytest.skip("not here: setup.py and thrift/fb303.thrift")
    for name in ("setuptools", "setuptools.command.build_py", "setuptools.command.sdist"):
        stub: Any = ModuleType(name)
        stub.setup = lambda **keywords: None
        stub.build_py = stub.sdist = object
        monkeypatch.setitem(sys.modules, name, stub)
    spec = importlib.util.spec_from_file_location("setup_of_sparts", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the interface and its bindings."""
    shutil.copytree(PACKAGE, tmp_path / "sparts/gen/fb303", ignore=shutil.ignore_patterns("__*__"))
    (tmp_path / "thrift").mkdir()
    shutil.copy(FB303, tmp_path / "thrift")
    return tmp_path


def with_another_method(tree: pathlib.Path) -> pathlib.Path:
    """Change the interface in *tree*; its bindings of the service."""
    text = (tree / "thrift/fb303.thrift").read_text()
    changed = text.replace("i64 aliveSince(),", "i64 aliveSince(), i64 another(),")
    (tree / "thrift/fb303.thrift").write_text(changed)
    return tree / "sparts/gen/fb303/FacebookService.py"


def test_a_build_makes_them_anew(
    setup_py: Any, tree: pathlib.Path, need: Callable[[str], str]
) -> None:
    """A build makes stale bindings anew, and leaves alone those that are up to date."""
    need("thrift")
    made = version_of(modules_in(PACKAGE))
    if "up to date" not in setup_py.regenerate(tree):
        pytest.skip(f"not here: {made.strip('# ')}")
    service = with_another_method(tree)
    stale = service.with_name("Stale.py")
    stale.write_text("")
    assert "made sparts/gen anew" == setup_py.regenerate(tree)
    assert "def another(self)" in service.read_text()
    assert not stale.exists()
    assert "sparts/gen is up to date" == setup_py.regenerate(tree)


def test_a_build_with_another_compiler(
    setup_py: Any, tree: pathlib.Path, need: Callable[[str], str]
) -> None:
    """Bindings that another version of the compiler made stay as they are."""
    need("thrift")
    types = tree / "sparts/gen/fb303/ttypes.py"
    types.write_text(types.read_text().replace("Compiler (", "Compiler (1"))
    before = with_another_method(tree).read_text()
    assert "another version" in setup_py.regenerate(tree)
    assert before == modules_in(types.parent)["FacebookService.py"]


def test_a_build_without_a_compiler(
    setup_py: Any, tree: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no compiler, or one that fails, the bindings stay as they are."""
    before = with_another_method(tree).read_text()
    monkeypatch.setenv("PATH", str(tree))
    assert "no thrift compiler" in setup_py.regenerate(tree)
    (tree / "thrift.sh").write_text("#!/bin/sh\necho Broken >&2\nexit 1\n")
    (tree / "thrift.sh").chmod(0o755)
    monkeypatch.setattr(setup_py.shutil, "which", lambda name: str(tree / "thrift.sh"))
    assert setup_py.regenerate(tree).endswith("Broken")
    assert before == modules_in(tree / "sparts/gen/fb303")["FacebookService.py"]

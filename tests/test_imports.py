"""What an import loads, and that ``__all__`` tells the truth."""

import ast
import importlib
import importlib.util
import inspect
import pathlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import sparts

#: The top-level modules that the container may load; each costs every service a little.
STANDARD = """
    argparse array ast atexit bisect collections concurrent contextlib copy copyreg dataclasses
    difflib dis enum functools gettext heapq importlib inspect itertools keyword linecache logging
    math opcode operator queue re reprlib signal string struct textwrap threading token tokenize
    traceback types typing warnings weakref
""".split()
OURS = """
    cli context counters declarations declared errors exports hooks lastwords lifecycle logs
    options percentiles runner samples series signals tasklist vservice vtask
""".split()
#: What only the task modules built on them may load.
LIBRARIES = "asyncio cronsim daemon dbus gevent thrift tornado twisted uvloop watchfiles".split()
NAMES = sorted(
    each.name
    for each in pkgutil.walk_packages(sparts.__path__, "sparts.")
    if not each.name.startswith("sparts.gen")  # generated
)


def loaded_by(module: str) -> set[str]:
    """What ``import module`` loads in a fresh interpreter."""
    code = "import sys; before = set(sys.modules); import %s; print(*set(sys.modules) - before)"
    argv = [sys.executable, "-c", code % module]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=15, check=True)
    return set(done.stdout.split())


def test_the_container_loads_only_what_it_needs() -> None:
    """Importing the container loads no library, and of ours and the standard ones just these."""
    loaded = loaded_by("sparts.vservice")
    assert {"sparts", *(f"sparts.{name}" for name in OURS)} == {
        name for name in loaded if name.partition(".")[0] == "sparts"
    }
    top = {name.partition(".")[0] for name in loaded if not name.startswith("_")}
    assert set() == top - {"sparts", *STANDARD}


@pytest.mark.parametrize(
    ("module", "needs"),
    [
        ("sparts.tasks.periodic", ""),
        ("sparts.tasks.poller", ""),
        ("sparts.tasks.queue", ""),
        ("sparts.tasks.file", ""),
        ("sparts.tasks.select", ""),
        ("sparts.tasks.asyncio", "asyncio"),
        ("sparts.tasks.tornado", "asyncio tornado"),
        ("sparts.testing.background, sparts.testing.cases, sparts.testing.leaks", ""),
        ("sparts.commands.run, sparts.__main__", ""),
        ("sparts.ops.hooks", ""),
        ("sparts.counters, sparts.options, sparts.collections", ""),
    ],
)
def test_a_module_loads_only_its_own_library(module: str, needs: str) -> None:
    """No module loads a library that it is not about."""
    top = {name.partition(".")[0] for name in loaded_by(module)}
    assert set(needs.split()) == top & set(LIBRARIES)


@pytest.mark.parametrize("name", NAMES)
def test_all_is_what_is_there(name: str) -> None:
    """Each name in ``__all__`` is defined, once; a module without it defines nothing public."""
    module = importlib.import_module(name)
    public = list(getattr(module, "__all__", ()))
    assert sorted(set(public)) == sorted(public)
    for each in public:
        assert hasattr(module, each)
    if not public:
        assert [] == [
            each
            for each, value in vars(module).items()
            if not each.startswith("_") and getattr(value, "__module__", "") == name
        ]


def imports_of(name: str) -> list[tuple[ModuleType, str]]:
    """What the module *name* takes from modules of ours: the module, and the name there."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(pathlib.Path(spec.origin).read_text(encoding="utf-8"))
    return [
        (importlib.import_module(node.module), alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("sparts.")
        and not (node.module or "").startswith("sparts.gen")  # generated
        for alias in node.names
        if node.module is not None
    ]


@pytest.mark.parametrize("name", NAMES)
def test_what_others_use_is_in_all(name: str) -> None:
    """A class or function that one module takes from another is in the other's ``__all__``."""
    for module, taken in imports_of(name):
        value = getattr(module, taken)
        if inspect.isclass(value) or inspect.isroutine(value):
            assert taken in module.__all__, module.__name__

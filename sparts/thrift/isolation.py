"""Generated modules that only each other can import: ``sys.modules`` and ``sys.path`` stay as is.

A module's ``import`` statements call the ``__import__`` of its builtins. Those of the modules here
have one that looks in their own world first, and asks Python's for everything else.
"""

import builtins
import importlib.util
import os
import threading
from collections.abc import Mapping, Sequence
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

from sparts.fileutils import readfilebytes

__all__ = ["Source", "World", "sources_in"]


class Source(InspectLoader):
    """The text of one module, from the file *path*; it keeps it, as the file may be removed.

    By it tracebacks and ``inspect`` find the lines. Two are equal when their texts are.
    """

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Source) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def is_package(self, fullname: str) -> bool:
        """Whether it is the text of a package itself."""
        return os.path.basename(self.path) == "__init__.py"

    def get_source(self, fullname: str) -> str:
        """The text."""
        return self.text

    def get_code(self, fullname: str) -> CodeType:
        """The text, compiled."""
        return self.source_to_code(self.text, self.path)


def sources_in(directory: str) -> dict[str, Source]:
    """The modules under *directory*, by dotted name; each directory in it is a package."""
    found = {}
    for folder, _, files in os.walk(directory):
        package = [] if folder == directory else os.path.relpath(folder, directory).split(os.sep)
        names = {name.removesuffix(".py") for name in files if name.endswith(".py")}
        for name in names - {"__init__"}:
            found[".".join([*package, name])] = _source(os.path.join(folder, f"{name}.py"))
        if package:
            found[".".join(package)] = _source(os.path.join(folder, "__init__.py"))
    return found


def _source(path: str) -> Source:
    text = importlib.util.decode_source(readfilebytes(path)) if os.path.exists(path) else ""
    return Source(path, text)


class World:
    """Modules by dotted name, which see each other and are seen by nobody else.

    It lives for as long as one of them does. All methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a module that is loaded loads others
        self._sources: dict[str, Source] = {}
        self._modules: dict[str, ModuleType] = {}
        self._builtins = {**vars(builtins), "__import__": self._import}

    def has(self, sources: Mapping[str, Source]) -> bool:
        """Whether every one of *sources* is here already."""
        return sources.items() <= self._sources.items()

    def accepts(self, sources: Mapping[str, Source]) -> bool:
        """Whether none of *sources* has the name of another that is here already."""
        return all(self._sources.get(name, each) == each for name, each in sources.items())

    def load(self, sources: Mapping[str, Source], package: str) -> ModuleType:
        """Take in *sources* and run those that are new; the module *package*.

        In every package with ``ttypes`` the classes of that are attributes of the package, too.
        """
        with self._lock:
            self._sources = {**sources, **self._sources}
            for name in sorted(sources):
                self._module(name)
            for name in sources:
                self._lift_types(name)
            return self._modules[package]

    def _module(self, name: str) -> ModuleType:
        """The module *name*, run if it was not; its package is run before it."""
        with self._lock:
            if name not in self._modules:
                parent, _, child = name.rpartition(".")
                if parent:
                    self._module(parent)
                self._modules[name] = module = importlib.util.module_from_spec(self._spec(name))
                vars(module)["__builtins__"] = self._builtins
                exec(self._sources[name].get_code(name), vars(module))
                if parent:
                    setattr(self._modules[parent], child, module)
            return self._modules[name]

    def _spec(self, name: str) -> ModuleSpec:
        source = self._sources[name]
        places = [os.path.dirname(source.path)] if source.is_package(name) else None
        spec = importlib.util.spec_from_file_location(
            name, source.path, loader=source, submodule_search_locations=places
        )
        assert spec is not None  # as it has a loader
        return spec

    def _lift_types(self, name: str) -> None:
        types = self._modules.get(f"{name}.ttypes")
        for key, value in vars(types).items() if types else ():
            if isinstance(value, type) and value.__module__ == f"{name}.ttypes":
                vars(self._modules[name]).setdefault(key, value)

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """The ``__import__`` of the modules here; see the function of that name in builtins."""
        full = name
        if level:
            full = importlib.util.resolve_name("." * level + name, (globals or {})["__package__"])
            if full not in self._sources:
                raise ModuleNotFoundError(f"No module named {full!r}", name=full)
        if full not in self._sources:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = self._module(full)
        if not fromlist:
            return self._module(full.partition(".")[0])
        for each in fromlist:
            if f"{full}.{each}" in self._sources:
                self._module(f"{full}.{each}")
        return module

"""Python bindings of .thrift files: written to a directory, or as modules at run time.

It takes Apache Thrift's compiler, the program ``thrift``, on the ``PATH``::

    with CompileContext() as context:
        example = context.importThrift("example.thrift")
    client = ThriftClient.for_localhost(9090, module=example.Calculator)

Options of the compiler's Python generator are keywords: ``CompileContext(slots=True)``. What is
wrong with a file is a :class:`CompileError` with file and line.
"""

import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Final

from sparts.errors import OptionError
from sparts.fileutils import (
    NamedTemporaryDirectory,
    StrPath,
    makedirs,
    readfilebytes,
    writefile,
    writefilebytes,
)
from sparts.thrift.complaints import CompileError, CompilerMissing
from sparts.thrift.generate import (
    TIMEOUT,
    Job,
    Option,
    check_readable,
    generate,
    get_executable,
    option_string,
    require_executable,
)
from sparts.thrift.isolation import Source, World, sources_in

__all__ = [
    "Bindings",
    "CompileContext",
    "CompileError",
    "CompilerMissing",
    "compile",
    "get_executable",
    "require_executable",
]

_PREFIX: Final = "sparts-thrift-"
#: What messages call a text that came from no file.
_STRING: Final = "<string>"
#: Where in a context's directory the files are that are included by a name.
_INCLUDE: Final = "include"


@dataclass(frozen=True)
class Bindings:
    """What :func:`compile` wrote: the *package* of the file, importable with *root* on the path.

    *files* are the absolute paths of all modules that belong to it, with those of included files.
    """

    package: str
    root: str
    files: tuple[str, ...]


def compile(
    path: StrPath,
    root: StrPath = ".",
    debug: bool = False,
    *,
    include_dirs: Iterable[StrPath] = (),
    recurse: bool = True,
    timeout: float = TIMEOUT,
    **options: Option,
) -> Bindings:
    """Write the bindings of the .thrift file *path* under the directory *root*, made if need be.

    They are written when all of them are made; what is there already with the same content is
    left alone, and so is the ``__init__.py`` of a package around theirs. With *recurse* those of
    included files, sought in *include_dirs* too, are written as well. The compiler's sample
    clients (``-remote``) are left out. It is killed after *timeout* seconds. With *debug* what it
    is told and what it says goes to the log, at level DEBUG.

    :raises CompilerMissing: there is no compiler.
    :raises CompileError: the file cannot be read, has an error, or took too long.
    :raises OptionError: an option that the compiler has not.
    :raises OSError: *root* cannot be written to.
    """
    check_readable(path)
    source = os.path.realpath(path)
    job = Job(
        source,
        options,
        include_dirs=[_include_dir(each) for each in include_dirs],
        names=[(source, os.fspath(path))],
        timeout=timeout,
        debug=debug,
    )
    with NamedTemporaryDirectory(prefix=_PREFIX) as made:
        package = generate(job, made.name, recurse=recurse)
        files = tuple(_install(made.name, os.path.abspath(root)))
    return Bindings(package, os.path.abspath(root), files)


def _install(made: str, root: str) -> Iterator[str]:
    """Copy the modules in *made* to *root*; their paths there."""
    for source in sorted(each.path for each in sources_in(made).values()):
        target = os.path.join(root, os.path.relpath(source, made))
        data = readfilebytes(source)
        there = os.path.exists(target)
        if not there or (data and data != readfilebytes(target)):
            makedirs(os.path.dirname(target))
            writefilebytes(target, data, atomic=True)
        yield target


def _include_dir(path: StrPath) -> str:
    if not os.path.isdir(path):
        raise CompileError("it is no directory to include from; give one", os.fspath(path))
    return os.path.realpath(path)


class CompileContext:
    """Imports .thrift files as modules, which neither ``sys.modules`` nor ``sys.path`` know.

    What :meth:`importThrift` returns is the package that the compiler makes, with everything in
    it loaded: ``package.ttypes``, ``package.constants``, and a module per service, which is what
    ``MODULE`` and ``module=`` take (``package.Calculator``). Structs, exceptions and enums are
    attributes of the package as well (``package.Item``). Modules have the names that they would
    have on the path, ``example.ttypes``; as nothing can import them by these, their objects
    cannot be pickled, but copied.

    Two contexts share nothing. In one context what two files include is loaded once, so long as
    its content stays the same, and importing an unchanged file again gives the same module.

    The compiler's files are in a temporary directory until the context is closed, by
    :meth:`close`, at the end of a ``with`` block or as garbage; the modules work on. All methods
    may be called from any thread.

    *timeout* is for one import, in seconds; see :func:`compile` for *debug* and *options*.

    :raises OptionError: an option that cannot be one.
    """

    def __init__(self, *, timeout: float = TIMEOUT, debug: bool = False, **options: Option) -> None:
        option_string(options)
        if "package_prefix" in options:
            raise OptionError("package_prefix is for compile(); here no path leads to a package")
        self._options = options
        self._timeout = timeout
        self._debug = debug
        self._lock = threading.RLock()
        self._world = World()
        self._include_dirs: list[str] = []
        temporary = os.path.realpath(tempfile.gettempdir())  # as the compiler calls it
        self._directory = NamedTemporaryDirectory(prefix=_PREFIX, dir=temporary)
        self._directory.makedirs(_INCLUDE)
        self._closed = False

    def importThrift(self, path: StrPath) -> ModuleType:
        """The package of the .thrift file *path*.

        :raises CompilerMissing: there is no compiler.
        :raises CompileError: the file, or one that it includes, cannot be read or has an error;
            it took too long; or the context is closed.
        :raises OptionError: an option that the compiler has not.
        """
        check_readable(path)
        source = os.path.realpath(path)
        with self._lock, self._folder() as folder:
            return self._import(folder, source, os.fspath(path))

    def importThriftStr(self, text: str) -> ModuleType:
        """The package of the .thrift file with the content *text*, which errors call ``<string>``.

        Without a namespace of its own it is called ``unnamed``. What it includes is sought where
        the ``add`` methods tell. It raises what :meth:`importThrift` does.
        """
        with self._lock, self._folder() as folder:
            source = folder.join("unnamed.thrift")
            writefile(source, text)
            return self._import(folder, source, _STRING)

    def addIncludeDir(self, path: StrPath) -> None:
        """Have files included from the directory *path*, too; it comes after those before.

        A file's own directory always comes first.

        :raises CompileError: it is no directory.
        """
        self._include_dirs.append(_include_dir(path))

    def addDependentFilePath(self, path: StrPath) -> None:
        """Have the file *path* included by its base name; what it includes itself lies beside it.

        :raises CompileError: it cannot be read, or the context is closed.
        """
        check_readable(path)
        with self._lock:
            os.symlink(os.path.realpath(path), self._place(os.path.basename(path)))

    def addDependentFileContents(self, name: StrPath, text: str) -> None:
        """Have a file with the content *text* included as *name*, such as ``shared/types.thrift``.

        :raises CompileError: *name* leads somewhere else, or the context is closed.
        """
        with self._lock:
            writefile(self._place(os.fspath(name)), text)

    def close(self) -> None:
        """Remove the compiler's files; what was imported works on. Again is fine."""
        with self._lock:
            self._closed = True
            self._directory.close()

    def __enter__(self) -> "CompileContext":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise CompileError("this CompileContext is closed; make another")

    def _folder(self) -> NamedTemporaryDirectory:
        """A directory for one import."""
        self._check_open()
        return NamedTemporaryDirectory(dir=self._directory.name)

    def _place(self, name: str) -> str:
        """The path for the include file *name*, where nothing is now."""
        self._check_open()
        if os.path.isabs(name) or not {"", os.curdir, os.pardir}.isdisjoint(name.split(os.sep)):
            raise CompileError("give a name to include it by, such as shared.thrift", name)
        path = os.path.join(self._directory.name, _INCLUDE, name)
        makedirs(os.path.dirname(path))
        if os.path.lexists(path):
            os.unlink(path)
        return path

    def _import(self, folder: NamedTemporaryDirectory, source: str, name: str) -> ModuleType:
        included = self._directory.join(_INCLUDE)
        job = Job(
            source,
            self._options,
            include_dirs=self._include_dirs,
            hidden_include_dirs=[included],
            names=[(source, name), (os.path.join(included, ""), "")],
            timeout=self._timeout,
            debug=self._debug,
        )
        folder.makedirs("py")
        package = generate(job, folder.join("py"))
        sources = sources_in(folder.join("py"))
        known = self._world.has(sources)
        module = self._load(sources, package, name)
        if not known:
            folder.keep()  # for as long as the context's own directory
        return module

    def _load(self, sources: Mapping[str, Source], package: str, name: str) -> ModuleType:
        if not self._world.accepts(sources):
            self._world = World()
        try:
            return self._world.load(sources, package)
        except ImportError:  # of a library that the options need
            self._world = World()
            raise
        except Exception as error:
            self._world = World()
            raise CompileError(
                f"what the compiler made of it is no good Python ({type(error).__name__}: {error})",
                name,
            ) from error

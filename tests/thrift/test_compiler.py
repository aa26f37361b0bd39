"""Compiling .thrift files: modules that stay to themselves, written bindings, and clear errors."""

import copy
import gc
import importlib
import inspect
import linecache
import logging
import os
import pathlib
import pickle
import select
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
from thrift.transport.TTransport import TMemoryBuffer

from sparts.ctx import add_path, module_snapshot
from sparts.errors import OptionError, SpartsError
from sparts.thrift import compiler
from sparts.thrift.compiler import CompileContext, CompileError, CompilerMissing

EXAMPLE = pathlib.Path(__file__).parent / "example.thrift"
SHARED = """
    namespace py shared.deeply
    enum Mood { GOOD = 1, BAD = 2 }
    struct Part { 1: i64 number, 2: Mood mood = Mood.GOOD }
    exception Refused { 1: string why }
    const i32 LIMIT = 7
    service Base { string ping() throws (1: Refused refused) }
"""
MAIN = """
    include "shared.thrift"
    namespace py main.program
    struct Whole { 1: list<shared.Part> parts }
    const map<string, i32> LIMITS = {"shared": shared.LIMIT}
    const shared.Part PART = {"number": 3}
    service Shop extends shared.Base { Whole whole(1: i64 n) throws (1: shared.Refused refused) }
"""


@pytest.fixture(autouse=True)
def _compiler(need: Callable[[str], str]) -> None:
    need("thrift")


@pytest.fixture
def context() -> Iterator[CompileContext]:
    with CompileContext() as made:
        yield made


@pytest.fixture
def fake(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``fake(script)``: have that as the compiler, and the only program on the PATH but sh's."""

    def put(script: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "thrift").write_text(script)
        (folder / "thrift").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    return put


class Shop:
    """A handler of the service Shop."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def ping(self) -> str:
        raise self.module.ttypes.shared.deeply.ttypes.Refused(why="shut")

    def whole(self, n: int) -> Any:
        part = self.module.ttypes.shared.deeply.ttypes.Part
        return self.module.Whole(parts=[part(number=each) for each in range(n)])


class Loop(TMemoryBuffer):  # type: ignore[misc]  # thrift is untyped
    """A client's transport, behind which a processor answers what is flushed."""

    def __init__(self, processor: Any) -> None:
        super().__init__()
        self.processor = processor
        self.asked = b""

    def write(self, data: bytes) -> None:
        self.asked += data

    def flush(self) -> None:
        asked, answer = TMemoryBuffer(self.asked), TMemoryBuffer()
        self.processor.process(
            TBinaryProtocolAccelerated(asked), TBinaryProtocolAccelerated(answer)
        )
        self.asked = b""
        super().__init__(answer.getvalue())


def calling(service: Any, handler: Any) -> Any:
    """A client of *service* that *handler* answers, by the accelerated protocol."""
    return service.Client(TBinaryProtocolAccelerated(Loop(service.Processor(handler))))


def failing(text: str, **options: Any) -> CompileError:
    """The error of *text*."""
    with CompileContext(**options) as context, pytest.raises(CompileError) as caught:
        context.importThriftStr(text)
    return caught.value


# -- what is imported -----------------------------------------------------------------------------
def test_a_package(context: CompileContext) -> None:
    """It is the package that the compiler makes, everything in it loaded and at hand."""
    example = context.importThrift(EXAMPLE)
    assert "example" == example.__name__
    assert "example.ttypes" == example.ttypes.__name__
    assert "example.Calculator" == example.Calculator.__name__
    assert example.Base.Iface in example.Calculator.Iface.__mro__
    assert example.ttypes.Item is example.Item
    assert (2, "nameless") == (example.Colour.GREEN, example.Item().name)
    assert not hasattr(example, "TType")


def test_sys_modules_is_left_alone(context: CompileContext) -> None:
    """Neither the modules' names nor their path are known to Python afterwards."""
    context.importThriftStr("service Before {}")  # which imports the library
    modules, path = dict(sys.modules), list(sys.path)
    context.addDependentFileContents("shared.thrift", SHARED)
    context.importThriftStr(MAIN)
    assert modules == sys.modules
    assert path == sys.path


def test_nor_are_they_seen_meanwhile(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody sees them in ``sys.modules`` while they are loaded; what they import is real."""
    (tmp_path / "spying.py").write_text(
        "import sys\nfrom thrift.protocol.TBase import TBase\n"
        "class Seen(TBase): names = [name for name in sys.modules if 'only_here' in name]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    # The semicolon, as the compiler ends that line with nothing.
    options: Any = {"dynamic": True, "dynbase": "Seen", "dynimport": "from spying import Seen;"}
    with module_snapshot(), CompileContext(**options) as context:
        module = context.importThriftStr("namespace py only_here\nstruct A { 1: i32 x }")
        assert sys.modules["spying"].Seen is module.A.__mro__[1]
        assert [] == module.A.names


def test_a_module_of_that_name_is_something_else(context: CompileContext) -> None:
    """A module that Python has imported under the same name is not taken, nor changed."""
    real = importlib.import_module("example.ttypes")
    private = context.importThrift(EXAMPLE)
    assert real is sys.modules["example.ttypes"]
    assert real.Item is not private.Item


def test_contexts_do_not_mix() -> None:
    """The same namespace is something else in each context, for what they include, too."""
    with CompileContext() as one, CompileContext() as other:
        one.addDependentFileContents("s.thrift", "namespace py s\nstruct S { 1: i32 x }")
        other.addDependentFileContents("s.thrift", "namespace py s\nstruct S { 1: string y }")
        text = 'include "s.thrift"\nnamespace py same\nstruct A { 1: s.S part }'
        modules = [each.importThriftStr(text) for each in (one, other)]
    first, second = (module.ttypes.s.ttypes.S() for module in modules)
    assert {"x": None} == vars(first)
    assert {"y": None} == vars(second)


def test_a_call(context: CompileContext) -> None:
    """Structs, exceptions and services of an included file go through the accelerated protocol."""
    context.addDependentFileContents("shared.thrift", SHARED)
    module = context.importThriftStr(MAIN)
    client = calling(module.Shop, Shop(module))
    part = module.ttypes.shared.deeply.ttypes.Part
    assert module.Whole([part(0), part(1)]) == client.whole(2)
    with pytest.raises(module.ttypes.shared.deeply.ttypes.Refused) as caught:
        client.ping()
    assert "shut" == caught.value.why


def test_constants(context: CompileContext) -> None:
    """Constants may be of an included file's, and of its types."""
    context.addDependentFileContents("shared.thrift", SHARED)
    module = context.importThriftStr(MAIN)
    assert {"shared": 7} == module.constants.LIMITS
    assert (3, 1) == (module.constants.PART.number, module.constants.PART.mood)


def test_functions_have_their_module(context: CompileContext) -> None:
    """A method's globals are those of its module, where its arguments' class is, also a base's."""
    context.addDependentFileContents("shared.thrift", SHARED)
    shop = context.importThriftStr(MAIN).Shop
    assert shop.whole_args is shop.Iface.whole.__globals__["whole_args"]
    base = shop.Iface.ping.__globals__
    assert ("shared.deeply.Base", base["ping_args"]) == (base["__name__"], base["ping_args"])


@pytest.mark.parametrize("namespace", ["thrift.of_mine", "thrift", "sparts.thrift"])
def test_a_namespace_inside_of_another_package(context: CompileContext, namespace: str) -> None:
    """A namespace may begin as a real package does: both are found."""
    text = f"namespace py {namespace}\nstruct A {{ 1: i32 x }}\nservice S {{}}\n"
    module = context.importThriftStr(f"{text} service T extends S {{ A a() }}")
    assert f"{namespace}.ttypes" == module.A.__module__
    assert module.S.Iface in module.T.Iface.__mro__


def test_without_a_namespace(context: CompileContext, tmp_path: pathlib.Path) -> None:
    """A file without a namespace is a package of its own name, a text is ``unnamed``."""
    (tmp_path / "plain.thrift").write_text("struct A {}")
    assert "plain" == context.importThrift(tmp_path / "plain.thrift").__name__
    assert "unnamed" == context.importThriftStr("struct A {}").__name__
    assert "unnamed.ttypes" == context.importThriftStr("").ttypes.__name__


@pytest.mark.parametrize("package", ["", "package."])
def test_what_is_included_is_loaded_once(context: CompileContext, package: str) -> None:
    """Two files of one context share the modules of what both include."""
    context.addDependentFileContents("shared.thrift", SHARED)
    text = 'include "shared.thrift"\nnamespace py {}\nstruct A {{ 1: shared.Part part }}'
    one, other = (context.importThriftStr(text.format(f"{package}{each}")) for each in "ab")
    assert one.ttypes.shared.deeply.ttypes.Part is other.ttypes.shared.deeply.ttypes.Part


def test_a_file_again(context: CompileContext, tmp_path: pathlib.Path) -> None:
    """A file as it was gives the same module; a changed one gives another beside the former."""
    file = tmp_path / "f.thrift"
    file.write_text("struct A { 1: i32 x }")
    first = context.importThrift(file)
    assert context.importThrift(file) is first
    file.write_text("struct A { 1: i32 y }")
    second = context.importThrift(file)
    assert ({"x": 1}, {"y": 1}) == (vars(first.A(1)), vars(second.A(1)))


# -- what is included -----------------------------------------------------------------------------
def test_includes(context: CompileContext, tmp_path: pathlib.Path) -> None:
    """A file is included from beside its own, an added directory, an added path, or a text."""
    for name in ("beside", "directory", "path", "below"):
        (tmp_path / name).mkdir()
    (tmp_path / "below/low.thrift").write_text("struct Low {}")
    for name, include in (("beside", ""), ("directory", ""), ("path", "../below/low.thrift")):
        text = f'include "{include}"\n' if include else ""
        text += "struct T { 1: low.Low x }" if include else "struct T {}"
        (tmp_path / name / f"{name}_.thrift").write_text(text)
    context.addIncludeDir(tmp_path / "directory")
    context.addDependentFilePath(tmp_path / "path/path_.thrift")
    context.addDependentFileContents("text/text_.thrift", "struct T {}")
    names = ["beside_", "directory_", "path_", "text_"]
    text = "".join(
        f'include "{"text/" if each == "text_" else ""}{each}.thrift"\n' for each in names
    )
    fields = ", ".join(f"{number}: {each}.T {each}" for number, each in enumerate(names, 1))
    (tmp_path / "beside/main.thrift").write_text(f"{text} struct Main {{ {fields} }}")
    module = context.importThrift(tmp_path / "beside/main.thrift")
    assert names == [each for each in names if hasattr(getattr(module.ttypes, each).ttypes, "T")]
    assert "low.ttypes" == module.ttypes.path_.ttypes.low.ttypes.Low.__module__


def test_another_content(context: CompileContext, tmp_path: pathlib.Path) -> None:
    """Of two dependent files of one name the last one counts."""
    (tmp_path / "d.thrift").write_text("struct D { 1: i32 second }")
    text = 'include "d.thrift"\nstruct A { 1: d.D d }'
    context.addDependentFileContents("d.thrift", "struct D { 1: i32 first }")
    assert ["first"] == list(vars(context.importThriftStr(text).ttypes.d.ttypes.D()))
    context.addDependentFilePath(tmp_path / "d.thrift")
    assert ["second"] == list(vars(context.importThriftStr(text).ttypes.d.ttypes.D()))
    context.addDependentFileContents("d.thrift", "struct D { 1: i32 third }")
    assert ["third"] == list(vars(context.importThriftStr(text).ttypes.d.ttypes.D()))
    assert "second" in (tmp_path / "d.thrift").read_text()


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "", ".", "a/", "./x"])
def test_a_name_that_leads_elsewhere(context: CompileContext, name: str) -> None:
    """A dependent file's name must be one that can be included, inside of the context."""
    with pytest.raises(CompileError, match=r"such as shared\.thrift"):
        context.addDependentFileContents(name, "")


# -- its life -------------------------------------------------------------------------------------
def raising(module: Any) -> str:
    """The traceback of an error in a generated module."""
    try:
        module.Item().write(None)
    except AttributeError:
        return traceback.format_exc()
    raise AssertionError("it should have failed")


@pytest.mark.parametrize("closed", [False, True])
def test_tracebacks_and_inspect(closed: bool) -> None:
    """A traceback shows the source, and ``inspect`` the module's; after the close, too."""
    with CompileContext() as context:
        module = context.importThrift(EXAMPLE)
        if not closed:
            linecache.clearcache()
            assert "if oprot._fast_encode is not None" in raising(module)
            assert inspect.getsource(module.Calculator).startswith("#\n# Autogenerated")
            assert "def ping" in inspect.getsource(module.Base.Iface.ping)
    linecache.clearcache()
    assert "if oprot._fast_encode is not None" in raising(module)
    assert inspect.getsource(module.Calculator).startswith("#\n# Autogenerated")


def test_modules_outlive_the_context() -> None:
    """What was imported works after the context and its files are gone."""
    with CompileContext() as context:
        context.addDependentFileContents("shared.thrift", SHARED)
        module = context.importThriftStr(MAIN)
        file = pathlib.Path(module.Shop.__file__ or "")
        assert file.is_file()
    assert not file.exists()
    assert 2 == len(calling(module.Shop, Shop(module)).whole(2).parts)


def test_a_closed_context() -> None:
    """It can be closed again, but not be used."""
    context = CompileContext()
    context.close()
    context.close()
    for use in (
        lambda: context.importThrift(EXAMPLE),
        lambda: context.importThriftStr(""),
        lambda: context.addDependentFilePath(EXAMPLE),
        lambda: context.addDependentFileContents("x.thrift", ""),
    ):
        with pytest.raises(CompileError, match="closed; make another"):
            use()


def test_a_forgotten_context(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its directory goes with it when nobody refers to it; a module of it does not hold it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    context = CompileContext()
    module = context.importThrift(EXAMPLE)
    assert 1 == len(list(tmp_path.iterdir()))
    del context
    gc.collect()
    assert [] == list(tmp_path.iterdir())
    assert 1 == module.Item(id=1).id


def test_little_is_left_between_imports(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an unchanged file nor one with an error adds to the files of a context."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with CompileContext() as context:
        context.importThrift(EXAMPLE)
        before = sum(1 for _ in tmp_path.rglob("*"))
        context.importThrift(EXAMPLE)
        with pytest.raises(CompileError):
            context.importThriftStr("nonsense")
        assert before == sum(1 for _ in tmp_path.rglob("*"))
    assert [] == list(tmp_path.iterdir())


def test_copies_and_pickles(context: CompileContext) -> None:
    """Objects can be copied; pickle refuses them, as it could not find their class again."""
    module = context.importThriftStr("namespace py only_here\nstruct A { 1: i32 x }")
    assert module.A(1) == copy.deepcopy(module.A(1))
    with pytest.raises((pickle.PicklingError, ModuleNotFoundError), match="only_here"):
        pickle.dumps(module.A(1))


def test_threads() -> None:
    """Contexts in several threads, and one that they share, do not disturb each other."""
    with CompileContext() as common, ThreadPoolExecutor(4) as pool:
        together = threading.Barrier(4)

        def work(number: int) -> tuple[int, int]:
            together.wait(10)
            text = f"namespace py same\nstruct A {{ 1: i32 x = {number} }}"
            with CompileContext() as own:
                return own.importThriftStr(text).A().x, common.importThriftStr(text).A().x

        assert [(number, number) for number in range(4)] == list(pool.map(work, range(4)))


# -- options --------------------------------------------------------------------------------------
def test_options() -> None:
    """Options of the generator are keywords; False and None leave one out."""
    with CompileContext(enum=True, slots=True, twisted=False, tornado=None) as context:
        example = context.importThrift(EXAMPLE)
    assert "GREEN" == example.Colour.GREEN.name
    assert not hasattr(example.Item(), "__dict__")


def test_an_option_that_is_none() -> None:
    """An option that the compiler has not is told with the nearest and all that it has."""
    with CompileContext(slotz=True) as context, pytest.raises(OptionError) as caught:
        context.importThrift(EXAMPLE)
    assert "no option 'slotz'; did you mean 'slots'?" in str(caught.value)
    for name in ("zope.interface", "package_prefix", "dynimport", "enum"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{"a b": True}, {"slots": "a,b"}, {"coding": "a\nb"}, {"x": 1}, {"package_prefix": "a"}],
)
def test_an_option_that_cannot_be(options: dict[str, Any]) -> None:
    """An option that cannot be passed on is refused before anything is run."""
    with pytest.raises(OptionError):
        CompileContext(**options)


# -- errors ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("struct A {\n  1: i32 x,,\n}", 2, "syntax error (last token was ',')"),
        ("\n\nstruct A { 1: i32 x 1: i32 y }", 3, "field identifier/name has already been used"),
        ("service A extends Q { }", 1, 'Service "Q" has not been defined.'),
        ('const i32 x = "s"\n', 2, "type error"),
        ("\n$", 2, 'Unexpected token in input: "$"'),
        ("struct A { 1: Nope x }", None, 'Type "Nope" not defined'),
        ("struct A { 1: i32 class }", None, "reserved language keyword"),
        ("namespace py my.if\nstruct A {}", None, "'my.if' cannot be the name of a Python package"),
        ('/** """ */ struct A {}', None, "no good Python (SyntaxError"),
    ],
)
def test_an_error_in_the_text(text: str, line: int | None, words: str) -> None:
    """It has the text's name, the line where the compiler tells one, and the compiler's words."""
    error = failing(text)
    assert ("<string>", line) == (error.file, error.line)
    assert words in error.words
    assert str(error).startswith("<string>: " if line is None else f"<string>:{line}: ")
    assert "/" not in str(error).replace("identifier/name", "")
    assert 2 == error.status


def test_an_error_in_a_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It calls the file what it was called, and an included one by its path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.thrift").write_text('include "b.thrift"\nstruct A { 1: b.B b }')
    (tmp_path / "b.thrift").write_text("\n\nstruct B {{")
    with CompileContext() as context:
        with pytest.raises(CompileError, match=f"^{tmp_path}/b.thrift:3: syntax error"):
            context.importThrift("a.thrift")
        (tmp_path / "a.thrift").write_text("\nstruct A {{")
        with pytest.raises(CompileError, match=r"^a\.thrift:2: syntax error"):
            context.importThrift("a.thrift")


def test_bytes_that_are_no_text(context: CompileContext, tmp_path: pathlib.Path) -> None:
    """What is no UTF-8 is shown escaped, so that the error can be printed."""
    (tmp_path / "x.thrift").write_bytes(b"\xff\xfe")
    with pytest.raises(CompileError, match=r"x\.thrift:1: Unexpected token.*\\xff") as caught:
        context.importThrift(tmp_path / "x.thrift")
    str(caught.value).encode()


def test_an_error_in_a_dependent_text(context: CompileContext) -> None:
    """It calls the text what it was called."""
    context.addDependentFileContents("shared/s.thrift", "\nstruct {")
    with pytest.raises(CompileError, match=r"^shared/s\.thrift:2: syntax error"):
        context.importThriftStr('include "shared/s.thrift"\nstruct A { 1: s.S s }')


@pytest.mark.parametrize("use", ["struct A {}", "struct A { 1: missing.M m }"])
def test_a_missing_include(context: CompileContext, tmp_path: pathlib.Path, use: str) -> None:
    """It is an error, used or not, with the line that includes it and where it was sought."""
    context.addIncludeDir(tmp_path)
    with pytest.raises(CompileError, match=r"no include file missing\.thrift") as caught:
        context.importThriftStr(f'\n\ninclude "missing.thrift"\n{use}')
    assert ("<string>", 3) == (caught.value.file, caught.value.line)
    assert f"include directories ({tmp_path})" in str(caught.value)


def test_one_that_includes_itself() -> None:
    """A circle of includes, at which the compiler crashes, is told as that."""
    assert "includes itself" in failing('include "unnamed.thrift"').words


def test_what_is_no_file(context: CompileContext, tmp_path: pathlib.Path) -> None:
    """A file that is missing, or is none, is told by its path with the reason."""
    os.mkfifo(tmp_path / "fifo")
    for path, reason in (
        (tmp_path / "none.thrift", "No such file or directory"),
        (tmp_path, "it is a directory"),
        (tmp_path / "fifo", "it is no regular file"),
    ):
        for take in (context.importThrift, context.addDependentFilePath, compiler.compile):
            with pytest.raises(CompileError) as caught:
                take(path)
            assert f"{path}: cannot read it ({reason}); give a .thrift file" == str(caught.value)
    with pytest.raises(CompileError, match="it is no directory"):
        context.addIncludeDir(EXAMPLE)


def test_a_shared_namespace(context: CompileContext) -> None:
    """Two files of one namespace, whose modules would overwrite each other, are refused."""
    context.addDependentFileContents("s.thrift", "namespace py same\nstruct S {}")
    with pytest.raises(CompileError, match="namespace, same, where") as caught:
        context.importThriftStr('include "s.thrift"\nnamespace py same\nstruct A { 1: s.S s }')
    assert "s.thrift and <string> have" in str(caught.value)


def test_a_file_that_several_include(context: CompileContext) -> None:
    """A file may be included in more than one way."""
    context.addDependentFileContents("low.thrift", "struct L {}")
    for each in "ab":
        text = f'include "low.thrift"\nstruct {each.upper()} {{ 1: low.L l }}'
        context.addDependentFileContents(f"{each}.thrift", text)
    text = "".join(f'include "{each}.thrift"\n' for each in ("a", "b", "low"))
    types = context.importThriftStr(f"{text} struct Top {{ 1: a.A a, 2: b.B b }}").ttypes
    assert types.a.ttypes.low.ttypes.L is types.b.ttypes.low.ttypes.L


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """Without the compiler the error says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiler.get_executable() is None
    for use in (compiler.require_executable, lambda: compiler.compile(EXAMPLE, tmp_path)):
        with pytest.raises(CompilerMissing, match="apt-get install thrift-compiler") as caught:
            use()
        assert isinstance(caught.value, SpartsError)


def test_a_compiler_that_cannot_run(fake: Callable[[str], None]) -> None:
    """One that the system cannot run is as good as none."""
    fake("no program at all")
    assert (compiler.get_executable() or "").endswith("/bin/thrift")
    with (
        CompileContext() as context,
        pytest.raises(CompilerMissing, match=r"cannot run .*bin/thrift"),
    ):
        context.importThrift(EXAMPLE)


def test_a_compiler_that_hangs(fake: Callable[[str], None], tmp_path: pathlib.Path) -> None:
    """It is killed at the deadline, with all that it started."""
    os.mkfifo(tmp_path / "alive")
    fake(f"#!/bin/sh\nsleep 60 >{tmp_path}/alive &\nwait\n")
    reader = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    try:
        error = failing("struct A {}", timeout=1.0)
        assert "did not end within 1 s and was killed" in error.words
        ended = select.poll()
        ended.register(reader)
        assert [(reader, select.POLLHUP)] == ended.poll(5000)
    finally:
        os.close(reader)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 3", "thrift ended with status 3"),
        ("echo Something odd; exit 1", "Something odd"),
        ("echo '[ERROR:x' >&2; exit 1", "[ERROR:x"),
        ("kill -ABRT $$", "crashed (SIGABRT)"),
        ("exit 0", "made nothing"),
    ],
)
def test_another_compiler(fake: Callable[[str], None], script: str, words: str) -> None:
    """What some other program says is passed on, or how it ended."""
    fake(f"#!/bin/sh\n{script}\n")
    assert words in failing("struct A {}").words


def test_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A warning of the compiler's is logged once; with *debug* what it is told and says, too."""
    caplog.set_level(logging.DEBUG)
    with CompileContext(debug=True) as context:
        context.addDependentFileContents("s.thrift", "\nstruct S { 1: byte x }")
        context.importThriftStr('include "s.thrift"\nstruct A { 1: s.S s }')
    [warning] = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert warning.getMessage().startswith('s.thrift:2: The "byte" type')
    assert "sparts.thrift.compiler" == warning.name
    assert " -gen py " in caplog.text
    assert 'Generating "py"' in caplog.text


# -- written to a directory -----------------------------------------------------------------------
def test_compile(tmp_path: pathlib.Path) -> None:
    """The bindings are under the root and can be imported from there, with what is included."""
    (tmp_path / "shared.thrift").write_text(SHARED)
    (tmp_path / "main.thrift").write_text(MAIN)
    made = compiler.compile(tmp_path / "main.thrift", tmp_path / "new/root", slots=True)
    assert ("main.program", str(tmp_path / "new/root")) == (made.package, made.root)
    found = [str(each) for each in (tmp_path / "new/root").rglob("*") if each.is_file()]
    assert sorted(found) == sorted(made.files)
    assert [] == [each for each in found if not each.endswith(".py")]
    with module_snapshot(), add_path(made.root):
        module = importlib.import_module(f"{made.package}.Shop")
        assert "shared.deeply.Base" == module.Iface.__mro__[1].__module__
        assert not hasattr(module.Whole(), "__dict__")


def test_compile_leaves_what_is_there(tmp_path: pathlib.Path) -> None:
    """A package around it keeps its own text, and modules that are as they should be their time."""
    (tmp_path / "main").mkdir()
    (tmp_path / "main/__init__.py").write_text("mine = 1\n")
    (tmp_path / "x.thrift").write_text("namespace py main.program\nstruct A { 1: i32 x }")
    types = tmp_path / "main/program/ttypes.py"
    compiler.compile(tmp_path / "x.thrift", tmp_path)
    os.utime(types, (1, 1))
    compiler.compile(tmp_path / "x.thrift", tmp_path)
    assert 1 == types.stat().st_mtime
    (tmp_path / "x.thrift").write_text("namespace py main.program\nstruct A { 1: i32 y }")
    compiler.compile(tmp_path / "x.thrift", tmp_path)
    assert "'y'" in types.read_text()
    assert "mine = 1\n" == (tmp_path / "main/__init__.py").read_text()


def test_compile_the_file_alone(tmp_path: pathlib.Path) -> None:
    """Without *recurse* only the file's own bindings are made."""
    (tmp_path / "include").mkdir()
    (tmp_path / "include/shared.thrift").write_text(SHARED)
    (tmp_path / "main.thrift").write_text(MAIN)
    made = compiler.compile(
        tmp_path / "main.thrift",
        tmp_path / "root",
        include_dirs=[tmp_path / "include"],
        recurse=False,
    )
    assert "main.program" == made.package
    assert ["main"] == os.listdir(tmp_path / "root")


def test_compile_writes_all_or_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an error nothing was written; the default root is the current directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.thrift").write_text("struct A {} struct B { 1: i32 class }")
    with pytest.raises(CompileError, match=r"^x\.thrift: .*reserved language keyword"):
        compiler.compile("x.thrift")
    assert ["x.thrift"] == os.listdir(tmp_path)
    (tmp_path / "x.thrift").write_text("struct A {}")
    assert "x" == compiler.compile("x.thrift").package
    assert (tmp_path / "x/ttypes.py").is_file()

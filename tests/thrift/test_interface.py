"""What the compiler's output tells of a service, in every form in which it writes it."""

import importlib
import inspect
import pathlib
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from sparts.errors import OptionError
from sparts.thrift.interface import Interface, InterfaceError, Method

EXAMPLE = pathlib.Path(__file__).parent / "example.thrift"
ODD = """
struct note_result { 1: i32 x }
exception Bad { 1: string why }
exception Frozen { 1: string why } (python.immutable = "")
service Odd {
  i32 nokeys(i32 a, i32 b),
  i32 autothrow(1: i32 a) throws (Bad b),
  void vthrow(1: i32 a) throws (1: Bad b, 2: Frozen f),
  void named(1: i32 a) throws (1: Bad success),
  i32 defaults(1: list<i32> xs = [1, 2], 2: i32 b),
  i32 later(1: i32 a, 2: string b = "x", 3: list<i32> c = [1]),
  i32 swapped(2: i32 second, 1: i32 first),
  oneway void note(1: i32 word),
}
service Empty {}
"""

Make = Callable[..., Any]


@pytest.fixture
def generated(
    need: Callable[[str], str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Make]:
    """``generated(text, service, options)``: the module that the compiler makes, imported."""
    before = set(sys.modules)

    def make(text: str, service: str, options: str = "") -> Any:
        file = tmp_path / "made.thrift"
        file.write_text(f"namespace py made_here\n{text}")
        command = [need("thrift"), "--gen", f"py:{options}", "-out", str(tmp_path), str(file)]
        subprocess.run(command, check=True, capture_output=True)
        monkeypatch.syspath_prepend(str(tmp_path))
        return importlib.import_module(f"made_here.{service}")

    yield make
    for name in set(sys.modules) - before:
        if name.startswith("made_here"):
            del sys.modules[name]


@pytest.fixture
def calculator() -> Any:
    """The bindings of the example's service."""
    return importlib.import_module("example.Calculator")


@pytest.fixture
def odd(generated: Make) -> Interface:
    """The interface of ``Odd``."""
    return Interface.of(generated(ODD, "Odd"))


# -- the usual ------------------------------------------------------------------------------------
def test_methods_in_order(calculator: Any) -> None:
    """All methods are there, those of the extended service first."""
    interface = Interface.of(calculator)
    assert "Calculator" == interface.name
    assert ["ping", "add", "divide", "echo"] == list(interface.methods)[:4]
    assert 16 == len(interface.methods)


def test_a_method(calculator: Any) -> None:
    """A method tells its classes, arguments, defaults and exceptions."""
    import example.ttypes

    divide = Interface.of(calculator).methods["divide"]
    assert "divide" == divide.name
    assert calculator.divide_args is divide.args_class
    assert calculator.divide_result is divide.result_class
    assert calculator.divide_args.thrift_spec is divide.args_spec
    assert divide.result_class is not None
    assert divide.result_class.thrift_spec is divide.result_spec
    assert [divide.result_class, divide.result_spec] == divide.result_coding
    assert ("a", "b") == divide.arg_names
    assert (("refused", example.ttypes.Refused),) == divide.exceptions
    assert ("refused",) == divide.exception_fields
    assert not divide.oneway
    assert not divide.is_void


def test_an_inherited_method(calculator: Any) -> None:
    """The classes of an inherited method are those of the service it comes from."""
    import example.Base

    assert example.Base.ping_args is Interface.of(calculator).methods["ping"].args_class


def test_void_and_oneway(calculator: Any) -> None:
    """A void method has a result without a value; a oneway method has none."""
    methods = Interface.of(calculator).methods
    assert (True, False) == (methods["nothing"].is_void, methods["nothing"].oneway)
    assert (True, True) == (methods["note"].is_void, methods["note"].oneway)
    assert methods["note"].result_class is None
    assert methods["note"].result_coding is None


def test_doc_and_signature(calculator: Any) -> None:
    """The comment and the defaults of the .thrift file are shown."""
    methods = Interface.of(calculator).methods
    assert methods["wait"].doc.startswith("Takes so many seconds.\n")
    assert "" == methods["ping"].doc
    assert "(a, b=10)" == str(methods["add"].signature)
    assert "()" == str(methods["ping"].signature)


def test_arguments(calculator: Any) -> None:
    """Arguments come by place, by name, and by default."""
    add = Interface.of(calculator).methods["add"]
    assert calculator.add_args(1, 2) == add.arguments(1, 2)
    assert calculator.add_args(1, 2) == add.arguments(b=2, a=1)
    assert calculator.add_args(1, 10) == add.arguments(1)
    assert calculator.add_args(None, 3) == add.arguments(None, 3)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, r"add\(a, b=10\): missing a required argument: 'a'"),
        ((1, 2, 3), {}, r"add\(a, b=10\): too many positional arguments"),
        ((1,), {"c": 1}, "unexpected keyword argument 'c'"),
        ((1, 2), {"a": 1}, "multiple values for argument 'a'"),
    ],
)
def test_wrong_arguments(calculator: Any, args: Any, kwargs: Any, message: str) -> None:
    """Wrong ones are a TypeError that shows how the method is called."""
    with pytest.raises(TypeError, match=message):
        Interface.of(calculator).methods["add"].arguments(*args, **kwargs)


def test_made_once(calculator: Any) -> None:
    """A module has one interface, whoever asks, and it cannot be changed."""
    interface = Interface.of(calculator)
    assert interface is Interface.of(calculator)
    with pytest.raises(FrozenInstanceError):
        interface.name = "other"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        interface.methods["ping"].oneway = True  # type: ignore[misc]
    with pytest.raises(TypeError):
        interface.methods["ping"] = interface.methods["add"]  # type: ignore[index]


def test_a_reloaded_module(generated: Make) -> None:
    """A module that was loaded again has a new interface."""
    module = generated(ODD, "Odd")
    before = Interface.of(module)
    assert before is not Interface.of(importlib.reload(module))


def test_a_module_that_is_not_in_sys_modules(generated: Make) -> None:
    """It is found out from the module itself, also where ``sys.modules`` does not know it."""
    module = generated(EXAMPLE.read_text().replace("namespace py example", ""), "Calculator")
    for name in [each for each in sys.modules if each.startswith("made_here")]:
        del sys.modules[name]
    assert {"ping", "add"} < set(Interface.of(module).methods)


# -- what the compiler may do ---------------------------------------------------------------------
@pytest.mark.parametrize("options", ["slots", "dynamic", "dynamic,slots", "enum", "no_utf8strings"])
def test_every_style(generated: Make, calculator: Any, options: str) -> None:
    """Every style of generated code tells the same."""
    text = EXAMPLE.read_text().replace("namespace py example", "")
    interface = Interface.of(generated(text, "Calculator", options))

    def told(method: Method) -> tuple[object, ...]:
        names = [name for name, _ in method.exceptions]
        return method.arg_names, str(method.signature), method.oneway, method.is_void, names

    expected = {name: told(each) for name, each in Interface.of(calculator).methods.items()}
    assert expected == {name: told(each) for name, each in interface.methods.items()}
    assert 3 == interface.methods["add"].arguments(1, 3).b
    assert "Refused" == interface.methods["divide"].exceptions[0][1].__name__


def test_fields_without_numbers(odd: Interface) -> None:
    """Where the compiler leaves the spec empty although there are fields, there is no spec."""
    nokeys, autothrow = odd.methods["nokeys"], odd.methods["autothrow"]
    assert nokeys.args_spec is None
    assert nokeys.args_coding is None
    assert ("a", "b") == nokeys.arg_names
    assert autothrow.result_spec is None
    assert () == autothrow.exceptions
    assert ("b",) == autothrow.exception_fields
    assert not autothrow.is_void


def test_exceptions_of_a_void_method(odd: Interface) -> None:
    """Exceptions are told by field, frozen ones too, and one that is called "success"."""
    vthrow, named = odd.methods["vthrow"], odd.methods["named"]
    assert ["b", "f"] == [name for name, _ in vthrow.exceptions]
    assert ["Bad", "Frozen"] == [each.__name__ for _, each in vthrow.exceptions]
    assert vthrow.is_void
    assert named.is_void
    assert ("success",) == named.exception_fields


def test_defaults(odd: Interface) -> None:
    """Only the last arguments can be left out."""
    assert "(xs, b)" == str(odd.methods["defaults"].signature)
    later = odd.methods["later"]
    assert "(a, b='x', c=[1])" == str(later.signature)
    assert ("x", [1]) == (later.arguments(1).b, later.arguments(1).c)


def test_arguments_out_of_order(odd: Interface) -> None:
    """Arguments are taken in the order in which they are written, whatever their numbers."""
    swapped = odd.methods["swapped"]
    assert ("second", "first") == swapped.arg_names
    assert 1 == swapped.arguments(1, 2).second


def test_a_struct_named_like_a_result(odd: Interface) -> None:
    """A oneway method ``note`` has no result, though a struct may be called ``note_result``."""
    assert odd.methods["note"].oneway


def test_a_service_without_methods(generated: Make) -> None:
    """A service may be empty."""
    assert {} == Interface.of(generated(ODD, "Empty")).methods


# -- something else -------------------------------------------------------------------------------
def test_no_module() -> None:
    """What is no service is refused with what would be one."""
    for wrong in (None, 3, "example.Calculator", object, threading):
        with pytest.raises(InterfaceError, match=r"is no Thrift service; .*example.Calculator"):
            Interface.of(wrong)
    assert issubclass(InterfaceError, OptionError)


def test_the_class_instead_of_the_module(calculator: Any) -> None:
    """One of the classes in the module is not the module."""
    for wrong in (calculator.Client, calculator.Iface, calculator.Iface()):
        with pytest.raises(InterfaceError, match="give the module"):
            Interface.of(wrong)


def test_the_package_instead_of_the_module(calculator: Any) -> None:
    """Of a package with services in it, they are named."""
    with pytest.raises(InterfaceError, match=r"here are .*Calculator"):
        Interface.of(importlib.import_module("example"))


def test_not_generated() -> None:
    """An ``Iface`` with methods that have no structs was not made by the compiler."""
    module = types.ModuleType("mine")

    class Iface:
        def call(self) -> None: ...

    vars(module)["Iface"] = Iface
    with pytest.raises(InterfaceError, match=r"method call\(\) but no struct call_args"):
        Interface.of(module)
    assert inspect.isclass(Iface)

"""What the module that the Thrift compiler made of a service tells of its methods.

Everything that calls or serves methods by name takes it from here: which classes hold a method's
arguments and its result, in what order, with which defaults, and which exceptions it declares.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from sparts.errors import OptionError

__all__ = ["Interface", "InterfaceError", "Method"]

#: The name under which a module keeps the Interface that was made of it.
_KEPT: Final = "__sparts_interface__"
#: Thrift's number of the type "struct"; exceptions are structs.
_STRUCT: Final = 12
#: The field of a result that holds what the method returned.
_SUCCESS: Final = "success"

#: A ``thrift_spec``: a description of each field, at the index that is its number.
Spec = tuple[tuple[Any, ...] | None, ...]


class InterfaceError(OptionError):
    """What was given is no module of a service, or not of the one that is meant."""


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """One method of a service; immutable, so threads share it freely."""

    #: Its name, which is that of its messages too.
    name: str
    #: The generated struct of its arguments; it takes them in the order of ``arg_names``.
    args_class: type[Any]
    #: The generated struct of its result and exceptions; None for a oneway method.
    result_class: type[Any] | None
    #: The ``thrift_spec`` of the arguments; None where the compiler made none that holds them.
    args_spec: Spec | None
    #: The ``thrift_spec`` of the result; None for a oneway method, or as above.
    result_spec: Spec | None
    #: ``[class, spec]``, as the accelerated codecs take them; None where there is no spec.
    args_coding: list[Any] | None
    result_coding: list[Any] | None
    arg_names: tuple[str, ...]
    oneway: bool
    #: The declared exceptions: the result's field, and the class.
    exceptions: tuple[tuple[str, type[BaseException]], ...]
    #: The fields of the result that hold an exception, also where no spec tells their classes.
    exception_fields: tuple[str, ...]
    #: Whether there is no value to return; a oneway method is void too.
    is_void: bool
    #: Its comment in the .thrift file and its parameters; '' when it has neither.
    doc: str
    #: How it is called, without ``self``, with the defaults of the .thrift file.
    signature: inspect.Signature

    def arguments(self, *args: Any, **kwargs: Any) -> Any:
        """The struct of these arguments, checked by number and name.

        :raises TypeError: one is missing, unknown, given twice or too many.
        """
        if kwargs or len(args) != len(self.arg_names):
            try:
                args = self.signature.bind(*args, **kwargs).args
            except TypeError as error:
                raise TypeError(f"{self.name}{self.signature}: {error}") from None
        return self.args_class(*args)


@dataclass(frozen=True, slots=True, eq=False)
class Interface:
    """One service: its name, the generated ``Iface``, and its methods, inherited ones first."""

    name: str
    iface: type[Any]
    methods: Mapping[str, Method] = field(repr=False)

    @classmethod
    def of(cls, module: Any) -> "Interface":
        """The interface of the generated *module*; the same one each time, kept in the module.

        :raises InterfaceError: *module* is not what the compiler makes of a service.
        """
        iface = getattr(module, "Iface", None)
        if not inspect.ismodule(module) or not inspect.isclass(iface):
            raise InterfaceError(_refusal(module))
        kept = vars(module).get(_KEPT)
        if not isinstance(kept, Interface) or kept.iface is not iface:
            kept = cls(module.__name__.rpartition(".")[2], iface, _methods_of(iface))
            setattr(module, _KEPT, kept)
        return kept


# -- reading generated code -----------------------------------------------------------------------
def _methods_of(iface: type[Any]) -> Mapping[str, Method]:
    """Those of the services it extends first, then its own, in the order of the .thrift file."""
    found: dict[str, Method] = {}
    for each in reversed(iface.__mro__[:-1]):
        for name, function in vars(each).items():
            if inspect.isfunction(function):
                found[name] = _method(name, function)
    return MappingProxyType(found)


def _method(name: str, function: Callable[..., Any]) -> Method:
    # The globals of the function itself: an inherited one lies in another module, and a module
    # that was compiled at run time need not be in sys.modules.
    scope = function.__globals__
    args_class = scope.get(f"{name}_args")
    if not inspect.isclass(args_class):
        raise InterfaceError(
            f"{function.__module__} has the method {name}() but no struct {name}_args for its "
            "arguments; give the module as the Thrift compiler made it (thrift --gen py)"
        )
    result_class = scope.get(f"{name}_result")
    # A struct of that name in the .thrift file does not belong to the method.
    if getattr(result_class, "__module__", None) != args_class.__module__:
        result_class = None
    args_spec, result_spec = _spec_of(args_class), _spec_of(result_class)
    fields = _field_names(result_class)
    is_void = not _returns(fields, result_spec)
    return Method(
        name=name,
        args_class=args_class,
        result_class=result_class,
        args_spec=args_spec,
        result_spec=result_spec,
        args_coding=None if args_spec is None else [args_class, args_spec],
        result_coding=None if result_spec is None else [result_class, result_spec],
        arg_names=_field_names(args_class),
        oneway=result_class is None,
        exceptions=_exceptions(result_spec),
        exception_fields=tuple(each for each in fields if each != _SUCCESS or is_void),
        is_void=is_void,
        doc=inspect.cleandoc(function.__doc__ or ""),
        signature=_signature(args_class),
    )


def _spec_of(struct: type[Any] | None) -> Spec | None:
    """Its ``thrift_spec``, unless fields are missing there.

    For fields without a number in the .thrift file the compiler makes up negative ones, and
    leaves the spec empty: the accelerated codecs would then drop them.
    """
    spec = getattr(struct, "thrift_spec", None)
    if not isinstance(spec, tuple) or (not spec and _field_names(struct)):
        return None
    return spec


def _fields(struct: type[Any] | None) -> list[inspect.Parameter]:
    """What the struct's constructor takes: its fields, in the order of the .thrift file."""
    if struct is None or struct.__init__ is object.__init__:
        return []
    return list(inspect.signature(struct).parameters.values())


def _field_names(struct: type[Any] | None) -> tuple[str, ...]:
    return tuple(each.name for each in _fields(struct))


def _returns(fields: tuple[str, ...], spec: Spec | None) -> bool:
    """Whether a result of these fields has a value, which is the field of number 0."""
    return _SUCCESS in fields if spec is None else bool(spec) and spec[0] is not None


def _exceptions(spec: Spec | None) -> tuple[tuple[str, type[BaseException]], ...]:
    return tuple(
        (each[2], each[3][0])
        for each in (spec or ())[1:]
        if each is not None and each[1] == _STRUCT
    )


def _signature(args_class: type[Any]) -> inspect.Signature:
    """The arguments of the struct; those that can be left out are the last ones with a default."""
    kept: list[inspect.Parameter] = []
    optional = True
    for each in reversed(_fields(args_class)):
        optional = optional and each.default is not None
        default = each.default if optional else inspect.Parameter.empty
        kept.insert(0, each.replace(default=default))
    return inspect.Signature(kept)


def _refusal(module: Any) -> str:
    what = getattr(module, "__name__", None) or repr(module)
    kind = "module" if inspect.ismodule(module) else type(module).__name__
    message = (
        f"{what} ({kind}) is no Thrift service; give the module that the Thrift compiler made of "
        "one, which has the classes Iface and Client: for a service Calculator in the namespace "
        "py example that is example.Calculator"
    )
    services = [
        name
        for name, each in (vars(module).items() if inspect.ismodule(module) else ())
        if inspect.ismodule(each) and hasattr(each, "Iface")
    ]
    return f"{message}; here are {', '.join(services)}" if services else message

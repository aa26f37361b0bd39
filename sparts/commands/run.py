"""The verb run: a service of any module, by its name."""

import contextlib
import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterator, Sequence
from types import ModuleType, TracebackType
from typing import Any

from sparts.errors import OptionError, SpartsError, nearest
from sparts.vservice import VService

__all__ = ["load", "run"]

USAGE = "usage: sparts run module:Service [-- OPTIONS]"


def run(argv: Sequence[str]) -> None:
    """Run a service: sparts run module:Service -- OPTIONS of the service.

    :raises SpartsError: there is no such service.
    :raises SystemExit: the service failed, or its module could not be imported.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, "\nsparts run module:Service -- -h lists the options of the service")
        raise SystemExit(0 if argv else 2)
    target, options = argv[0], list(argv[1:])
    if options[:1] == ["--"]:
        del options[0]
    sys.argv = [f"sparts run {target}", *options]
    load(target).initFromCLI()


def load(target: str) -> type[VService]:
    """The service class that *target*, ``module:attribute``, names.

    A module of the current directory is found too. A program that calls ``initFromCLI()`` when it
    is imported does not start by that.

    :raises OptionError: *target* is not of that form, or there is no such service.
    :raises SystemExit: the module raised when it was imported; its traceback was printed.
    """
    module_name, colon, attribute = target.partition(":")
    dotted = all(map(str.isidentifier, module_name.split(".")))
    if not dotted or module_name.endswith(".py") or bool(colon) != bool(attribute):
        raise OptionError(f"{target!r} is not module:Service, like app:MyService{_hint(target)}")
    module = _import(module_name)
    services = _services(module)
    having = f"services in {module_name}: {', '.join(services) or 'none'}"
    if not attribute:
        raise OptionError(f"{target!r} does not say which service, like {target}:Name; {having}")
    try:
        found: Any = module
        for part in attribute.split("."):
            found = getattr(found, part)
    except AttributeError:
        close = nearest(attribute, services) or nearest(attribute, vars(module))
        raise OptionError(f"{module_name} has no {attribute!r}{close}; {having}") from None
    if not (isinstance(found, type) and issubclass(found, VService)):
        raise OptionError(f"{target} is {found!r}, which is no VService class; {having}")
    return found


def _hint(target: str) -> str:
    path, _, attribute = target.partition(":")
    if "/" not in path and not path.endswith(".py"):
        return ""
    name = os.path.normpath(path).removesuffix(".py").replace("/", ".")
    return f"; a module goes by its name: {name}:{attribute or 'MyService'}"


def _services(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, VService) and value is not VService
    ]


# -- importing ----------------------------------------------------------------------------------
def _import(name: str) -> ModuleType:
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        with _not_starting():
            return importlib.import_module(name)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{name}.".startswith(f"{missing}."):
            raise OptionError(_no_module(name, missing)) from None
        if isinstance(error, SpartsError):
            raise
        traceback.print_exception(type(error), error, _of_the_user(error.__traceback__))
        raise SystemExit(1) from None


def _no_module(name: str, missing: str) -> str:
    parent, _, last = missing.rpartition(".")
    if not parent:
        known = {each.name for each in pkgutil.iter_modules([os.getcwd()])}
        return f"no module {missing!r}{nearest(last, known)}; looked in {os.getcwd()} and sys.path"
    path = getattr(sys.modules.get(parent), "__path__", None)
    if path is None:
        return f"no module {missing!r}: {parent} is a module, not a package; write {parent}:Service"
    known = {each.name for each in pkgutil.iter_modules(path)}
    return f"no module {missing!r}{nearest(last, known)}; {parent} has {', '.join(sorted(known))}"


def _of_the_user(tb: TracebackType | None) -> TracebackType | None:
    """*tb* from where it has left this module and the import machinery."""
    while tb is not None:
        file = tb.tb_frame.f_code.co_filename
        if file not in (__file__, importlib.__file__) and not file.startswith("<frozen"):
            break
        tb = tb.tb_next
    return tb


@contextlib.contextmanager
def _not_starting() -> Iterator[None]:
    """Keep a program that is imported from starting its service by itself."""
    original = VService.__dict__["initFromCLI"]
    VService.initFromCLI = classmethod(lambda cls, name=None: None)  # type: ignore[assignment]
    try:
        yield
    finally:
        VService.initFromCLI = original  # type: ignore[method-assign]

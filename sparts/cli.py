"""The command line of a service: the parser made of what it and its tasks declare, and errors."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from sparts.errors import OptionError, SpartsError, nearest
from sparts.hooks import hook_classes
from sparts.options import HasOptions, Option
from sparts.tasklist import Tasks
from sparts.vtask import REGISTERED

if TYPE_CHECKING:
    from sparts.vservice import VService

__all__ = [
    "all_tasks",
    "build_parser",
    "fill",
    "guarded",
    "new_parser",
    "parse",
    "seconds",
    "set_option",
]


def seconds(text: str) -> float:
    """The type of an option that holds a duration: a float of 0 or more seconds."""
    value = float(text)
    if not (value >= 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return value


def all_tasks(service: "type[VService]") -> Tasks:
    """The task classes of *service*, with the registered ones and all dependencies, in order."""
    return Tasks([*service.ALL_TASKS, *service.TASKS, *REGISTERED.classes])


# -- building the parser ------------------------------------------------------------------------
class _HelpFormatter(argparse.HelpFormatter):
    """As argparse's, which is made for every argument and imports shutil for the width: 2 ms."""

    def __init__(self, prog: str, **settings: Any) -> None:
        settings.setdefault("width", _columns() - 2)
        super().__init__(prog, **settings)


def _columns() -> int:
    """The width of the terminal, as ``shutil.get_terminal_size`` finds it."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


def new_parser(service: "type[VService]") -> argparse.ArgumentParser:
    """The parser that a service has unless it makes its own; flags are never abbreviated."""
    parser = argparse.ArgumentParser(
        description=service.__doc__, allow_abbrev=False, formatter_class=_HelpFormatter
    )
    if service.VERSION:
        version = f"{service.__name__} {service.VERSION}"
        parser.add_argument("--version", action="version", version=version)
    return parser


def build_parser(service: "type[VService]") -> argparse.ArgumentParser:
    """A parser with every option of *service*, its hooks and its tasks, each task's in a group.

    :raises OptionError: two owners declare one flag, or a default has no option.
    """
    parser = service._makeArgumentParser()
    tasks = all_tasks(service)
    defaults = _defaults(service, tasks)
    owners: dict[str, str] = {}
    for owner in (service, *hook_classes(service)):
        _add(parser, owner, owners, defaults)
    service._addArguments(parser)
    for task in tasks.classes:
        if any(task._declaredOptions()):
            group = parser.add_argument_group(task.__name__, _first_line(task.__doc__))
            _add(group, task, owners, defaults)
    return parser


def _add(
    group: argparse._ActionsContainer,
    owner: type[HasOptions],
    owners: dict[str, str],
    defaults: dict[str, Any],
) -> None:
    for each in owner._declaredOptions():
        flag, dest = each.flag(owner), owner._optionDest(each)
        over = {"default": defaults[dest]} if dest in defaults else {}
        other = owners.setdefault(flag, owner.__name__)
        if other is not owner.__name__:
            raise OptionError(
                f"{flag} is declared by both {other} and {owner.__name__}; "
                "give one of them another OPT_PREFIX or option name"
            )
        try:
            each.add_to(group, owner, **over)
        except argparse.ArgumentError as error:
            raise OptionError(f"{owner.__name__}: {error}; give it another name") from None


def _first_line(doc: str | None) -> str | None:
    return doc.strip().splitlines()[0] if doc and doc.strip() else None


def _owners(service: "type[VService]", tasks: Tasks) -> Iterator[type[HasOptions]]:
    yield service
    yield from hook_classes(service)
    yield from tasks.classes


def _declared(
    service: "type[VService]", tasks: Tasks
) -> dict[str, tuple[type[HasOptions], Option]]:
    return {
        owner._optionDest(each): (owner, each)
        for owner in _owners(service, tasks)
        for each in owner._declaredOptions()
    }


def _defaults(service: "type[VService]", tasks: Tasks) -> dict[str, Any]:
    """What ``DEFAULTS`` (a subclass's over its bases') and ``DEFAULT_PORT`` say, by option."""
    merged: dict[str, Any] = {}
    for base in reversed(service.__mro__):
        merged.update(vars(base).get("DEFAULTS", {}))
    if not merged and not hasattr(service, "DEFAULT_PORT"):
        return merged
    known = _declared(service, tasks)
    for name in merged:
        if name not in known:
            raise OptionError(
                f"{service.__name__}.DEFAULTS: no task has an option {name!r}{nearest(name, known)}"
            )
    if hasattr(service, "DEFAULT_PORT"):
        merged.setdefault(_port_option(service, known), service.DEFAULT_PORT)
    return merged


def _port_option(
    service: "type[VService]", known: dict[str, tuple[type[HasOptions], Option]]
) -> str:
    ports = {
        dest: owner.__name__
        for dest, (owner, each) in known.items()
        if each.name == "port" and owner is not service
    }
    if len(ports) == 1:
        return next(iter(ports))
    port = getattr(service, "DEFAULT_PORT", None)
    having = f"{', '.join(ports.values())} have one each" if ports else "none of its tasks has one"
    raise OptionError(
        f"{service.__name__}.DEFAULT_PORT needs exactly one task with a port option, but {having}; "
        f"use DEFAULTS = {{'{next(iter(ports), 'task_port')}': {port!r}}}"
    )


# -- using it -----------------------------------------------------------------------------------
def parse(service: "type[VService]", argv: Sequence[str]) -> argparse.Namespace:
    """The options in *argv*.

    :raises SystemExit: with status 2, having told what is wrong with them and which name is the
        nearest; with status 1 when ``--tasks`` had no names, having listed the tasks.
    """
    parser = service._buildArgumentParser()
    options, extra = parser.parse_known_args(argv)
    if extra:
        parser.error(f"unrecognized arguments: {' '.join(extra)}{_nearest_flag(parser, extra)}")
    _check_tasks(service, parser, getattr(options, "tasks", None))
    return options


def _nearest_flag(parser: argparse.ArgumentParser, extra: Sequence[str]) -> str:
    import difflib

    flags = [flag for action in parser._actions for flag in action.option_strings]
    for word in extra:
        if word.startswith("-"):
            found = difflib.get_close_matches(word.partition("=")[0], flags, n=1)
            return f"; did you mean {found[0]}?" if found else ""
    return ""


def _check_tasks(
    service: "type[VService]", parser: argparse.ArgumentParser, names: list[str] | None
) -> None:
    if names is None:
        return
    tasks = all_tasks(service)
    if not names:
        print("Tasks:", *(f"  {task.__name__}" for task in tasks.classes), sep="\n")
        raise SystemExit(1)
    try:
        tasks.select(names)
    except KeyError as error:
        parser.error(f"--tasks: {error.args[0]}")


def fill(service: "type[VService]", tasks: Tasks, options: argparse.Namespace) -> None:
    """Give the options that *options* lacks, as one made by hand may, their defaults."""
    values = vars(options)
    missing = [
        (dest, owner, each)
        for dest, (owner, each) in _declared(service, tasks).items()
        if dest not in values
    ]
    if missing:
        defaults = _defaults(service, tasks)
        for dest, owner, each in missing:
            default = defaults.get(dest, each.default_for(owner))
            values[dest] = each.convert(default, owner)


def set_option(service: "VService", name: str, value: Any) -> None:
    """Set the option *name* of *service*, converted if it is a declared one.

    :raises OptionError: the value is not of the declared type.
    """
    found = _declared(type(service), service.tasks).get(name)
    if found is not None:
        owner, declared = found
        value = declared.convert(value, owner)
    setattr(service.options, name, value)


def guarded(run: Callable[[], object], name: str) -> None:
    """Call *run*; an error that a user made is one line on stderr and an exit status.

    :raises SystemExit: there was one, or ^C came before the service could handle it.
    """
    try:
        run()
    except SpartsError as error:
        _leave(f"{name}: error: {error}", error.status)
    except KeyboardInterrupt:
        _leave(f"{name}: interrupted", 130)


def _leave(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(status)

"""The command line of a service: the parser made of what it and its tasks declare, and errors."""

import argparse
import contextlib
import itertools
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from sparts.declarations import declared_options, default_values, fill, set_option
from sparts.errors import DependencyError, OptionError, SpartsError
from sparts.hooks import hook_classes
from sparts.options import HasOptions
from sparts.tasklist import Tasks
from sparts.vtask import REGISTERED

if TYPE_CHECKING:
    from sparts.vservice import VService

__all__ = [
    "all_tasks",
    "build_parser",
    "fill",
    "guarded",
    "list_tasks",
    "new_parser",
    "parse",
    "seconds",
    "selected",
    "set_option",
]


#: What instances have that is no attribute of the class, and what tasks of ours make an option.
_OF_INSTANCES = {"hooks", "lifecycle", "logger", "options", "service", "tasks", "threads"}
_MAY_BE_OPTIONS = {"workers"}
_TAKEN: dict[type, set[str]] = {}


def seconds(text: str) -> float:
    """The type of an option that holds a duration: a float of 0 or more seconds."""
    value = float(text)
    if not (value >= 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return value


def all_tasks(service: "type[VService]") -> Tasks:
    """The task classes of *service*, with the registered ones and all dependencies, in order."""
    for name, value in (("ALL_TASKS", service.ALL_TASKS), ("TASKS", service.TASKS)):
        if not isinstance(value, (list, tuple)):
            raise DependencyError(f"{service.__name__}.{name} is {value!r}; write a list of tasks")
    return Tasks([*service.ALL_TASKS, *service.TASKS, *REGISTERED.classes])


def selected(tasks: Tasks, names: Sequence[str] | None) -> Tasks:
    """Those of *tasks* that ``--tasks`` names, with what they depend on; all without names.

    :raises OptionError: there is no task of such a name.
    """
    try:
        return tasks.select(names) if names else tasks
    except KeyError as error:
        raise OptionError(f"--tasks: {error.args[0]}") from None


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
    defaults = default_values(service, tasks)
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
        if each.attribute in _taken(owner):
            raise OptionError(
                f"{owner.__name__}.{each.attribute} is an option where sparts has an attribute of "
                f"its own; write {each.attribute}_ = option(name={each.attribute!r}, ...)"
            )
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


def _taken(owner: type[HasOptions]) -> set[str]:
    """The names of what a service, a task or a hook has, beside its options."""
    base: type[HasOptions] = next(
        each
        for each in owner.__mro__
        if issubclass(each, HasOptions)
        and each.__module__ in ("sparts.vservice", "sparts.vtask", "sparts.hooks")
    )
    found = _TAKEN.get(base)
    if found is None:
        members = {name for each in base.__mro__ for name in vars(each)}
        options = {each.attribute for each in base._declaredOptions()}
        found = _TAKEN[base] = (members | _OF_INSTANCES) - options - _MAY_BE_OPTIONS
    return found


def _first_line(doc: str | None) -> str | None:
    return doc.strip().splitlines()[0] if doc and doc.strip() else None


# -- using it -----------------------------------------------------------------------------------
def parse(service: "type[VService]", argv: Sequence[str]) -> argparse.Namespace:
    """The options in *argv*.

    :raises SystemExit: with status 2, having told what is wrong with them and which name is the
        nearest; with status 1 when ``--tasks`` had no names, having listed the tasks.
    """
    parser = service._buildArgumentParser()
    _check_flags(parser, argv)
    _waive_required(service, parser, argv)
    options, extra = parser.parse_known_args(argv)
    if extra:
        parser.error(f"unrecognized arguments: {' '.join(extra)}{_nearest_flag(parser, extra)}")
    list_tasks(service, options)
    try:
        selected(all_tasks(service), options.tasks)
    except OptionError as error:
        parser.error(str(error))
    return options


def _nearest_flag(parser: argparse.ArgumentParser, extra: Sequence[str]) -> str:
    import difflib

    flags = [flag for action in parser._actions for flag in action.option_strings]
    for word in extra:
        if word.startswith("-"):
            found = difflib.get_close_matches(word.partition("=")[0], flags, n=1)
            return f"; did you mean {found[0]}?" if found else ""
    return ""


def _check_flags(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Tell of an unknown flag, which argparse does only where nothing that is required lacks."""
    if any(action.nargs == argparse.REMAINDER for action in parser._actions):
        return
    known = [flag for action in parser._actions for flag in action.option_strings]
    for word in itertools.takewhile(lambda each: each != "--", argv):
        flag = word.partition("=")[0]
        short = parser.allow_abbrev and any(each.startswith(flag) for each in known)
        if flag.startswith("--") and flag not in known and not short:
            parser.error(f"unrecognized arguments: {word}{_nearest_flag(parser, [word])}")


def _waive_required(
    service: "type[VService]", parser: argparse.ArgumentParser, argv: Sequence[str]
) -> None:
    """Ask for no option of what will not run: tasks that were not chosen, or the whole service."""
    hooks = hook_classes(service)
    instead = {f"--{name}" for hook in hooks for name in hook.INSTEAD}
    needed: set[str] | None = set() if instead.intersection(argv) else None
    if needed is None and "--tasks" in argv:
        after = argv[argv.index("--tasks") + 1 :]
        names = list(itertools.takewhile(lambda each: not each.startswith("-"), after))
        with contextlib.suppress(KeyError):  # which is told later
            chosen = all_tasks(service).select(names)
            needed = set(declared_options(service, chosen)) if names else set()
    for action in parser._actions:
        if needed is not None and action.option_strings and action.dest not in needed:
            action.required = False


def list_tasks(service: "type[VService]", options: argparse.Namespace) -> None:
    """List the tasks if ``--tasks`` was given without names.

    :raises SystemExit: with status 1, having listed them.
    """
    if getattr(options, "tasks", None) == []:
        names = [task.__name__ for task in all_tasks(service).classes] or ["(none)"]
        print("Tasks:", *(f"  {name}" for name in names), sep="\n")
        raise SystemExit(1)


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

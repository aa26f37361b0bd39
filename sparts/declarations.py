"""The options that a service, its hooks and its tasks declare, and the service's defaults.

For clients of a running service, values are texts, written as on a command line.
"""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sparts.errors import OptionError, nearest
from sparts.hooks import hook_classes
from sparts.options import HIDDEN, HasOptions, Option
from sparts.tasklist import Tasks

if TYPE_CHECKING:
    from sparts.vservice import VService

__all__ = [
    "declared_options",
    "default_values",
    "fill",
    "option_texts",
    "set_from_text",
    "set_option",
]


def _owners(service: "type[VService]", tasks: Tasks) -> Iterator[type[HasOptions]]:
    yield service
    yield from hook_classes(service)
    yield from tasks.classes


def declared_options(
    service: "type[VService]", tasks: Tasks
) -> dict[str, tuple[type[HasOptions], Option]]:
    return {
        owner._optionDest(each): (owner, each)
        for owner in _owners(service, tasks)
        for each in owner._declaredOptions()
    }


def default_values(service: "type[VService]", tasks: Tasks) -> dict[str, Any]:
    """What ``DEFAULTS`` (a subclass's over its bases') and ``DEFAULT_PORT`` say, by option."""
    merged: dict[str, Any] = {}
    for base in reversed(service.__mro__):
        merged.update(vars(base).get("DEFAULTS", {}))
    if not merged and not hasattr(service, "DEFAULT_PORT"):
        return merged
    known = declared_options(service, tasks)
    for name in merged:
        if name not in known:
            raise OptionError(
                f"{service.__name__}.DEFAULTS: no task has an option {name!r}{nearest(name, known)}"
            )
    if hasattr(service, "DEFAULT_PORT") and not _has_own_port(service, known):
        merged.setdefault(_port_option(service, known), service.DEFAULT_PORT)
    return merged


def _has_own_port(
    service: "type[VService]", known: dict[str, tuple[type[HasOptions], Option]]
) -> bool:
    """Whether DEFAULT_PORT is for a port option of the service itself, and no task has one."""
    return {owner for owner, each in known.values() if each.name == "port"} == {service}


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


def fill(service: "type[VService]", tasks: Tasks, options: argparse.Namespace) -> None:
    """Complete a namespace that was made by hand: what it lacks has its default, what it has as
    text its type.

    :raises OptionError: a value is not of its option's type.
    """
    values = vars(options)
    defaults: dict[str, Any] | None = None
    for dest, (owner, each) in declared_options(service, tasks).items():
        if dest not in values:
            defaults = default_values(service, tasks) if defaults is None else defaults
            values[dest] = each.convert(defaults.get(dest, each.default_for(owner)), owner)
        elif isinstance(values[dest], str) and not each.is_text(owner):
            values[dest] = each.convert(values[dest], owner)


def set_option(service: "VService", name: str, value: Any) -> None:
    """Set the option *name* of *service*, converted if it is a declared one.

    :raises OptionError: the value is not of the declared type.
    """
    found = declared_options(type(service), service.tasks).get(name)
    if found is not None:
        owner, declared = found
        value = declared.convert(value, owner)
    setattr(service.options, name, value)


# -- as texts -------------------------------------------------------------------------------------
def option_texts(service: "VService") -> dict[str, str]:
    """The values of the declared options of *service*, by name; those that are secret are hidden.

    An option without a value is ``''``, a list its words as in a shell. What was added to the
    parser without a declaration is left out, as nobody knows whether it is secret.
    """
    values = vars(service.options).copy()
    known = declared_options(type(service), service.tasks)
    return {name: _text(each, values.get(name)) for name, (_, each) in known.items()}


def _text(declared: Option, value: Any) -> str:
    if value is None or value == "":
        return ""
    if declared.secret:
        return HIDDEN
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        import shlex  # only here, as the container itself has no need of it

        return shlex.join(map(str, value))
    return str(value)


def set_from_text(service: "VService", name: str, text: str) -> None:
    """Set the declared option *name* of *service* as *text*, the words of a list as in a shell.

    :raises OptionError: there is no such option, or the text is not of the declared type.
    """
    name = name.replace("-", "_")
    known = declared_options(type(service), service.tasks)
    if name not in known:
        raise OptionError(f"no option {name[:_LONG]!r}{nearest(name[:_LONG], known)}")
    owner, declared = known[name]
    value = text if declared.nargs in (None, "?") else _words(declared, text, declared.flag(owner))
    service.setOption(name, value)


#: Characters of a name that was made up, at most.
_LONG = 100


def _words(declared: Option, text: str, flag: str) -> list[str]:
    """The words in *text*, as many as the option takes."""
    import shlex

    try:
        words = shlex.split(text)
    except ValueError as error:
        raise OptionError(f"{flag}: {error}; quote as in a shell") from None
    lowest = declared.nargs if isinstance(declared.nargs, int) else int(declared.nargs == "+")
    if len(words) < lowest or (isinstance(declared.nargs, int) and len(words) > lowest):
        raise OptionError(f"{flag}: {len(words)} values, but it takes {declared.nargs}")
    return words

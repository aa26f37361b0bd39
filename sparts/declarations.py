"""The options that a service, its hooks and its tasks declare, and the service's defaults."""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sparts.errors import OptionError, nearest
from sparts.hooks import hook_classes
from sparts.options import HasOptions, Option
from sparts.tasklist import Tasks

if TYPE_CHECKING:
    from sparts.vservice import VService

__all__ = ["declared_options", "default_values", "fill", "set_option"]


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

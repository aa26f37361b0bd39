"""Hooks around a service's launch, start and stop, which features plug into by name.

The container and its command line know no feature: they run the hooks that are listed here or on
the service (``HOOKS``), each a class or ``"module:attr"`` imported when a command line is built.
"""

import argparse
import importlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

from sparts.errors import SpartsError
from sparts.options import HasOptions

if TYPE_CHECKING:
    from sparts.vservice import VService

__all__ = ["DEFAULT_HOOKS", "Hook", "Hooks", "hook_classes", "load"]

#: What every service has, in order: the first is the outermost.
DEFAULT_HOOKS: tuple[str, ...] = (
    "sparts.ops.hooks:RunitHook",
    "sparts.ops.hooks:DaemonHook",
)


class Hook(HasOptions):
    """A feature around a service's life; override what it needs, and declare its options on it.

    Its options have no prefix, as the service's own. One instance serves one launch: it outlives
    the restarts that happen within it.
    """

    OPT_PREFIX: ClassVar[str | None] = None
    #: The names of its options with which the service is not started.
    INSTEAD: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options

    def launch(self, service_class: "type[VService]", name: str, proceed: Callable[[], int]) -> int:
        """Around everything: return ``proceed()``, or an exit status without it."""
        return proceed()

    def before_start(self, service: "VService") -> None:
        """Before any task is created; an exception stops the service as a failure."""

    def after_start(self, service: "VService") -> None:
        """When all tasks are started; an exception stops the service as a failure."""

    def before_stop(self, service: "VService") -> None:
        """Before the first task is stopped."""

    def after_stop(self, service: "VService") -> None:
        """When every task has ended, or was given up on at the stop's deadline."""


class Hooks:
    """The hooks of one service, entered in order and left in reverse."""

    def __init__(self, hooks: Iterable[Hook] = ()) -> None:
        self._hooks = list(hooks)

    @classmethod
    def of(cls, service_class: "type[VService]", options: argparse.Namespace) -> "Hooks":
        """One of each hook that *service_class* has."""
        return cls(hook(options) for hook in hook_classes(service_class))

    def add(self, hook: Hook) -> None:
        """Add *hook* innermost; it hears of what happens from now on."""
        self._hooks.append(hook)

    def launch(self, service_class: "type[VService]", name: str, run: Callable[[], int]) -> int:
        """Run *run* inside every hook's ``launch``; the exit status."""
        for hook in reversed(self._hooks):
            run = _inside(hook, service_class, name, run)
        return run()

    def starting(self, service: "VService") -> None:
        """Tell all, in order, that the start begins; the first that raises fails the service."""
        for hook in self._hooks:
            if not self._told(hook, Hook.before_start.__name__, service):
                return

    def started(self, service: "VService") -> None:
        """Tell all, in order, that the start is done; the first that raises fails the service."""
        for hook in self._hooks:
            if not self._told(hook, Hook.after_start.__name__, service):
                return

    def stopping(self, service: "VService") -> None:
        """Tell all, in reverse, that the stop begins; what they raise is the service's failure."""
        for hook in reversed(self._hooks):
            self._told(hook, Hook.before_stop.__name__, service)

    def stopped(self, service: "VService") -> None:
        """Tell all, in reverse, that the stop is done; what they raise is the service's failure."""
        for hook in reversed(self._hooks):
            self._told(hook, Hook.after_stop.__name__, service)

    def _told(self, hook: Hook, moment: str, service: "VService") -> bool:
        try:
            getattr(hook, moment)(service)
        except BaseException as error:
            service.fail(error, type(hook).__name__)
            return False
        return True


def _inside(
    hook: Hook, service_class: "type[VService]", name: str, run: Callable[[], int]
) -> Callable[[], int]:
    return lambda: hook.launch(service_class, name, run)


def hook_classes(service_class: "type[VService]") -> list[type[Hook]]:
    """The default hooks, then those in the class's ``HOOKS``."""
    return [load(spec) for spec in (*DEFAULT_HOOKS, *service_class.HOOKS)]


def load(spec: str | type[Hook]) -> type[Hook]:
    """The hook class that *spec* names, ``"module:attr"`` or the class itself.

    :raises SpartsError: there is no such module or attribute, or it is no Hook.
    """
    if isinstance(spec, type):
        return spec
    module, _, attribute = spec.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SpartsError(
            f"hook {spec!r} cannot be loaded ({error}); write 'module:attr'"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Hook)):
        raise SpartsError(f"hook {spec!r} is {found!r}, not a subclass of sparts.hooks.Hook")
    return found

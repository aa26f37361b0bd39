"""Options declared as class attributes: one declaration gives a flag, a typed attribute, help.

A task's option ``port`` with ``OPT_PREFIX = 'http'`` is the flag ``--http-port``, the namespace
name ``http_port`` and the attribute ``task.port``; a service's option has no prefix.
"""

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from types import NoneType
from typing import Any, ClassVar, Literal, TypeVar, cast, overload

from sparts.errors import OptionError

__all__ = ["HIDDEN", "HasOptions", "Option", "option"]

T = TypeVar("T")
_BOOLS = {"true": True, "yes": True, "on": True, "1": True}
_BOOLS.update({"false": False, "no": False, "off": False, "0": False})


class Option:
    """A declared option; made by :func:`option`, read and set through the instance it stands on."""

    def __init__(
        self, name: str | None, kind: Callable[[Any], Any] | None, **settings: Any
    ) -> None:
        self.name = name or ""
        self.type = boolean if kind is bool else kind
        self.default: Any = settings.pop("default", None)
        self.help: str | None = settings.pop("help", None)
        self.action: str | None = settings.pop("action", None)
        self.nargs: int | str | None = settings.pop("nargs", None)
        self.choices: Sequence[Any] | None = settings.pop("choices", None)
        #: Whether its value is shown to nobody: not in help, not in errors, not to clients.
        self.secret: bool = settings.pop("secret", False)
        self.settings = settings
        if self.is_flag and kind is not None:
            raise OptionError(f"option {name or ''}: {self.action} takes no value, so no type")

    def __set_name__(self, owner: type, attribute: str) -> None:
        self.name = self.name or attribute
        #: The name of the attribute that it is.
        self.attribute = attribute

    @property
    def is_flag(self) -> bool:
        """Whether it is a bool that the command line switches on or off without a value."""
        return self.action in ("store_true", "store_false")

    def __get__(self, instance: "HasOptions | None", owner: type) -> Any:
        if instance is None:
            return self
        dest = instance._optionDest(self)
        values = vars(instance.options)
        return values[dest] if dest in values else self.default_for(type(instance))

    def __set__(self, instance: "HasOptions", value: Any) -> None:
        setattr(instance.options, instance._optionDest(self), self.convert(value, instance))

    def default_for(self, owner: "type[HasOptions]") -> Any:
        """The class's default, converted; a callable default is asked with *owner*."""
        default = self.default(owner) if callable(self.default) else self.default
        if default is None and self.is_flag:
            return self.action == "store_false"
        plain = isinstance(default, str) or (self.nargs is not None and _has_text(default))
        return self.convert(default, owner) if plain else default

    def is_text(self, owner: "type[HasOptions]") -> bool:
        """Whether a text is a value of it as it stands, as far as can be told."""
        if isinstance(self.type, type):
            return issubclass(self.type, str)
        return not self.is_flag and isinstance(self.default_for(owner), (str, NoneType))

    def convert(self, value: Any, owner: "HasOptions | type[HasOptions]") -> Any:
        """*value* as the declared type.

        :raises OptionError: it is not one, or not among the choices.
        """
        if value is None:
            return None
        try:
            return self._checked(value, owner)
        except OptionError:
            if self.secret:
                raise OptionError(f"{self.flag(owner)}: {_UNTOLD}") from None
            raise

    def _checked(self, value: Any, owner: "HasOptions | type[HasOptions]") -> Any:
        try:
            converted = self._converted(value)
        except argparse.ArgumentTypeError as error:
            raise OptionError(f"{self.flag(owner)}: {error}") from None
        except (ValueError, TypeError) as error:
            wanted = "boolean" if self.is_flag else getattr(self.type, "__name__", self.type)
            raise OptionError(f"{self.flag(owner)}: {value!r} is not {wanted} ({error})") from None
        for one in converted if self.nargs is not None else (converted,):
            if self.choices is not None and one not in self.choices:
                accepted = ", ".join(map(str, self.choices))
                raise OptionError(f"{self.flag(owner)}: {one!r} is not one of {accepted}")
        return converted

    def _converted(self, value: Any) -> Any:
        if self.is_flag:
            return boolean(value)
        if self.nargs is not None and self.nargs != "?" and not isinstance(value, str):
            return [self._one(each) for each in value]
        return [self._one(value)] if self.nargs not in (None, "?") else self._one(value)

    def _one(self, value: Any) -> Any:
        if self.type is None or (isinstance(self.type, type) and isinstance(value, self.type)):
            return value
        if isinstance(self.type, type) and issubclass(self.type, int) and isinstance(value, float):
            if value != int(value):
                raise ValueError("it has a fraction")
            return self.type(int(value))
        return self.type(value) if isinstance(value, (str, int, float)) else value

    def _secretly(self, word: str) -> Any:
        """A word of the command line, converted; of a wrong one the error does not tell it."""
        try:
            one = self._one(word)
            if self.choices is None or one in self.choices:
                return one
        except (argparse.ArgumentTypeError, ValueError, TypeError):
            pass
        raise argparse.ArgumentTypeError(_UNTOLD)

    def flag(self, owner: "HasOptions | type[HasOptions]") -> str:
        """The command line's flag, ``--http-port``."""
        return "--" + "-".join(filter(None, (owner._optionPrefix(), self.name))).replace("_", "-")

    def _help(self) -> str | None:
        """The help, where a lone % is one: argparse would take it for a mark of its own."""
        text = self.help
        if text is not None and self.secret:
            text = text.replace("%(default)s", HIDDEN)
        return text if text is None or "%%" in text else _MARK.sub("%%", text)

    def add_to(
        self, group: argparse._ActionsContainer, owner: "type[HasOptions]", **over: Any
    ) -> argparse.Action:
        """Add it to an argparse parser or group; ``default=`` in *over* wins over the class's."""
        keywords: dict[str, Any] = {k: v for k, v in self.settings.items() if v is not None}
        keywords.update(dest=owner._optionDest(self), help=self._help(), action=self.action)
        if not self.is_flag:
            keywords.update(type=self.type, nargs=self.nargs, choices=self.choices)
            if self.secret:
                keywords.update(type=self._secretly, choices=None)
        if "default" in over:
            keywords.pop("required", None)
            over["default"] = self.convert(over["default"], owner)
        keywords = {k: v for k, v in keywords.items() if v is not None}
        keywords["default"] = over["default"] if "default" in over else self.default_for(owner)
        return group.add_argument(self.flag(owner), **keywords)


#: What is shown in the place of a secret value.
HIDDEN = "********"
_UNTOLD = "what was given is no value of it; it is secret, so it is not shown here"
_MARK = re.compile(r"%(?!\(\w+\)[sd])(?!%)")


def _has_text(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and any(isinstance(each, str) for each in values)


def boolean(value: Any) -> bool:
    """The type of an option whose value is written as true or false; ``type=bool`` means it."""
    if isinstance(value, bool):
        return value
    try:
        return _BOOLS[str(value).strip().lower()]
    except KeyError:
        raise ValueError("accepted: true, yes, on, 1, false, no, off, 0") from None


class HasOptions:
    """What services, tasks and hooks share: declared options, with values in a namespace."""

    #: The namespace that holds the values of every option of the service.
    options: argparse.Namespace
    OPT_PREFIX: ClassVar[str | None] = None

    @classmethod
    def _optionPrefix(cls) -> str:
        return ""

    @classmethod
    def _optionDest(cls, declared: Option) -> str:
        return "_".join(filter(None, (cls._optionPrefix(), declared.name))).replace("-", "_")

    @classmethod
    def _declaredOptions(cls) -> Iterator[Option]:
        """Every option of the class and its bases, a subclass's in place of its base's."""
        found: dict[str, Any] = {}
        for klass in reversed(cls.__mro__):
            found.update(vars(klass))
        return (each for each in found.values() if isinstance(each, Option))


# What a type checker sees is the value's type, so that ``port: int = option(...)`` checks.
@overload
def option(
    name: str | None = None,
    *,
    action: Literal["store_true", "store_false"],
    default: bool | Callable[[Any], bool] | None = None,
    help: str | None = None,
    secret: bool = False,
) -> bool: ...
@overload
def option(
    name: str | None = None,
    type: type[T] | Callable[[str], T] = ...,
    default: Any = None,
    help: str | None = None,
    action: str | None = None,
    metavar: str | tuple[str, ...] | None = None,
    required: bool = False,
    choices: Sequence[Any] | None = None,
    *,
    nargs: int | Literal["*", "+"],
    secret: bool = False,
) -> list[T]: ...
@overload
def option(
    name: str | None = None,
    *,
    type: type[T] | Callable[[str], T],
    default: object = None,
    help: str | None = None,
    action: str | None = None,
    metavar: str | None = None,
    required: bool = False,
    choices: Sequence[T] | None = None,
    secret: bool = False,
) -> T: ...
@overload
def option(
    name: str | None,
    type: type[T] | Callable[[str], T],
    default: object = None,
    help: str | None = None,
    action: str | None = None,
    metavar: str | None = None,
    required: bool = False,
    choices: Sequence[T] | None = None,
    *,
    secret: bool = False,
) -> T: ...
@overload
def option(
    name: str | None = None,
    type: None = None,
    default: Any = None,
    help: str | None = None,
    action: str | None = None,
    metavar: str | tuple[str, ...] | None = None,
    required: bool = False,
    choices: Sequence[Any] | None = None,
    nargs: int | str | None = None,
    secret: bool = False,
) -> Any: ...
def option(
    name: str | None = None,
    type: Callable[[str], Any] | None = None,
    default: Any = None,
    help: str | None = None,
    action: str | None = None,
    metavar: str | tuple[str, ...] | None = None,
    required: bool = False,
    choices: Sequence[Any] | None = None,
    nargs: int | str | None = None,
    secret: bool = False,
) -> Any:
    """Declare an option as a class attribute of a task or a service.

    *name* is the attribute's by default. *default* may be a callable of the class, so that a
    subclass changes it by changing another attribute. *type* converts what the command line and
    assignments give; ``store_true`` and ``store_false`` are bools; with *nargs* every element is
    converted. ``%(default)s`` works in *help*. An option with neither default nor ``required``
    reads as None until it is given. The value of a *secret* one is told neither in help and errors
    nor to clients that ask for the options.

    :raises OptionError: the declaration contradicts itself.
    """
    return Option(
        name,
        cast("Callable[[Any], Any] | None", type),
        default=default,
        help=help,
        action=action,
        metavar=metavar,
        required=required or None,
        choices=choices,
        nargs=nargs,
        secret=secret,
    )

"""Whether what a task overrides is of the kind that its base calls: plain or async, with what."""

import functools
import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any

from sparts.errors import TaskError

__all__ = ["Passing", "context_passing", "require_async", "require_plain"]

_AWAITABLE = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE

_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)
_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Passing(Enum):
    """How a function takes the context of its run."""

    NOT = 0
    POSITION = 1
    KEYWORD = 2


def require_plain(function: Callable[..., Any], task: str, cure: str) -> None:
    """Refuse an ``async def``: a thread that calls it would run nothing of it.

    :raises TaskError: it is one.
    """
    bare = _bare(function)
    if inspect.iscoroutinefunction(bare) or inspect.isasyncgenfunction(bare):
        raise TaskError(f"{task}.{_name(bare)} is an async def, which a thread cannot run; {cure}")


def require_async(function: Callable[..., Any], task: str, cure: str) -> None:
    """Refuse a plain function: it would block the loop, and what it returns cannot be awaited.

    A function that wraps a coroutine function, by ``functools.wraps`` or ``partial``, is fine; of
    an object that is no function nothing is known.

    :raises TaskError: it is one.
    """
    bare = inspect.unwrap(_bare(function))
    bare = getattr(bare, "__func__", bare)
    if inspect.isfunction(bare) and not bare.__code__.co_flags & _AWAITABLE:
        raise TaskError(f"{task}.{_name(bare)} is no coroutine function; {cure}")


def context_passing(function: Callable[..., Any], task: str) -> Passing:
    """How *function* takes the context: as ``context``, or as its one required argument, or not.

    :raises TaskError: it requires something else.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin does not say
        return Passing.NOT
    taken, passing = _taken(parameters)
    required = [p.name for p in parameters if _is_required(p) and p is not taken]
    if required:
        raise TaskError(
            f"{task}.{_name(function)} requires {', '.join(required)}, which a run does not have; "
            "write execute(self) or execute(self, context=None)"
        )
    return passing


def _taken(parameters: list[inspect.Parameter]) -> tuple[inspect.Parameter | None, Passing]:
    """The parameter that the context is for, and how to give it."""
    by_name = next((p for p in parameters if p.name == "context"), None)
    first = parameters[0] if parameters else None
    if first is not None and first.kind in _POSITIONAL:
        variable = first.kind is first.VAR_POSITIONAL
        if first is by_name or variable or (by_name is None and _is_required(first)):
            return first, Passing.POSITION
    if by_name is not None and by_name.kind in _KEYWORD:
        return by_name, Passing.KEYWORD
    return None, Passing.NOT


def _is_required(parameter: inspect.Parameter) -> bool:
    variable = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return not variable and parameter.default is parameter.empty


def _bare(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", "execute"))

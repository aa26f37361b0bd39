"""What is refused of the functions that a task overrides, and how a context is passed."""

import functools
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from sparts.errors import TaskError
from sparts.overrides import Passing, context_passing, require_async, require_plain


def plain(*args: Any) -> None:
    pass


async def coroutine(*args: Any) -> None:
    pass


async def generator() -> Any:
    yield


@functools.wraps(coroutine)
def wrapper(*args: Any) -> Any:
    return coroutine(*args)


@pytest.mark.parametrize("function", [plain, functools.partial(plain, 1), wrapper, Mock()])
def test_plain_functions_pass(function: Any) -> None:
    """What is no ``async def`` itself is plain."""
    require_plain(function, "Tested", "cure")


@pytest.mark.parametrize("function", [coroutine, functools.partial(coroutine, 1), generator])
def test_async_functions_are_refused(function: Any) -> None:
    """An ``async def`` is refused, by a message that has the task, its name and the cure."""
    with pytest.raises(TaskError, match=r"^Tested\.\w+ is an async def, .*; the cure$"):
        require_plain(function, "Tested", "the cure")


@pytest.mark.parametrize(
    "function", [coroutine, functools.partial(coroutine, 1), wrapper, AsyncMock(), Mock()]
)
def test_coroutine_functions_pass(function: Any) -> None:
    """So do what wraps one, and objects of which one cannot tell."""
    require_async(function, "Tested", "cure")


@pytest.mark.parametrize("function", [plain, functools.partial(plain, 1), generator])
def test_plain_functions_are_refused(function: Any) -> None:
    """A plain function, and an async generator, cannot be awaited."""
    with pytest.raises(TaskError, match=r"^Tested\.\w+ is no coroutine function; the cure$"):
        require_async(function, "Tested", "the cure")


@pytest.mark.parametrize(
    ("expected", "function"),
    [
        (Passing.NOT, lambda: 0),
        (Passing.NOT, lambda n=5: n),
        (Passing.NOT, lambda n=5, *rest: n),
        (Passing.NOT, lambda **options: 0),
        (Passing.POSITION, lambda context: 0),
        (Passing.POSITION, lambda context=None, n=5: 0),
        (Passing.POSITION, lambda anything: 0),
        (Passing.POSITION, lambda anything, n=5: 0),
        (Passing.POSITION, lambda *args, **options: 0),
        (Passing.POSITION, Mock()),
        (Passing.KEYWORD, lambda n=5, context=None: 0),
        (Passing.KEYWORD, lambda *, context: 0),
        (Passing.KEYWORD, lambda *, context=None: 0),
    ],
)
def test_the_context_goes_by_its_name_or_to_what_is_required(
    expected: Passing, function: Any
) -> None:
    """An optional argument of another name is the author's own."""
    assert expected is context_passing(function, "Tested")


@pytest.mark.parametrize(
    ("named", "function"),
    [
        ("b", lambda a, b: 0),
        ("a", lambda a, context=None: 0),
        ("key", lambda *, key: 0),
        ("key", lambda context, *, key: 0),
        ("b, c", lambda a, b, c: 0),
    ],
)
def test_other_required_arguments_are_refused(named: str, function: Any) -> None:
    """The error has what is not to be had, and what to write."""
    with pytest.raises(
        TaskError, match=f"^Tested.* requires {named}, .*execute.self, context=None"
    ):
        context_passing(function, "Tested")

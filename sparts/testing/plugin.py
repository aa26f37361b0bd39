"""Fixtures for pytest, there in every test run where sparts is installed; only fixtures."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

__all__ = ["sparts_ignored_leaks", "sparts_no_leaks", "sparts_service"]


@pytest.fixture
def sparts_ignored_leaks() -> Sequence[str]:
    """Override: shell patterns of names of threads and tasks, or of descriptors, that may stay."""
    return ()


@pytest.fixture
def sparts_no_leaks(sparts_ignored_leaks: Sequence[str]) -> Iterator[None]:
    """Fails the test that leaves a thread, a file descriptor or a pending asyncio task behind."""
    from sparts.testing.leaks import LeakError, no_leaks

    try:
        with no_leaks(ignore=sparts_ignored_leaks):
            yield
    except LeakError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def sparts_service(sparts_no_leaks: None) -> Iterator[Any]:
    """``service = sparts_service(MyService, "--flag", "value")`` runs it until the test's end.

    Called as :func:`sparts.testing.running` is, with a service class, a task or a list of tasks,
    once or more; a service that fails, and what is left behind, fails the test.
    """
    from sparts.testing.background import running

    with contextlib.ExitStack() as stack:

        def start(target: Any, *argv: object, **settings: Any) -> Any:
            return stack.enter_context(running(target, *argv, check_leaks=False, **settings))

        yield start

"""Test cases for unittest: a service or its tasks, started before each test and ended after it."""

import contextlib
import os
import threading
import unittest
from collections.abc import Container, Sequence, Sized
from types import ModuleType
from typing import Any, ClassVar, TypeVar

from sparts.testing.background import DEADLINE, Background, service_class
from sparts.testing.leaks import LeakError, no_leaks
from sparts.vservice import VService
from sparts.vtask import VTask

__all__ = [
    "BaseSpartsTestCase",
    "MultiTaskTestCase",
    "ServiceTestCase",
    "SingleTaskTestCase",
    "Skip",
]

T = TypeVar("T", bound=VTask)


class Skip(unittest.SkipTest):
    """Skips a test; raised while a test module is imported, the module, also under pytest."""


class BaseSpartsTestCase(unittest.TestCase):
    """A test case that fails the test which leaves something behind, with a few assertions more."""

    #: False: what is left behind does not matter.
    CHECK_LEAKS: ClassVar[bool] = True
    #: Shell patterns of names of threads and tasks, or of what descriptors are, that may stay.
    IGNORE_LEAKS: ClassVar[Sequence[str]] = ()

    def setUp(self) -> None:
        """Note what the process holds; overriding, call ``super().setUp()`` first."""
        super().setUp()
        if self.CHECK_LEAKS:
            guard = contextlib.ExitStack()
            guard.enter_context(no_leaks(ignore=self.IGNORE_LEAKS))
            self.addCleanup(self._check_leaks, guard)  # the first in, so the last to run

    def _check_leaks(self, guard: contextlib.ExitStack) -> None:
        try:
            guard.close()
        except LeakError as error:
            self.fail(str(error))

    @property
    def mock(self) -> ModuleType:
        """The module ``unittest.mock``."""
        from unittest import mock  # imports asyncio, which not every test needs

        return mock

    def assertNotNone(self, value: object, msg: Any = None) -> None:
        """*value* is not None."""
        self.assertIsNotNone(value, msg)

    def assertEmpty(self, value: Sized, msg: Any = None) -> None:
        """*value* has no elements."""
        self.assertEqual(0, len(value), msg or f"{value!r} is not empty")

    def assertNotEmpty(self, value: Sized, msg: Any = None) -> None:
        """*value* has an element."""
        self.assertNotEqual(0, len(value), msg or f"{value!r} is empty")

    def assertExists(self, path: "str | os.PathLike[str]", msg: Any = None) -> None:
        """There is something at *path*."""
        self.assertTrue(os.path.exists(path), msg or f"{os.fspath(path)!r} does not exist")

    def assertNotExists(self, path: "str | os.PathLike[str]", msg: Any = None) -> None:
        """There is nothing at *path*, not even a link that leads nowhere."""
        self.assertFalse(os.path.lexists(path), msg or f"{os.fspath(path)!r} exists")

    def assertContains(self, member: Any, container: Container[Any], msg: Any = None) -> None:
        """*member* is in *container*."""
        self.assertIn(member, container, msg)

    def assertNotContains(self, member: Any, container: Container[Any], msg: Any = None) -> None:
        """*member* is not in *container*."""
        self.assertNotIn(member, container, msg)


class ServiceTestCase(BaseSpartsTestCase):
    """Runs the service of ``getServiceClass`` during each test.

    A service that fails fails the test, unless it called ``expectFailure``.
    """

    #: Seconds that the start may take.
    READY_TIMEOUT: ClassVar[float] = DEADLINE
    #: What runs the service: it ends when the service has.
    runloop: threading.Thread
    _background: Background[Any] | None = None
    _failure_expected = False

    def getServiceClass(self) -> type[VService]:
        """Override: the class of the service."""
        raise NotImplementedError(f"{type(self).__name__} needs a getServiceClass()")

    def getCreateArgs(self) -> Sequence[str]:
        """The service's command line; port options that it does not name are free ports."""
        return []

    def setUp(self) -> None:
        """Start the service and wait until it is ready; ``self.service`` and ``self.runloop``."""
        super().setUp()
        background: Background[Any] = Background(self.getServiceClass(), self.getCreateArgs())
        self.addCleanup(background.stop)
        background.start(self.READY_TIMEOUT)
        self._background = background
        if background.thread is not None:
            self.runloop = background.thread

    @property
    def service(self) -> Any:
        """The running service; after a restart the fresh one."""
        if self._background is None:
            raise AttributeError(f"no service yet: call super().setUp() in {type(self).__name__}")
        return self._background.service

    def requireTask(self, task: type[T]) -> T:
        """The service's task of that class.

        :raises KeyError: there is none.
        """
        found: T = self.service.requireTask(task)
        return found

    def expectFailure(self) -> None:
        """From now on the service must fail before the test's end."""
        self._failure_expected = True

    def tearDown(self) -> None:
        """Stop the service and wait for its end; overriding, call ``super().tearDown()`` last."""
        if self._background is not None:
            self._background.stop()
            if not self._failure_expected:
                self._background.check()
            elif self.service.lifecycle.failure is None:
                self.fail(f"{self.service.name} was expected to fail, and did not")
        super().tearDown()


class MultiTaskTestCase(ServiceTestCase):
    """Runs a service of the tasks in ``TASKS`` during each test."""

    TASKS: ClassVar[Sequence[type[VTask]]] = []

    def getServiceClass(self) -> type[VService]:
        """A service of ``TASKS``."""
        return service_class(self.TASKS)


class SingleTaskTestCase(ServiceTestCase):
    """Runs a service of the one task ``TASK``, and what it depends on, during each test."""

    TASK: ClassVar[type[VTask]]

    def getServiceClass(self) -> type[VService]:
        """A service of ``TASK``."""
        return service_class(self.TASK)

    @property
    def task(self) -> Any:
        """The running task."""
        return self.requireTask(self.TASK)

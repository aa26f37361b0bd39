"""The old name of the test cases of sparts.testing."""

from sparts.testing import (
    BaseSpartsTestCase,
    MultiTaskTestCase,
    ServiceTestCase,
    SingleTaskTestCase,
    Skip,
)

__all__ = [
    "BaseSpartsTestCase",
    "MultiTaskTestCase",
    "ServiceTestCase",
    "SingleTaskTestCase",
    "Skip",
]

"""The testing kit: any service or task, started on free ports in a few lines.

For pytest the fixture ``sparts_service`` and the context manager :func:`running`; for unittest
:class:`ServiceTestCase`, :class:`MultiTaskTestCase` and :class:`SingleTaskTestCase`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparts.testing.background import ServiceFailed, running
    from sparts.testing.cases import (
        BaseSpartsTestCase,
        MultiTaskTestCase,
        ServiceTestCase,
        SingleTaskTestCase,
        Skip,
    )
    from sparts.testing.leaks import LeakError, no_leaks

__all__ = [
    "BaseSpartsTestCase",
    "LeakError",
    "MultiTaskTestCase",
    "ServiceFailed",
    "ServiceTestCase",
    "SingleTaskTestCase",
    "Skip",
    "no_leaks",
    "running",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for, and not before: pytest imports this package in every run."""
    if name in __all__:
        for module in ("background", "cases", "leaks"):
            found = importlib.import_module(f"{__name__}.{module}")
            if name in found.__all__:
                return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

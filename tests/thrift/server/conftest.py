"""Servers of every mode for the tests of a module, servers for one test, Apache's clients."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = str(Path(__file__).resolve().parents[3])
if ROOT not in sys.path:
    sys.path.append(ROOT)

from tests.thrift.server import kit

Serve = Callable[..., kit.Served]


@pytest.fixture(scope="module", params=list(kit.MODES))
def _shared(request: pytest.FixtureRequest) -> Iterator[kit.Served]:
    handler, argv = kit.MODES[request.param]
    with kit.serving(handler, argv=argv) as served:
        yield served


@pytest.fixture
def served(_shared: kit.Served) -> Iterator[kit.Served]:
    """A server of the calculator, in each mode; the tests of a module share it."""
    yield _shared
    _shared.see_off()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """``serve(Handler, "--thrift-threads", 0)``: a server for this test."""
    with contextlib.ExitStack() as stack:

        def start(*what: Any, server: Any = kit.ThriftServerTask) -> kit.Served:
            handlers = [each for each in what if isinstance(each, type)]
            argv = [str(each) for each in what if not isinstance(each, type)]
            return stack.enter_context(kit.serving(*handlers, argv=argv, server=server))

        yield start

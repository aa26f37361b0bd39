"""The same fixtures as the engine's own tests have."""

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[3])
if ROOT not in sys.path:
    sys.path.append(ROOT)

from tests.thrift.server.conftest import _shared, serve, served

__all__ = ["_shared", "serve", "served"]

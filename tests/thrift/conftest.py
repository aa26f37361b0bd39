"""Puts the bindings of ``example.thrift`` on the path: ``import example.Calculator``."""

import pathlib
import sys

GENERATED = str(pathlib.Path(__file__).resolve().parent / "gen")
if GENERATED not in sys.path:
    sys.path.append(GENERATED)

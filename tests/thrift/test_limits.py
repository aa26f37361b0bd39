"""The limits of a Thrift server: their defaults, and what is refused."""

import dataclasses
import math
from typing import Any

import pytest

from sparts.errors import OptionError
from sparts.thrift.limits import Limits

DEFAULTS = {
    "max_frame_size": 16 * 1024 * 1024,
    "max_container_size": 1_000_000,
    "max_depth": 64,
    "max_connections": 10_000,
    "max_pipelined": 64,
    "max_calls": 1_000,
    "max_buffered": 256 * 1024 * 1024,
    "queue_timeout": 5.0,
    "idle_timeout": 600.0,
    "read_timeout": 30.0,
    "write_timeout": 30.0,
}


def test_defaults() -> None:
    """Each limit has a default that a public server could run with."""
    assert DEFAULTS == dataclasses.asdict(Limits())


def test_limits_do_not_change() -> None:
    """A limit cannot be changed once it is set, as many connections hold on to it."""
    fixed: Any = Limits()
    with pytest.raises(dataclasses.FrozenInstanceError):
        fixed.max_depth = 3


def limits(**values: Any) -> Limits:
    """Limits with those values."""
    return Limits(**values)


def test_a_size_is_at_least_one() -> None:
    """One is the least of what is counted; less is refused with the limit's name."""
    for name in DEFAULTS:
        if not name.endswith("_timeout"):
            assert 1 == getattr(limits(**{name: 1}), name)
            with pytest.raises(OptionError, match=f"{name} is 0; accepted: 1"):
                limits(**{name: 0})


def test_a_time_is_a_number_of_seconds() -> None:
    """Zero is a time, which means for ever; less is refused, and what is no number."""
    for name in DEFAULTS:
        if name.endswith("_timeout"):
            assert 0 == getattr(limits(**{name: 0}), name)
            for value in (-1.0, math.nan, math.inf):
                with pytest.raises(OptionError, match=f"{name} is .*; accepted: seconds, 0 or"):
                    limits(**{name: value})


def test_the_highest() -> None:
    """Frames are no larger than can be told from text, and depths no more than the C codec has."""
    for name, highest in (("max_frame_size", 0x3FFFFFFF), ("max_depth", 64)):
        assert highest == getattr(limits(**{name: highest}), name)
        with pytest.raises(OptionError, match=f"{name} is {highest + 1}; accepted: 1 to {highest}"):
            limits(**{name: highest + 1})

"""The types and defaults of a server's options."""

import argparse
from collections.abc import Callable
from typing import Any

import pytest

from sparts.http.options import HTTPOptions, file_mode, port_number, positive
from sparts.http.server import Limits


@pytest.mark.parametrize(
    ("convert", "text", "value"),
    [
        (port_number, "0", 0),
        (port_number, "65535", 65535),
        (positive, "1", 1),
        (file_mode, "660", "660"),
        (file_mode, "0777", "0777"),
    ],
)
def test_accepted(convert: Callable[[str], Any], text: str, value: Any) -> None:
    """What is in range is converted."""
    assert value == convert(text)


@pytest.mark.parametrize(
    ("convert", "text", "message"),
    [
        (port_number, "65536", "'65536' is not a port, 0 to 65535"),
        (port_number, "-1", "is not a port"),
        (port_number, "http", "is not a port"),
        (positive, "0", "is not a whole number, 1 or more"),
        (positive, "1.5", "is not a whole number"),
        (file_mode, "688", "is not a file's mode"),
        (file_mode, "1777", "is not a file's mode"),
    ],
)
def test_refused(convert: Callable[[str], Any], text: str, message: str) -> None:
    """What is not is refused with what is accepted."""
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        convert(text)


def test_the_limits_are_the_options() -> None:
    """Every limit is an option with the same default, and setting the option sets the limit."""

    class Holder(HTTPOptions):
        def __init__(self) -> None:
            self.options = argparse.Namespace()

    holder = Holder()
    assert Limits() == holder.limits()
    holder.body_timeout = 3.0
    holder.max_connections = 7
    assert Limits(body_timeout=3.0, max_connections=7) == holder.limits()

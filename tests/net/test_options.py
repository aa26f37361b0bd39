"""The types of the options about where to listen."""

import argparse
from collections.abc import Callable
from typing import Any

import pytest

from sparts.net.options import file_mode, port_number, positive


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

"""What counts as a change of a file, for stats that are made by hand too."""

import stat
from typing import Any
from unittest.mock import Mock

import pytest

from sparts.directory import Snapshot, changes, same


@pytest.mark.parametrize(
    "known",
    [
        {"st_mtime": 1.0},
        {"st_mtime_ns": 1, "st_size": 3},
        {"st_mode": stat.S_IFDIR},
        {"st_mode": stat.S_IFREG, "st_mtime": 1.0},
    ],
)
def test_two_mocks_of_one_file_are_the_same(known: dict[str, Any]) -> None:
    """What a Mock makes up, anew in each, is not compared."""
    assert same(Mock(**known), Mock(**known))


@pytest.mark.parametrize("name", ["st_mtime", "st_mtime_ns", "st_size", "st_ino"])
def test_a_number_that_differs_is_a_change(name: str) -> None:
    """Each of the numbers counts by itself, also when the others are made up."""
    old, new = Mock(**{name: 1}), Mock(**{name: 2})
    assert [("a", old, new)] == list(changes(Snapshot(a=old), Snapshot(a=new)))

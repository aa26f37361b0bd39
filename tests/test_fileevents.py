"""Who tells of changes in directories, without a task: what is told, and what is not."""

import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparts import inotify
from sparts.fileevents import InotifyEvents

if not inotify.available():
    pytest.skip("not here: no inotify", allow_module_level=True)


@pytest.fixture
def events() -> Iterator[InotifyEvents]:
    """Inotify, of nothing yet."""
    events = InotifyEvents()
    yield events
    events.close()


def look(events: InotifyEvents, *directories: Path) -> None:
    """A look that lists these."""
    events.begin()
    for each in directories:
        events.watch(str(each))
    events.end()


def troubled(events: InotifyEvents) -> bool:
    """Whether not all is watched."""
    return events.trouble is not None


def test_before_a_look_there_is_trouble(events: InotifyEvents, tmp_path: Path) -> None:
    """Nothing is watched until something was looked at."""
    assert troubled(events)
    look(events, tmp_path)
    assert not troubled(events)


def test_a_look_that_broke_off(events: InotifyEvents, tmp_path: Path) -> None:
    """Nobody may rely on what it has watched; the next one watches what it meets, and no more."""
    for name in "ab":
        (tmp_path / name).mkdir()
    look(events, tmp_path / "a")
    events.begin()
    events.watch(str(tmp_path / "b"))
    assert troubled(events)
    look(events, tmp_path / "b")
    assert not troubled(events)
    (tmp_path / "a" / "x").touch()
    assert not events.wait(0.0)


@pytest.mark.parametrize("number", [1, 3])
def test_what_is_looked_at_is_watched(events: InotifyEvents, tmp_path: Path, number: int) -> None:
    """A change is told once, in the directories of the last look, however often looked at."""
    for _ in range(number):
        look(events, tmp_path)
    assert not events.wait(0.0)
    (tmp_path / "a").touch()
    assert events.wait(math.inf)
    assert not events.wait(0.0)


def test_what_is_looked_at_no_more(events: InotifyEvents, tmp_path: Path) -> None:
    """What the last look did not meet is not watched any more, and that is no change."""
    for name in "ab":
        (tmp_path / name).mkdir()
    look(events, tmp_path / "a", tmp_path / "b")
    look(events, tmp_path / "b")
    assert not events.wait(0.0)
    (tmp_path / "a" / "x").touch()
    assert not events.wait(0.0)
    (tmp_path / "b" / "x").touch()
    assert events.wait(math.inf)


def test_to_read_is_no_change(events: InotifyEvents, tmp_path: Path) -> None:
    """What a look does does not call for another."""
    (tmp_path / "a").write_text("x")
    look(events, tmp_path)
    (tmp_path / "a").read_text()
    os.listdir(tmp_path)
    assert not events.wait(0.0)


def test_trouble_is_of_the_last_look(events: InotifyEvents, tmp_path: Path) -> None:
    """A directory that is not there, or a file, is a trouble until the next look."""
    (tmp_path / "file").touch()
    look(events, tmp_path, tmp_path / "missing")
    assert isinstance(events.trouble, FileNotFoundError)
    look(events, tmp_path, tmp_path / "file")
    assert isinstance(events.trouble, NotADirectoryError)
    look(events, tmp_path)
    assert not troubled(events)


def test_a_wake_ends_a_wait(events: InotifyEvents, tmp_path: Path) -> None:
    """From another thread, before the wait or in it, and however often."""
    look(events, tmp_path)
    thread = threading.Thread(target=events.wake)
    thread.start()
    assert not events.wait(math.inf)
    thread.join()
    for _ in range(10_000):
        events.wake()
    while not events.wait(0.0):  # woken, until all of it was heard
        (tmp_path / "a").touch()


def test_a_wake_after_the_close() -> None:
    """Who is late to wake it does no harm."""
    events = InotifyEvents()
    events.close()
    events.wake()


def test_the_queue_runs_over(events: InotifyEvents, tmp_path: Path) -> None:
    """More changes than the kernel keeps are a change, and the ones after it are told."""
    look(events, tmp_path)
    with open("/proc/sys/fs/inotify/max_queued_events") as file:
        most = int(file.read())
    path, other = tmp_path / "a", tmp_path / "b"
    path.touch()
    for _ in range(most // 4 + 100):  # of four changes each
        os.rename(path, other)
        os.rename(other, path)
    assert events.wait(math.inf)
    while events.wait(0.0):
        pass
    path.unlink()
    assert events.wait(math.inf)

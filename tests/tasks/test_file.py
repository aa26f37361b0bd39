"""DirectoryWatcherTask: the same callbacks by inotify, by watchfiles and by looking often."""

import argparse
import importlib.util
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sparts import cli, fileevents, inotify
from sparts.context import ExecuteContext, TryLater
from sparts.errors import MissingExtra, OptionError
from sparts.fileevents import InotifyEvents
from sparts.tasks.file import COALESCE, DirectoryWatcherTask
from sparts.testing import no_leaks, running
from sparts.vservice import VService

DEADLINE = 10.0
#: What stands for each kind of events; the interval is short only where it counts.
KINDS = {"inotify": 1000.0, "watchfiles": 1000.0, "off": 0.01}
Told = tuple[str, str]


class Watcher(DirectoryWatcherTask):
    """Keeps what it is told."""

    def initTask(self) -> None:
        super().initTask()
        self.told: queue.SimpleQueue[Told] = queue.SimpleQueue()

    def onFileCreated(self, name: str, stat: os.stat_result) -> None:
        self.told.put(("created", name))

    def onFileDeleted(self, name: str, old_stat: os.stat_result) -> None:
        self.told.put(("deleted", name))

    def onFileChanged(self, name: str, old: os.stat_result, new: os.stat_result) -> None:
        self.told.put(("changed", name))

    def next(self) -> Told:
        """What is told next, but that a file was changed that was made just now."""
        return self.told.get(timeout=DEADLINE)

    def until(self, wanted: Told) -> None:
        """Wait until *wanted* is told."""
        while self.next() != wanted:
            pass

    def rest(self) -> list[Told]:
        """What was told and not asked for."""
        return [self.told.get() for _ in range(self.told.qsize())]


def by_hand(path: object, **attributes: Any) -> Watcher:
    """A task that is not started: it looks when it is told to."""
    cls: type[Watcher] = type("Watcher", (Watcher,), {"PATH": str(path), **attributes})
    task: Watcher = cls(VService(argparse.Namespace()))
    task.initTask()
    return task


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """As for every test; but the thread of watchfiles ends, and closes, in its own good time."""
    with no_leaks(ignore=["anon_inode:*"] if "watchfiles" in request.node.name else []):
        yield


def alone(cls: type[Watcher], kind: str, interval: float) -> Any:
    """A service of that task, run in a block."""
    options = (f"--Watcher-events={kind}", f"--Watcher-interval={interval:g}")
    return running(cls, *options, check_leaks=kind != "watchfiles")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory to watch; beside it there is room."""
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    """Who tells of changes."""
    name: str = request.param
    if name == "watchfiles" and importlib.util.find_spec(name) is None:
        pytest.skip("watchfiles is not installed; pip install 'sparts[files]'")
    if name == "inotify" and not inotify.available():
        pytest.skip("not here: no inotify")
    return name


Start = Callable[..., Watcher]


def service_of(task: type[Watcher]) -> type[VService]:
    """A service of that task."""
    return type("Tested", (VService,), {"ALL_TASKS": [task]})


@pytest.fixture
def start(kind: str) -> Iterator[Start]:
    """Starts a watcher of a directory, and returns when it has looked once."""
    threads: dict[VService, threading.Thread] = {}

    def start(path: Path, **attributes: Any) -> Watcher:
        cls: type[Watcher] = type(
            "Watcher", (Watcher,), {"PATH": path, "RECURSIVE": False, **attributes}
        )
        options = cli.parse(
            service_of(cls), [f"--Watcher-events={kind}", f"--Watcher-interval={KINDS[kind]}"]
        )
        service = service_of(cls)(options)
        threads[service] = service.startBG()
        assert service.waitReady(DEADLINE)
        task: Watcher = service.requireTask("Watcher")  # type: ignore[assignment]
        task.execute_async().result(DEADLINE)
        return task

    yield start
    for service, thread in threads.items():
        service.stop()
        thread.join(DEADLINE)
        assert not thread.is_alive()


# -- with and without events ----------------------------------------------------------------------
def test_a_files_life(start: Start, root: Path) -> None:
    """Made, written, replaced and removed: each is told by its name, and nothing else is."""
    (root / "old").write_text("x")
    task = start(root)
    (root / "a").touch()
    assert ("created", "a") == task.next()
    (root / "a").write_text("longer")
    assert ("changed", "a") == task.next()
    task.execute_async().result(DEADLINE)
    task.rest()
    (root.parent / "b").write_text("longer")
    os.replace(root.parent / "b", root / "a")
    assert ("changed", "a") == task.next()
    (root / "a").rename(root.parent / "c")
    assert ("deleted", "a") == task.next()
    (root / "old").unlink()
    assert ("deleted", "old") == task.next()
    assert [] == task.rest()


def test_written_and_dated(start: Start, root: Path) -> None:
    """A file counts as changed also while it is still open, and when only its time is set."""
    with (root / "a").open("w", buffering=1) as file:
        task = start(root)
        file.write("a line\n")
        assert ("changed", "a") == task.next()
        os.utime(root / "a", ns=(1, 1))
        assert ("changed", "a") == task.next()


def test_below_the_directory(start: Start, root: Path) -> None:
    """On request it is about what is below, in directories made later too."""
    (root / "old").mkdir()
    task = start(root, RECURSIVE=True, PATTERNS=["*.log"])
    (root / "old" / "a.log").touch()
    assert ("created", "old/a.log") == task.next()
    (root / "new" / "deep").mkdir(parents=True)
    (root / "new" / "deep" / "b.log").touch()
    (root / "new" / "other").touch()
    assert ("created", "new/deep/b.log") == task.next()
    (root / "new" / "deep" / "b.log").write_text("x")
    assert ("changed", "new/deep/b.log") == task.next()
    (root / "new").rename(root.parent / "away")
    task.until(("deleted", "new/deep/b.log"))
    assert [] == task.rest()


def test_not_below_unless_asked(start: Start, root: Path) -> None:
    """A subdirectory is an entry as a file is, and what is in it is none of it."""
    (root / "old").mkdir()
    task = start(root)
    (root / "old" / "a").touch()
    (root / "new").mkdir()
    assert ("created", "new") == task.next()
    (root / "new" / "a").touch()
    (root / "b").touch()
    assert ("created", "b") == task.next()
    (root / "old" / "a").unlink()
    (root / "old").rmdir()
    assert ("deleted", "old") == task.next()
    assert [] == task.rest()


def test_many_files_at_once(start: Start, root: Path) -> None:
    """None is missed, however many there are."""
    task = start(root)
    names = {f"{number:04}" for number in range(500)}
    for name in names:
        (root / name).touch()
    assert names == {task.next()[1] for _ in names}


def test_a_directory_that_comes_late(kind: str, tmp_path: Path, caplog: Any) -> None:
    """It is waited for, looked for at the interval, and all that it holds then is new."""
    root = tmp_path / "later"
    cls: type[Watcher] = type("Watcher", (Watcher,), {"PATH": root})
    with alone(cls, kind, 0.01) as service:
        task: Any = service.requireTask(cls)
        task.execute_async().result(DEADLINE)
        root.mkdir()
        (root / "a").touch()
        assert ("created", "a") == task.next()
        (root / "a").unlink()
        assert ("deleted", "a") == task.next()
        assert 1 == caplog.text.count(f"Waiting for the directory {str(root)!r}: No such file")
        task.interval = 1000.0  # what is there is watched from now on, where there are events
        task.execute_async().result(DEADLINE)


def test_a_directory_that_is_made_again(kind: str, tmp_path: Path, caplog: Any) -> None:
    """Removed, all in it is gone; made again, it is watched as before."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").touch()
    cls: type[Watcher] = type("Watcher", (Watcher,), {"PATH": root})
    with alone(cls, kind, 0.01) as service:
        task: Any = service.requireTask(cls)
        for number in range(3):
            task.execute_async().result(DEADLINE)
            (root / "a").unlink()
            assert ("deleted", "a") == task.next()
            (root / "b").touch()
            assert ("created", "b") == task.next()
            root.rename(tmp_path / str(number))
            assert ("deleted", "b") == task.next()
            root.mkdir()
            (root / "a").touch()
            assert ("created", "a") == task.next()
    assert service.lifecycle.failure is None


@pytest.mark.parametrize("kind", ["inotify", "watchfiles"], indirect=True)
def test_one_replaced_by_another(start: Start, tmp_path: Path) -> None:
    """Moved away and another put in its place: the new one is watched, the old one is not."""
    (tmp_path / "root").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b").touch()
    task = start(tmp_path / "root")
    os.rename(tmp_path / "root", tmp_path / "old")
    os.rename(tmp_path / "other", tmp_path / "root")
    task.execute_async().result(DEADLINE)
    assert ("created", "b") == task.next()
    (tmp_path / "root" / "c").touch()
    assert ("created", "c") == task.next()
    (tmp_path / "old" / "d").touch()
    task.execute_async().result(DEADLINE)
    assert [] == task.rest()


def test_it_stops_at_once(kind: str, root: Path) -> None:
    """A watcher that waits without limit hears the stop; twice is no harm."""
    cls: type[Watcher] = type("Watcher", (Watcher,), {"PATH": root})
    for _ in range(5):
        with alone(cls, kind, 1000) as service:
            task = service.requireTask(cls)
        task.stop()
        assert not task.running


def test_what_a_callback_raises(start: Start, root: Path) -> None:
    """It stops the service, whoever told of the change."""

    def fail(self: Watcher, name: str, stat: os.stat_result) -> None:
        raise LookupError(name)

    task = start(root, onFileCreated=fail)
    (root / "a").touch()
    assert task.service.join(DEADLINE)
    failure = task.service.lifecycle.failure
    assert failure is not None
    assert "LookupError('a')" == repr(failure.error)


def test_try_later(start: Start, root: Path) -> None:
    """A callback that is not ready is told the same again, and then what was to follow."""
    attempts: list[str] = []

    def once_more(self: Watcher, name: str, stat: os.stat_result) -> None:
        attempts.append(name)
        if len(attempts) < 3:
            raise TryLater("not yet", after=0.01)
        self.told.put(("created", name))

    task = start(root, onFileCreated=once_more)
    (root / "a").touch()
    assert ("created", "a") == task.next()
    (root / "b").touch()
    task.until(("created", "b"))
    assert ["a", "a", "a", "b"] == attempts


# -- events ---------------------------------------------------------------------------------------
@pytest.mark.skipif(not inotify.available(), reason="not here: no inotify")
def test_auto_is_inotify_here(root: Path) -> None:
    """Without a word from anybody the kernel tells, and the interval is not waited for."""
    cls: type[Watcher] = type("Watcher", (Watcher,), {"PATH": root, "INTERVAL": 1000.0})
    with running(cls) as service:
        task: Any = service.requireTask(cls)
        task.execute_async().result(DEADLINE)
        assert isinstance(task._changes.events, InotifyEvents)
        (root / "a").touch()
        assert ("created", "a") == task.next()


@pytest.mark.skipif(not inotify.available(), reason="not here: no inotify")
def test_an_idle_watcher_does_not_look(root: Path) -> None:
    """While all is watched there is no look without a change, whatever the interval."""
    looks: list[str] = []

    def listdir(self: Watcher, path: str) -> list[str]:
        looks.append(path)
        return os.listdir(path)

    cls: type[Watcher] = type("Watcher", (Watcher,), {"PATH": root, "listdir": listdir})
    waits: list[float | None] = []
    asked = threading.Event()
    with alone(cls, "inotify", 0.001) as service:
        task: Any = service.requireTask(cls)
        task.execute_async().result(DEADLINE)
        events = task._changes.events
        skipped = task.n_skipped()

        def note(timeout: float | None) -> Any:
            waits.append(timeout)
            asked.set()
            return poll(timeout)

        poll = events._poll.poll
        events._poll = argparse.Namespace(poll=note)
        for _ in range(2):  # by the second one it has come back to wait
            task.execute_async().result(DEADLINE)
        assert asked.wait(DEADLINE)
        assert {None} == set(waits)
        (root / "a").touch()
        assert ("created", "a") == task.next()
        task.execute_async().result(DEADLINE)
        assert skipped == task.n_skipped()  # as nobody waited for them


@pytest.mark.skipif(not inotify.available(), reason="not here: no inotify")
def test_many_changes_are_few_looks(root: Path) -> None:
    """However fast changes come, there is a pause between two looks."""
    looks: list[str] = []

    def listdir(self: Watcher, path: str) -> list[str]:
        looks.append(path)
        return os.listdir(path)

    cls: type[Watcher] = type("Watcher", (Watcher,), {"PATH": root, "listdir": listdir})
    with alone(cls, "inotify", 1000) as service:
        task: Any = service.requireTask(cls)
        task.execute_async().result(DEADLINE)
        began, before = time.monotonic(), len(looks)
        while time.monotonic() < began + 0.3:
            (root / "a").write_text("x")
        (root / "b").touch()
        task.until(("created", "b"))
        assert len(looks) - before <= (time.monotonic() - began) / COALESCE + 2


def test_try_later_waits_whatever_changes(root: Path) -> None:
    """A callback that asked for time has it, also while changes come."""
    task: Any = by_hand(root)
    asked: list[float] = []
    task._changes.events = argparse.Namespace(wait=asked.append, wake=lambda: None)
    task._handle_try_later(TryLater(after=0.001))
    assert [] == asked
    task.stop_event.wait(0.001)
    assert [] != asked


@pytest.mark.skipif(not inotify.available(), reason="not here: no inotify")
def test_too_many_watched(root: Path, monkeypatch: Any, caplog: Any) -> None:
    """What cannot all be watched is looked at every interval, and that is said once."""
    (root / "sub").mkdir()
    add = inotify.Inotify.add

    def refuse(self: inotify.Inotify, directory: str) -> int:
        if directory.endswith("sub"):
            raise OSError(28, "too many directories are watched")
        return add(self, directory)

    monkeypatch.setattr(inotify.Inotify, "add", refuse)
    cls: type[Watcher] = type("Watcher", (Watcher,), {"PATH": root, "RECURSIVE": True})
    with alone(cls, "inotify", 0.01) as service:
        task: Any = service.requireTask(cls)
        task.execute_async().result(DEADLINE)
        for number in range(3):
            (root / "sub" / str(number)).touch()
            task.until(("created", f"sub/{number}"))
    assert 1 == caplog.text.count("every 0.01 s: too many directories are watched")


@pytest.mark.skipif(not inotify.available(), reason="not here: no inotify")
def test_no_inotify_to_be_had(root: Path, monkeypatch: Any, caplog: Any) -> None:
    """Where the system allows no more, it is looked at every interval, and that is said."""

    def refuse(self: inotify.Inotify) -> None:
        raise OSError(24, "too many inotify users")

    monkeypatch.setattr(inotify.Inotify, "__init__", refuse)
    cls: type[Watcher] = type("Watcher", (Watcher,), {"PATH": root})
    with alone(cls, "inotify", 0.01) as service:
        task: Any = service.requireTask(cls)
        task.execute_async().result(DEADLINE)
        (root / "a").touch()
        assert ("created", "a") == task.next()
    assert f"Looking at {str(root)!r} every 0.01 s: too many inotify users" in caplog.text


def test_watchfiles_that_breaks(root: Path, monkeypatch: Any) -> None:
    """When the library gives up, the directory is looked at, and watched anew."""
    pytest.importorskip("watchfiles")
    from watchfiles import _rust_notify

    made: list[Any] = []

    class Breaks:
        def __init__(self, *arguments: Any) -> None:
            made.append(arguments)
            self.real = real(*arguments)

        def watch(self, *arguments: Any) -> Any:
            if len(made) == 1:
                raise RuntimeError("broken")
            return self.real.watch(*arguments)

    real = _rust_notify.RustNotify
    monkeypatch.setattr(_rust_notify, "RustNotify", Breaks)
    cls: type[Watcher] = type("Watcher", (Watcher,), {"PATH": root})
    with alone(cls, "watchfiles", 1000) as service:
        task: Any = service.requireTask(cls)
        for name in ("a", "b"):
            (root / name).touch()
            task.execute_async().result(DEADLINE)
        (root / "c").touch()
        task.until(("created", "c"))
    assert len(made) > 1


def test_who_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """auto is the first that there is; what is asked for by name must be there."""

    def here(linux: bool, library: bool) -> None:
        monkeypatch.setattr(inotify, "available", lambda: linux)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if library else None)

    here(linux=True, library=True)
    assert ["inotify", "inotify", "watchfiles", "off"] == [*map(fileevents.check, fileevents.KINDS)]
    here(linux=False, library=True)
    assert "watchfiles" == fileevents.check("auto")
    with pytest.raises(OptionError, match="accepted here: auto, watchfiles, off"):
        fileevents.check("inotify")
    here(linux=False, library=False)
    assert "off" == fileevents.check("auto")
    with pytest.raises(MissingExtra, match=r"pip install 'sparts\[files\]'"):
        fileevents.check("watchfiles")


# -- by hand --------------------------------------------------------------------------------------
def test_a_fresh_look_each_time(root: Path) -> None:
    """execute() looks and tells before it returns, and gives what is there."""
    task = by_hand(root)
    for name in "hgfed":
        (root / name).touch()
    assert set("hgfed") == set(task.execute() or ())
    assert [] == task.rest()
    (root / "b").touch()
    (root / "c").touch()
    for name in "hgfed":
        (root / name).unlink()
    found = task.execute()
    gone = [("deleted", name) for name in "defgh"]
    assert [*gone, ("created", "b"), ("created", "c")] == task.rest()
    assert found == task.getValue() == {"b": (root / "b").stat(), "c": (root / "c").stat()}
    task.execute()
    assert [] == task.rest()


def test_a_running_one_by_hand(start: Start, root: Path) -> None:
    """Also beside the task's own looks a change is told once, and before execute() returns."""
    task = start(root)
    for number in range(50):
        (root / str(number)).touch()
        task.execute()
        assert ("created", str(number)) in task.rest()


def test_one_look_after_the_other(root: Path) -> None:
    """Two that call execute() at once do not look at once, nor tell a change twice."""
    task: Any = by_hand(root)
    task.execute()
    inside, second = [0], threading.Event()

    def listdir(path: str) -> list[str]:
        inside[0] += 1
        if inside[0] > 1:
            second.set()
        second.wait(0.1)
        names = os.listdir(path)
        inside[0] -= 1
        return names

    task.listdir = listdir
    (root / "a").touch()
    threads = [threading.Thread(target=task.execute) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert not second.is_set()
    assert [("created", "a")] == task.rest()


def test_the_seams_are_all_it_looks_through() -> None:
    """Replaced on the task, listdir and stat are what the directory is."""
    task: Any = by_hand("/no/such/place")
    files: dict[str, Any] = {"a": os.stat_result(range(10))}
    asked: list[str] = []

    def stat(path: str) -> Any:
        asked.append(path)
        return files[os.path.basename(path)]

    def listdir(path: str) -> list[str]:
        asked.append(path)
        return list(files)

    task.listdir, task.stat = listdir, stat
    task.execute()
    assert ["/no/such/place", "/no/such/place/a"] == asked
    files["b"] = os.stat_result(range(10))
    files["a"] = os.stat_result(range(1, 11))
    task.execute()
    assert [("changed", "a"), ("created", "b")] == task.rest()
    later = list(range(1, 11))
    later[8] += 1  # st_mtime
    files["a"] = os.stat_result(later)
    task.execute()
    assert [("changed", "a")] == task.rest()
    del files["a"]
    task.execute()
    assert [("deleted", "a")] == task.rest()


def test_initial_files_on_request(root: Path) -> None:
    """Without IGNORE_INITIAL_FILES what is there at first is new, too."""
    (root / "b").touch()
    (root / "a").touch()
    task = by_hand(root, IGNORE_INITIAL_FILES=False)
    task.execute()
    assert [("created", "a"), ("created", "b")] == task.rest()


WHEN = 10**18


def write(path: Path, text: str, when: int = WHEN) -> None:
    """Write a file at the time *when*, in nanoseconds."""
    path.write_text(text)
    os.utime(path, ns=(when, when))


@pytest.mark.parametrize("change", ["size", "nanosecond", "inode"])
def test_what_is_a_change(change: str, root: Path) -> None:
    """Another size, another time, to the nanosecond, or another file of the name."""
    write(root / "a", "1234")
    task = by_hand(root)
    task.execute()
    if change == "size":
        write(root / "a", "12345")
    elif change == "nanosecond":
        write(root / "a", "1234", WHEN + 1)
    else:
        write(root.parent / "a", "1234")
        os.replace(root.parent / "a", root / "a")
    task.execute()
    assert [("changed", "a")] == task.rest()


def test_what_is_no_change(root: Path) -> None:
    """To read a file, to change who may read it, or what is in a directory, is none."""
    write(root / "a", "1234")
    (root / "sub").mkdir()
    task = by_hand(root)
    task.execute()
    (root / "a").read_text()
    (root / "a").chmod(0o600)
    (root / "sub" / "b").touch()
    task.execute()
    assert [] == task.rest()


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*.log"], ["a.log", "sub/b.log"]),
        (["sub/*"], ["sub/b.log", "sub/c.txt"]),
        (["*.txt", "a.*"], ["a.log", "sub/c.txt"]),
        (["[ab].log"], ["a.log", "sub/b.log"]),
        (["*.LOG"], []),
        ([], ["a.log", "sub", "sub/b.log", "sub/c.txt"]),
    ],
)
def test_patterns(patterns: list[str], expected: list[str], root: Path) -> None:
    """With a slash they are about the whole name, else about its last part; case counts."""
    (root / "sub").mkdir()
    for name in ("a.log", "sub/b.log", "sub/c.txt"):
        (root / name).touch()
    task = by_hand(root, RECURSIVE=True, PATTERNS=patterns)
    assert expected == sorted(task.execute() or ())


def test_links(root: Path) -> None:
    """A link is what it leads to; one that leads nowhere is not there, one to a directory is not
    followed, so a circle is no trouble."""
    (root / "a").write_text("1234")
    (root / "link").symlink_to("a")
    (root / "nowhere").symlink_to("missing")
    (root / "circle").symlink_to(".")
    found = by_hand(root, RECURSIVE=True).execute()
    assert found is not None
    assert ["a", "circle", "link"] == sorted(found)
    assert 4 == found["link"].st_size


def test_what_vanishes_while_it_looks(root: Path, caplog: Any) -> None:
    """Listed and gone by the time it is asked for: it is not there, and not worth a word."""
    task: Any = by_hand(root, RECURSIVE=True)
    (root / "sub").mkdir()
    (root / "sub" / "a").touch()

    def listdir(path: str) -> list[str]:
        if path.endswith("sub"):
            raise FileNotFoundError(2, "No such file or directory", path)
        return [*os.listdir(path), "vanished"]

    task.listdir = listdir
    assert ["sub"] == sorted(task.execute())
    assert "" == caplog.text


@pytest.mark.parametrize("number", [13, 5, 20])
def test_what_may_not_be_read(number: int, root: Path, caplog: Any) -> None:
    """A directory that cannot be read is as it was, which is said once for each time."""
    (root / "a").touch()
    task: Any = by_hand(root)
    readable = task.listdir

    def refuse(path: str) -> list[str]:
        raise OSError(number, os.strerror(number), path)

    task.listdir = refuse
    assert task.execute() is None
    assert task.getValue(0) is None
    task.listdir = readable
    task.execute()
    assert [] == task.rest()  # it was there before one could see it
    (root / "b").touch()
    task.listdir = refuse
    for _ in range(3):
        assert {"a"} == set(task.execute())
    assert [] == task.rest()
    task.listdir = readable
    task.execute()
    assert [("created", "b")] == task.rest()
    message = f"The directory {str(root)!r} cannot be read, trying again: "
    assert 2 == caplog.text.count(message + os.strerror(number))


def test_below_what_may_not_be_read(root: Path, caplog: Any) -> None:
    """Of a subdirectory, and of entries, all that was seen before stays; the others go on."""
    for name in ("one", "two"):
        (root / name).mkdir()
        (root / name / "a").touch()
    task: Any = by_hand(root, RECURSIVE=True, PATTERNS=["[a-z]"])
    task.execute()
    listdir, stat = task.listdir, task.stat

    def refuse(path: str) -> list[str]:
        if path.endswith("one"):
            raise PermissionError(13, "Permission denied", path)
        found: list[str] = listdir(path)
        return found

    def refuse_some(path: str) -> Any:
        if path.endswith(("b", "c")):
            raise PermissionError(13, "Permission denied", path)
        return stat(path)

    task.listdir = refuse
    (root / "one" / "a").unlink()
    (root / "two" / "a").unlink()
    (root / "two" / "b").touch()
    for _ in range(3):
        task.execute()
    assert [("deleted", "two/a"), ("created", "two/b")] == task.rest()
    task.listdir, task.stat = listdir, refuse_some
    (root / "two" / "c").touch()
    (root / "two" / "b").write_text("x")
    for _ in range(3):
        task.execute()
    assert [("deleted", "one/a")] == task.rest()
    assert 1 == caplog.text.count("cannot be read")
    assert 1 == caplog.text.count("Not all in the directory")
    task.stat = stat
    task.execute()
    assert [("changed", "two/b"), ("created", "two/c")] == task.rest()


def test_a_file_is_no_directory(root: Path, caplog: Any) -> None:
    """To watch a file is a trouble that is said, and no crash."""
    (root / "a").touch()
    task = by_hand(root / "a")
    assert task.execute() is None
    assert "cannot be read, trying again: Not a directory" in caplog.text


def test_a_change_that_was_not_taken(root: Path) -> None:
    """What a callback failed at is told again by the next look, with what was to follow."""
    task: Any = by_hand(root)
    task.execute()
    for name in "abc":
        (root / name).touch()
    created = task.onFileCreated

    def fail(name: str, stat: os.stat_result) -> None:
        if name == "b":
            raise LookupError(name)
        created(name, stat)

    task.onFileCreated = fail
    with pytest.raises(LookupError):
        task.execute()
    assert [("created", "a")] == task.rest()
    task.onFileCreated = created
    task.execute()
    assert [("created", "b"), ("created", "c")] == task.rest()


def test_names_that_are_no_text(root: Path) -> None:
    """A name that is not in the system's encoding is one all the same."""
    name = os.fsdecode(b"\xff\xfe")
    (root / name).touch()
    assert [name] == list(by_hand(root).execute() or ())


def test_a_directory_must_be_given() -> None:
    """Neither PATH nor the option: the error names both."""
    task = DirectoryWatcherTask(VService(argparse.Namespace()))
    message = "give --DirectoryWatcherTask-path, or set PATH"
    with pytest.raises(OptionError, match=message):
        task.initTask()


def test_by_schedule_it_only_looks_then(root: Path) -> None:
    """With a cron schedule there are no events: it looks at its times."""
    pytest.importorskip("cronsim")
    cls: type[Watcher] = type("Watcher", (Watcher,), {"PATH": root, "INTERVAL": None})
    with running(cls, "--Watcher-schedule=0 0 29 2 *") as service:
        task: Any = service.requireTask(cls)
        assert task._changes.events is None
        task.execute_async().result(DEADLINE)
        (root / "a").touch()
        task.execute_async().result(DEADLINE)
        assert [("created", "a")] == task.rest()


def test_import_is_cheap() -> None:
    """The module does not import watchfiles, which may be missing."""
    assert "watchfiles" not in vars(sys.modules["sparts.tasks.file"])


def test_execute_takes_a_context(tmp_path: Path) -> None:
    """As any periodic task's, ``execute`` can be called with the context of the run."""
    (tmp_path / "a").touch()
    assert {"a"} == set(by_hand(tmp_path).execute(context=ExecuteContext()) or ())

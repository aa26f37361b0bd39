"""The profiler: what its report tells, whom it leaves out, and how it is bounded."""

import itertools
import re
import threading
from collections.abc import Iterator

import pytest

from sparts import profiler
from sparts.profiler import MAX_SECONDS, ProfileError, profile

DEADLINE = 10.0


class Looked(threading.Event):
    """A stop that comes by itself when somebody has waited for it *count* times."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._left = itertools.count(count, -1)

    def wait(self, timeout: float | None = None) -> bool:
        if next(self._left) <= 0:
            self.set()
        return super().wait(timeout)


class Waited(threading.Event):
    """A stop that tells when somebody began to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.begun.set()
        return super().wait(timeout)


@pytest.fixture
def busy() -> Iterator[None]:
    """A thread that computes, and one that waits."""
    over = threading.Event()

    def crunch() -> int:
        return sum(range(2000))

    def compute() -> None:
        while not over.is_set():
            crunch()

    def idle() -> None:
        over.wait()

    threads = [
        threading.Thread(target=compute, name="Worker; one"),
        threading.Thread(target=idle, name="Idler"),
    ]
    for each in threads:
        each.start()
    yield
    over.set()
    for each in threads:
        each.join()


def stacks(report: str) -> list[str]:
    """The lines of the report that are stacks."""
    return [line for line in report.splitlines() if not line.startswith("#")]


@pytest.mark.usefixtures("busy")
def test_who_computes_is_seen() -> None:
    """The function that computes leads the table; its stack begins with its thread's name, and
    ends with the milliseconds."""
    report = profile(0.4, threading.Event())
    table = report[report.index("self    total") :]
    first = table.splitlines()[1]
    assert re.match(r"# +\d+ +\d+  busy\.<locals>\.crunch \(tests/test_profiler\.py:\d+\)", first)
    lines = stacks(report)
    assert re.fullmatch(r"Worker, one;.*;busy\.<locals>\.compute .*;.*crunch \(.*\) \d+", lines[0])
    assert re.search(r"# CPU time of the process: \d\.\d+ s, of which", report)


@pytest.mark.usefixtures("busy")
def test_who_waits_is_not() -> None:
    """A thread that waits weighs nothing."""
    report = profile(MAX_SECONDS, Looked(15))
    assert "Worker, one" in report
    assert "Idler" not in report


@pytest.mark.usefixtures("busy")
def test_by_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no CPU times, those who wait are seen, too, and the report says so."""
    monkeypatch.setattr(profiler, "_cpu_time", lambda thread: None)
    report = profile(MAX_SECONDS, Looked(5))
    assert "Wall-clock time" in report
    assert {"Worker, one", "Idler"} <= {line.partition(";")[0] for line in stacks(report)}


@pytest.mark.parametrize("seconds", [0, -1, MAX_SECONDS + 1, 2**31 - 1, float("nan")])
def test_how_long(seconds: float) -> None:
    """No time, a negative one and one over the limit are refused, with what is accepted."""
    with pytest.raises(ProfileError, match=f"ask for 1 to {MAX_SECONDS}"):
        profile(seconds, threading.Event())


def test_a_stop_ends_it_and_no_other_begins() -> None:
    """While one is under way another is refused; a stop ends it, and the next one is taken."""
    stop, reports = Waited(), list[str]()
    thread = threading.Thread(target=lambda: reports.append(profile(MAX_SECONDS, stop)))
    thread.start()
    assert stop.begun.wait(DEADLINE)
    with pytest.raises(ProfileError, match="another profile is under way"):
        profile(1, threading.Event())
    stop.set()
    thread.join(DEADLINE)
    assert "ended early by the service's stop" in reports[0]
    assert "ended early" in profile(MAX_SECONDS, stop)


@pytest.mark.usefixtures("busy")
def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stacks over their number count together, and a report ends where it would be too long."""
    monkeypatch.setattr(profiler, "_cpu_time", lambda thread: None)
    monkeypatch.setattr(profiler, "_STACKS", 1)
    assert "(other stacks) " in profile(MAX_SECONDS, Looked(5))
    monkeypatch.setattr(profiler, "_SIZE", 10)
    report = profile(MAX_SECONDS, Looked(5))
    assert [] == stacks(report)
    assert "stacks more, as the report would be too long" in report
    monkeypatch.setattr(profiler, "_FUNCTIONS", 1)
    assert re.search(r"# and \d+ more\n", profile(MAX_SECONDS, Looked(5)))


def test_deep_stacks_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a stack that is too deep the innermost frames are kept."""
    over, there = threading.Event(), threading.Event()

    def dive(depth: int) -> None:
        if depth:
            dive(depth - 1)
        else:
            there.set()
            over.wait()

    thread = threading.Thread(target=dive, args=(200,), name="Diver")
    thread.start()
    assert there.wait(DEADLINE)
    monkeypatch.setattr(profiler, "_cpu_time", lambda thread: None)
    report = profile(MAX_SECONDS, Looked(3))
    over.set()
    thread.join()
    (line,) = [line for line in stacks(report) if line.startswith("Diver")]
    assert 1 + 64 == len(line.split(";"))
    assert "Event.wait" in line

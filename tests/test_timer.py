"""Timer and run_until_true: elapsed seconds by a clock of ours, and waiting for what is polled."""

import time
from collections.abc import Iterator
from unittest import mock

import pytest

from sparts.timer import Timer, run_until_true

DEADLINE = 10.0


def timer_at(*times: float) -> Timer:
    """A timer whose clock shows *times*, one at each look."""
    timer = Timer()
    timer._time = mock.Mock(side_effect=times)  # type: ignore[method-assign]
    return timer


def test_elapsed_before_the_start() -> None:
    """A timer that was never started shows nothing, and stopping it is no error."""
    timer = timer_at()
    assert 0.0 == timer.elapsed
    assert 0.0 == timer.stop()


def test_elapsed_while_running_and_after() -> None:
    """It goes on while the timer runs, and stands once it is stopped."""
    timer = timer_at(100.0, 101.5, 103.0, 104.0)
    timer.start()
    assert 1.5 == timer.elapsed
    assert 3.0 == timer.elapsed
    assert 4.0 == timer.stop()
    assert 4.0 == timer.elapsed


def test_second_stop_changes_nothing() -> None:
    """The first stop counts."""
    timer = timer_at(1.0, 2.0, 9.0)
    timer.start()
    timer.stop()
    assert 1.0 == timer.stop()


def test_start_again() -> None:
    """A new start begins a new measurement."""
    timer = timer_at(0.0, 5.0, 10.0, 12.0)
    timer.start()
    timer.stop()
    timer.start()
    assert 2.0 == timer.stop()


def test_context_manager_stops_on_an_exception() -> None:
    """The block is what is timed, however it ends."""
    timer = timer_at(0.0, 2.0)
    with pytest.raises(KeyError), timer as entered:
        raise KeyError
    assert timer is entered
    assert 2.0 == timer.elapsed


def test_seam_on_the_class() -> None:
    """The clock can be replaced for every timer."""
    with mock.patch.object(Timer, "_time", side_effect=[1.0, 3.0]), Timer() as timer:
        pass
    assert 2.0 == timer.elapsed


def test_wall_clock_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A jump of the wall clock does not show."""
    monkeypatch.setattr(time, "monotonic", mock.Mock(side_effect=[5.0, 6.0]))
    monkeypatch.setattr(time, "time", mock.Mock(side_effect=[5.0, -3595.0]))
    with Timer() as timer:
        pass
    assert 1.0 == timer.elapsed


def test_run_until_true_returns_the_true_value() -> None:
    """It calls until it gets something true, which it returns."""
    values = iter([None, 0, "found", "too far"])
    assert "found" == run_until_true(lambda: next(values), DEADLINE)
    assert "too far" == next(values)


def test_run_until_true_at_the_timeout() -> None:
    """It returns the last false value, whatever that is."""
    assert [] == run_until_true(list, 0.01)


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_run_until_true_calls_at_least_once(timeout: float) -> None:
    """No time is time for one call, and for no more."""
    f = mock.Mock(side_effect=[False, True])
    assert run_until_true(f, timeout) is False
    assert 1 == f.call_count


def test_run_until_true_passes_exceptions() -> None:
    """What the function raises is the caller's."""
    with pytest.raises(ZeroDivisionError):
        run_until_true(lambda: 1 / 0, DEADLINE)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that only the pauses move; the pauses, in order."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: sum(pauses))
    with mock.patch("sparts.timer.threading.Event") as event:
        event.return_value.wait = pauses.append
        yield pauses


def test_run_until_true_backs_off(clock: list[float]) -> None:
    """The pauses double from 1 ms to 50 ms, and the last one ends at the deadline, with a call."""
    calls: list[float] = []
    run_until_true(lambda: calls.append(sum(clock)), 0.2)
    assert [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.05, 0.05] == clock[:8]
    assert pytest.approx(0.037) == clock[8]
    assert pytest.approx(0.2) == calls[-1]
    assert 10 == len(calls)

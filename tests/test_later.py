"""Timers of a loop: order, cancelling, and how many are kept."""

from sparts.later import Timers


def test_no_timer_no_hurry() -> None:
    """With nothing due there is no limit to the wait."""
    assert Timers().patience() is None


def test_due_in_order() -> None:
    """What is due is called, the earliest first; what is due later is not."""
    timers, calls = Timers(), []
    timers.add(-1.0, lambda: calls.append("second"))
    timers.add(-2.0, lambda: calls.append("first"))
    timers.add(1000.0, lambda: calls.append("later"))
    timers.run_due()
    assert ["first", "second"] == calls
    left = timers.patience()
    assert left is not None
    assert 900 < left <= 1000


def test_overdue_is_no_negative_wait() -> None:
    """A call that is overdue means a wait of no time."""
    timers = Timers()
    timers.add(-5.0, lambda: None)
    assert 0.0 == timers.patience()


def test_no_wait_is_too_long_for_epoll() -> None:
    """A call in a month, or never, is waited for day by day."""
    timers = Timers()
    timers.add(float("inf"), lambda: None)
    assert 86400.0 == timers.patience()
    timers.add(30 * 86400.0, lambda: None)
    assert 86400.0 == timers.patience()


def test_cancelled() -> None:
    """A cancelled call is not made, nor waited for; cancelling twice, or too late, does nothing."""
    timers, calls = Timers(), []
    cancelled = timers.add(-1.0, lambda: calls.append("cancelled"))
    made = timers.add(-1.0, lambda: calls.append("made"))
    for _ in range(2):
        cancelled.cancel()
    timers.run_due()
    made.cancel()
    assert ["made"] == calls
    assert timers.patience() is None


def test_cancelled_while_due() -> None:
    """A call that is due cancels the next one, which is due too."""
    timers, calls = Timers(), []
    timers.add(-2.0, lambda: second.cancel())
    second = timers.add(-1.0, lambda: calls.append("second"))
    timers.run_due()
    assert [] == calls


def test_cancelled_ones_are_swept_out() -> None:
    """However many are made and cancelled, no more are kept than twice those that are due."""
    timers = Timers()
    timers.add(1000.0, lambda: None)
    for _ in range(10_000):
        timers.add(1000.0, lambda: None).cancel()
        assert len(timers) <= 3
    left = timers.patience()
    assert left is not None
    assert 900 < left


def test_earlier_ones_cancelled() -> None:
    """The wait is for the first call that is still to be made."""
    timers = Timers()
    timers.add(500.0, lambda: None)
    timers.add(1000.0, lambda: None)
    timers.add(1000.0, lambda: None)
    timers.add(10.0, lambda: None).cancel()
    left = timers.patience()
    assert left is not None
    assert 400 < left <= 500

"""Schedules: the times they give on clocks that the tests turn, and what is no schedule."""

import itertools
import sys
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from sparts.errors import MissingExtra, OptionError
from sparts.schedule import LONGEST_WAIT, MOST_MISSED, Cron, FixedRate, Schedule

HOUR = 3600.0


@dataclass
class Pace:
    interval: float = 1.0
    jitter: float = 0.0


@dataclass
class Clock:
    """A clock that goes only while somebody waits, and as far as asked."""

    now: float = 0.0
    waits: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def turn(self, schedule: Schedule) -> int:
        """Wait until the next run is due; how many were missed before it."""
        missed = schedule.advance()
        for delay in schedule.delays():
            self.wait(delay)
        return missed


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    """The Unix time of a time of day in *zone*."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


# -- a fixed rate ---------------------------------------------------------------------------------
def test_the_first_run_is_at_once() -> None:
    """The first time is that of the first question, with no wait at all."""
    clock = Clock(now=50.0)
    assert 0 == clock.turn(FixedRate(Pace(), clock))
    assert [] == clock.waits


@pytest.mark.parametrize("interval", [0.1, 1 / 3, 1.0, 7.3])
def test_it_does_not_drift(interval: float) -> None:
    """After many runs, most of them late, the next is due at a multiple of the interval."""
    clock = Clock(now=1000.0)
    schedule = FixedRate(Pace(interval), clock)
    lateness = itertools.cycle([0.0, 0.01, 0.3, 0.9])
    runs = 20_000
    for _ in range(runs):
        assert 0 == clock.turn(schedule)
        clock.now += next(lateness) * interval
    schedule.advance()
    assert pytest.approx(1000.0 + runs * interval, abs=1e-6) == schedule.due


def test_what_was_missed_is_skipped_and_counted() -> None:
    """After a run of 3.5 intervals three times are missed, and the next is on the old grid."""
    clock = Clock()
    schedule = FixedRate(Pace(), clock)
    clock.turn(schedule)
    clock.now = 3.5
    assert 3 == clock.turn(schedule)
    assert 4.0 == clock.now
    assert 0 == clock.turn(schedule)
    assert 5.0 == clock.now


def test_a_run_of_exactly_the_interval_misses_none() -> None:
    """A time that is just now is not missed."""
    clock = Clock()
    schedule = FixedRate(Pace(0.1), clock)
    for count in range(1, 1000):
        assert 0 == clock.turn(schedule)
        clock.now = count * 0.1


def test_a_run_in_between_leaves_the_times_as_they_were() -> None:
    """Asked again before the time has come, it is the same time, and none is missed."""
    clock = Clock()
    schedule = FixedRate(Pace(10.0), clock)
    clock.turn(schedule)
    schedule.advance()
    assert 10.0 == next(schedule.delays())
    clock.now = 4.0
    assert 0 == schedule.advance()
    assert [6.0] == list(schedule.delays())


def test_a_time_that_passes_during_a_run_in_between_is_missed() -> None:
    """A run that was not at any time of the schedule still makes those that pass missed ones."""
    clock = Clock()
    schedule = FixedRate(Pace(10.0), clock)
    clock.turn(schedule)
    schedule.advance()
    clock.now = 11.0
    assert 1 == clock.turn(schedule)
    assert 20.0 == clock.now
    clock = Clock(at("2026-11-21 10:00"))
    daily = cron("0 12 * * *", clock)
    daily.advance()
    clock.now = at("2026-11-21 12:01")
    assert 1 == clock.turn(daily)
    assert at("2026-11-22 12:00") == clock.now


def test_a_timer_that_is_a_little_early_doubles_no_run() -> None:
    """When a wait ends a millisecond too soon the next one goes to the next time."""
    clock = Clock()
    schedule = FixedRate(Pace(10.0), clock)
    clock.turn(schedule)
    clock.turn(schedule)
    clock.now = 9.999
    assert 0 == clock.turn(schedule)
    assert 20.0 == clock.now


def test_a_wait_cut_short_makes_the_next_no_longer() -> None:
    """Where nobody really waits, as under a mock, each delay is one interval."""
    clock = Clock()
    schedule = FixedRate(Pace(10.0), clock)
    delays = []
    for _ in range(4):
        schedule.advance()
        delays.append(list(schedule.delays()))
    assert [[], [10.0], [10.0], [10.0]] == delays


def test_a_new_interval_counts_from_now() -> None:
    """An interval changed while a run took its time holds for the next wait, and misses none."""
    clock, pace = Clock(), Pace(10.0)
    schedule = FixedRate(pace, clock)
    clock.turn(schedule)
    clock.now, pace.interval = 5.0, 2.0
    assert 0 == clock.turn(schedule)
    assert 7.0 == clock.now
    clock.turn(schedule)
    assert 9.0 == clock.now


def test_a_new_interval_replaces_a_time_to_come() -> None:
    """An interval changed during a long wait holds as soon as that wait is broken off."""
    clock, pace = Clock(), Pace(HOUR)
    schedule = FixedRate(pace, clock)
    clock.turn(schedule)
    schedule.advance()
    clock.now, pace.interval = 5.0, 2.0
    schedule.advance()
    assert [2.0] == list(schedule.delays())


def test_jitter_is_no_drift() -> None:
    """Each run comes between its time and the jitter's end, the thousandth as the first."""
    clock = Clock()
    schedule = FixedRate(Pace(10.0, jitter=4.0), clock)
    lateness = []
    for count in range(1000):
        assert 0 == clock.turn(schedule)
        lateness.append(clock.now - count * 10.0)
    assert 0.0 <= min(lateness) < 0.5
    assert 3.5 < max(lateness) <= 4.0


def test_jitter_misses_no_run() -> None:
    """A short run late in its jitter does not count as missing the next time."""
    clock = Clock()
    schedule = FixedRate(Pace(10.0, jitter=10.0), clock)
    for count in range(1000):
        assert 0 == clock.turn(schedule)
        clock.now = max(clock.now, count * 10.0 + 10.0) + 1.0


def test_jitter_beyond_the_interval_is_cut() -> None:
    """No more than one interval of jitter counts, so that the runs stay apart and in order."""
    clock = Clock()
    schedule = FixedRate(Pace(1.0, jitter=50.0), clock)
    for count in range(1000):
        clock.turn(schedule)
        assert count <= clock.now <= count + 1


# -- cron -----------------------------------------------------------------------------------------
def cron(expression: str, clock: Clock, zone: str = "UTC", jitter: float = 0.0) -> Cron:
    return Cron(expression, zone, Pace(jitter=jitter), clock)


def test_cron_runs_at_its_times_only() -> None:
    """The first run is at the first time that matches, not at the start."""
    clock = Clock(at("2026-11-21 10:02:30"))
    schedule = cron("*/5 * * * *", clock)
    for expected in ("10:05", "10:10", "10:15"):
        assert 0 == clock.turn(schedule)
        assert at(f"2026-11-21 {expected}") == clock.now


def test_cron_in_a_time_zone() -> None:
    """Nine in the morning is that of the zone, before and after its summer time begins."""
    clock = Clock(at("2026-03-28 12:00"))
    schedule = cron("0 9 * * *", clock, "Europe/Berlin")
    clock.turn(schedule)
    assert at("2026-03-29 07:00") == clock.now
    assert (
        at("2026-03-28 08:00")
        == cron("0 9 * * *", Clock(at("2026-03-27 12:00")), "Europe/Berlin").due
    )


def test_an_hour_that_comes_twice_has_one_run() -> None:
    """A daily run within the hour that the end of summer time repeats comes once."""
    clock = Clock(at("2026-10-24 12:00"))
    schedule = cron("30 2 * * *", clock, "Europe/Berlin")
    times = []
    for _ in range(3):
        clock.turn(schedule)
        times.append(clock.now)
    days = ("2026-10-25 02:30", "2026-10-26 02:30", "2026-10-27 02:30")
    assert [at(day, "Europe/Berlin") for day in days] == times


def test_an_hour_that_comes_twice_gives_no_time_in_the_past() -> None:
    """Begun in the second of the two equal hours, the next time is tomorrow's."""
    clock = Clock(at("2026-10-25 02:15", "Europe/Berlin", fold=1))
    schedule = cron("30 2 * * *", clock, "Europe/Berlin")
    assert at("2026-10-26 02:30", "Europe/Berlin") == schedule.due


def test_cron_with_seconds() -> None:
    """Six fields begin with the second."""
    clock = Clock(at("2026-11-21 10:00:01"))
    clock.turn(cron("*/15 * * * * *", clock))
    assert at("2026-11-21 10:00:15") == clock.now


def test_cron_skips_what_it_missed() -> None:
    """A run that took over the next times is followed by the one after them."""
    clock = Clock(at("2026-11-21 09:59"))
    schedule = cron("*/5 * * * *", clock)
    clock.turn(schedule)
    clock.now = at("2026-11-21 10:12")
    assert 2 == clock.turn(schedule)
    assert at("2026-11-21 10:15") == clock.now


def test_cron_looks_at_the_clock_once_an_hour() -> None:
    """A long wait is made of waits of an hour, and no shorter ones but the last."""
    clock = Clock(at("2026-11-21 10:00"))
    clock.turn(cron("30 12 * * *", clock))
    assert [LONGEST_WAIT, LONGEST_WAIT, HOUR / 2] == clock.waits


def test_cron_is_never_early() -> None:
    """A clock that was set back during the wait is waited for."""
    clock = Clock(at("2026-11-21 10:00"))
    schedule = cron("30 10 * * *", clock)
    schedule.advance()
    delays = schedule.delays()
    assert HOUR / 2 == next(delays)
    clock.now = at("2026-11-21 09:45")
    assert HOUR * 3 / 4 == next(delays)
    clock.now = at("2026-11-21 10:29:59")
    assert 1.0 == next(delays)
    clock.now = at("2026-11-21 10:30")
    assert [] == list(delays)


def test_cron_doubles_no_run_when_the_clock_is_set_back() -> None:
    """Set back by an hour after a run, the times up to that run do not count again."""
    clock = Clock(at("2026-11-21 09:59"))
    schedule = cron("* * * * *", clock)
    clock.turn(schedule)
    clock.now -= HOUR
    assert 0 == clock.turn(schedule)
    assert at("2026-11-21 10:01") == clock.now


def test_cron_starts_over_when_the_clock_was_wrong() -> None:
    """Set back by years, before a run or after it, the clock's new time holds."""
    for served in (False, True):
        clock = Clock(at("2035-01-01 09:59"))
        schedule = cron("0 * * * *", clock)
        if served:
            clock.turn(schedule)
        clock.now = at("2026-11-21 10:30")
        assert 0 == clock.turn(schedule)
        assert at("2026-11-21 11:00") == clock.now


def test_cron_passes_over_what_the_clock_jumped() -> None:
    """Set forward by a year, there is one run at once, and a bounded count of missed ones."""
    clock = Clock(at("2025-11-21 09:59:30"))
    schedule = cron("* * * * *", clock)
    schedule.advance()
    delays = schedule.delays()
    assert 30.0 == next(delays)
    clock.now = at("2026-11-21 09:59:30")
    assert [] == list(delays)
    assert MOST_MISSED == clock.turn(schedule)
    assert at("2026-11-21 10:00") == clock.now


def test_a_run_in_between_leaves_cron_times_as_they_were() -> None:
    """Asked again before the time has come, it is the same time."""
    clock = Clock(at("2026-11-21 10:00"))
    schedule = cron("0 12 * * *", clock)
    schedule.advance()
    assert LONGEST_WAIT == next(schedule.delays())
    clock.now += 60
    assert 0 == schedule.advance()
    assert at("2026-11-21 12:00") == schedule.due


def test_cron_with_jitter() -> None:
    """Each run comes between its time and the jitter's end, and none is missed for it."""
    clock = Clock(at("2026-11-21 10:00"))
    schedule = cron("* * * * *", clock, jitter=30.0)
    for minute in range(1, 50):
        assert 0 == clock.turn(schedule)
        assert 0.0 <= clock.now - at(f"2026-11-21 10:{minute:02}") <= 30.0
    clock.now = at("2026-11-21 10:50:29")
    assert 0 == clock.turn(schedule)
    assert 29.0 <= clock.now - at("2026-11-21 10:50") <= 30.0


# -- what is no schedule --------------------------------------------------------------------------
@pytest.mark.parametrize("expression", ["", "* * * *", "61 * * * *", "0 0 31 2 *", "hourly"])
def test_a_wrong_expression_is_named(expression: str) -> None:
    """What is no cron expression is an error with the text and what is accepted."""
    with pytest.raises(OptionError) as caught:
        cron(expression, Clock())
    assert f"SCHEDULE {expression!r} is no cron expression" in str(caught.value)
    assert "'*/5 * * * *'" in str(caught.value)


def test_an_expression_that_never_matches_is_an_error() -> None:
    """Times that never come are told at once, not waited for."""
    with pytest.raises(OptionError, match="matches no time"):
        cron("0 0 */31 * MON#5", Clock(at("2026-11-21 10:00")))


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ("Europe/Berlni", "did you mean 'Europe/Berlin'?"),
        ("", "give one such as"),
        ("../etc/passwd", "give one such as"),
        ("Europe", "TIMEZONE 'Europe' is no time zone"),
    ],
)
def test_a_wrong_zone_is_named(zone: str, said: str) -> None:
    """What is no time zone is an error with the name and the nearest that is one."""
    with pytest.raises(OptionError) as caught:
        cron("* * * * *", Clock(), zone)
    assert f"TIMEZONE {zone!r} is no time zone" in str(caught.value)
    assert said in str(caught.value)


def test_without_the_library_the_cure_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where cronsim is missing the error is the command that installs it."""
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(MissingExtra, match=r"pip install 'sparts\[cron\]'"):
        cron("* * * * *", Clock())

"""Backoff, the budget, and after which errors a call is made again."""

import math
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sparts.errors import OptionError
from sparts.thrift.clients.retry import Backoff, RetryBudget, RetryPolicy, Tries
from sparts.thrift.errors import (
    BadReply,
    BadStatus,
    CallTimeout,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    Overloaded,
    PoolExhausted,
    RequestTooLarge,
)

QUICK = RetryPolicy(3, Backoff(0.001, 0.002))


class Clock:
    """A time that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# -- backoff --------------------------------------------------------------------------------------
def test_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits double up to the last; chance takes up to half of each."""
    backoff = Backoff(0.1, 1.0)
    for share in (0.5, 1.0):
        monkeypatch.setattr(random, "uniform", lambda low, high, share=share: share)
        expected = [share * each for each in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0)]
        assert expected == [backoff.delay(each) for each in range(1, 7)]
    assert 1.0 == backoff.delay(10**9)


def test_chance() -> None:
    """Clients that failed together do not come back together."""
    delays = {Backoff(1.0, 1.0).delay(1) for _ in range(100)}
    assert len(delays) > 90
    assert 0.5 <= min(delays) <= max(delays) <= 1.0


def test_wrong_values() -> None:
    """Nonsense is refused with what is accepted."""
    with pytest.raises(OptionError, match="give 0 <= first <= last"):
        Backoff(2.0, 1.0)
    with pytest.raises(OptionError, match="give 1"):
        RetryPolicy(0)
    with pytest.raises(OptionError, match="give numbers of 0 or more"):
        RetryBudget(ratio=-1.0)


# -- the budget -----------------------------------------------------------------------------------
def test_the_budget_is_spent() -> None:
    """It begins full, and no more is taken than is there."""
    budget = RetryBudget(0.0, 0.0, 2.0)
    assert [True, True, False] == [budget.take() for _ in range(3)]


def test_calls_fill_it() -> None:
    """Each call puts in its share, up to the most."""
    budget = RetryBudget(0.25, 0.0, 2.0)
    assert [True, True, False] == [budget.take() for _ in range(3)]
    for _ in range(4):
        budget.note_call()
    assert [True, False] == [budget.take() for _ in range(2)]
    for _ in range(1000):
        budget.note_call()
    assert [True, True, False] == [budget.take() for _ in range(3)]


def test_time_fills_it() -> None:
    """So does every second, for those who call seldom."""
    clock = Clock()
    budget = RetryBudget(0.0, 0.5, 1.0, clock)
    assert [True, False] == [budget.take() for _ in range(2)]
    clock.now += 1.0
    assert not budget.take()
    clock.now += 1.0
    assert budget.take()


def test_an_outage_is_not_multiplied() -> None:
    """Of a thousand calls that fail about a tenth are repeated."""
    clock = Clock()
    budget = RetryBudget(0.1, 1.0, 10.0, clock)
    retries = 0
    for _ in range(1000):
        budget.note_call()
        retries += budget.take()
    assert 109 <= retries <= 110


def test_threads_share_it() -> None:
    """Threads take no more than there is."""
    budget = RetryBudget(0.0, 0.0, 500.0)
    with ThreadPoolExecutor(8) as threads:
        taken = sum(threads.map(lambda _: budget.take(), range(2000)))
    assert 500 == taken


# -- tries ----------------------------------------------------------------------------------------
def tries(idempotent: bool = False, budget: RetryBudget | None = None) -> Tries:
    """Those of one call without a deadline."""
    return Tries(QUICK, budget or RetryBudget(), idempotent, math.inf)


@pytest.mark.parametrize(
    ("error", "plain", "idempotent"),
    [
        (ConnectFailed("x"), True, True),
        (ConnectionLost("x", maybe_run=False), True, True),
        (ConnectionLost("x", maybe_run=True), False, True),
        (Overloaded("x"), True, True),
        (BadStatus("x", 500), False, True),
        (CallTimeout("x", maybe_run=True), False, False),
        (PoolExhausted("x"), False, False),
        (BadReply("x"), False, False),
        (RequestTooLarge("x"), False, False),
        (ClientError("x"), False, False),
    ],
)
def test_what_is_tried_again(error: ClientError, plain: bool, idempotent: bool) -> None:
    """Only what was surely not run is repeated; what is idempotent after a loss, too."""
    for declared, expected in ((False, plain), (True, idempotent)):
        if expected:
            assert 0.0005 <= tries(declared).delay_after(error, False) <= 0.001
        else:
            with pytest.raises(type(error)) as caught:
                tries(declared).delay_after(error, False)
            assert error is caught.value


def test_the_last_try() -> None:
    """After so many attempts the error is raised."""
    made = tries()
    for _ in range(2):
        made.delay_after(ConnectFailed("x"), False)
    with pytest.raises(ConnectFailed):
        made.delay_after(ConnectFailed("x"), False)


def test_elsewhere_at_once() -> None:
    """A failed connect goes on to another endpoint without a wait, an attempt or a token."""
    made = tries(budget=RetryBudget(0.0, 0.0, 0.0))
    assert [0.0] * 5 == [made.delay_after(ConnectFailed("x"), True) for _ in range(5)]
    with pytest.raises(Overloaded):
        made.delay_after(Overloaded("x"), True)


def test_the_deadline() -> None:
    """No wait is begun that ends after it, and nothing is tried elsewhere after it."""
    late = Tries(QUICK, RetryBudget(), True, time.monotonic())
    for elsewhere in (False, True):
        with pytest.raises(ConnectFailed):
            late.delay_after(ConnectFailed("x"), elsewhere)

"""How long an item waits that is to be tried again: exponential backoff with jitter."""

import random

__all__ = ["backoff"]

#: Seconds: the first wait, and the longest.
_FIRST, _MOST = 0.001, 1.0


def backoff(attempt: int) -> float:
    """Seconds to wait after the attempt of that number: 1 ms, doubled each time, at most 1 s.

    All but the first are, at random, between half of that and the whole, lest many come at once.
    """
    most = min(_MOST, _FIRST * 2.0 ** min(attempt - 1, 16))
    return max(_FIRST, random.uniform(most / 2, most))

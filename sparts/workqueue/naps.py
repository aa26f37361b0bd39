"""Sleeping on a lock: one that is released is the wake-up call, and none is lost."""

import threading
from math import inf

__all__ = ["nap", "new_nap"]


def new_nap() -> threading.Lock:
    """What :func:`nap` sleeps on; its ``release`` is the call that wakes."""
    lock = threading.Lock()
    lock.acquire()
    return lock


def nap(lock: threading.Lock, seconds: float) -> bool:
    """Sleep until *lock* is released or *seconds* have passed; whether it was released."""
    if seconds <= 0:
        return lock.acquire(blocking=False)
    return lock.acquire(timeout=-1 if seconds == inf else min(seconds, threading.TIMEOUT_MAX))

"""How long a thread may keep the interpreter from others that want it, while engines run."""

import sys
import threading
from typing import Final

__all__ = ["acquire", "release"]

#: Seconds; Python's own 5 ms would hold up quick calls beside one that computes.
_SHORT: Final = 0.001
_lock = threading.Lock()
_users = 0
_before = 0.0


def acquire() -> None:
    """Shorten the interpreter's switch interval, for all of the process, until ``release``."""
    global _users, _before
    with _lock:
        _users += 1
        if _users == 1:
            _before = sys.getswitchinterval()
            if _before > _SHORT:
                sys.setswitchinterval(_SHORT)


def release() -> None:
    """Set it back when the last who wanted it short has left."""
    global _users
    with _lock:
        _users -= 1
        if _users == 0 and abs(sys.getswitchinterval() - _SHORT) < 1e-6:
            sys.setswitchinterval(_before)

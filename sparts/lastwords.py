"""The end of a process that may be stuck: what it still says, and an end by its deadline.

The log may be what is stuck, as on a pipe that nobody reads. So a line that must not hold up what
comes after it is said in a thread of its own, and waited for only a moment.
"""

import logging
import os
import threading
import time
from collections.abc import Callable

from sparts.logs import thread_stacks

__all__ = ["STATUS_OVERRUN", "end_process", "say", "watch_exit"]

#: The exit status when a stop outlived its deadline (EX_SOFTWARE of sysexits.h).
STATUS_OVERRUN = 70
#: Seconds that are waited for a line of log.
PATIENCE = 0.5

#: The process that is watched; a forked one is another.
_watched: set[int] = set()


def say(speak: Callable[[], object]) -> None:
    """Call *speak*, which logs, in a thread of its own; go on after half a second at most."""
    thread = threading.Thread(target=speak, name="last-words", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # Python 3.12 starts no thread while it ends
        _say_or_end(speak)
    else:
        thread.join(PATIENCE)


def _say_or_end(speak: Callable[[], object]) -> None:
    """Call *speak* here; should that be stuck, the process ends with status 1."""
    import faulthandler

    with open(os.devnull, "wb") as nobody:
        faulthandler.dump_traceback_later(PATIENCE, exit=True, file=nobody)
        speak()
        faulthandler.cancel_dump_traceback_later()


def end_process(status: int, speak: Callable[[], object]) -> None:
    """End the process now, with *status*, after *speak* had its moment; no ``finally`` is run."""

    def last_words() -> None:
        speak()
        logging.shutdown()

    say(last_words)
    os._exit(status)


def watch_exit(logger: logging.Logger, timeout: float) -> None:
    """End the process *timeout* seconds after its main thread has, if it is not gone by then.

    Threads that are no daemons, and what is registered with ``atexit``, may hold it up for ever.
    It costs a sleeping thread, one however often it is called.
    """
    if os.getpid() not in _watched:
        _watched.add(os.getpid())
        threading.Thread(target=_watch, args=(logger, timeout), name="exit", daemon=True).start()


def _watch(logger: logging.Logger, timeout: float) -> None:
    threading.main_thread().join()
    time.sleep(timeout)  # the process ends meanwhile, and this thread with it
    left = [t for t in threading.enumerate() if t.is_alive() and not t.daemon]
    names = ", ".join(thread.name for thread in left) or "no thread, but what is run at exit"

    def speak() -> None:
        logger.error(
            "The service has ended, but not the process, after %g s (--stop-timeout): %s\n%s",
            timeout,
            names,
            thread_stacks(left),
        )

    end_process(STATUS_OVERRUN, speak)

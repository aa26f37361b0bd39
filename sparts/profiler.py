"""Where a process spends its time: the stacks of all its threads, looked at again and again.

Each look gives the CPU time that a thread has used since the one before to the stack that it has
now. So threads that wait weigh nothing, and what runs for less than the 10 ms between two looks is
right only on the average. A thread that has just let go of the interpreter, to wait for a socket
say, is seen there, with the time that it used until then. The looking itself costs the process a
tenth of one CPU at most.

Where the system does not tell the CPU time of a thread (only Linux does) the time is that of the
wall clock, so that threads which wait are seen, too.
"""

import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from types import CodeType, FrameType
from typing import Final

from sparts.errors import SpartsError

__all__ = ["MAX_SECONDS", "ProfileError", "profile"]

#: Seconds that a profile may take.
MAX_SECONDS: Final = 60
#: Seconds between two looks, at least.
_INTERVAL: Final = 0.01
#: How much longer than the looking the pause after it is, at least.
_PAUSE: Final = 9
#: What is kept and told at most: frames of a stack, different stacks, functions, characters.
_DEPTH: Final = 64
_STACKS: Final = 5000
_FUNCTIONS: Final = 40
_SIZE: Final = 256 * 1024
_LABEL: Final = 120

#: A thread's name, and what it runs, innermost first.
Stack = tuple[str, tuple[CodeType, ...]]
#: Where the time of the stacks goes that are too many.
_REST: Final[Stack] = ("(other stacks)", ())

_one_at_a_time = threading.Lock()


class ProfileError(SpartsError):
    """The profile cannot be taken: too long, or another one is under way."""


def profile(seconds: float, stop: threading.Event) -> str:
    """Look at all threads but this one for so many *seconds*, or until *stop* is set; the report.

    It has a table of functions in lines that begin with ``#``, and behind it a line for each
    stack, with its milliseconds, as programs for flame graphs take them.

    :raises ProfileError: *seconds* are not more than 0 and at most ``MAX_SECONDS``, or another
        profile of this process is under way.
    """
    if not 0 < seconds <= MAX_SECONDS:
        raise ProfileError(f"a profile of {seconds} s is not to be had; ask for 1 to {MAX_SECONDS}")
    if not _one_at_a_time.acquire(blocking=False):
        raise ProfileError("another profile is under way; ask again when it has ended")
    try:
        began, used = time.monotonic(), time.process_time()
        looks = _look_again_and_again(seconds, stop)
        used = time.process_time() - used
        return "\n".join(_report(looks, time.monotonic() - began, used, stop.is_set())) + "\n"
    finally:
        _one_at_a_time.release()


# -- looking --------------------------------------------------------------------------------------
class _Looks:
    """What many looks have seen."""

    def __init__(self) -> None:
        #: Seconds, by stack.
        self.spent: dict[Stack, float] = defaultdict(float)
        self.number = 0
        self.has_cpu_times = _cpu_time(threading.current_thread()) is not None
        self._clocks = self._read_clocks()

    def _read_clocks(self) -> dict[threading.Thread, float]:
        """The seconds that each thread has used."""
        mine, now = threading.current_thread(), time.monotonic()
        if not self.has_cpu_times:
            return {each: now for each in threading.enumerate() if each is not mine}
        used = {each: _cpu_time(each) for each in threading.enumerate() if each is not mine}
        return {each: seconds for each, seconds in used.items() if seconds is not None}

    def look(self) -> None:
        """Look once at all threads but this one."""
        self.number += 1
        before, self._clocks = self._clocks, self._read_clocks()
        frames = sys._current_frames()
        for thread, used in self._clocks.items():
            frame = frames.get(thread.ident or 0)
            # A thread that is new has begun at zero; by the wall clock, at this moment.
            spent = used - before.get(thread, 0.0 if self.has_cpu_times else used)
            if frame is not None and spent > 0:
                stack = (thread.name, _codes(frame))
                full = len(self.spent) >= _STACKS and stack not in self.spent
                self.spent[_REST if full else stack] += spent


def _look_again_and_again(seconds: float, stop: threading.Event) -> _Looks:
    looks = _Looks()
    now = time.monotonic()
    end = now + seconds
    pause = _INTERVAL
    while now < end and not stop.wait(min(pause, end - now)):
        began = time.monotonic()
        looks.look()
        now = time.monotonic()
        pause = max(_INTERVAL, _PAUSE * (now - began))
    return looks


def _cpu_time(thread: threading.Thread) -> float | None:
    """The CPU seconds that *thread* has used; None if it has ended or the system does not tell.

    The clock's number is that which pthread_getcpuclockid gives on Linux, made of the thread's
    native id: unlike that function, the kernel refuses a thread that has ended. Source:
    include/linux/posix-timers_types.h.
    """
    if sys.platform != "linux" or thread.native_id is None:
        return None
    try:
        return time.clock_gettime(~thread.native_id << 3 | 0b110)
    except OSError:
        return None


def _codes(frame: FrameType | None) -> tuple[CodeType, ...]:
    """What runs in *frame* and in those that called it."""
    found: list[CodeType] = []
    while frame is not None and len(found) < _DEPTH:
        found.append(frame.f_code)
        frame = frame.f_back
    return tuple(found)


# -- telling --------------------------------------------------------------------------------------
def _report(looks: _Looks, seconds: float, used: float, stopped: bool) -> Iterator[str]:
    """The lines of the report."""
    early = ", ended early by the service's stop" if stopped else ""
    seen = sum(looks.spent.values())
    yield f"# Profile of process {os.getpid()}: {seconds:.2f} s, {looks.number} looks{early}"
    if looks.has_cpu_times:
        yield f"# CPU time of the process: {used:.3f} s, of which {seen:.3f} s are seen below; the"
        yield "# others are those of this profile, of C code's own threads and of ended threads"
    else:
        yield f"# Wall-clock time of all threads: {seen:.3f} s, as there are no CPU times here"
    yield "#"
    yield "#   self    total  function"
    yield from _functions(looks.spent)
    yield "#"
    yield "# Milliseconds of each stack, outermost function first; without these lines, which"
    yield "# begin with #, it is what programs for flame graphs take"
    yield from _stacks(looks.spent)


def _functions(spent: Mapping[Stack, float]) -> Iterator[str]:
    """The functions that took longest, with what they took without and with those they called."""
    alone: dict[CodeType, float] = defaultdict(float)
    total: dict[CodeType, float] = defaultdict(float)
    for (_, codes), seconds in spent.items():
        for code in codes[:1]:
            alone[code] += seconds
        for code in {*codes}:
            total[code] += seconds
    order = sorted(total, key=lambda code: (-alone[code], -total[code]))
    for code in order[:_FUNCTIONS]:
        yield f"# {_ms(alone[code]):>6} {_ms(total[code]):>8}  {_label(code)}"
    if len(order) > _FUNCTIONS:
        yield f"# and {len(order) - _FUNCTIONS} more"


def _stacks(spent: Mapping[Stack, float]) -> Iterator[str]:
    room = _SIZE
    # A thread that waits has a few microseconds of its own now and then.
    weighty = (item for item in spent.items() if _ms(item[1]))
    ordered = sorted(weighty, key=lambda item: -item[1])
    for number, ((thread, codes), seconds) in enumerate(ordered):
        line = ";".join([_clean(thread), *map(_label, reversed(codes))]) + f" {_ms(seconds)}"
        room -= len(line)
        if room < 0:
            yield f"# and {len(ordered) - number} stacks more, as the report would be too long"
            return
        yield line


def _ms(seconds: float) -> int:
    return round(1000.0 * seconds)


def _label(code: CodeType) -> str:
    file = "/".join(code.co_filename.split("/")[-2:])
    return _clean(f"{code.co_qualname} ({file}:{code.co_firstlineno})")


def _clean(text: str) -> str:
    """*text* without what has a meaning between stacks, and not too long."""
    return " ".join(text.replace(";", ",").split())[-_LABEL:]

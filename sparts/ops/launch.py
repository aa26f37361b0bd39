"""What a daemon tells the command that launched it: that it runs, or why it does not."""

import contextlib
import os
import select
import signal
import sys
import time
from typing import Any, NoReturn

import six

__all__ = ["Launch", "have_standard_streams"]


class Launch:
    """The pipe through which the daemon tells the command that launched it how that went."""

    #: That of this process, a daemon that has not told yet.
    current: "Launch | None" = None

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._reader, self._writer = os.pipe()

    # -- in the daemon ----------------------------------------------------------------------------
    def keep_writer(self) -> int:
        """The descriptor to keep open."""
        os.close(self._reader)
        return self._writer

    def tell(self, status: int, message: str = "") -> bool:
        """Have the launching command end with *status*; False if it has ended already."""
        try:
            os.write(self._writer, six.ensure_binary(f"{status} {message}"[: select.PIPE_BUF // 4]))
        except BrokenPipeError:
            return False
        if status == 0:
            os.close(self._writer)  # else at the end of the process, when its last line is written
        return True

    # -- in the command that launches it ----------------------------------------------------------
    def wait_and_exit(self, name: str) -> NoReturn:
        """Wait for the daemon's word and end this process, *name*, accordingly."""
        status, message = 1, ""
        try:
            os.close(self._writer)
            status, message = self._hear()
        except KeyboardInterrupt:
            status, message = 128 + signal.SIGINT, "interrupted; the daemon ends too"
        finally:
            with contextlib.suppress(OSError):
                if message:
                    os.write(2, six.ensure_binary(f"{name}: error: {message}\n"))
            os._exit(status)

    def _hear(self) -> tuple[int, str]:
        deadline = time.monotonic() + self._timeout
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        word = b""
        while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            more = os.read(self._reader, select.PIPE_BUF)
            if not more:
                break
            word += more
        else:
            return 1, f"the daemon did not start within {self._timeout:g} s, and is to end"
        if not word:
            return 1, "the daemon ended before it had started; see its log"
        status, _, message = six.ensure_str(word).partition(" ")
        return int(status), message


def have_standard_streams() -> None:
    """See that descriptors 0 to 2 are open and Python's streams are on them, with nothing unsaid.

    Else the pipe to the daemon may get the number of one that is closed, and be overwritten.
    """
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(null)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream: Any = getattr(sys, name)
        try:
            fits = stream.fileno() == number
        except (AttributeError, OSError, ValueError):
            fits = False
        if not fits:
            stream = os.fdopen(number, "w" if number else "r", closefd=False)
            setattr(sys, name, stream)
        elif number:
            stream.flush()

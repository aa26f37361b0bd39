"""What one does with a child process: have its result as a future, or its output as it comes."""

import codecs
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import IO, Any, AnyStr, Generic, NamedTuple, Protocol

from sparts.children import CHUNK, Child, Children, Popen, Sink, close
from sparts.errors import SpartsError
from sparts.later import Timer
from sparts.multiplexer import WRITE

__all__ = ["Communication", "ProcessFailed", "ProcessResult", "ProcessStreamHandler"]

#: How much of a command or of its last words is quoted in a message, in characters.
QUOTED = 200

Args = str | bytes | os.PathLike[str] | Sequence[str | bytes | os.PathLike[str]]


class ProcessResult(NamedTuple, Generic[AnyStr]):
    """What a child process wrote, and its return code: negative, the signal that ended it."""

    stdout: AnyStr
    stderr: AnyStr
    returncode: int


class ProcessFailed(SpartsError):
    """A child process ended with a status other than 0, or was killed for what it did.

    ``result`` is what there is of its result; ``killed`` tells whether it was killed by us.
    """

    def __init__(self, message: str, result: ProcessResult[Any], killed: bool) -> None:
        super().__init__(message)
        self.result = result
        self.killed = killed


class Communication:
    """One run of a child process to its end: input in, output and return code out, by a future."""

    def __init__(
        self,
        children: Children,
        future: "Future[Any]",
        timeout: float | None,
        max_output: int,
        encoding: str | None,
    ) -> None:
        """As ``SelectTask.popen_communicate`` says.

        :raises ValueError: *timeout* or *max_output* is not above 0.
        :raises LookupError: there is no such *encoding*.
        """
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout={timeout!r} is not a number of seconds above 0, or None")
        if not max_output > 0:
            raise ValueError(f"max_output={max_output!r} is not a number of bytes above 0")
        if encoding is not None:
            codecs.lookup(encoding)
        self._children = children
        self._future = future
        self._timeout = timeout
        self._max_output = max_output
        self._encoding = encoding
        self._room = max_output
        self._stdout, self._stderr = bytearray(), bytearray()
        self._input = memoryview(b"")
        self._timer: Timer | None = None

    def begin(
        self, args: Args, input: "bytes | bytearray | memoryview | None", **popen: Any
    ) -> None:
        """Start the process; from any thread.

        :raises Exception: it cannot be started; whatever ``subprocess.Popen`` raises.
        """
        self._children.check()
        self._input = memoryview(b"" if input is None else input).cast("B")
        self._popen = popen_for(args, input is not None, popen)
        outputs: list[tuple[IO[Any], Sink]] = []
        if self._popen.stdout is not None:
            outputs.append((self._popen.stdout, lambda data: self._take(self._stdout, data)))
        if self._popen.stderr is not None:
            outputs.append((self._popen.stderr, lambda data: self._take(self._stderr, data)))
        self._child = Child(self._children, self._popen, outputs, self._on_end)
        try:
            self._feed()
            if self._timeout is not None:
                self._timer = self._children.loop.call_later(self._timeout, self._on_timeout)
            self._children.begin(self._child)
        except BaseException:
            self._free()
            self._child.abandon()
            raise

    # -- its input --------------------------------------------------------------------------------
    def _feed(self) -> None:
        stdin = self._popen.stdin
        if stdin is not None and self._input:
            os.set_blocking(stdin.fileno(), False)
            self._children.loop.register(stdin.fileno(), WRITE, self._write, lasting=True)
        else:
            close(stdin)

    def _write(self, fd: int) -> None:
        try:
            self._input = self._input[os.write(fd, self._input[:CHUNK]) :]
        except BlockingIOError:
            return
        except OSError:  # it does not want to read any more, which is no fault
            self._input = memoryview(b"")
        if not self._input:
            self._close_stdin()

    def _close_stdin(self) -> None:
        stdin = self._popen.stdin
        if stdin is not None and not stdin.closed:
            self._children.loop.unregister(stdin.fileno(), WRITE)
            close(stdin)

    # -- its output and its end -------------------------------------------------------------------
    def _take(self, to: bytearray, data: bytes) -> None:
        to += data[: self._room]
        if len(data) > self._room:
            self._child.kill(
                f"wrote more than {self._max_output} bytes (max_output) and was killed"
            )
        self._room = max(0, self._room - len(data))

    def _on_timeout(self) -> None:
        self._child.kill(f"took longer than {self._timeout:g} s (timeout) and was killed")

    def _free(self) -> None:
        self._close_stdin()
        if self._timer is not None:
            self._timer.cancel()

    def _on_end(self, returncode: int) -> None:
        self._free()
        out, err = self._decoded(self._stdout), self._decoded(self._stderr)
        result = ProcessResult(out, err, returncode)
        killed = self._child.killed
        if killed is None and returncode == 0:
            self._future.set_result(result)
            return
        message = f"{_quoted(self._popen.args)} {killed or _ending(result)}"
        self._future.set_exception(ProcessFailed(message, result, killed is not None))

    def _decoded(self, data: bytearray) -> Any:
        return bytes(data) if self._encoding is None else data.decode(self._encoding, "replace")


def popen_for(args: Args, with_input: bool, keywords: dict[str, Any]) -> Popen:
    """Start a process in a session of its own, with pipes, where *keywords* do not say otherwise.

    :raises ValueError: *keywords* has one that would decode, or input and a stdin.
    """
    for name in ("text", "universal_newlines", "errors", "bufsize"):
        if name in keywords:
            raise ValueError(f"{name}= is not accepted; give encoding='utf-8' to have text")
    if with_input and "stdin" in keywords:
        raise ValueError("give input= or stdin=, not both")
    keywords.setdefault("stdin", subprocess.PIPE if with_input else subprocess.DEVNULL)
    keywords.setdefault("stdout", subprocess.PIPE)
    keywords.setdefault("stderr", subprocess.PIPE)
    if "process_group" not in keywords:
        keywords.setdefault("start_new_session", True)
    return subprocess.Popen(args, bufsize=0, **keywords)


def _quoted(args: Any) -> str:
    """The command as one would type it, shortened."""
    one = isinstance(args, (str, bytes, os.PathLike))
    text = os.fsdecode(args) if one else shlex.join(map(os.fsdecode, args))
    return text if len(text) <= QUOTED else text[: QUOTED - 3] + "..."


def _ending(result: ProcessResult[Any]) -> str:
    """How a process ended that failed by itself, with the last line that it wrote to stderr."""
    code = result.returncode
    try:
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    except ValueError:
        how = f"ended by signal {-code}"
    stderr = result.stderr
    text = stderr if isinstance(stderr, str) else stderr.decode("utf-8", "replace")
    lines = text.strip().splitlines()
    return f"{how}: {lines[-1][:QUOTED]}" if lines else how


class Host(Protocol):
    """The task that a handler runs on."""

    @property
    def children(self) -> Children: ...


class ProcessStreamHandler:
    """Gives the output of a child process to callbacks as it comes, and its return code at its end.

    All are called in the task's thread, and may be called before the constructor has returned.
    *on_stdout* and *on_stderr* get what was read, as bytes, or as text where *encoding* is given
    (what is no such text is replaced by U+FFFD, a character cut in two waits for its rest); of
    pipes without a callback the output is dropped. *on_exit* gets the return code, once, after all
    that the child wrote was delivered. What a callback raises stops the service as a failure, and
    nothing more is delivered.

    From here on the pipes and the process are the task's: it reads, closes, waits. When the task
    is stopped the child is killed, with its process group if it leads one (``start_new_session``).

    :raises DescriptorError: a pipe is closed or is used by somebody else; the child goes on.
    :raises TaskError: the task has ended; the child goes on.
    """

    def __init__(
        self,
        popen: Popen,
        task: Host,
        on_stdout: Callable[[Any], object] | None = None,
        on_stderr: Callable[[Any], object] | None = None,
        on_exit: Callable[[int], object] | None = None,
        encoding: str | None = None,
    ) -> None:
        self.popen = popen
        self._encoding = encoding
        self._on_exit = on_exit
        self._flushes: list[Callable[[], object]] = []
        self._broken = False
        outputs: list[tuple[IO[Any], Sink]] = []
        for file, callback in ((popen.stdout, on_stdout), (popen.stderr, on_stderr)):
            if file is not None:
                outputs.append((file, self._sink(callback)))
        task.children.begin(Child(task.children, popen, outputs, self._on_end))

    def _sink(self, callback: Callable[[Any], object] | None) -> Sink:
        if callback is None:
            return len  # which does no harm to it
        if self._encoding is None:
            return lambda data: self._deliver(callback, data)
        decoder = codecs.getincrementaldecoder(self._encoding)("replace")
        self._flushes.append(lambda: self._deliver(callback, decoder.decode(b"", True)))
        return lambda data: self._deliver(callback, decoder.decode(data))

    def _deliver(self, callback: Callable[[Any], object], data: Any) -> None:
        if data and not self._broken:
            self._broken = True  # unless it comes back
            callback(data)
            self._broken = False

    def _on_end(self, returncode: int) -> None:
        close(self.popen.stdin)
        try:
            for flush in self._flushes:
                flush()
        finally:
            if self._on_exit is not None:
                self._on_exit(returncode)

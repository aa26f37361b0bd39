"""What every case shares: processes that are always cleaned up, pinning, /proc, rounds, tables."""

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).resolve().parent / "peers"
#: Seconds that a process may take to come up, answer or end, before a case gives up.
DEADLINE = 60.0
#: Seconds between two tries to connect; the error of a start-up time.
_CONNECT_STEP = 0.0005
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SHOWN = (
    *("tornado", "uvloop", "httptools", "aiohttp", "uvicorn", "prometheus_client", "watchfiles"),
    *("thrift", "thriftpy2"),
)
_GET = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

Sample = Mapping[str, float]
Results = dict[str, list[Sample]]
Cpus = frozenset[int] | None


class BenchmarkError(Exception):
    """A measurement could not be made; the message says which, and what the program said."""


# -- where things run -----------------------------------------------------------------------------
def _split_cpus() -> tuple[Cpus, Cpus]:
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    cpus = sorted(os.sched_getaffinity(0))
    return (None, None) if len(cpus) < 2 else (frozenset(cpus[:1]), frozenset(cpus[1:]))


#: The core of the server and those of the load; None where they cannot be kept apart.
SERVER_CPUS, LOAD_CPUS = _split_cpus()


@contextlib.contextmanager
def pinned(cpus: Cpus) -> Iterator[None]:
    """Keep this thread, and the processes that it starts meanwhile, on *cpus*."""
    if cpus is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# -- processes ------------------------------------------------------------------------------------
class Process:
    """A program under measurement; as a context manager it is gone at the end, whatever happens.

    Its stdout is read line by line (:meth:`line`), its stderr is kept for the error message.
    """

    def __init__(self, argv: Sequence[str], cpus: Cpus = None) -> None:
        self.argv = argv
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)
        self._unread = b""
        with pinned(cpus):
            #: When it was started, by ``time.perf_counter``.
            self.began = time.perf_counter()
            self._popen = subprocess.Popen(
                argv,
                bufsize=0,
                cwd=tempfile.gettempdir(),
                env=_environment(),
                process_group=0,  # so that ^C reaches it through us alone
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
            )
        self.pid = self._popen.pid

    def __enter__(self) -> "Process":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._popen.kill()
        self._popen.wait()
        self._stderr.close()
        if self._popen.stdout is not None:
            self._popen.stdout.close()

    def failed(self, what: str) -> BenchmarkError:
        """The error that *what* happened, with the end of what the program logged."""
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip()[-2000:]
        return BenchmarkError(f"{' '.join(map(str, self.argv))}: {what}\n{said}".rstrip())

    def line(self, timeout: float = DEADLINE) -> str:
        """The next line of its stdout.

        :raises BenchmarkError: it ended, or said nothing for *timeout* seconds.
        """
        assert self._popen.stdout is not None
        until = time.monotonic() + timeout
        while b"\n" not in self._unread:
            wait = max(0.0, until - time.monotonic())
            if not select.select([self._popen.stdout], [], [], wait)[0]:
                raise self.failed(f"said nothing for {timeout:g} s")
            got = os.read(self._popen.stdout.fileno(), 65536)
            if not got:
                raise self.failed("ended unexpectedly")
            self._unread += got
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def output(self, timeout: float = DEADLINE) -> str:
        """All of its stdout, once it has ended with status 0."""
        try:
            out, _ = self._popen.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise self.failed(f"did not end within {timeout:g} s") from None
        if self._popen.returncode:
            raise self.failed(f"ended with status {self._popen.returncode}")
        return str(out, "utf-8", "replace")

    def send_signal(self, signum: int) -> float:
        """Send it *signum*; the time just before, by ``time.perf_counter``."""
        before = time.perf_counter()
        self._popen.send_signal(signum)
        return before

    def wait(self, timeout: float = DEADLINE) -> int:
        """Its exit status; returns the moment it has ended.

        :raises BenchmarkError: it has not within *timeout* seconds.
        """
        handle = os.pidfd_open(self.pid)
        try:
            if not select.select([handle], [], [], timeout)[0]:
                raise self.failed(f"did not end within {timeout:g} s")
        finally:
            os.close(handle)
        return self._popen.wait()

    def answers(
        self, port: int, timeout: float = DEADLINE, request: bytes = _GET
    ) -> dict[str, float]:
        """Seconds from its start until a connect succeeded, and until *request* was answered."""
        until = time.perf_counter() + timeout
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as to:
                listening = time.perf_counter()
                to.settimeout(timeout)
                to.sendall(request)
                if to.recv(65536):
                    answered = time.perf_counter()
                    return {
                        "listening": listening - self.began,
                        "answering": answered - self.began,
                    }
            if self._popen.poll() is not None:
                raise self.failed(f"ended with status {self._popen.returncode} at its start")
            if time.perf_counter() > until:
                raise self.failed(f"did not answer on port {port} within {timeout:g} s")
            time.sleep(_CONNECT_STEP)

    # -- what /proc tells -------------------------------------------------------------------------
    def cpu(self) -> float:
        """Seconds of CPU that all its threads have used, in steps of a clock tick (10 ms)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def rss(self) -> int:
        """Bytes of memory resident now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE

    def switches(self) -> dict[str, int]:
        """Context switches, voluntary or not, of each thread so far."""
        found = {}
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                lines = (thread / "status").read_text().splitlines()
                found[thread.name] = sum(
                    int(line.rpartition(":")[2]) for line in lines if "ctxt_switches" in line
                )
        return found


def _environment() -> dict[str, str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return env | {"PYTHONPATH": str(ROOT)}


def python(program: str, *words: object) -> list[str]:
    """The command that runs the program *program* of ``benchmarks/peers``."""
    return [sys.executable, str(PEERS / f"{program}.py"), *map(str, words)]


def free_port() -> int:
    """A TCP port of the loopback that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wakeups(processes: Mapping[str, Process], seconds: float) -> dict[str, float]:
    """Wake-ups a second of each of *processes*, counted together for so many seconds."""
    before = {name: process.switches() for name, process in processes.items()}
    time.sleep(seconds)
    return {
        name: sum(count - before[name].get(tid, 0) for tid, count in process.switches().items())
        / seconds
        for name, process in processes.items()
    }


def end_on_sigterm() -> None:
    """Let SIGTERM unwind this program as ^C does, so that no process is left behind."""
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))


# -- rounds and figures ---------------------------------------------------------------------------
def interleave(subjects: Mapping[str, Callable[[], Sample]], rounds: int) -> Results:
    """Measure each subject once a round: A B C A B C, so that a slow minute meets them all."""
    results: Results = {name: [] for name in subjects}
    for number in range(1, rounds + 1):
        for name, measure in subjects.items():
            if sys.stderr.isatty():
                print(f"\r\033[K  round {number}/{rounds}: {name}", end="", file=sys.stderr)
            results[name].append(measure())
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    return results


def median(results: Results, name: str, key: str) -> float:
    """The median of *key* over the rounds of the subject *name*."""
    return statistics.median(sample[key] for sample in results[name])


def ratio(results: Results, name: str, base: str, key: str) -> float:
    """The median over the rounds of *name*'s *key* as a multiple of *base*'s in the same round."""
    pairs = zip(results[name], results[base], strict=True)
    return statistics.median(ours[key] / theirs[key] for ours, theirs in pairs)


# -- what is printed ------------------------------------------------------------------------------
def is_installed(module: str) -> bool:
    """Whether *module* can be imported here."""
    return importlib.util.find_spec(module) is not None


def heading() -> str:
    """The machine and the versions, in two lines."""
    versions = [
        f"{name} {importlib.metadata.version(name)}" for name in _SHOWN if is_installed(name)
    ]
    return (
        f"{os.cpu_count()} cores, {platform.system()} {platform.release()} {platform.machine()}, "
        f"{platform.python_implementation()} {platform.python_version()}\n{', '.join(versions)}"
    )


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells as text, the first column to the left and the others to the right."""
    lines = [list(headers), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    )


def say_target(wanted: str, measured: str, met: bool) -> None:
    """Print a target beside what was measured; information, never a failure."""
    print(f"target: {wanted}; measured: {measured} ({'met' if met else 'MISSED'})")

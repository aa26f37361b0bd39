"""The benchmarks' own machinery: cases are found, tables come out, nothing stays behind."""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # the benchmarks are no part of what is installed

from benchmarks import harness, load  # noqa: E402

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
ERROR = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def benchmarks(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=18,
        check=False,
    )


# -- the program ----------------------------------------------------------------------------------
def test_list_names_every_case() -> None:
    """``--list`` has a line for each case module, named as its file is."""
    names = {path.stem.removeprefix("case_") for path in ROOT.glob("benchmarks/case_*.py")}
    done = benchmarks("--list")
    assert names == {line.split()[0] for line in done.stdout.splitlines()}, done.stderr
    assert 0 == done.returncode


def test_unknown_case_is_refused() -> None:
    """A misspelt case ends with status 2 and the names that there are."""
    done = benchmarks("htp")
    assert 2 == done.returncode
    assert "no case htp; cases: " in done.stderr
    assert " http," in done.stderr


def test_quick_case_prints_a_table_with_ratios_and_the_target() -> None:
    """A case prints the machine, a table whose first row is the base 1.00, and its target."""
    done = benchmarks("import", "--quick")
    assert 0 == done.returncode, done.stdout + done.stderr
    assert f"Python {sys.version.split()[0]}" in done.stdout
    assert re.search(r"^asyncio, argparse, logging .* 1\.00$", done.stdout, re.MULTILINE)
    assert re.search(r"^sparts\.vservice .* \d+\.\d\d$", done.stdout, re.MULTILINE)
    assert re.search(
        r"^target: at most 1.5 of .*; measured: [\d.]+ \((met|MISSED)\)$", done.stdout, re.MULTILINE
    )


# -- processes ------------------------------------------------------------------------------------
HOLDER = """
import sys, threading
from benchmarks.harness import Process, end_on_sigterm
end_on_sigterm()
code = "import time; print('up', flush=True); time.sleep(60)"
with Process([sys.executable, "-c", code]) as held:
    held.line()
    print(held.pid, flush=True)
    threading.Event().wait()
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_leaves_no_process(signum: int) -> None:
    """^C and SIGTERM end the programs under measurement too."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        held = os.pidfd_open(int(holder.stdout.readline()))
        try:
            holder.send_signal(signum)
            assert ([held], [], []) == select.select([held], [], [], 10)
            assert 0 != holder.wait(10)
        finally:
            os.close(held)


def test_failing_program_is_quoted() -> None:
    """What a program that fails wrote on stderr is in the error."""
    with (
        harness.Process([sys.executable, "-c", "raise SystemExit('no such luck')"]) as process,
        pytest.raises(harness.BenchmarkError, match="no such luck"),
    ):
        process.line(10)


def test_threads_and_exit_status_of_a_process() -> None:
    """The context switches are those of each thread; a signal is the exit status."""
    code = "import time; print('up', flush=True); time.sleep(60)"
    with harness.Process([sys.executable, "-c", code]) as process:
        process.line(10)
        assert [str(process.pid)] == list(process.switches())
        process.send_signal(signal.SIGKILL)
        assert -signal.SIGKILL == process.wait(10)


# -- figures --------------------------------------------------------------------------------------
def test_rounds_are_interleaved() -> None:
    """Every subject is measured once a round, in order."""
    order: list[str] = []

    def subject(name: str) -> dict[str, float]:
        order.append(name)
        return {"x": float(len(order))}

    results = harness.interleave({"A": lambda: subject("A"), "B": lambda: subject("B")}, 2)
    assert ["A", "B", "A", "B"] == order
    assert {"A": [{"x": 1.0}, {"x": 3.0}], "B": [{"x": 2.0}, {"x": 4.0}]} == results


def test_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """A round in which the whole machine was slow does not move the ratio."""
    results: harness.Results = {
        "base": [{"x": 10.0}, {"x": 1.0}, {"x": 20.0}],
        "ours": [{"x": 20.0}, {"x": 2.0}, {"x": 10.0}],
    }
    assert 2.0 == harness.ratio(results, "ours", "base", "x")
    assert 10.0 == harness.median(results, "ours", "x")


def test_table_is_aligned() -> None:
    """Names stand to the left, figures to the right, under a rule."""
    expected = "who   ms\n---  ---\na    1.0\nbb    20"
    assert expected == harness.table(["who", "ms"], [["a", "1.0"], ["bb", "20"]])


# -- the load -------------------------------------------------------------------------------------
@contextmanager
def scripted(*connections: list[bytes]) -> Iterator[int]:
    """A server on a port that answers each connection's requests by its script, then closes it.

    Once it has the last connection it listens no more.
    """
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]

    def serve() -> None:
        for left, script in enumerate(connections, 1 - len(connections)):
            client, _ = server.accept()
            if not left:
                server.close()
            with client:
                client.settimeout(10)
                for answer in script:
                    client.recv(65536)
                    client.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield port
    finally:
        thread.join(10)
        server.close()


@pytest.mark.parametrize(
    ("scripts", "expected"),
    [
        ([[OK, OK, LAST]], {"answered": 3, "refused": 1, "failed": 0}),
        ([[OK]], {"answered": 1, "lost": 1, "refused": 1, "failed": 1}),
        ([[]], {"unaccepted": 1, "refused": 1, "failed": 0}),
        ([[OK, OK[:-1]]], {"answered": 1, "cut": 1, "refused": 1, "failed": 1}),
        ([[ERROR], [LAST]], {"bad": 1, "answered": 1, "refused": 1, "failed": 1}),
    ],
    ids=["all answered", "lost", "never accepted", "cut", "error"],
)
def test_load_tells_what_became_of_each_request(
    scripts: list[list[bytes]], expected: dict[str, int]
) -> None:
    """A request is answered, bad, cut, lost on a used connection, or perhaps never accepted."""
    with scripted(*scripts) as port:
        found = load.Load(port, 1).run(10)
    keys = ("answered", "bad", "cut", "lost", "unaccepted", "refused", "failed")
    assert dict.fromkeys(keys, 0) | expected == {key: getattr(found, key) for key in keys}


def test_load_counts_what_came_after_the_event() -> None:
    """Answers after the event, such as a SIGTERM, are counted apart."""
    happened = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client, _ = server.accept()
        server.close()
        with client:
            client.recv(65536)
            happened.wait(10)
            client.sendall(OK)
            client.recv(65536)
            client.sendall(LAST)

    thread = threading.Thread(target=serve)
    port = server.getsockname()[1]
    thread.start()
    found = load.Load(port, 1).run(0.1, happened.set, 10)
    thread.join(10)
    assert (2, 2) == (found.answered, found.answered_after)

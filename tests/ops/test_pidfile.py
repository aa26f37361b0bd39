"""Pidfiles: what is one and what is not, and that only one process holds it."""

import os
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from sparts.errors import SpartsError
from sparts.ops import pidfile
from sparts.ops.pidfile import AlreadyRunning, Holder, PidFile, PidFileError
from sparts.ops.process import start_of

DEADLINE = 10.0
MINE = os.getpid()

#: What no pidfile holds, and nothing may ever be signalled for.
NO_PIDFILES = [
    b"0",
    b"-1",
    b"-1234\n",
    b"+5",
    b"1e3",
    b"12 34",
    b"abc",
    b"1234abc",
    b"1_000",
    b"0x10",
    b"4294967297",
    b"99999999999999999999999",
    b"1" * 5000,
    b"\x00",
    b"123\x00",
    b"\xff\xfe1",
    "\u0661".encode(),
    b"pid 1234",
]


def ended_pid() -> int:
    """A pid that was a process's and is nobody's now."""
    with subprocess.Popen(["true"]) as popen:
        popen.wait(DEADLINE)
    return popen.pid


# -- what it says ---------------------------------------------------------------------------------
@pytest.mark.parametrize("data", NO_PIDFILES)
def test_what_is_no_pidfile(tmp_path: Path, data: bytes) -> None:
    """It is refused with its beginning and its path in the error, and left alone."""
    path = tmp_path / "pid"
    path.write_bytes(data)
    for call in (PidFile(path).read, PidFile(path).check_free, PidFile(path).acquire):
        with pytest.raises(PidFileError) as caught:
            call()
        assert f"{path} is no pidfile: it begins with {data[:20]!r}" in str(caught.value)
    assert data == path.read_bytes()


@pytest.mark.parametrize("data", [b"1234", b"1234\n", b"  1234 \r\n", b"1234\nanything else\n"])
def test_just_a_pid(tmp_path: Path, data: bytes) -> None:
    """A file of someone else's making is read for its pid."""
    path = tmp_path / "pid"
    path.write_bytes(data)
    assert Holder(1234) == PidFile(path).read()


def test_ours(tmp_path: Path) -> None:
    """What is written is read again, with the start."""
    holder = Holder(1234, "567@boot")
    assert b"1234\nstart=567@boot\n" == holder.format()
    assert holder == Holder.parse(holder.format())
    assert b"1234\n" == Holder(1234).format()


@pytest.mark.parametrize("data", [b"", b"\n", b" \n \n"])
def test_blank(tmp_path: Path, data: bytes) -> None:
    """A blank file, as a full disk or a crash leaves it, is stale."""
    path = tmp_path / "pid"
    path.write_bytes(data)
    file = PidFile(path)
    holder = file.read()
    assert Holder(0) == holder
    assert holder.process() is None
    file.acquire()
    assert str(MINE) == path.read_text().split()[0]


def test_no_file(tmp_path: Path) -> None:
    """No file, or no directory, holds nothing."""
    assert PidFile(tmp_path / "pid").read() is None
    assert PidFile(tmp_path / "none" / "pid").read() is None


def test_not_a_file(tmp_path: Path) -> None:
    """A directory, a device, a socket or a pipe that nobody writes to is an error at once."""
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
    for path in (tmp_path, Path("/dev/null"), tmp_path / "socket", tmp_path / "fifo"):
        with pytest.raises(PidFileError, match=str(path)):
            PidFile(path).read()


# -- holding --------------------------------------------------------------------------------------
def test_acquire_and_release(tmp_path: Path) -> None:
    """It holds this process, readable for all, and is gone after; nothing else is left."""
    file = PidFile(tmp_path / "pid")
    file.acquire()
    assert Holder(MINE, start_of(MINE)) == file.read()
    assert 0o644 == stat.S_IMODE((tmp_path / "pid").stat().st_mode)
    assert ["pid"] == os.listdir(tmp_path)
    file.release()
    file.release()
    assert [] == os.listdir(tmp_path)


def test_held_by_another(tmp_path: Path) -> None:
    """A file of a live process is refused, and the error tells the pid, the file and the cure."""
    path = tmp_path / "pid"
    with subprocess.Popen(["sleep", "60"]) as popen:
        path.write_text(f"{popen.pid}\n")
        with pytest.raises(AlreadyRunning, match=f"pid {popen.pid} holds {path}; stop .*--kill"):
            PidFile(path).acquire()
        path.write_bytes(Holder(popen.pid, start_of(popen.pid)).format())
        with pytest.raises(AlreadyRunning):
            PidFile(path).check_free()
        popen.kill()
    assert issubclass(AlreadyRunning, SpartsError)


def test_held_twice_by_this_process(tmp_path: Path) -> None:
    """This process cannot take it a second time."""
    PidFile(tmp_path / "pid").acquire()
    with pytest.raises(AlreadyRunning):
        PidFile(tmp_path / "pid").acquire()


def test_stale(tmp_path: Path) -> None:
    """What an ended process left is taken over, be it ours or just a pid."""
    path = tmp_path / "pid"
    for stale in (Holder(ended_pid()), Holder(ended_pid(), "5@boot"), Holder(1, "5@boot")):
        path.write_bytes(stale.format())
        file = PidFile(path)
        file.acquire()
        assert Holder(MINE, start_of(MINE)) == file.read()
        file.release()


def test_own_pid_of_a_former_life(tmp_path: Path) -> None:
    """In a container the same pid comes again: a file with just that is stale for its owner."""
    path = tmp_path / "pid"
    path.write_text(str(MINE))
    PidFile(path).acquire()
    assert Holder(MINE, start_of(MINE)) == PidFile(path).read()


def test_release_of_what_another_took(tmp_path: Path) -> None:
    """It is removed only if it is still ours."""
    path = tmp_path / "pid"
    file = PidFile(path)
    file.acquire()
    path.write_text("1234\n")
    file.release()
    assert "1234\n" == path.read_text()


def test_release_of_what_is_gone(tmp_path: Path) -> None:
    """It is no error if it was removed."""
    file = PidFile(tmp_path / "pid")
    file.acquire()
    (tmp_path / "pid").unlink()
    file.release()


def test_release_in_a_forked_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process forked from the holder does not remove it."""
    file = PidFile(tmp_path / "pid")
    file.acquire()
    monkeypatch.setattr(os, "getpid", lambda: MINE + 1)
    file.release()
    assert (tmp_path / "pid").exists()


def test_discard_only_what_is_meant(tmp_path: Path) -> None:
    """A file that says something else by now stays."""
    path = tmp_path / "pid"
    path.write_text("1234")
    assert PidFile(path).discard(Holder(1235))
    assert path.exists()
    assert PidFile(path).discard(Holder(1234))
    assert not path.exists()
    assert PidFile(path).discard(Holder(1234))


def test_discard_while_another_does(tmp_path: Path) -> None:
    """Two that find the same stale file do not remove each other's new one: one has to wait."""
    path = tmp_path / "pid"
    path.write_text("1234")
    other = pidfile._Opened(str(path))
    assert other.lock()
    assert not PidFile(path).discard(Holder(1234))
    other.close()
    assert PidFile(path).discard(Holder(1234))


def test_discard_of_a_file_that_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was opened stale, and replaced before it could be locked, is left alone."""
    path, fresh = tmp_path / "pid", tmp_path / "fresh"
    path.write_text("1234")
    fresh.write_text("1234")

    def replaced_meanwhile(self: pidfile._Opened) -> bool:
        os.replace(fresh, path)
        return True

    monkeypatch.setattr(pidfile._Opened, "lock", replaced_meanwhile)
    assert PidFile(path).discard(Holder(1234))
    assert path.exists()


def test_only_one_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many that want to take over a stale file at once exactly one gets it."""
    path = tmp_path / "pid"
    for _ in range(20):
        path.write_text(str(ended_pid()))
        ready = threading.Barrier(8)
        outcomes: list[str] = []

        def take(ready: threading.Barrier = ready, outcomes: list[str] = outcomes) -> None:
            ready.wait(DEADLINE)
            try:
                PidFile(path).acquire()
                outcomes.append("got it")
            except AlreadyRunning:
                outcomes.append("refused")

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert ["got it"] + ["refused"] * 7 == sorted(outcomes)
        assert ["pid"] == os.listdir(tmp_path)


def test_missing_directory(tmp_path: Path) -> None:
    """The error names the file, what is wrong and the option."""
    path = tmp_path / "none" / "pid"
    with pytest.raises(PidFileError, match=f"{path} cannot be written: No such file.*--pidfile"):
        PidFile(path).acquire()


def test_link_to_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dangling link is not followed to make a file elsewhere."""
    monkeypatch.setattr(pidfile, "_PATIENCE", 0.01)
    path = tmp_path / "pid"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PidFileError, match="link to nothing"):
        PidFile(path).acquire()
    assert ["pid"] == os.listdir(tmp_path)


def test_a_bare_one_is_no_daemon() -> None:
    """A file that holds just 1 is not taken for init's pid; with its start it may be a daemon's."""
    assert Holder.parse(b"1\n") is None
    assert Holder(1, "123") == Holder.parse(b"1\nstart=123\n")

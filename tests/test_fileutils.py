"""Files: text as UTF-8, replacing a file, mount points, and a directory that holds its own."""

import gc
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sparts import fileutils
from sparts.errors import SpartsError
from sparts.fileutils import NamedTemporaryDirectory, PathError

TEXT = "größe\r\n日本\n"


# -- reading and writing --------------------------------------------------------------------------
@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("given", [TEXT, TEXT.encode()])
def test_text_is_utf8(tmp_path: Path, given: str | bytes, atomic: bool) -> None:
    """str and bytes are the same UTF-8 in the file, and no line ending is changed."""
    path = tmp_path / "file"
    fileutils.writefile(path, given, atomic=atomic)
    assert TEXT.encode() == path.read_bytes() == fileutils.readfilebytes(path)
    assert TEXT == fileutils.readfile(str(path))


def test_text_that_is_neither(tmp_path: Path) -> None:
    """What is no text is a TypeError, and no file is made."""
    with pytest.raises(TypeError):
        fileutils.writefile(tmp_path / "file", 3)  # type: ignore[arg-type]
    assert [] == list(tmp_path.iterdir())


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """Any bytes can be written and read as bytes; as text they are a UnicodeDecodeError."""
    path = tmp_path / "file"
    fileutils.writefilebytes(path, b"\xff\x00")
    assert b"\xff\x00" == fileutils.readfilebytes(path)
    with pytest.raises(UnicodeDecodeError):
        fileutils.readfile(path)


def test_read_what_is_not_there(tmp_path: Path) -> None:
    """It is the OSError that open raises."""
    with pytest.raises(FileNotFoundError):
        fileutils.readfile(tmp_path / "none")


def test_write_keeps_the_file(tmp_path: Path) -> None:
    """By default it is the same file with other content: its links stay."""
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_text("a long old content")
    os.link(path, link)
    fileutils.writefile(path, "new")
    assert "new" == link.read_text()


def test_atomic_write_makes_a_new_file(tmp_path: Path) -> None:
    """Who has the old file open goes on reading the old content; the mode stays."""
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    with path.open() as reader:
        fileutils.writefile(path, "new", atomic=True)
        assert "old" == reader.read()
    assert "new" == path.read_text()
    assert 0o640 == stat.S_IMODE(path.stat().st_mode)


def test_atomic_write_of_a_new_file(tmp_path: Path) -> None:
    """A new file gets the mode that open gives it, and nothing is left beside it."""
    plain, atomic = tmp_path / "plain", tmp_path / "atomic"
    fileutils.writefile(plain, "x")
    fileutils.writefile(atomic, "x", atomic=True)
    assert plain.stat().st_mode == atomic.stat().st_mode
    assert [atomic, plain] == sorted(tmp_path.iterdir())


def test_atomic_write_through_a_link(tmp_path: Path) -> None:
    """A symbolic link stays one, and what it names is replaced."""
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_text("old")
    link.symlink_to(path)
    fileutils.writefile(link, "new", atomic=True)
    assert link.is_symlink()
    assert "new" == path.read_text()


def test_atomic_write_to_a_device() -> None:
    """What is no regular file is written to, not replaced."""
    fileutils.writefile(os.devnull, "x", atomic=True)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_failed_atomic_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it fails the old content stands and nothing is left beside it."""
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        fileutils.writefile(path, "new", atomic=True)
    assert "old" == path.read_text()
    assert [path] == list(tmp_path.iterdir())


def test_makedirs(tmp_path: Path) -> None:
    """It makes what is missing, and what is there is fine unless it is a file."""
    fileutils.makedirs(tmp_path / "a" / "b")
    fileutils.makedirs(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        fileutils.makedirs(tmp_path / "file")


# -- finding --------------------------------------------------------------------------------------
def test_find_executable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program is sought in PATH, its path is absolute, and what may not be run is no program."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"relative{os.pathsep}/nowhere")
    (tmp_path / "relative").mkdir()
    program = tmp_path / "relative" / "program"
    program.write_text("#!/bin/sh\n")
    assert fileutils.find_executable("program") is None
    program.chmod(0o755)
    assert str(program) == fileutils.find_executable("program")
    assert str(program) == fileutils.find_executable(program)
    assert str(program) == fileutils.find_executable("./relative/program")
    assert fileutils.find_executable("no-such-program") is None


def test_resolve_partition(tmp_path: Path) -> None:
    """A path lies on the nearest mount point above it, or is one."""
    assert "/proc" == fileutils.resolve_partition("/proc/self")
    assert "/proc" == fileutils.resolve_partition("/proc")
    assert "/" == fileutils.resolve_partition("/")
    (tmp_path / "link").symlink_to("/proc/self")
    assert "/proc" == fileutils.resolve_partition(tmp_path / "link")


def test_resolve_partition_is_that_of_df(tmp_path: Path) -> None:
    """It is what df says, also for what does not exist yet."""
    done = subprocess.run(
        ["df", "-P", str(tmp_path)], capture_output=True, text=True, timeout=10, check=True
    )
    expected = done.stdout.splitlines()[1].split()[5]
    assert expected == fileutils.resolve_partition(tmp_path)
    assert expected == fileutils.resolve_partition(tmp_path / "not" / "yet")


def test_resolve_partition_unescapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanks in the kernel's list are read back, and a bind mount counts."""
    lines = b"1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 8:1 /x /my\\040disk rw - ext4 /dev/sda rw\n"
    monkeypatch.setattr(fileutils, "readfilebytes", lambda path: lines)
    assert "/my disk" == fileutils.resolve_partition("/my disk/file")


def test_resolve_partition_without_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel has no such list it is found by looking at the directories."""

    def fail(path: str) -> bytes:
        raise FileNotFoundError(path)

    monkeypatch.setattr(fileutils, "readfilebytes", fail)
    assert "/proc" == fileutils.resolve_partition("/proc/self")


def test_set_nonblocking() -> None:
    """Reading from where nothing is raises BlockingIOError; a descriptor or its owner is given."""
    reader, writer = os.pipe()
    try:
        fileutils.set_nonblocking(reader)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
    finally:
        os.close(reader)
        os.close(writer)
    with socket.socket() as sock:
        fileutils.set_nonblocking(sock)
        assert not os.get_blocking(sock.fileno())


# -- NamedTemporaryDirectory ----------------------------------------------------------------------
def test_directory_comes_and_goes() -> None:
    """It is there inside the block and gone after, with all that is in it."""
    with NamedTemporaryDirectory(prefix="sparts-", suffix="-x") as directory:
        assert os.path.basename(directory.name).startswith("sparts-")
        assert directory.name.endswith("-x")
        directory.writefile("file", TEXT)
        directory.makedirs("a/b")
        directory.makedirs("a/b")
        directory.writefile("a/b/file", b"bytes")
        assert TEXT == directory.readfile("file")
        assert "bytes" == directory.readfile("a/b/file")
        assert os.path.join(directory.name, "a", "b") == directory.join("a", "b")
        assert directory.name in repr(directory)
    assert not os.path.exists(directory.name)


def test_directory_goes_after_an_exception(tmp_path: Path) -> None:
    """An exception passes through."""
    with pytest.raises(KeyError), NamedTemporaryDirectory(dir=tmp_path):
        raise KeyError
    assert [] == list(tmp_path.iterdir())


def test_close_twice() -> None:
    """The second close does nothing, nor does one after the directory was removed."""
    directory = NamedTemporaryDirectory()
    os.rmdir(directory.name)
    directory.close()
    directory.close()


def test_keep(tmp_path: Path) -> None:
    """A kept directory stays."""
    with NamedTemporaryDirectory(dir=tmp_path) as directory:
        directory.writefile("file", "x")
        directory.keep()
    directory.close()
    assert "x" == directory.readfile("file")


def test_garbage(tmp_path: Path) -> None:
    """A directory that nobody refers to is removed."""
    directory = NamedTemporaryDirectory(dir=tmp_path)
    directory.writefile("file", "x")
    del directory
    gc.collect()
    assert [] == list(tmp_path.iterdir())


FORKS = """
import os, sys
from sparts.fileutils import NamedTemporaryDirectory
directory = NamedTemporaryDirectory(dir=sys.argv[1])
pid = os.fork()
if pid == 0:
    sys.exit(0)
os.waitpid(pid, 0)
print(os.path.exists(directory.name))
"""


def test_exit_of_a_forked_process(tmp_path: Path) -> None:
    """The directory goes at the exit of the process that made it, not of one forked from it."""
    root = str(Path(fileutils.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=15,
        check=True,
    )
    assert "True\n" == done.stdout
    assert [] == list(tmp_path.iterdir())


def test_removes_what_may_not_be_written() -> None:
    """Directories without permissions go too; what a link names does not."""
    with NamedTemporaryDirectory() as other, NamedTemporaryDirectory() as directory:
        other.writefile("file", "x")
        os.symlink(other.name, os.path.join(directory.name, "link"))
        directory.makedirs("a/b")
        directory.writefile("a/b/file", "x")
        os.chmod(directory.join("a/b"), 0)
        os.chmod(directory.join("a"), 0)
        directory.close()
        assert not os.path.exists(directory.name)
        assert "x" == other.readfile("file")


def test_symlink() -> None:
    """symlink(path, dst) makes dst a link to path, both relative to the directory."""
    with NamedTemporaryDirectory() as directory:
        directory.writefile("file", "x")
        directory.makedirs("sub")
        directory.symlink("file", "sub/link")
        assert os.path.islink(directory.join("sub/link"))
        assert "x" == directory.readfile("sub/link")
        with pytest.raises(FileExistsError):
            directory.symlink("file", "sub/link")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../x", "../file", "not-yet", "/not/there"])
def test_symlink_target_is_taken_as_it_is(target: str) -> None:
    """What is not simply there in the directory is the link's target as ``os.symlink`` has it."""
    with NamedTemporaryDirectory() as directory:
        directory.writefile("file", "x")
        directory.makedirs("sub")
        directory.symlink(target, "sub/link")
        assert target == os.readlink(os.path.join(directory.name, "sub/link"))


def test_a_link_that_leads_out_is_not_followed() -> None:
    """It can be made, and no method reads through it; one that leads back in is read."""
    with NamedTemporaryDirectory() as directory:
        directory.writefile("file", "x")
        directory.makedirs("sub")
        directory.symlink("/etc/passwd", "out")
        directory.symlink("../file", "sub/in")
        with pytest.raises(PathError):
            directory.readfile("out")
        assert "x" == directory.readfile("sub/in")


OUTSIDE = ["..", "../x", "/etc/passwd", "a/../../x", "out/x", "out"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_leaving_is_refused(path: str) -> None:
    """Every method refuses a path that leads out, and the error names it."""
    with NamedTemporaryDirectory() as directory:
        os.symlink("/tmp", os.path.join(directory.name, "out"))
        calls = [
            lambda: directory.join(path),
            lambda: directory.readfile(path),
            lambda: directory.writefile(path, "x"),
            lambda: directory.makedirs(path),
            lambda: directory.symlink("file", path),
        ]
        for call in calls:
            with pytest.raises(PathError, match=f"'{path}' leads out of {directory.name}"):
                call()  # type: ignore[no-untyped-call]
        assert ["out"] == os.listdir(directory.name)
    assert issubclass(PathError, SpartsError)


def test_what_stays_inside_is_fine() -> None:
    """The directory itself, its absolute path, and a detour that comes back are all inside."""
    with NamedTemporaryDirectory() as directory:
        directory.makedirs("a")
        assert directory.name == directory.join()
        inside = os.path.join(directory.name, "x")
        assert inside == directory.join(inside)
        directory.writefile("a/../y", "x")
        assert "x" == directory.readfile("y")
        assert os.path.join(directory.name, "..x") == directory.join("..x")

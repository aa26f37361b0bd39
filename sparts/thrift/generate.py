"""Running the ``thrift`` program: Python bindings of a .thrift file in a directory, or an error."""

import contextlib
import keyword
import logging
import os
import re
import shlex
import signal
import stat
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sparts.errors import OptionError
from sparts.fileutils import NamedTemporaryDirectory, StrPath, find_executable
from sparts.thrift.complaints import CompileError, CompilerMissing, Verdict

__all__ = [
    "TIMEOUT",
    "Job",
    "Option",
    "check_readable",
    "generate",
    "get_executable",
    "option_string",
    "require_executable",
]

#: What an option of the generator may be: a switch, or a value.
Option = str | bool | None

#: The default deadline for one file, in seconds; a large one takes a tenth of a second.
TIMEOUT: Final = 30.0
_PROGRAM: Final = re.compile(r"^Program: (.*)$", re.MULTILINE)
#: Of ``thrift -help``: the options of its Python generator, and one of them.
_PYTHON_HELP: Final = re.compile(r"^  py \(Python\):\n((?: {4}.*\n)*)", re.MULTILINE)
_OPTION_HELP: Final = re.compile(r"^ {4}([\w.]+)(?=[=:])", re.MULTILINE)
_OPTION_NAME: Final = re.compile(r"[A-Za-z_][\w.]*")

_logger = logging.getLogger("sparts.thrift.compiler")


def get_executable() -> str | None:
    """The absolute path of the ``thrift`` program on the ``PATH``, or None."""
    return find_executable("thrift")


def require_executable() -> str:
    """The absolute path of the ``thrift`` program on the ``PATH``.

    :raises CompilerMissing: there is none.
    """
    found = get_executable()
    if found is None:
        raise CompilerMissing(
            "no program 'thrift' is on the PATH; install Apache Thrift's compiler, on Debian and "
            "Ubuntu with: apt-get install thrift-compiler"
        )
    return found


def option_string(options: Mapping[str, Option]) -> str:
    """*options* as the compiler takes them: ``py:slots,coding=utf-8``.

    True stands for a switch; False and None leave the option out.

    :raises OptionError: a name or a value that cannot be passed on.
    """
    words = []
    for name, value in options.items():
        if not _OPTION_NAME.fullmatch(name):
            raise OptionError(f"{name!r} cannot be an option of the generator; give a name")
        if not isinstance(value, Option) or (isinstance(value, str) and re.search("[,\n]", value)):
            raise OptionError(
                f"the option {name} of the generator cannot be {value!r}; give True, or text "
                "without a comma"
            )
        if value is not None and value is not False:
            words.append(name if value is True else f"{name}={value}")
    return ":".join(["py", *([",".join(words)] if words else [])])


def check_readable(path: StrPath) -> None:
    """Do nothing if *path* is a file that can be read.

    :raises CompileError: it is not.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            reason = "it is a directory" if os.path.isdir(path) else "it is no regular file"
        else:
            with open(path, "rb"):
                return
    except OSError as error:
        reason = error.strerror or str(error)
    raise CompileError(f"cannot read it ({reason}); give a .thrift file", os.fspath(path))


@dataclass(frozen=True)
class Job:
    """A .thrift file, by its real path, and how to make bindings of it.

    *names* has pairs: a path (or the beginning of one), and what to call it in messages instead.
    """

    source: str
    options: Mapping[str, Option]
    include_dirs: Sequence[str] = ()
    hidden_include_dirs: Sequence[str] = ()
    names: Sequence[tuple[str, str]] = ()
    timeout: float = TIMEOUT
    debug: bool = False

    def named(self, text: str) -> str:
        """*text* with every path called what it is to be called."""
        for path, name in self.names:
            text = text.replace(path, name)
        return text

    @property
    def name(self) -> str:
        """What to call the file."""
        return self.named(self.source)


def generate(job: Job, out: str, *, recurse: bool = True) -> str:
    """Make the bindings of *job* in the empty directory *out*; the dotted name of their package.

    With *recurse* also those of all files that it includes.

    :raises CompilerMissing: there is no compiler.
    :raises CompileError: the file has an error, or the deadline passed.
    :raises OptionError: the compiler has no such option.
    """
    run = _Runs(job)
    programs = set(_PROGRAM.findall(run(out, job.source, *(["-r"] if recurse else []))))
    packages = _packages(out, job.name)
    if len(packages) < len(programs):
        raise run.clash(programs)
    for package in packages:
        _check_package(package, job.name)
    return packages[0] if len(packages) == 1 else run.package(job.source)


def _packages(out: str, name: str) -> list[str]:
    """The dotted names of the packages in the directory *out* that hold a file's bindings."""
    found = [
        os.path.relpath(folder, out).replace(os.sep, ".")
        for folder, _, files in os.walk(out)
        if "ttypes.py" in files
    ]
    if not found:
        raise CompileError(
            f"{get_executable()} made nothing of it; is that Apache Thrift's compiler?", name
        )
    return found


def _check_package(package: str, name: str) -> None:
    for part in package.split("."):
        if not part.isidentifier() or keyword.iskeyword(part):
            raise CompileError(
                f"{package!r} cannot be the name of a Python package; give the file one with: "
                "namespace py NAME",
                name,
            )


class _Runs:
    """The runs of the compiler that one job takes, under one deadline."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._deadline = time.monotonic() + job.timeout
        self._executable = require_executable()
        self._language = option_string(job.options)
        self._warned = False

    def __call__(self, out: str, source: str, *flags: str) -> str:
        """Run it over the file *source*; what it said of its progress."""
        job = self._job
        command = [self._executable, "-v", *flags, "-gen", self._language, "-out", out]
        for directory in (*job.hidden_include_dirs, *job.include_dirs):
            command += ["-I", directory]
        verdict = self._run([*command, source], out)
        verdict.check(self._accepted)
        if not self._warned:  # another run over the same files has the same to say
            self._warned = True
            for each in verdict.warnings():
                _logger.warning("%s:%s: %s", each.file or job.name, each.line or "", each.words)
        return verdict.stdout

    def package(self, source: str) -> str:
        """The package of the file *source* alone."""
        with NamedTemporaryDirectory() as alone:
            self(alone.name, source)
            [package] = _packages(alone.name, self._job.name)
        return package

    def clash(self, programs: Iterable[str]) -> CompileError:
        """The error that tells which of *programs* would be written to the same package."""
        found: dict[str, list[str]] = defaultdict(list)
        for program in sorted(programs):
            found[self.package(program)].append(self._job.named(program))
        [(package, files), *_] = [each for each in found.items() if len(each[1]) > 1]
        return CompileError(
            f"{' and '.join(files)} have one and the same Python namespace, {package}, where the "
            "compiler would overwrite the one's modules with the other's; give each its own with: "
            "namespace py NAME",
            self._job.name,
        )

    def _accepted(self) -> list[str]:
        """The options of the compiler's Python generator, by its own help."""
        with NamedTemporaryDirectory() as nowhere:
            said = self._run([self._executable, "-help"], nowhere.name)
        section = _PYTHON_HELP.search(said.stdout + said.stderr)
        return _OPTION_HELP.findall(section[1]) if section else []

    def _run(self, command: list[str], cwd: str) -> Verdict:
        """Run *command* in a process group of its own, which is killed at the deadline."""
        job = self._job
        with _started(command, cwd) as process:
            try:
                left = max(0.0, self._deadline - time.monotonic())
                stdout, stderr = process.communicate(timeout=left)
            except BaseException as error:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise CompileError(
                        f"the thrift compiler did not end within {job.timeout:g} s and was "
                        "killed; a comment or a text that is not closed makes it hang",
                        job.name,
                    ) from None
                raise
        out, err = os.fsdecode(stdout), os.fsdecode(stderr)
        if job.debug:
            _logger.debug("%s\n%s", shlex.join(command), f"{out}{err}".rstrip())
        return Verdict(
            job.source, job.include_dirs, job.named, process.returncode, stdout=out, stderr=err
        )


def _started(command: list[str], cwd: str) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,  # in case it leaves a core there
            process_group=0,
        )
    except OSError as error:
        raise CompilerMissing(
            f"cannot run {command[0]} ({error.strerror}); install Apache Thrift's compiler, on "
            "Debian and Ubuntu with: apt-get install thrift-compiler"
        ) from None

"""What the ``thrift`` program says when it fails, made into errors that name file and line.

It says it in several ways: ``[ERROR:file:line] words``, the same with words for a file, a bare
line among those of its progress, a mere warning about an include that it did not find, or nothing
at all before it crashes.
"""

import os
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sparts.errors import OptionError, SpartsError, nearest

__all__ = ["CompileError", "CompilerMissing", "Said", "Verdict"]

#: No more than so many characters of the compiler's words are passed on.
_LONGEST: Final = 500
_WARNING: Final = re.compile(r"\[(WARNING):([^\n]*?):(\d+)\] ?([^\n]*)\n?")
#: An error goes on, over lines, until the next one.
_ERROR: Final = re.compile(
    r"\[(ERROR|FAILURE):([^\n]*?):(\d+)\] ?(.*?)(?=\[(?:ERROR|FAILURE):[^\n]*?:\d+\]|\Z)",
    re.DOTALL,
)
#: What it calls its own stages, where a file would stand.
_STAGES: Final = frozenset({"arguments", "generation"})
_LAST_TOKEN: Final = re.compile(r"(\(last token was '.*?'\))\s+(.*)", re.DOTALL)
_PROGRESS: Final = re.compile(r"(Scanning|Parsing|Program:|Generating) ")
_PARSING: Final = re.compile(r"^Parsing (.*) for types$", re.MULTILINE)
_NO_INCLUDE: Final = re.compile(r"Could not find include file (.*)")
_NO_OPTION: Final = re.compile(r"unknown option py:(.*)")


class CompilerMissing(SpartsError):
    """The ``thrift`` program is not there or cannot be run; the message says what to install."""

    status = 2


class CompileError(SpartsError, ValueError):
    """Of a .thrift file no bindings can be made.

    ``words`` tells why, in the compiler's own words where they are; ``file`` and ``line`` tell
    where, and are None where that is not known. A text without a file is called ``<string>``.
    """

    status = 2

    def __init__(self, words: str, file: str | None = None, line: int | None = None) -> None:
        where = "" if file is None else f"{file}: " if line is None else f"{file}:{line}: "
        super().__init__(where + words)
        self.words = words
        self.file = file
        self.line = line


@dataclass(frozen=True)
class Said:
    """One thing that the compiler said; of no file and line where it was about none."""

    kind: str
    file: str | None
    line: int | None
    words: str


@dataclass(frozen=True)
class Verdict:
    """How a run of the compiler over the file *source* ended, and what it printed.

    *named* gives a text with every path in it called what it is to be called.
    """

    source: str
    include_dirs: Sequence[str]
    named: Callable[[str], str]
    returncode: int
    stdout: str
    stderr: str

    def warnings(self) -> list[Said]:
        """Its warnings, each once."""
        found = _WARNING.findall(f"{self.stdout}\n{self.stderr}")
        return list(dict.fromkeys(map(self._said, found)))

    def errors(self) -> list[Said]:
        """Its errors."""
        return list(map(self._said, _ERROR.findall(_WARNING.sub("", self.stderr))))

    def _said(self, found: tuple[str, str, str, str]) -> Said:
        kind, file, line, words = found
        words = self.named(_one_line(words))
        if file in _STAGES:
            return Said(kind, None, None, words)
        return Said(kind, self.named(file), int(line), words)

    def check(self, accepted: Callable[[], Sequence[str]]) -> None:
        """Do nothing if it went well; *accepted* tells the options that the compiler has.

        :raises OptionError: an option that it has not.
        :raises CompileError: anything else.
        """
        self._check_includes()
        if self.returncode:
            self._check_options(accepted)
            raise self._error()

    def _check_includes(self) -> None:
        for each in self.warnings():
            missing = _NO_INCLUDE.match(each.words)
            if missing is not None:  # to the compiler a warning, so long as nothing of it is used
                given = ", ".join(self.include_dirs) or "none is given"
                raise CompileError(
                    f"there is no include file {missing[1]}; it is sought beside this file and "
                    f"in the include directories ({given})",
                    each.file,
                    each.line,
                )

    def _check_options(self, accepted: Callable[[], Sequence[str]]) -> None:
        unknown = _NO_OPTION.search(self.stderr)
        if unknown is not None:
            given = unknown[1].strip().partition("=")[0]
            names = accepted()
            raise OptionError(
                f"this compiler's Python generator has no option {given!r}"
                f"{nearest(given, names)}; it accepts: {', '.join(names) or 'none'}"
            )

    def _error(self) -> CompileError:
        errors = sorted(self.errors(), key=lambda error: error.kind)  # ERROR before FAILURE
        if errors:
            first = errors[0]
            return CompileError(first.words, first.file or self.named(self.source), first.line)
        if self.returncode < 0:
            return CompileError(
                f"the thrift compiler crashed ({_signal_name(-self.returncode)}); a file that "
                "includes itself, also by way of others, makes it do that",
                self.named(self.source),
            )
        words = self._bare_words() or f"thrift ended with status {self.returncode}"
        return CompileError(self.named(words), self.named(self._parsed()))

    def _bare_words(self) -> str:
        """Its last line that is neither a warning nor progress, as of an unknown type."""
        lines = _WARNING.sub("", f"{self.stderr}\n{self.stdout}").splitlines()
        bare = [line for line in map(str.strip, lines) if line and not _PROGRESS.match(line)]
        return _one_line(bare[-1]) if bare else ""

    def _parsed(self) -> str:
        """The file that it was at last seen to parse."""
        parsed = _PARSING.findall(self.stdout)
        return parsed[-1] if parsed else self.source


def _one_line(words: str) -> str:
    """*words* on one line, with the reason before the token that it was seen at, as real text."""
    words = os.fsencode(words).decode("utf-8", "backslashreplace").strip()
    found = _LAST_TOKEN.fullmatch(words)
    if found is not None:
        words = f"{found[2]} {found[1]}"
    return " ".join(words.split())[:_LONGEST]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

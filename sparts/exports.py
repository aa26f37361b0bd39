"""What a service tells the outside: its warnings and its exported values."""

import re
import threading
from collections.abc import Iterable

__all__ = ["HasExportedValues", "HasWarnings"]


class HasWarnings:
    """Numbered warnings that an operator should see, until they are cleared; from any thread."""

    def __init__(self) -> None:
        super().__init__()
        self._warnings: dict[int, str] = {}
        self._next_warning = 1
        self._warnings_lock = threading.Lock()

    def registerWarning(self, message: str) -> int:
        """Add a warning; the id to clear it with."""
        with self._warnings_lock:
            number = self._next_warning
            self._next_warning += 1
            self._warnings[number] = message
        return number

    def clearWarning(self, id: int) -> bool:
        """Take a warning back; False where there is none of that id."""
        with self._warnings_lock:
            return self._warnings.pop(id, None) is not None

    def clearWarnings(self) -> None:
        """Take all warnings back."""
        with self._warnings_lock:
            self._warnings.clear()

    def getWarnings(self) -> dict[int, str]:
        """The present warnings, by id."""
        with self._warnings_lock:
            return dict(self._warnings)


class HasExportedValues:
    """Named texts that a service shows to whoever asks; from any thread."""

    def __init__(self) -> None:
        super().__init__()
        self._exported: dict[str, str] = {}

    def setExportedValue(self, name: str, value: str | None) -> None:
        """Export *value* as *name*; None takes it back."""
        if value is None:
            self._exported.pop(name, None)
        else:
            self._exported[name] = value

    def getExportedValue(self, name: str) -> str:
        """The exported value, '' where there is none."""
        return self._exported.get(name, "")

    def getExportedValues(self) -> dict[str, str]:
        """A copy of all exported values."""
        return self._exported.copy()

    def getRegexExportedValues(self, regex: str) -> dict[str, str]:
        """Those whose names *regex* matches from their beginning.

        :raises re.error: it is no regular expression.
        """
        matches = re.compile(regex).match
        return {k: v for k, v in self.getExportedValues().items() if matches(k)}

    def getSelectedExportedValues(self, keys: Iterable[str]) -> dict[str, str]:
        """Those named in *keys*, without the missing."""
        values = self.getExportedValues()
        return {key: values[key] for key in keys if key in values}

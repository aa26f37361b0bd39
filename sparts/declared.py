"""What counters and samples share: declared once on a class, counted apart on each instance."""

import math
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

__all__ = ["CallbackCounter", "Counter", "Declared"]

#: What a counter tells.
V = TypeVar("V")


class Declared:
    """A class attribute that each instance has a copy of its own of.

    Read through the class it is the declaration; read through an instance, a fresh copy that
    belongs to the instance and is kept in its ``__dict__``, so that every later read is that of a
    plain attribute. Threads that race for the first read all get the same copy.
    """

    _attribute: str | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        if self._attribute is None:  # of several names, the first is where the copy is kept
            self._attribute = name

    def __get__(self, instance: object | None, owner: type | None = None) -> Self:
        if instance is None:
            return self
        name = self._attribute or self._found_in(type(instance))
        mine: Self = instance.__dict__.setdefault(name, self._fresh())
        return mine

    def _found_in(self, owner: type) -> str:
        """The name under which somebody set it on a class that was made before."""
        every = (item for klass in owner.__mro__ for item in vars(klass).items())
        return next(name for name, value in every if value is self)

    def _fresh(self) -> Self:
        fresh = object.__new__(type(self))
        for name, value in vars(self).items():
            setattr(fresh, name, value)  # one by one, for attributes are faster to read so
        fresh._restart()
        return fresh

    def _restart(self) -> None:
        """Let go of everything that is not part of the declaration, and begin at nothing."""

    def _listed(self, attribute: str) -> "dict[str, Counter[Any]]":
        """What it is listed as when it stands under that attribute."""
        raise NotImplementedError


class Counter(Declared, Generic[V]):
    """What all counters share: called, it tells its value, which is None where there is none."""

    def getvalue(self) -> V:
        """The present value."""
        raise NotImplementedError

    def __call__(self) -> V:
        return self.getvalue()

    def __int__(self) -> int:
        """The value towards zero; 0 where it is None or not finite, which no integer can tell."""
        value: Any = self.getvalue()
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return 0
        return int(value)

    def __float__(self) -> float:
        """The value; nan where it is None."""
        value: Any = self.getvalue()
        return math.nan if value is None else float(value)

    def __str__(self) -> str:
        """The value; ``__None__`` where it is None."""
        value = self.getvalue()
        return "__None__" if value is None else str(value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def _listed(self, attribute: str) -> "dict[str, Counter[Any]]":
        return {attribute: self}


class CallbackCounter(Counter[V]):
    """Tells what *callback* returns at that moment; what it raises goes to who asks."""

    def __init__(self, callback: Callable[[], V]) -> None:
        self._callback = callback

    def getvalue(self) -> V:
        """The callback's answer."""
        return self._callback()

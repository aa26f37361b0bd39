"""What must be made anew in the child of a fork: locks that others held, sockets of the parent."""

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["renew_in_child"]


class Renewable(Protocol):
    """What has such a state."""

    def after_fork(self) -> None:
        """Renew it; called in the child, while it has no other thread."""


_known: WeakSet[Renewable] = WeakSet()


def renew_in_child(thing: Renewable) -> None:
    """Call *thing*.after_fork() in every process that is forked from now on."""
    _known.add(thing)


def _renew_all() -> None:
    for each in list(_known):
        each.after_fork()


os.register_at_fork(after_in_child=_renew_all)

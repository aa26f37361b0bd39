"""The command ``sparts``, also ``python -m sparts``: verbs, imported when they are chosen."""

import importlib
import sys
from collections.abc import Callable, Sequence

from sparts import __version__
from sparts.errors import nearest

__all__ = ["VERBS", "main"]

#: Each verb's function, ``"module:attribute"``; it takes the words behind the verb.
VERBS: dict[str, str] = {
    "run": "sparts.commands.run:run",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Do what *argv* (by default the command line's words) says; the exit status."""
    from sparts import cli

    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0 if words else 2
    if words[0] == "--version":
        print("sparts", __version__)
        return 0
    verb = words[0]
    if verb not in VERBS:
        verbs = ", ".join(VERBS)
        print(f"sparts: no verb {verb!r}{nearest(verb, VERBS)}; verbs: {verbs}", file=sys.stderr)
        return 2
    cli.guarded(lambda: _function(verb)(words[1:]), f"sparts {verb}")
    return 0


def _function(verb: str) -> Callable[[Sequence[str]], object]:
    module, _, attribute = VERBS[verb].partition(":")
    function: Callable[[Sequence[str]], object] = getattr(
        importlib.import_module(module), attribute
    )
    return function


def _help() -> str:
    lines = ["usage: sparts VERB ...", "", "verbs:"]
    for verb in VERBS:
        doc = (_function(verb).__doc__ or "").strip().splitlines()
        lines.append(f"  {verb:10}{doc[0] if doc else ''}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

"""``python -m benchmarks [case ...] [--quick] [--list]``: run the cases and print their tables."""

import argparse
import importlib
import pkgutil
import sys
import time
from collections.abc import Sequence
from types import ModuleType

import benchmarks
from benchmarks.harness import BenchmarkError, end_on_sigterm, heading

_PREFIX = "case_"


def cases() -> dict[str, ModuleType]:
    """The case modules by name: all ``benchmarks/case_*.py`` that can be imported here."""
    found = {}
    for info in pkgutil.iter_modules(benchmarks.__path__):
        if not info.name.startswith(_PREFIX):
            continue
        try:
            module = importlib.import_module(f"benchmarks.{info.name}")
        except ImportError as error:
            print(f"{info.name[len(_PREFIX) :]}: left out, {error}", file=sys.stderr)
            continue
        found[module.NAME] = module
    return found


def main(argv: Sequence[str]) -> int:
    """Run the program; the exit status is 1 where a case could not be measured."""
    known = cases()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=benchmarks.__doc__)
    parser.add_argument("case", nargs="*", help=f"of {', '.join(known)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="a short run that proves little")
    parser.add_argument("--list", action="store_true", help="list the cases, and exit")
    options = parser.parse_args(argv)
    unknown = [name for name in options.case if name not in known]
    if unknown:
        parser.error(f"no case {', '.join(unknown)}; cases: {', '.join(known)}")
    if options.list:
        width = max(map(len, known))
        print(*(f"{name:{width}}  {known[name].DESCRIPTION}" for name in known), sep="\n")
        return 0
    print(heading())
    return sum(not _run(known[name], options.quick) for name in options.case or known) and 1


def _run(case: ModuleType, quick: bool) -> bool:
    print(f"\n== {case.NAME}: {case.DESCRIPTION}", flush=True)
    began = time.monotonic()
    try:
        case.run(quick)
    except BenchmarkError as error:
        print(f"{case.NAME} could not be measured: {error}", flush=True)
        return False
    print(f"({time.monotonic() - began:.0f} s)", flush=True)
    return True


if __name__ == "__main__":
    end_on_sigterm()
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)

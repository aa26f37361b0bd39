"""What ``import sparts.vservice`` costs, beside the standard modules that it needs anyway."""

import sys
from collections.abc import Callable

from benchmarks.harness import (
    SERVER_CPUS,
    Process,
    Sample,
    interleave,
    median,
    ratio,
    say_target,
    table,
)

NAME = "import"
DESCRIPTION = "import sparts.vservice, in fresh processes, beside what it stands on"

_BASE = "asyncio, argparse, logging"
_MODULES = {
    _BASE: _BASE,
    "sparts.vservice": "sparts.vservice",
    "tornado.web": "tornado.web",
    "sparts.tasks.tornado": "sparts.tasks.tornado",
}
_CODE = """
import time
began = time.perf_counter()
import {0}
print(time.perf_counter() - began)
"""


def _importing(modules: str) -> Callable[[], Sample]:
    def sample() -> Sample:
        code = _CODE.format(modules)
        with Process([sys.executable, "-c", code], SERVER_CPUS) as process:
            return {"import": float(process.output())}

    return sample


def run(quick: bool = False) -> None:
    """Measure and print."""
    subjects = {name: _importing(modules) for name, modules in _MODULES.items()}
    interleave(subjects, 1)  # compile, and fill the disk's cache
    results = interleave(subjects, 3 if quick else 41)
    rows = [
        [
            name,
            f"{1e3 * median(results, name, 'import'):.1f}",
            f"{1e3 * min(sample['import'] for sample in results[name]):.1f}",
            f"{ratio(results, name, _BASE, 'import'):.2f}",
        ]
        for name in results
    ]
    print(table(["import", "ms", "least", "ratio"], rows))
    found = ratio(results, "sparts.vservice", _BASE, "import")
    say_target(f"at most 1.5 of import {_BASE}", f"{found:.2f}", found <= 1.5)

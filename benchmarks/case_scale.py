"""Many periodic tasks in one service, beside as many plain threads and asyncio tasks."""

import json
from collections.abc import Callable, Iterator

from benchmarks.harness import (
    SERVER_CPUS,
    Process,
    Results,
    Sample,
    interleave,
    median,
    python,
    ratio,
    say_target,
    table,
    wakeups,
)
from benchmarks.servers import end

NAME = "scale"
DESCRIPTION = "1,000 PeriodicTasks and 10,000 AsyncioPeriodicTasks: start, memory, wake-ups, stop"

#: What is ours, what it is held against, the kind, how many, the seconds that a start may take.
_PAIRS = (
    ("PeriodicTask", "plain threads", "periodic", 1_000, 1.0),
    ("AsyncioPeriodicTask", "asyncio tasks", "asyncio_periodic", 10_000, 2.0),
)
#: Of each of ours, what it is held against, and the seconds that its start may take.
Targets = dict[str, tuple[str, float]]
_HEADERS = ["", "declare s", "started s", "all ran s", "ratio", "KiB each", "ratio"]
_HEADERS += ["wake-ups/s", "stop s"]


def _scaled(program: str, kind: str, count: int, seconds: float) -> Callable[[], Sample]:
    def sample() -> Sample:
        with Process(python(program, kind, count), SERVER_CPUS) as process:
            told = json.loads(process.line())
            wakeups({"": process}, 0.5)  # settle
            idle = wakeups({"": process}, seconds)[""]
            return {**told, "each": told["bytes"] / count, "idle": idle, "stop": end(process)}

    return sample


def run(quick: bool = False) -> None:
    """Measure and print."""
    seconds, rounds, divisor = (1.0, 1, 10) if quick else (5.0, 5, 1)
    subjects = {}
    targets: Targets = {}
    for ours, base, kind, full, wanted in _PAIRS:
        count = full // divisor
        ours, base = f"{count:,} {ours}", f"{count:,} {base}"
        subjects[base] = _scaled("plain_scale", kind, count, seconds)
        subjects[ours] = _scaled("sparts_scale", kind, count, seconds)
        targets[ours] = (base, wanted / divisor)
    results = interleave(subjects, rounds)
    print(table(_HEADERS, (_row(results, name, base) for name, base in _lines(targets))))
    _say_targets(results, targets)


def _lines(targets: Targets) -> Iterator[tuple[str, str]]:
    """Each row's name, and the name of the row that it is held against."""
    for ours, (base, _) in targets.items():
        yield base, base
        yield ours, base


def _row(results: Results, name: str, base: str) -> list[str]:
    return [
        name,
        f"{median(results, name, 'declare'):.2f}",
        f"{median(results, name, 'start'):.2f}",
        f"{median(results, name, 'ran'):.2f}",
        f"{ratio(results, name, base, 'ran'):.1f}",
        f"{median(results, name, 'each') / 1024:.1f}",
        f"{ratio(results, name, base, 'each'):.1f}",
        f"{median(results, name, 'idle'):.1f}",
        f"{median(results, name, 'stop'):.2f}",
    ]


def _say_targets(results: Results, targets: Targets) -> None:
    for ours, (_, wanted) in targets.items():
        took, ran = median(results, ours, "start"), median(results, ours, "ran")
        measured = f"{took:.2f} s, and each ran once by {ran:.2f} s"
        say_target(f"{ours} start under {wanted:g} s", measured, took < wanted)
        idle = median(results, ours, "idle")
        say_target(f"{ours} idle, no wake-ups", f"{idle:.1f} a second", not idle)

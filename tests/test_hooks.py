"""Hooks: their order around a launch, a start and a stop, their options and their failures."""

import argparse
from collections.abc import Callable
from typing import Any

import pytest

from sparts import cli
from sparts.errors import SpartsError
from sparts.hooks import Hook, Hooks, load
from sparts.options import option
from sparts.vservice import VService

DEADLINE = 10.0
heard: list[str] = []


class Loud(Hook):
    """Says what it hears."""

    banner: str = option(type=str, default="-")

    def launch(self, service_class: type[VService], name: str, proceed: Callable[[], int]) -> int:
        heard.append(f"{type(self).__name__} in")
        status = proceed()
        heard.append(f"{type(self).__name__} out")
        return status

    def __getattribute__(self, name: str) -> Any:
        if name.startswith(("before_", "after_")):
            heard.append(f"{type(self).__name__} {name}")
        return super().__getattribute__(name)


class Inner(Loud):
    banner = None  # type: ignore[assignment]


class Hooked(VService):
    HOOKS = [Loud, f"{__name__}:Inner"]


@pytest.fixture(autouse=True)
def _silence(monkeypatch: pytest.MonkeyPatch) -> None:
    heard.clear()
    monkeypatch.setattr(Hooked, "HOOKS", [Loud, Inner])


def test_order_around_start_and_stop() -> None:
    """Hooks hear of the start in order and of the stop in reverse."""
    service = Hooked(argparse.Namespace())
    thread = service.startBG()
    assert service.waitReady(DEADLINE)
    service.stop()
    thread.join(DEADLINE)
    moments = ["before_start", "after_start", "before_stop", "after_stop"]
    pairs = [("Loud", "Inner"), ("Loud", "Inner"), ("Inner", "Loud"), ("Inner", "Loud")]
    expected = [f"{who} {m}" for m, both in zip(moments, pairs, strict=True) for who in both]
    assert expected == heard


def test_launch_wraps_the_run() -> None:
    """The first hook is outermost, and the status passes through."""
    hooks = Hooks.of(Hooked, argparse.Namespace())
    assert 7 == hooks.launch(Hooked, "x", lambda: 7)
    assert ["Loud in", "Inner in", "Inner out", "Loud out"] == heard


def test_a_hook_may_end_it_without_running() -> None:
    """A launch that does not proceed gives the exit status of the process."""

    class Instead(Hook):
        def launch(self, service_class: Any, name: str, proceed: Callable[[], int]) -> int:
            return 9

    class Never(VService):
        HOOKS = [Instead]

    with pytest.raises(SystemExit) as caught:
        Never.initFromOptions(argparse.Namespace())
    assert 9 == caught.value.code


def test_options_of_a_hook() -> None:
    """A hook's options are the service's, without a prefix."""
    options = cli.parse(Hooked, ["--banner", "hi"])
    assert "hi" == Loud(options).banner


@pytest.mark.parametrize("moment", ["before_start", "after_start", "before_stop", "after_stop"])
def test_a_failing_hook_fails_the_service(moment: str) -> None:
    """What a hook raises is the service's failure, named; the other hooks are still told."""

    def fail(self: Hook, service: VService) -> None:
        raise ValueError("hook")

    broken = type("Broken", (Hook,), {moment: fail})

    class Failing(VService):
        HOOKS = [Loud, broken]

    service = Failing(argparse.Namespace())
    thread = service.startBG()
    service.waitReady(DEADLINE)
    service.stop()
    thread.join(DEADLINE)
    failure = service.lifecycle.failure
    assert failure is not None
    assert ("Broken", "hook") == (failure.source, str(failure.error))
    assert "Loud after_stop" in heard


def test_hooks_can_be_added_to_an_instance() -> None:
    """A hook that is added to a service hears of what happens from then on."""
    service = VService(argparse.Namespace())
    service.hooks.add(Loud(service.options))
    thread = service.startBG()
    service.stop()
    thread.join(DEADLINE)
    assert "Loud after_stop" == heard[-1]


@pytest.mark.parametrize("spec", ["no.such:Hook", "sparts.hooks:Nope", "sparts.hooks:load", "x"])
def test_wrong_hook(spec: str) -> None:
    """A hook that cannot be loaded, or is none, is an error that names it."""
    with pytest.raises(SpartsError, match=f"hook '{spec}'"):
        load(spec)

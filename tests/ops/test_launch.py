"""The word between a daemon and who launched it; the rest is shown by the daemon's own tests."""

import os
from typing import NoReturn

import pytest

from sparts.ops.launch import Launch


class Exited(BaseException):
    """In place of the end of the process."""


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> Launch:
    """One whose daemon is never heard of; waiting raises Exited with the status."""

    def exit(status: int) -> NoReturn:
        raise Exited(status)

    monkeypatch.setattr(os, "_exit", exit)
    return Launch(timeout=0.01)


def test_patience_has_an_end(launch: Launch, capfd: pytest.CaptureFixture[str]) -> None:
    """A daemon that says nothing, and does not end, is waited for no longer than the timeout."""
    copy = os.dup(launch._writer)  # the daemon's
    with pytest.raises(Exited) as caught:
        launch.wait_and_exit("service")
    assert (1,) == caught.value.args
    expected = "service: error: the daemon did not start within 0.01 s, and is to end\n"
    assert expected == capfd.readouterr().err
    os.close(copy)
    os.close(launch._reader)


def test_word_to_nobody(launch: Launch) -> None:
    """A daemon learns that nobody hears it any more."""
    writer = launch.keep_writer()
    assert not launch.tell(0)
    os.close(writer)


def test_long_message(launch: Launch, capfd: pytest.CaptureFixture[str]) -> None:
    """A message is cut before it could block, between characters."""
    copy = os.dup(launch._writer)
    assert launch.tell(3, "ä" * 10000)
    os.close(copy)
    with pytest.raises(Exited) as caught:
        launch.wait_and_exit("service")
    os.close(launch._reader)
    assert (3,) == caught.value.args
    said = capfd.readouterr().err
    assert said.startswith("service: error: ää")
    assert 500 < len(said) < 4096

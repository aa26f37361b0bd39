"""What every test of ours has: a leak check, a clean registry, and skips that fail in CI."""

import importlib
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sparts.testing.leaks import no_leaks

#: On the machine that checks every change nothing may be missing.
IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")
#: How the reason of a skip begins that stands even there, as nothing can be installed for it.
NOT_HERE = "not here: "


def pytest_configure(config: pytest.Config) -> None:
    """Have ^C, the hang-up and the testing kit's fixtures wherever the tests are run.

    A shell has what it runs in the background ignore SIGINT, nohup SIGHUP, and with it what that
    starts; and sparts may not be installed, but run from its tree.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if not config.pluginmanager.has_plugin("sparts"):
        try:
            plugin = importlib.import_module("sparts.testing.plugin")
        except ModuleNotFoundError:
            return
        config.pluginmanager.register(plugin, "sparts")


# -- a skip fails in CI -------------------------------------------------------------------------
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A skipped test is a failed one in CI."""
    outcome: Any = yield
    _refuse_skip(outcome.get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """A skipped module is a failed one in CI."""
    outcome: Any = yield
    _refuse_skip(outcome.get_result())


def _refuse_skip(report: Any) -> None:
    if IN_CI and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        if not str(reason).removeprefix("Skipped: ").startswith(NOT_HERE):
            report.outcome = "failed"
            report.longrepr = f"nothing may be missing in CI, but: {reason}"


@pytest.fixture(scope="session")
def need() -> Callable[[str], str]:
    """``need("wrk")``: the path of that program; without it the test is skipped (fails in CI)."""

    def path_of(program: str) -> str:
        path = shutil.which(program)
        if path is None:
            pytest.skip(f"{program} is not installed; install it with the system's package manager")
        return path

    return path_of


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory, need: Callable[[str], str]) -> Path:
    """A directory with a self-signed ``cert.pem`` for localhost, and its ``key.pem``."""
    where = tmp_path_factory.mktemp("tls")
    make_certificate(need("openssl"), where / "cert.pem", where / "key.pem")
    return where


def make_certificate(openssl: str, cert: Path, key: Path) -> None:
    """A self-signed certificate for localhost, valid for two days."""
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        + ["-nodes", "-days", "2", "-subj", "/CN=localhost"]
        + ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        + ["-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )


# -- nothing is left behind ---------------------------------------------------------------------
@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Fails the test that leaks a thread, a file descriptor or a pending asyncio task.

    A Thrift server that several tests share may keep more runners after one than before it; that
    none is left at its end is looked at there.
    """
    with no_leaks(ignore=["thrift-runner"]):
        yield


@pytest.fixture(autouse=True)
def _no_stray_errors(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the test in which asyncio or tornado logs an error, unless it looks at the log."""
    heard = _Heard()
    for name in ("asyncio", "tornado"):
        logging.getLogger(name).addHandler(heard)
    yield
    for name in ("asyncio", "tornado"):
        logging.getLogger(name).removeHandler(heard)
    if heard.lines and "caplog" not in request.fixturenames:
        pytest.fail("logged as an error:\n" + "\n".join(heard.lines))


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture(autouse=True)
def _registry_as_it_was() -> Iterator[None]:
    """Takes out what the test registered for every service of the process."""
    from sparts.vtask import REGISTERED

    before = REGISTERED.classes
    yield
    for cls in REGISTERED.classes:
        if cls not in before:
            REGISTERED.unregister(cls)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``REGISTERED`` with nothing in it, for this test."""
    from sparts.vtask import REGISTERED

    monkeypatch.setattr(REGISTERED, "_classes", {})
    return REGISTERED

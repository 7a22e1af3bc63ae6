"""What docker-compose.yml says works: its own commands, settings and health checks, as processes of this machine."""

import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from confluent_kafka import Consumer
from faults.containers import Here, workers
from faults.tools import tool
from faults.worker import Worker

from headrace.stream.broker import RealBroker

pytestmark = pytest.mark.broker

WAIT_SECONDS_MAX = 90.0
PAUSE_SECONDS = 0.4  # a health check is a process, and those that it waits for want the processor
# Of the image's Java machine, and no properties of the broker's.
NOT_PROPERTIES = {"KAFKA_HEAP_OPTS"}


def _ask(port: int, path: str, **headers: str) -> tuple[int, Any]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        client.request("GET", path, headers=headers)
        answer = client.getresponse()
        text = answer.read().decode()
        return answer.status, json.loads(text) if "json" in answer.headers["Content-Type"] else text
    except OSError:
        return 0, None
    finally:
        client.close()


class Up:
    """``docker compose up``, a service at a time."""

    def __init__(self, composed: dict[str, Any], folder: Path) -> None:
        self.here = Here(composed, folder)
        self.folder = folder
        self.running: dict[str, Worker] = {}
        self._empty = folder / "empty"
        self._empty.mkdir()

    def place(self, name: str) -> Path:
        """Return the folder in which a service works; where none is said, there is nothing in it."""
        return Path(self.here.mounted(name).get(self.here.services[name].get("working_dir", ""), self._empty))

    def run(self, name: str, *words: str, ports: tuple[int, ...] = ()) -> str:
        """Do what ``docker compose exec`` does, and return what is printed."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith("HEADRACE_")}
        done = subprocess.run(
            self.here.here(list(words)),
            cwd=self.place(name),
            env=environ | self.here.environment(name, ports),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, name: str, *more: str, ports: tuple[int, ...] = ()) -> Worker:
        for other in self.here.services[name].get("depends_on", {}):
            process = self.running.get(other)
            assert process is None or process.alive or process.exit_code == 0, f"{name} waits for {other}"
        command = ["env", "--chdir", str(self.place(name)), *self.here.command(name), *more]
        worker = Worker(name, command, self.folder, self.here.environment(name, ports))
        self.running[name] = worker
        return worker.start()

    def finish(self, name: str) -> None:
        assert self.start(name).wait() == 0, self.running[name].tail

    def wait_until(self, happened: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not happened():
            tails = "\n".join(worker.tail for worker in self.running.values())
            ended = {name: one.exit_code for name, one in self.running.items() if one.exit_code}
            assert not ended, f"{ended} ended\n{tails}"
            assert time.monotonic() < deadline, f"not after {WAIT_SECONDS_MAX:.0f} s: {what}\n{tails}"
            time.sleep(PAUSE_SECONDS)

    def healthy(self, name: str, ports: tuple[int, ...] = ()) -> None:
        test = self.here.services[name]["healthcheck"]["test"][1:]
        environment = self.here.environment(name, ports)
        self.wait_until(lambda: self.here.healthy(name, test, environment), f"{name} is healthy")

    def stop(self, name: str) -> None:
        worker = self.running.pop(name)
        worker.signal(signal.SIGTERM)
        assert worker.wait(float(self.here.services[name]["stop_grace_period"].removesuffix("s"))) == 0, worker.tail


@contextmanager
def _kafka(up: Up) -> Iterator[None]:
    """Start Kafka with the properties that its image makes of its environment."""
    environment = up.here.environment("kafka", ports=(9092, 29092))
    properties = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in environment.items()
        if name not in NOT_PROPERTIES
    }
    with RealBroker(up.here.volume("kafka"), port=up.here.port("kafka", 9092), properties=properties):
        up.healthy("kafka")
        yield


def test_what_is_composed_scores_what_is_produced_and_shows_it(
    composed: dict[str, Any], kafka: None, tmp_path: Path
) -> None:
    tool("prometheus", "it collects the metrics of what is composed: install the package prometheus")
    up = Up(composed, tmp_path)
    both = sorted(workers(composed))
    ports = {name: up.here.port(name, 6066) for name in both}
    settings = Path(up.here.mounted("prometheus")["/etc/prometheus"]) / "prometheus.yml"
    settings.write_text(up.here.said("prometheus", settings.read_text()))
    try:
        with _kafka(up):
            up.finish("token")
            up.finish("topics")
            for name in both:
                up.start(name, ports=(6066,))
            up.start("prometheus", f"--web.listen-address=127.0.0.1:{up.here.port('prometheus', 9090)}")
            for name in both:
                up.healthy(name, ports=(6066,))
                environment = up.here.environment(name, ports=(6066,))
                assert up.here.healthy(name, up.here.image.health, environment), "the image's own check"
            up.start("producer")
            up.healthy("prometheus")

            read = Consumer(
                {"bootstrap.servers": f"127.0.0.1:{up.here.port('kafka', 29092)}", "group.id": "a-service-on-the-host",
                 "isolation.level": "read_committed", "auto.offset.reset": "earliest", "log_level": 0}
            )  # fmt: skip
            read.subscribe(["predictions"])
            predictions: list[Any] = []

            def published() -> bool:
                predictions.extend(one for one in read.consume(1_000, 0.1) if one.error() is None)
                return len(predictions) >= 200

            up.wait_until(published, "200 predictions are published")
            read.close()
            ids = [json.loads(one.value())["id"] for one in predictions]
            assert len(ids) == len(set(ids))

            token = up.run(both[0], "cat", "headrace.toml").split('"')[1]

            def shown() -> bool:
                told = [_ask(ports[name], "/page/data", Authorization=f"Bearer {token}") for name in both]
                assert {status for status, _ in told} <= {0, 200}
                return all(
                    status == 200
                    and len(page["group"]["members"]) == 2
                    and sum(page["totals"]["headrace_predictions_total"].values()) > 0
                    for status, page in told
                )

            up.wait_until(shown, "the page of each shows predictions and both workers")
            assert {_ask(port, "/page/data")[0] for port in ports.values()} == {401}

            def collected() -> bool:
                at = up.here.port("prometheus", 9090)
                query = 'count(up{job="headrace"} == 1) == 2 and sum(headrace_predictions_total) > 0'
                status, told = _ask(at, f"/api/v1/query?query={quote(query)}")
                return status == 200 and bool(told["data"]["result"])

            up.wait_until(collected, "Prometheus has the metrics of both workers")

            # As a person does who looks at what is composed.
            assert "alert" in up.run(both[1], "headrace", "alerts", "ls", ports=(6066,))

            for name in ("producer", *both, "prometheus"):
                up.stop(name)
    finally:
        for worker in up.running.values():
            worker.kill()
    # On a file system that cannot be written: beside what is mounted, nobody left anything.
    left = {path.name for path in tmp_path.iterdir() if path.suffix != ".log"}
    assert left == {"volumes", "mounted", "empty"}
    assert not list((tmp_path / "empty").iterdir())
    assert [path.name for path in (tmp_path / "volumes/token").iterdir()] == ["headrace.toml"]
    assert {path.name for path in (tmp_path / "volumes").iterdir()} == set(composed["volumes"]) - {"grafana"}

"""Programs that were written for stock Faust run on ``headrace://`` as they are.

Each test runs on Faust's own ``kafka://`` too: what fails there is wrong with the program, not with the transport.
"""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from confluent_kafka import Producer
from faults import reader
from faults.stage import Stage
from faults.worker import Worker

from headrace.stream.broker import free_port

pytestmark = pytest.mark.broker

PROGRAMS = Path(__file__).parent / "vanilla"
COUNT = 3_000


@pytest.fixture(params=["headrace", "kafka"])
def scheme(request) -> str:
    return request.param


def test_an_agent_with_a_timer_and_a_web_view_runs_unchanged(stage: Stage, scheme: str) -> None:
    names = _topics(stage, visits=4, beats=1)
    _send(stage, names["VISITS"], [{"page": f"/{number % 7}", "number": number} for number in range(COUNT)])
    port = free_port()
    worker = _program(stage, scheme, "visits", names, "--web-port", str(port), "--web-host", "127.0.0.1")
    worker.start().wait_for_line("Ready")
    want = {f"/{page}": len(range(page, COUNT, 7)) for page in range(7)}
    stage.wait_until(
        lambda: _page(port, "/count/") == want, lambda: f"the page says {_page(port, '/count/')}, not {want}"
    )
    beats = [_newest(stage, names["BEATS"])]
    stage.wait_until(lambda: _newest(stage, names["BEATS"]) > beats[0] + 3, lambda: "the timer does not send")
    assert worker.alive
    worker.terminate()
    assert worker.wait() == 0, worker.tail
    assert sum(reader.committed(stage.address, stage.group).values()) == COUNT


def test_two_agents_in_a_chain_run_unchanged(stage: Stage, scheme: str) -> None:
    names = _topics(stage, orders=4, bills=3, paid=2)
    orders = [{"number": number, "pieces": number % 5 + 1, "price": 2.5} for number in range(COUNT)]
    _send(stage, names["ORDERS"], orders)
    worker = _program(stage, scheme, "orders", names).start().wait_for_line("Ready")
    paid = names["PAID"]
    stage.wait_until(
        lambda: _newest(stage, paid) >= COUNT, lambda: f"{_newest(stage, paid)} of {COUNT} bills were paid"
    )
    totals = {record["number"]: record["total"] for record in _values(stage, paid)}
    assert totals == {order["number"]: order["pieces"] * order["price"] for order in orders}
    worker.terminate()
    assert worker.wait() == 0, worker.tail
    assert len(_values(stage, paid)) == COUNT, "nothing failed, so nothing may come twice"


@pytest.mark.parametrize(("program", "agents"), [("visits", ["count"]), ("orders", ["bill", "pay"])])
def test_faust_agents_lists_them(stage: Stage, scheme: str, program: str, agents: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "faust", "-A", program, "agents"],
        cwd=PROGRAMS,
        env={"BROKER_URL": f"{scheme}://{stage.address}", "PYTHONPATH": str(PROGRAMS)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert [name for name in agents if f"@{name}" not in done.stdout] == [], done.stdout


def _topics(stage: Stage, **partitions: int) -> dict[str, str]:
    names = {}
    for name, count in partitions.items():
        names[name.upper()] = stage.create(f"{name}-{stage.group}", count)
    return names


def _program(stage: Stage, scheme: str, name: str, env: dict[str, str], *arguments: str) -> Worker:
    command = [sys.executable, "-m", "faust", "-A", name, "worker", "-l", "info", *arguments]
    given = {"BROKER_URL": f"{scheme}://{stage.address}", "APP_ID": stage.group, "PYTHONPATH": str(PROGRAMS)}
    return stage.process(name, command, {**env, **given})


def _send(stage: Stage, topic: str, values: list[dict]) -> None:
    producer = Producer({"bootstrap.servers": stage.address, "partitioner": "murmur2_random"})
    for number, value in enumerate(values):
        producer.produce(topic, json.dumps(value), f"key-{number % 50}")
        producer.poll(0)
    assert producer.flush(60) == 0


def _page(port: int, path: str):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return json.load(answer)
    except OSError as error:
        return repr(error)


def _newest(stage: Stage, topic: str) -> int:
    return sum(reader.ends(stage.address, [topic]).values())


def _values(stage: Stage, topic: str) -> list:
    count = len(reader.ends(stage.address, [topic]))
    since = {TopicPartition(topic, partition): 0 for partition in range(count)}
    return [json.loads(record.value) for record in reader.records(stage.address, since)]
